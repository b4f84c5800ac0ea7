"""Triplet losses: given triplets, or all that the classes of a batch allow. Knows nothing of how texts were encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.similarity import cos_sim, pairwise_cos_sim, pairwise_euclidean_sim, pairwise_manhattan_sim
from .base import Loss, one_label_each
from .checks import at_least, exactly
from .pairs import PairFunction, metric_name
from .triplet_objectives import all_triplets, hardest, other_class, same_class, semi_hard_triplets, triplet

AllDistances: TypeAlias = Callable[[Tensor], Tensor]
"""(B, D) -> (B, B) >= 0."""


class TripletDistanceMetric:
    """Distances of rows: (B, D), (B, D) -> (B,)."""

    @staticmethod
    def COSINE(x: Tensor, y: Tensor) -> Tensor:
        """1 less the cosine, 0..2."""
        return 1 - pairwise_cos_sim(x, y)

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """Length of the difference."""
        return -pairwise_euclidean_sim(x, y)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """Sum of absolute differences."""
        return -pairwise_manhattan_sim(x, y)


class TripletLoss(Loss):
    """The positive must be nearer to the anchor than the negative, by a margin.

    Args:
        model: the encoder to train.
        distance_metric: (B, D), (B, D) -> (B,); one of ``TripletDistanceMetric``, or any function.
        triplet_margin: in units of the distance.

    Columns: anchor, positive, negative. No labels.
    Source: Schroff et al. 2015, https://arxiv.org/abs/1503.03832
    """

    citations = ("hermans2017triplet",)

    def __init__(
        self,
        model: nn.Module,
        distance_metric: PairFunction = TripletDistanceMetric.EUCLIDEAN,
        triplet_margin: float = 5,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.triplet_margin = triplet_margin

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        anchor, positive, negative = exactly(type(self).__name__, embeddings, 3, "an anchor, a positive and a negative")
        near, far = self.distance_metric(anchor, positive), self.distance_metric(anchor, negative)
        return triplet(near, far, self.triplet_margin).mean()

    def get_config_dict(self) -> dict[str, Any]:
        return {
            **super().get_config_dict(),
            "distance_metric": metric_name(self.distance_metric, TripletDistanceMetric),
        }


class BatchHardTripletLossDistanceFunction:
    """Distances of all rows of a batch: (B, D) -> (B, B)."""

    @staticmethod
    def cosine_distance(embeddings: Tensor) -> Tensor:
        """1 less the cosine, 0..2."""
        return 1 - cos_sim(embeddings, embeddings)

    @staticmethod
    def euclidean_distance(embeddings: Tensor, squared: bool = False) -> Tensor:
        """Length of the difference, or its square; exactly 0, with gradient 0, for equal rows."""
        rows = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.square() if squared else distances

    @staticmethod
    def eucledian_distance(embeddings: Tensor, squared: bool = False) -> Tensor:
        """Another spelling of ``euclidean_distance``."""
        return BatchHardTripletLossDistanceFunction.euclidean_distance(embeddings, squared)


class _OfClasses(Loss):
    """A loss on one column of texts, whose labels are classes: which triplets count is for the subclass."""

    citations = ("hermans2017triplet",)

    def __init__(self, model: nn.Module, distance_metric: AllDistances, margin: float) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.margin = margin

    @property
    def triplet_margin(self) -> float:
        """Another name of ``margin``."""
        return self.margin

    @triplet_margin.setter
    def triplet_margin(self, value: float) -> None:
        self.margin = value

    def objective(self, distances: Tensor, labels: Tensor) -> Tensor:
        """(B, B), (B,) -> ()."""
        raise NotImplementedError

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        rows = at_least(type(self).__name__, embeddings, 1, "texts, with their classes as labels")[0]
        classes = one_label_each(type(self).__name__, labels, len(rows))
        return self.objective(self.distance_metric(rows), classes)


class BatchAllTripletLoss(_OfClasses):
    """Every triplet that the classes of a batch allow: the mean of all losses above 0.

    Args:
        model: the encoder to train.
        distance_metric: (B, D) -> (B, B) >= 0; one of ``BatchHardTripletLossDistanceFunction``, or any function.
        margin: in units of the distance.

    Columns: one. Labels: (B,) class. Use a batch sampler that groups by label.
    Source: Hermans et al. 2017, https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        model: nn.Module,
        distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: float = 5,
    ) -> None:
        super().__init__(model, distance_metric, margin)

    def objective(self, distances: Tensor, labels: Tensor) -> Tensor:
        return all_triplets(distances, labels, self.margin)

    def batch_all_triplet_loss(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of embeddings (B, D) and classes (B,)."""
        return self.compute_loss_from_embeddings([embeddings], labels)


class BatchHardTripletLoss(_OfClasses):
    """Each text as anchor, with the farthest of its class and the nearest of another.

    Args:
        model: the encoder to train.
        distance_metric: (B, D) -> (B, B) >= 0; one of ``BatchHardTripletLossDistanceFunction``, or any function.
        margin: in units of the distance.

    Columns: one. Labels: (B,) class. Use a batch sampler that groups by label.
    Source: Hermans et al. 2017, https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        model: nn.Module,
        distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: float = 5,
    ) -> None:
        super().__init__(model, distance_metric, margin)

    def objective(self, distances: Tensor, labels: Tensor) -> Tensor:
        return triplet(*hardest(distances, labels), self.margin).mean()

    def batch_hard_triplet_loss(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of embeddings (B, D) and classes (B,)."""
        return self.compute_loss_from_embeddings([embeddings], labels)

    @staticmethod
    def get_triplet_mask(labels: Tensor) -> Tensor:
        """(B,) -> (B, B, B) bool: anchor and positive are two rows of one class, the negative of another."""
        return same_class(labels)[:, :, None] & other_class(labels)[:, None, :]

    @staticmethod
    def get_anchor_positive_triplet_mask(labels: Tensor) -> Tensor:
        """(B,) -> (B, B) bool: two different rows of one class."""
        return same_class(labels)

    @staticmethod
    def get_anchor_negative_triplet_mask(labels: Tensor) -> Tensor:
        """(B,) -> (B, B) bool: two rows of different classes."""
        return other_class(labels)


class BatchHardSoftMarginTripletLoss(BatchHardTripletLoss):
    """``BatchHardTripletLoss`` with log(1 + exp(.)) in place of a margin.

    Args:
        model: the encoder to train.
        distance_metric: (B, D) -> (B, B) >= 0; one of ``BatchHardTripletLossDistanceFunction``, or any function.

    Columns: one. Labels: (B,) class. Use a batch sampler that groups by label.
    Source: Hermans et al. 2017, https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        model: nn.Module,
        distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance,
    ) -> None:
        super().__init__(model, distance_metric)

    def objective(self, distances: Tensor, labels: Tensor) -> Tensor:
        farthest, nearest = hardest(distances, labels)
        return F.softplus(farthest - nearest).mean()

    def batch_hard_triplet_soft_margin_loss(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of embeddings (B, D) and classes (B,)."""
        return self.compute_loss_from_embeddings([embeddings], labels)


class BatchSemiHardTripletLoss(_OfClasses):
    """Each two texts of one class, with the nearest text of another that is farther than they are apart.

    Args:
        model: the encoder to train.
        distance_metric: (B, D) -> (B, B) >= 0; one of ``BatchHardTripletLossDistanceFunction``, or any function.
        margin: in units of the distance.

    Columns: one. Labels: (B,) class. Use a batch sampler that groups by label.
    Source: Schroff et al. 2015, https://arxiv.org/abs/1503.03832
    """

    def __init__(
        self,
        model: nn.Module,
        distance_metric: AllDistances = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: float = 5,
    ) -> None:
        super().__init__(model, distance_metric, margin)

    def objective(self, distances: Tensor, labels: Tensor) -> Tensor:
        return semi_hard_triplets(distances, labels, self.margin)

    def batch_semi_hard_triplet_loss(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        """The loss of embeddings (B, D) and classes (B,)."""
        return self.compute_loss_from_embeddings([embeddings], labels)
