"""Losses that copy a teacher: its embeddings, its margins or its ranking. The teacher's output is the label."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import positive
from ..modules.module import module_device
from ..ops.similarity import pairwise_dot_score
from .base import Loss
from .checks import at_least, temperatures
from .pairs import PairFunction
from .teacher_objectives import embedding_cosine, embedding_l2, embedding_mse, margin_mse, margins_of, ranking_kl

logger = logging.getLogger(__name__)

DISTANCES = {"mse": embedding_mse, "l2": embedding_l2, "cosine": embedding_cosine}


class EmbedDistillLoss(Loss):
    """The embeddings must be those of a teacher.

    Args:
        model: the student.
        distance_metric: "mse" (mean of all squared differences), "l2" (mean length of the differences) or "cosine"
            (mean of 1 less the cosine).
        projection_dim: Dt, the width of the teacher's embeddings, where it is another than the student's: a linear
            layer from D to Dt is trained along.

    Columns: n >= 1. Labels: (B, Dt), the same for every column, or (B, n, Dt).
    Raises: ValueError for an unknown metric.
    Source: Kim et al. 2023, https://arxiv.org/abs/2301.12005
    """

    citations = ("kim2023embeddistill",)

    def __init__(self, model: nn.Module, distance_metric: str = "cosine", projection_dim: int | None = None) -> None:
        super().__init__(model)
        if distance_metric not in DISTANCES:
            raise ValueError(
                f"distance_metric must be one of {', '.join(map(repr, DISTANCES))}, but got {distance_metric!r}."
            )
        self.distance_metric = distance_metric
        self.projection_dim = projection_dim
        self.projection: nn.Linear | None = None
        if projection_dim is not None:
            width = model.get_embedding_dimension()  # type: ignore[operator]
            self.projection = nn.Linear(width, positive("projection_dim", projection_dim), device=module_device(model))

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        student = torch.stack(at_least(type(self).__name__, embeddings, 1, "texts"), dim=1)  # (B, n, D)
        if self.projection is not None:
            student = self.projection(student.to(self.projection.weight.dtype))
        teacher = self._targets(labels, *student.shape).to(student.device)
        return DISTANCES[self.distance_metric](student, teacher)

    def _targets(self, labels: Tensor | None, rows: int, columns: int, width: int) -> Tensor:
        """(B, n or 1, Dt)."""
        if labels is None:
            raise ValueError(
                "EmbedDistillLoss requires pre-computed teacher embeddings as labels. Compute them once with the "
                "teacher and add them via `dataset.map(...)`."
            )
        if labels.dim() not in (2, 3):
            raise ValueError(
                "Expected labels to be 2D (batch_size, teacher_dim) or 3D (batch_size, num_columns, teacher_dim); "
                f"got {labels.dim()}D."
            )
        targets = labels[:, None] if labels.dim() == 2 else labels
        if labels.dim() == 3 and targets.shape[1] != columns:
            raise ValueError(
                f"Number of label columns ({targets.shape[1]}) does not match number of input text columns "
                f"({columns}). Either pass 3D labels with shape (batch_size, {columns}, teacher_dim), or pass 2D "
                "labels of shape (batch_size, teacher_dim) to broadcast a single label across all columns."
            )
        if (targets.shape[0], targets.shape[2]) != (rows, width):
            raise ValueError(
                f"The teacher embeddings are {tuple(labels.shape)}, the student's {rows} rows of width {width}. "
                "Where the widths differ, pass projection_dim=<width of the teacher>."
            )
        return targets

    def save_projection(self, path: str | Path) -> None:
        """Write the projection as a safetensors file. Raises: ValueError if there is none."""
        from safetensors.torch import save_file

        layer = self._projection("save")
        save_file({name: tensor.contiguous() for name, tensor in layer.state_dict().items()}, str(path))

    def load_projection(self, path: str | Path) -> None:
        """Take the projection from a file of ``save_projection``.

        Raises: ValueError if this loss has no projection, or one of another shape.
        """
        from safetensors.torch import load_file

        weights = load_file(str(path))
        layer = self._projection("load")
        saved = tuple(weights["weight"].shape)
        if saved != tuple(layer.weight.shape):
            raise ValueError(
                f"Saved projection shape ({saved[1]} -> {saved[0]}) does not match the configured projection shape "
                f"({layer.in_features} -> {layer.out_features})."
            )
        layer.load_state_dict(weights)

    def _projection(self, verb: str) -> nn.Linear:
        if self.projection is None:
            raise ValueError(
                f"No projection layer to {verb}. Construct EmbedDistillLoss with projection_dim=<int> if you want a "
                "learnable projection."
            )
        return self.projection


class MSELoss(EmbedDistillLoss):
    """``EmbedDistillLoss`` with the mean squared difference: for instance a multilingual student of an English teacher.

    Args:
        model: the student.
        projection_dim: Dt, where the teacher's embeddings have another width.

    Columns: n >= 1. Labels: (B, Dt), the same for every column, or (B, n, Dt).
    Source: Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813
    """

    citations = ("reimers2020multilingual",)

    def __init__(self, model: nn.Module, projection_dim: int | None = None) -> None:
        super().__init__(model, "mse", projection_dim)


class CandidatesLoss(Loss):
    """A loss on the scores of the candidates of each query.

    Args:
        model: the student.
        similarity_fct: (B, D), (B, D) -> (B,); higher is closer.
    """

    def __init__(self, model: nn.Module, similarity_fct: PairFunction) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct

    def scores(self, query: Tensor, candidates: list[Tensor]) -> Tensor:
        """(B, N): of each row's query with its own N candidates; each column is (B, D)."""
        return torch.stack([self.similarity_fct(query, one) for one in candidates], dim=1)


class MarginMSELoss(CandidatesLoss):
    """How much better the positive scores than each negative must be as with the teacher.

    Args:
        model: the student.
        similarity_fct: (B, D), (B, D) -> (B,).

    Columns: query, positive, one or more negatives. Labels: (B,) or (B, N) margins, or (B, 1 + N) scores.
    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666
    """

    citations = ("hofstaetter2020margin",)

    def __init__(self, model: nn.Module, similarity_fct: PairFunction = pairwise_dot_score) -> None:
        super().__init__(model, similarity_fct)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        name = type(self).__name__
        query, *candidates = at_least(name, embeddings, 3, "a query, a positive, one or more negatives")
        if labels is None:
            raise ValueError(f"{name} expects the teacher's margins or scores as labels, but got none.")
        scores = self.scores(query, candidates)  # (B, 1 + N)
        margins = margins_of(labels, len(query), len(candidates) - 1)
        return margin_mse(scores, margins.to(scores.device, scores.dtype))


class DistillKLDivLoss(CandidatesLoss):
    """The student's scores of the candidates of a query, as probabilities, must be the teacher's.

    Args:
        model: the student.
        similarity_fct: (B, D), (B, D) -> (B,).
        temperature: T of both, > 0; larger ones look at more than the best candidate.
        student_temperature, teacher_temperature: where they are not the same.

    Columns: query, positive, one or more negatives (in any order). Labels: (B, candidates) scores; -inf leaves a
    candidate out.
    Raises: ValueError for a temperature that is not above 0.
    Source: Lin et al. 2020, https://arxiv.org/abs/2010.11386
    """

    citations = ("lin2020distilling",)
    _has_warned = False

    def __init__(
        self,
        model: nn.Module,
        similarity_fct: PairFunction = pairwise_dot_score,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model, similarity_fct)
        self.temperature, self.student_temperature, self.teacher_temperature = temperatures(
            temperature, student_temperature, teacher_temperature
        )

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        name = type(self).__name__
        if len(embeddings) < 3:
            raise ValueError(
                f"{name} expects at least 3 columns (query, positive, negative_1, ...), but got {len(embeddings)}. "
                "A softmax over one candidate is constant, so the loss and its gradient would be identically zero. "
                "Add at least a second candidate column."
            )
        query, *candidates = embeddings
        expected = (len(query), len(candidates))
        if labels is None or tuple(labels.shape) != expected:
            raise ValueError(
                f"{name} expects teacher scores of shape (batch_size, N) = {expected} for N candidate columns, but got "
                f"{None if labels is None else tuple(labels.shape)}."
            )
        scores = self.scores(query, candidates)
        targets = self._distribution(labels.to(scores.device, scores.dtype))
        return ranking_kl(scores, targets, self.student_temperature)

    def _distribution(self, teacher: Tensor) -> Tensor:
        """The teacher's probabilities, (B, N)."""
        targets = (teacher / self.teacher_temperature).softmax(dim=1)
        if targets.isnan().any():
            raise ValueError(
                f"{type(self).__name__}: the teacher scores contain NaN, so the loss and every gradient would be NaN "
                "after the first backward (+inf, or -inf for all candidates of a query, do the same). Check the column "
                "holding your teacher scores."
            )
        if not self._has_warned:
            lost = (targets == 0) & (teacher > -torch.inf)
            if lost.any():
                self._has_warned = True
                logger.warning(
                    "%s: with teacher_temperature=%s, %d of %d teacher scores are so far below the best of their query "
                    "that their probability is 0: these candidates have no gradient. Raise teacher_temperature.",
                    type(self).__name__,
                    self.teacher_temperature,
                    int(lost.sum()),
                    lost.numel(),
                )
        return targets
