"""Losses with in-batch negatives of which a second model, the guide, strikes out those that may be positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import one_of
from ..modules.module import module_device
from ..ops.similarity import cos_sim
from ..ops.tensors import batch_to_device
from .base import Components, Embed, Features, Loss, Objective
from .checks import at_least, positive_finite
from .contrastive import at, of_all_processes
from .gradcache import GradCache

COLUMNS = "an anchor and a positive"


class GISTEmbedLoss(Loss):
    """Each anchor must find its positive among all texts of the batch that the guide thinks less alike.

    The candidates of anchor a with positive p are: all positives and negatives of the batch, beside a; the other
    anchors, beside a; the other positives, beside p. Struck out is each pair (but a with p) that the guide finds closer
    than a and p, less the margin.

    Args:
        model: the encoder to train.
        guide: an encoder that says what is alike. It is run on the same texts, in evaluation mode, and not trained.
        temperature: above 0; divides the cosines.
        margin_strategy: "absolute": less ``margin``; "relative": less ``margin`` times the guide's |cosine| of a and p.
        margin: above 0, negatives must be less alike than the positive; below, they may be more.
        contrast_anchors: whether the other anchors are candidates.
        contrast_positives: whether the other positives are candidates, beside the positive.
        gather_across_devices: also take the texts of the other processes; all need one batch size.

    Attributes:
        must_retokenize: whether the guide gets the texts of the token ids, because its vocabulary is another or its
            inputs must be shorter.

    Columns: anchor, positive, any number of negatives. No labels.
    Raises: ValueError for an unknown strategy, or models whose tokenizers are not from transformers.
    Source: Solatorio 2024, https://arxiv.org/abs/2402.16829
    """

    citations: ClassVar[tuple[str, ...]] = ("solatorio2024gistembed",)
    judges = ("guide",)

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        temperature: float = 0.01,
        margin_strategy: str = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model)
        self.guide = guide
        self.temperature = positive_finite("temperature", temperature)
        self.margin_strategy = one_of("margin_strategy", margin_strategy, ("absolute", "relative"))
        self.margin = margin
        self.contrast_anchors = contrast_anchors
        self.contrast_positives = contrast_positives
        self.gather_across_devices = gather_across_devices
        self.tokenizer = _tokenizer(model)
        self.must_retokenize = self.tokenizer.get_vocab() != _tokenizer(guide).get_vocab() or _shorter(guide, model)

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        # in place of labels, so that losses around this one hand them on, too
        return super().run(features, self.false_negatives(features), objective, embed)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            embeddings: of the columns, each (B, D).
            labels: what ``false_negatives`` says of the columns.
        """
        if labels is None:
            raise ValueError(
                f"{type(self).__name__} needs the guide's judgement as labels: pass false_negatives(features)."
            )
        similarities, rows, _ = self._candidates(at_least(type(self).__name__, embeddings, 2, COLUMNS))
        struck = labels.to(similarities.device).view_as(similarities)
        return F.cross_entropy(similarities.masked_fill(struck, -torch.inf) / self.temperature, rows)

    @torch.no_grad()
    def false_negatives(self, features: list[Features]) -> Tensor:
        """Which candidates the guide takes for positives: (B * C,) bool, row by row.

        One dimension, as losses around this one cut labels that are as wide as embeddings.
        """
        with _evaluating(self.guide):
            columns = [self.judge(column) for column in features]
        similarities, rows, itself = self._candidates(at_least(type(self).__name__, columns, 2, COLUMNS))
        of_positives = at(similarities, rows)
        relative = self.margin_strategy == "relative"
        limit = of_positives - self.margin * (of_positives.abs() if relative else 1)
        struck = similarities > limit[:, None]
        struck.scatter_(1, rows[:, None], False)
        for places in itself:
            struck.scatter_(1, places[:, None], True)
        return struck.flatten()

    def judge(self, features: Features) -> Tensor:
        """The guide's embeddings of one column, (B, width of the guide)."""
        if self.must_retokenize:
            texts = self.tokenizer.batch_decode(features["input_ids"], skip_special_tokens=True)
            features = self.guide.preprocess(texts)  # type: ignore[operator]
        found: Tensor = self.guide(batch_to_device(dict(features), module_device(self.guide)))[self.output_name]
        return found

    def _candidates(self, columns: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Cosines of all candidates (B, C); where in a row its positive is, (B,), and where texts meet themselves."""
        (anchors, positives, *negatives), rows = of_all_processes(columns, self.gather_across_devices)
        documents = [positives, *negatives, *([anchors] if self.contrast_anchors else [])]
        similarities = cos_sim(columns[0], torch.cat(documents))
        itself = [rows + similarities.shape[1] - len(anchors)] if self.contrast_anchors else []
        if self.contrast_positives:
            itself.append(rows + similarities.shape[1])
            similarities = torch.cat([similarities, cos_sim(columns[1], positives)], dim=1)
        return similarities, rows, itself


class CachedGISTEmbedLoss(GradCache, GISTEmbedLoss):
    """``GISTEmbedLoss`` with a gradient cache: any batch size in the memory of a small one, for the guide too.

    Args:
        model: the encoder to train.
        guide, temperature, margin_strategy, margin, contrast_anchors, contrast_positives, gather_across_devices: see
            ``GISTEmbedLoss``.
        mini_batch_size: so many texts are run at once; changes memory and speed, not the loss.
        mini_batch_num_tokens: instead, at most so many tokens with padding.
        show_progress_bar: show one for the second run.

    Columns: anchor, positive, any number of negatives. No labels.
    Source: Solatorio 2024, https://arxiv.org/abs/2402.16829; Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """

    citations = ("solatorio2024gistembed", "gao2021scaling")

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        temperature: float = 0.01,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        margin_strategy: str = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(
            model,
            guide,
            temperature,
            margin_strategy,
            margin,
            contrast_anchors,
            contrast_positives,
            gather_across_devices,
        )
        self.keep_parts(mini_batch_size, mini_batch_num_tokens, show_progress_bar)

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        return GradCache.run(self, features, self.false_negatives(features), objective, embed)

    def judge(self, features: Features) -> Tensor:
        judge = super().judge
        return torch.cat([judge(some) for _, some in self._cut(features)])


def _tokenizer(model: nn.Module) -> Any:
    """Raises: ValueError unless the model has a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(model, "tokenizer", None)  # any module may be trained, not only our encoders
    if tokenizer is None:
        raise ValueError("Both the training model and the guiding model must have a tokenizer attribute.")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            "Both the training model and the guiding model must use a PreTrainedTokenizer from transformers; got "
            f"{type(tokenizer).__name__}."
        )
    return tokenizer


def _shorter(guide: Any, model: Any) -> bool:
    """Whether the guide takes fewer tokens."""
    limit, given = guide.max_seq_length, model.max_seq_length
    return limit is not None and (given is None or limit < given)


@contextmanager
def _evaluating(guide: nn.Module) -> Iterator[None]:
    """Inside, the guide is in evaluation mode: its judgement must not be left to dropout."""
    were_training = [module for module in guide.modules() if module.training]
    try:
        guide.eval()
        yield
    finally:
        for module in were_training:
            module.training = True
