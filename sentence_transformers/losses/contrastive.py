"""Losses that need no negatives: the other texts of a batch are the negatives of each.

Knows nothing of how texts were encoded. Losses whose negatives another model chooses are in ``guided``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import one_of
from ..ops.gather import all_gather_with_grad, get_rank
from ..ops.similarity import cos_sim
from .base import Components, Embed, Features, Loss, Objective
from .checks import at_least, exactly
from .gradcache import GradCache

logger = logging.getLogger(__name__)

SimilarityFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(B, D), (C, D) -> (B, C)."""

QUERY_TO_DOC = ("query_to_doc",)
BOTH_WAYS = ("query_to_doc", "doc_to_query")
DIRECTIONS = (*BOTH_WAYS, "query_to_query", "doc_to_doc")
HARDNESS_MODES = (None, "in_batch_negatives", "hard_negatives", "all_negatives")


class MultipleNegativesRankingLoss(Loss):
    """Each anchor must find its positive among all positives and negatives of the batch (InfoNCE).

    With s the scaled similarity, the loss of anchor a with positive p is log(sum of exp(s) over the candidates) -
    s(a, p), and the mean of the anchors is taken. What is a candidate, the directions say:

    - ``"query_to_doc"``: s(a, d) for every positive and negative d of the batch; always among the directions.
    - ``"query_to_query"``: s(a, b) for every other anchor b.
    - ``"doc_to_query"``: s(b, p) for every anchor b.
    - ``"doc_to_doc"``: s(p, d) for every positive and negative d of the other rows.

    Args:
        model: the encoder to train.
        scale: inverse temperature, above 0; multiplies the similarities.
        similarity_fct: (B, D), (C, D) -> (B, C); higher is closer.
        gather_across_devices: also take the texts of the other processes; all need one batch size.
        directions: some of the four above.
        partition_mode: "joint": one sum over the candidates of all directions; "per_direction": the mean of the losses
            of the directions, each of which must then have the positive among its candidates.
        hardness_mode: which negatives d of "query_to_doc" weigh more the closer they are, by
            exp(strength * similarity): "in_batch_negatives" (of other rows), "hard_negatives" (those given for the
            anchor) or "all_negatives"; None: none.
        hardness_strength: at least 0; no gradient flows through the weight.

    Columns: anchor, positive, any number of negatives. No labels.
    Raises: ValueError for settings that are none of these.
    Source: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; the directions: Li et al. 2023,
        https://arxiv.org/abs/2308.03281; the hardness: Lan et al. 2025, https://arxiv.org/abs/2503.04812
    """

    citations: ClassVar[tuple[str, ...]] = ("oord2018representation",)

    def __init__(
        self,
        model: nn.Module,
        scale: float = 20.0,
        similarity_fct: SimilarityFunction = cos_sim,
        gather_across_devices: bool = False,
        directions: Sequence[str] = QUERY_TO_DOC,
        partition_mode: str = "joint",
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(model)
        if not scale > 0:
            raise ValueError(f"Scale must be a positive value, got {scale}.")
        self.scale = scale
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices
        self.directions = _checked_directions(directions, partition_mode)
        self.partition_mode = partition_mode
        self.hardness_mode = one_of("hardness_mode", hardness_mode, HARDNESS_MODES)
        if not hardness_strength >= 0:
            raise ValueError(f"hardness_strength must be non-negative, got {hardness_strength}.")
        self.hardness_strength = hardness_strength
        if hardness_mode is not None and hardness_strength == 0:
            logger.warning(
                "hardness_mode=%r has no effect with hardness_strength=0.0: set it to a number above 0.", hardness_mode
            )

    @property
    def temperature(self) -> float:
        """1 / ``scale``."""
        return 1 / self.scale

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        queries, positives, *_ = at_least(type(self).__name__, embeddings, 2, "an anchor and a positive")
        (all_queries, *all_docs), rows = of_all_processes(embeddings, self.gather_across_devices)
        candidates = torch.cat(all_docs)  # (C, D): all positives, then the negatives of each column
        own = rows[:, None] + _starts(all_docs).to(rows.device)  # (B, documents of a row)
        to_docs = self.similarity_fct(queries, candidates)
        logits = self.scale * to_docs
        blocks = [hardened(logits, to_docs, own, self.hardness_mode, self.hardness_strength)]
        if "query_to_query" in self.directions:
            blocks.append(without(self.scale * self.similarity_fct(queries, all_queries), rows[:, None]))
        if "doc_to_query" in self.directions:
            blocks.append(self.scale * self.similarity_fct(positives, all_queries))
        if "doc_to_doc" in self.directions:
            blocks.append(without(self.scale * self.similarity_fct(positives, candidates), own))
        return info_nce(blocks, at(logits, rows), joint=self.partition_mode == "joint")


class CachedMultipleNegativesRankingLoss(GradCache, MultipleNegativesRankingLoss):
    """``MultipleNegativesRankingLoss`` with a gradient cache: any batch size in the memory of a small one.

    Args:
        model: the encoder to train.
        scale, similarity_fct, gather_across_devices, directions, partition_mode, hardness_mode, hardness_strength: see
            ``MultipleNegativesRankingLoss``.
        mini_batch_size: so many texts are run at once; changes memory and speed, not the loss.
        mini_batch_num_tokens: instead, at most so many tokens with padding.
        show_progress_bar: show one for the second run.

    Columns: anchor, positive, any number of negatives. No labels.
    Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """

    citations = ("gao2021scaling",)

    def __init__(
        self,
        model: nn.Module,
        scale: float = 20.0,
        similarity_fct: SimilarityFunction = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        directions: Sequence[str] = QUERY_TO_DOC,
        partition_mode: str = "joint",
        show_progress_bar: bool = False,
        hardness_mode: str | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(
            model,
            scale,
            similarity_fct,
            gather_across_devices,
            directions,
            partition_mode,
            hardness_mode,
            hardness_strength,
        )
        self.keep_parts(mini_batch_size, mini_batch_num_tokens, show_progress_bar)


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """Deprecated: ``MultipleNegativesRankingLoss`` in both directions between anchors and positives.

    Args:
        model, scale, similarity_fct, gather_across_devices: see ``MultipleNegativesRankingLoss``.

    Columns: anchor, positive, any number of negatives. No labels.
    Source: Günther et al. 2023, https://arxiv.org/abs/2310.19923
    """

    citations = ("gunther2023jina",)

    def __init__(
        self,
        model: nn.Module,
        scale: float = 20.0,
        similarity_fct: SimilarityFunction = cos_sim,
        gather_across_devices: bool = False,
    ) -> None:
        warnings.warn(
            _USE_INSTEAD.format("MultipleNegativesSymmetricRankingLoss", "MultipleNegativesRankingLoss"),
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(model, scale, similarity_fct, gather_across_devices, BOTH_WAYS, "per_direction")


class CachedMultipleNegativesSymmetricRankingLoss(CachedMultipleNegativesRankingLoss):
    """Deprecated: ``CachedMultipleNegativesRankingLoss`` in both directions between anchors and positives.

    Args:
        model, scale, similarity_fct, mini_batch_size, mini_batch_num_tokens, gather_across_devices, show_progress_bar:
            see ``CachedMultipleNegativesRankingLoss``.

    Columns: anchor, positive, any number of negatives. No labels.
    Source: Günther et al. 2023, https://arxiv.org/abs/2310.19923
    """

    def __init__(
        self,
        model: nn.Module,
        scale: float = 20.0,
        similarity_fct: SimilarityFunction = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        warnings.warn(
            _USE_INSTEAD.format("CachedMultipleNegativesSymmetricRankingLoss", "CachedMultipleNegativesRankingLoss"),
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(
            model,
            scale,
            similarity_fct,
            mini_batch_size,
            mini_batch_num_tokens,
            gather_across_devices,
            BOTH_WAYS,
            "per_direction",
            show_progress_bar,
        )


class MegaBatchMarginLoss(GradCache):
    """The positive must have a cosine of at least one margin, the closest positive of another row at most the other.

    Args:
        model: the encoder to train.
        positive_margin: cosine, the least for the positive.
        negative_margin: cosine, the most for the closest other positive of the batch.
        use_mini_batched_version: run the model in parts, with a gradient cache: the larger the batch, the better this
            loss works. The loss is the same either way.
        mini_batch_size: so many texts are run at once.
        mini_batch_num_tokens: instead, at most so many tokens with padding.
        show_progress_bar: show one for the second run.

    Columns: anchor, positive. No labels.
    Source: Wieting and Gimpel 2018, https://aclanthology.org/P18-1042
    """

    citations = ("wieting2018paranmt",)

    def __init__(
        self,
        model: nn.Module,
        positive_margin: float = 0.8,
        negative_margin: float = 0.3,
        use_mini_batched_version: bool = True,
        mini_batch_size: int = 50,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model)
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        self.use_mini_batched_version = self.uses_gradient_cache = use_mini_batched_version
        self.keep_parts(mini_batch_size, mini_batch_num_tokens, show_progress_bar)

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        how = GradCache if self.use_mini_batched_version else Loss
        return how.run(self, features, labels, objective, embed)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        what = "an anchor and a positive; to give negatives, use CachedMultipleNegativesRankingLoss"
        anchors, positives = exactly("MegaBatchMarginLoss", embeddings, 2, what)
        return mega_batch_margin(cos_sim(anchors, positives), self.positive_margin, self.negative_margin)


def info_nce(blocks: Sequence[Tensor], positives: Tensor, joint: bool = True) -> Tensor:
    """log(sum of exp(logit) over the candidates) - the logit of the positive; the mean of the rows.

    Args:
        blocks: logits of candidates, each (B, C of the block), no unit; -inf for what is no candidate.
        positives: (B,), the logit of each row's positive, which is also in a block.
        joint: whether the sum is over all blocks; else the mean of the losses of the blocks is taken.

    Returns: (), natural log.
    """
    partitions = torch.stack([block.logsumexp(1) for block in blocks])  # (blocks, B); the blocks are not copied
    partition = partitions.logsumexp(0) if joint else partitions.mean(0)
    return (partition - positives).mean()


def hardened(logits: Tensor, similarities: Tensor, own: Tensor, mode: str | None, strength: float) -> Tensor:
    """Logits to which strength * similarity was added for some negatives, as a constant.

    Args:
        logits: (B, C).
        similarities: (B, C), not scaled.
        own: (B, k) places of a row's documents: its positive, then its negatives.
        mode: one of ``HARDNESS_MODES``.
    """
    if mode is None or strength == 0:
        return logits
    extra = strength * similarities.detach()
    if mode == "hard_negatives":
        return logits.scatter_add(1, own[:, 1:], extra.gather(1, own[:, 1:]))
    spared = own if mode == "in_batch_negatives" else own[:, :1]
    return logits + extra.scatter(1, spared, 0)


def mega_batch_margin(similarities: Tensor, positive_margin: float, negative_margin: float) -> Tensor:
    """relu(margin - similarity to the positive) + relu(largest other similarity - margin), the mean of the rows.

    Args:
        similarities: (B, B); positives on the diagonal. With B = 1 there is no other.
    """
    others = similarities.masked_fill(
        torch.eye(len(similarities), dtype=torch.bool, device=similarities.device), -torch.inf
    )
    too_far = F.relu(positive_margin - similarities.diagonal())
    too_near = F.relu(others.amax(1) - negative_margin)
    return (too_far + too_near).mean()


def of_all_processes(columns: Sequence[Tensor], gather_across_devices: bool) -> tuple[list[Tensor], Tensor]:
    """Columns (B, D) -> those of all processes, with gradients into them, and where the own rows are in these, (B,).

    Raises: ValueError unless every column has B rows.
    """
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1:
        raise ValueError(f"All columns of a batch must have the same number of rows, got {counts}.")
    rows = torch.arange(counts[0], device=columns[0].device)
    if not gather_across_devices:
        return list(columns), rows
    return [all_gather_with_grad(column) for column in columns], rows + get_rank() * counts[0]


def at(matrix: Tensor, places: Tensor) -> Tensor:
    """One value of each row: (B, C), (B,) -> (B,)."""
    return matrix.gather(1, places[:, None])[:, 0]


def without(logits: Tensor, places: Tensor) -> Tensor:
    """Logits that are -inf at some places of each row: (B, C), (B, k) -> (B, C)."""
    return logits.scatter(1, places, -torch.inf)


def _starts(columns: Sequence[Tensor]) -> Tensor:
    """Where each column begins when they are put one behind the other."""
    return torch.arange(len(columns)) * len(columns[0])


def _checked_directions(directions: Sequence[str], partition_mode: str) -> tuple[str, ...]:
    if not directions:
        raise ValueError("At least one direction must be specified.")
    names = (directions,) if isinstance(directions, str) else tuple(directions)
    for name in names:
        one_of("directions", name, DIRECTIONS)
    if "query_to_doc" not in names:
        raise ValueError(f"The 'query_to_doc' direction is required: it has the positive pair; got {names}.")
    one_of("partition_mode", partition_mode, ("joint", "per_direction"))
    if partition_mode == "per_direction" and not set(names) <= set(BOTH_WAYS):
        raise ValueError(
            "partition_mode='per_direction' requires every direction's candidates to include the positive pair, which "
            "those of 'query_to_query' and 'doc_to_doc' never do. Use partition_mode='joint' instead."
        )
    return names


_USE_INSTEAD = (
    "The {} is deprecated and will be removed in a future release. Please use {} with "
    "`directions=('query_to_doc', 'doc_to_query')` and `partition_mode='per_direction'` instead."
)
