"""Losses that only shape the space of embeddings, to be added to others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..ops.similarity import cos_sim
from .base import Components, Loss
from .checks import at_least


def spread(scores: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    """How far embeddings are from lying uniformly on a sphere, by the scores of all pairs of different ones.

    Args:
        scores: (B, B) similarity of all rows; the diagonal is left out.
        dimension: D of the embeddings.

    Returns: () square of the mean, and () mean of the squares above 1/D, what chance gives; both 0 for one row.
    Source: Zhang et al. 2017, https://arxiv.org/abs/1708.06320
    """
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), 0)
    pairs = max(len(scores) * (len(scores) - 1), 1)
    return (others.sum() / pairs).square(), (others.square().sum() / pairs - 1 / dimension).relu()


class GlobalOrthogonalRegularizationLoss(Loss):
    """Spread the embeddings of each column out: different texts shall be orthogonal in the mean.

    Args:
        model: the encoder to train.
        similarity_fct: (B, D), (B, D) -> (B, B).
        mean_weight: of the squared mean of the similarities; None or 0 leaves it out.
        second_moment_weight: of the mean of their squares above 1/D; None or 0 leaves it out.
        aggregation: "mean" or "sum" of the columns.

    Columns: any number. No labels. The loss has the parts "gor_mean" and "gor_second_moment".
    Raises: ValueError if both are left out.
    Source: Zhang et al. 2017, https://arxiv.org/abs/1708.06320
    """

    citations = ("zhang2017spreadout",)

    def __init__(
        self,
        model: nn.Module,
        similarity_fct: Callable[[Tensor, Tensor], Tensor] = cos_sim,
        mean_weight: float | None = 1.0,
        second_moment_weight: float | None = 1.0,
        aggregation: str = "mean",
    ) -> None:
        super().__init__(model)
        if not mean_weight and not second_moment_weight:
            raise ValueError("At least one of mean_weight or second_moment_weight must be non-zero")
        if aggregation not in ("mean", "sum"):
            raise ValueError(f"aggregation must be 'mean' or 'sum', got {aggregation!r}")
        self.similarity_fct = similarity_fct
        self.mean_weight = mean_weight
        self.second_moment_weight = second_moment_weight
        self.aggregation = aggregation

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Components:
        columns = at_least(type(self).__name__, embeddings, 1, "texts")
        both = torch.stack([torch.stack(self.compute_gor(column)) for column in columns])  # (n, 2)
        mean, second_moment = both.mean(0) if self.aggregation == "mean" else both.sum(0)
        parts = {
            "gor_mean": (mean, self.mean_weight),
            "gor_second_moment": (second_moment, self.second_moment_weight),
        }
        return {name: weight * value for name, (value, weight) in parts.items() if weight}

    def compute_gor(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Both parts for one column, (B, D), without weights."""
        return spread(self.similarity_fct(embeddings, embeddings), embeddings.shape[-1])
