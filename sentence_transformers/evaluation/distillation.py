"""How well the scores of a late interaction model agree with those of its teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.ops.correlation import spearman

from ..losses.checks import temperatures
from ..losses.teacher_objectives import ranking_kl
from .base import arguments_of
from .embedding import EmbeddingEvaluator
from .reporting import Measured, csv_name


class MultiVectorDistillationEvaluator(EmbeddingEvaluator):
    """The scores of a model against those of a teacher: as distributions, and in their order.

    Args:
        queries: B queries.
        documents: one for each query, or a list of N candidates for each.
        scores: of the teacher, (B,), or (B, N).
        temperature: T of both, > 0. student_temperature, teacher_temperature: where they are not the same.
        similarity_fct: lists of B (t_i, D) queries and documents -> (B,); None: ``similarity_pairwise`` of the model.
        name: of the data, put before every metric. batch_size: the most texts that are encoded together.
        show_progress_bar: while encoding.
        write_csv: add a row to ``distillation_evaluation_<name>_results.csv``.

    Metrics: ``kl_divergence`` of the model's distribution, softmax(scores / T), from the teacher's, times the square of
    the model's T; ``spearman``, the correlation of the ranks. Of candidates, both are the mean over the queries;
    queries for which no correlation is defined, as all scores are equal, do not count for it, and without any it is 0.
    Of one document for each query, all B scores are one distribution and one ranking.

    Raises: ValueError for other numbers of documents or scores, or a temperature that is not above 0.
    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """

    primary_metric = "spearman"

    def __init__(
        self,
        queries: Sequence[Any],
        documents: Sequence[Any],
        scores: Any,
        *,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        similarity_fct: Callable[..., Tensor] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool = False,
        write_csv: bool = True,
    ) -> None:
        super().__init__(
            csv_name("distillation_evaluation", name), name, batch_size, show_progress_bar, write_csv, truncate_dim=None
        )
        self.temperature, self.student_temperature, self.teacher_temperature = temperatures(
            temperature, student_temperature, teacher_temperature
        )
        self.similarity_fct = similarity_fct
        self.queries = list(queries)
        self.nested_documents = any(isinstance(some, (list, tuple)) for some in documents)
        self.documents = list(documents)
        self.scores = _teacher(scores, len(self.queries), self._candidates(), self.nested_documents)

    def _candidates(self) -> list[list[Any]]:
        """The documents of each query."""
        return [list(some) if isinstance(some, (list, tuple)) else [some] for some in self.documents]

    def encode_settings(self) -> dict[str, Any]:
        return {}

    def measure(self, model: Any) -> Measured:
        student, teacher = self.student_scores(model), self.scores
        if not self.nested_documents:  # all of them are candidates of one query
            student, teacher = student.reshape(1, -1), teacher.reshape(1, -1)
        metrics = {"kl_divergence": self._divergence(student, teacher), "spearman": mean_spearman(teacher, student)}
        return Measured(metrics, dict(metrics), "spearman")

    def student_scores(self, model: Any) -> Tensor:
        """The scores that a model gives, (B, N) float64; N is 1 for one document for each query."""
        if not self.queries:
            return torch.zeros(0, 1, dtype=torch.float64)
        candidates = zip(*self._candidates(), strict=True)
        (queries,) = self.encode(model, self.queries, encode_fn_name="encode_query")
        columns = self.encode(model, *candidates, encode_fn_name="encode_document")
        compare = self.similarity_fct or model.similarity_pairwise
        scores = [compare(queries.take(), column.take()).detach().cpu().double() for column in columns]
        return torch.stack(scores, dim=1)

    def _divergence(self, student: Tensor, teacher: Tensor) -> float:
        if not student.numel():
            return 0.0
        targets = (teacher / self.teacher_temperature).softmax(dim=1)
        return ranking_kl(student, targets, self.student_temperature).item()

    def get_config_dict(self) -> dict[str, Any]:
        found = arguments_of(self, ["temperature"])
        for name in ("student_temperature", "teacher_temperature"):
            if getattr(self, name) != self.temperature:
                found[name] = getattr(self, name)
        if self.similarity_fct is not None:
            found["similarity_fct"] = getattr(self.similarity_fct, "__name__", type(self.similarity_fct).__name__)
        return found


def mean_spearman(teacher: Tensor, student: Tensor) -> float:
    """The mean of the rank correlations of rows, (B, N) each, that are defined; 0 if none is."""
    if teacher.shape[1] < 2:
        return 0.0
    found = [spearman(one, other) for one, other in zip(teacher.numpy(), student.numpy(), strict=True)]
    defined = [value for value in found if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else 0.0


def _teacher(scores: Any, queries: int, candidates: list[list[Any]], nested: bool) -> Tensor:
    """The teacher's scores, (B,) or (B, N) float64. Raises: ValueError unless they fit queries and candidates."""
    if not queries == len(candidates) == len(scores):
        raise ValueError(
            f"queries ({queries}), documents ({len(candidates)}), and scores ({len(scores)}) must all have the same "
            "length."
        )
    counts = {len(some) for some in candidates}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            "All per-query candidate lists in documents must have the same length, which is at least 1; got the "
            f"lengths {sorted(counts)}."
        )
    found = torch.as_tensor(scores, dtype=torch.float64).cpu()
    if nested and tuple(found.shape) != (queries, *counts):
        raise ValueError(
            f"With per-query candidate documents, scores must be 2-D (num_queries, {counts.pop()}), got shape "
            f"{tuple(found.shape)}."
        )
    if not nested and found.dim() != 1:
        raise ValueError(
            f"With one document per query, scores must be 1-D, got shape {tuple(found.shape)}. Pass documents as a "
            "list of per-query candidate lists to use 2-D scores."
        )
    return found
