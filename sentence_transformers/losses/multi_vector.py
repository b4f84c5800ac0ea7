"""Losses on token vectors (late interaction): in-batch negatives, and a teacher's ranking or margins.

The objectives are those of the dense losses; what differs is how an input is embedded and how candidates are scored.
An input is (T, D + 1): its token vectors, and as the last number of each 1 if the token counts, else 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import positive
from ..ops.gather import all_gather_padded, get_rank
from ..ops.late_scores import colbert_kd_scores, colbert_scores, colbert_scores_pairwise
from .base import Components, Embed, Features, Loss, Objective
from .checks import at_least
from .contrastive import at, info_nce, of_all_processes
from .distillation import DistillKLDivLoss, MarginMSELoss
from .gradcache import GradCache, cut
from .joining import cat_rows, equally_long

LateScores: TypeAlias = Callable[..., Tensor]
"""Queries and documents, with ``queries_mask`` and ``documents_mask`` -> scores; forms as in ``ops.late_scores``."""


class MultiVectorLoss(Loss):
    """A loss on the token vectors of the columns: first queries, then documents.

    The model is called with the task of the column, "query" or "document"; ``features["task"]`` wins over the position.

    Attributes:
        mini_batch_size: so many rows of a column are run at once; None: all.
    """

    output_name: ClassVar[str] = "token_embeddings"
    mini_batch_size: int | None = None
    similarity_fct: LateScores

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        embed = embed or self.embed
        if self.mini_batch_size is not None and not self.uses_gradient_cache:
            embed = partial(_in_parts, embed, self.mini_batch_size)
        return super().run(_with_tasks(features), labels, objective, embed)

    def embed(self, features: Features) -> Tensor:
        """The token vectors of one column and which of them count, (B, T, D + 1)."""
        found = self.model(dict(features), task=features.get("task"))
        vectors, mask = found[self.output_name], found["attention_mask"]
        return torch.cat([vectors, (mask[..., None] != 0).to(vectors)], dim=-1)


class MultiVectorMultipleNegativesRankingLoss(MultiVectorLoss):
    """Each query must find its first document among all documents of the batch (InfoNCE).

    The loss of a query is log(sum of exp(scale * score) over all documents) - scale * score of its own first document;
    the mean of the queries is taken.

    Args:
        model: the encoder to train.
        scale: inverse temperature, above 0; multiplies the scores.
        similarity_fct: (q, t, D) queries, (B, N, s, D) documents -> (q, B * N); None: ``colbert_scores``.
        mini_batch_size: so many inputs are run through the model at once; changes memory and speed, not the loss.
        score_mini_batch_size: so many queries are scored at once, and again for the gradients: less memory for a bit
            more time.
        gather_across_devices: also take the documents of the other processes; all need one batch size.

    Columns: query, document, any number of negatives. No labels.
    Raises: ValueError for a scale that is not above 0, or a size below 1.
    Source: Henderson et al. 2017, https://arxiv.org/abs/1705.00652; the scores: Khattab and Zaharia 2020,
        https://arxiv.org/abs/2004.12832
    """

    citations = ("henderson2017efficient",)

    def __init__(
        self,
        model: nn.Module,
        *,
        scale: float = 1.0,
        similarity_fct: LateScores | None = None,
        mini_batch_size: int | None = None,
        score_mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model)
        if not scale > 0:
            raise ValueError(f"Scale must be a positive value, got {scale}.")
        self.scale = scale
        self.similarity_fct = similarity_fct or colbert_scores
        self.mini_batch_size = _size("mini_batch_size", mini_batch_size)
        self.score_mini_batch_size = _size("score_mini_batch_size", score_mini_batch_size)
        self.gather_across_devices = gather_across_devices

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss from the embeddings of the columns, each (B, T, D + 1)."""
        at_least(type(self).__name__, embeddings, 2, "a query and a document")
        (query, *columns), rows = of_all_processes(embeddings, gather_across_devices=False)
        queries, queries_mask = apart(query)
        documents, documents_mask = stacked(columns)
        if self.gather_across_devices:
            documents, documents_mask = _of_all_processes(documents, documents_mask)
            rows = rows + get_rank() * len(query)
        places = rows * len(columns)  # of a row's first document among all
        size = self.score_mini_batch_size or len(query)
        some = zip(*(torch.split(one, size) for one in (queries, queries_mask, places)), strict=True)
        if size >= len(query):
            return self._loss(documents, documents_mask, *next(some))
        parts = [
            checkpoint(self._loss, documents, documents_mask, *part, use_reentrant=False) * (len(part[0]) / len(query))
            for part in some
        ]
        return torch.stack(parts).sum()

    def _loss(
        self, documents: Tensor, documents_mask: Tensor, queries: Tensor, queries_mask: Tensor, places: Tensor
    ) -> Tensor:
        """The mean loss of some queries."""
        scores = self.similarity_fct(queries, documents, queries_mask=queries_mask, documents_mask=documents_mask)
        expected = (len(queries), documents.shape[0] * documents.shape[1])
        if tuple(scores.shape) != expected:
            raise ValueError(
                f"similarity_fct of {type(self).__name__} must score every query with every document, {expected}, but "
                f"gave {tuple(scores.shape)}. Use for instance colbert_scores, mean_colbert_scores or XTRScores()."
            )
        logits = self.scale * scores
        return info_nce([logits], at(logits, places))


class CachedMultiVectorMultipleNegativesRankingLoss(MultiVectorMultipleNegativesRankingLoss, GradCache):
    """``MultiVectorMultipleNegativesRankingLoss`` with a gradient cache: any batch size in the memory of a small one.

    Args:
        model: the encoder to train.
        scale, similarity_fct, gather_across_devices: see ``MultiVectorMultipleNegativesRankingLoss``.
        mini_batch_size: so many inputs are run at once; changes memory and speed, not the loss.
        mini_batch_num_tokens: instead, at most so many tokens with padding.
        score_mini_batch_size: so many queries are scored at once; None: ``mini_batch_size``.
        show_progress_bar: show one for the second run.

    Columns: query, document, any number of negatives. No labels.
    Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """

    citations = ("gao2021scaling",)
    mini_batch_size: int

    def __init__(
        self,
        model: nn.Module,
        *,
        scale: float = 1.0,
        similarity_fct: LateScores | None = None,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        score_mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(
            model,
            scale=scale,
            similarity_fct=similarity_fct,
            score_mini_batch_size=mini_batch_size if score_mini_batch_size is None else score_mini_batch_size,
            gather_across_devices=gather_across_devices,
        )
        self.keep_parts(mini_batch_size, mini_batch_num_tokens, show_progress_bar)


class MultiVectorMarginMSELoss(MultiVectorLoss, MarginMSELoss):
    """How much better the positive scores than each negative must be as with the teacher.

    Args:
        model: the student.
        similarity_fct: (B, t, D) queries, (B, s, D) documents -> (B,); None: ``colbert_scores_pairwise``.
        mini_batch_size: so many inputs are run through the model at once; None: all.

    Columns: query, positive, one or more negatives. Labels: (B,) or (B, N) margins, or (B, 1 + N) scores.
    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666
    """

    def __init__(
        self, model: nn.Module, *, similarity_fct: LateScores | None = None, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, similarity_fct or colbert_scores_pairwise)
        self.mini_batch_size = _size("mini_batch_size", mini_batch_size)

    def scores(self, query: Tensor, candidates: list[Tensor]) -> Tensor:
        queries, queries_mask = apart(query)
        columns = []
        for candidate in candidates:
            documents, mask = apart(candidate)
            columns.append(self.similarity_fct(queries, documents, queries_mask=queries_mask, documents_mask=mask))
        return torch.stack(columns, dim=1)


class MultiVectorDistillKLDivLoss(MultiVectorLoss, DistillKLDivLoss):
    """The student's scores of the candidates of a query, as probabilities, must be the teacher's.

    Args:
        model: the student.
        similarity_fct: (B, t, D) queries, (B, N, s, D) documents -> (B, N); None: ``colbert_kd_scores``.
        temperature, student_temperature, teacher_temperature: see ``DistillKLDivLoss``.
        mini_batch_size: so many inputs are run through the model at once; None: all.

    Columns: query, two or more documents. Labels: (B, documents) scores; -inf leaves a document out.
    Raises: ValueError for a temperature that is not above 0.
    Source: Santhanam et al. 2022, https://arxiv.org/abs/2112.01488
    """

    citations = ("santhanam2022colbertv2",)

    def __init__(
        self,
        model: nn.Module,
        *,
        similarity_fct: LateScores | None = None,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            model, similarity_fct or colbert_kd_scores, temperature, student_temperature, teacher_temperature
        )
        self.mini_batch_size = _size("mini_batch_size", mini_batch_size)

    def scores(self, query: Tensor, candidates: list[Tensor]) -> Tensor:
        queries, queries_mask = apart(query)
        documents, mask = stacked(candidates)
        return self.similarity_fct(queries, documents, queries_mask=queries_mask, documents_mask=mask)


def apart(column: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, D + 1) -> token vectors (B, T, D), and which of them count, (B, T) bool.

    Raises: ValueError unless the last numbers are 0 or 1.
    """
    last = column[..., -1]
    if column.dim() != 3 or not ((last == 0) | (last == 1)).all():
        raise ValueError(
            "A loss on token vectors expects (B, T, D + 1), where the last number of a token is 1 if it counts, else 0."
            " Losses that change embeddings, such as MatryoshkaLoss or AdaptiveLayerLoss, cannot be around it."
        )
    # a copy, because matrix products of rows of an odd width can be slow
    return column[..., :-1].contiguous(), last != 0


def stacked(columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """N columns (B, T_i, D + 1) -> (B, N, T, D) with the largest T, and which tokens count, (B, N, T) bool."""
    even = equally_long(columns)
    return torch.stack([one[..., :-1] for one in even], dim=1), torch.stack([one[..., -1] != 0 for one in even], dim=1)


def _of_all_processes(documents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, T, D), (B, N, T) -> those of all processes, with gradients into them: (processes * B, N, largest T, D)."""
    vectors, real = all_gather_padded(documents.flatten(0, 1), mask.flatten(0, 1), with_grad=True)
    form = (-1, documents.shape[1], real.shape[1])
    return vectors.reshape(*form, documents.shape[-1]), real.reshape(form)


def _in_parts(embed: Embed, size: int, features: Features) -> Tensor:
    return cat_rows([embed(part) for _, part in cut(features, size)])


def _with_tasks(columns: Sequence[Features]) -> list[Features]:
    """The columns with their tasks."""
    return [
        {**column, "task": column.get("task") or ("document" if place else "query")}
        for place, column in enumerate(columns)
    ]


def _size(name: str, value: int | None) -> int | None:
    return None if value is None else positive(name, value)
