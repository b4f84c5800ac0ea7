"""Losses on pairs of texts with a label for each pair. Knows nothing of how the texts were encoded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modules.module import module_device
from ..modules.parts import renamed_arguments
from ..ops.similarity import pairwise_angle_sim, pairwise_cos_sim
from .base import Loss, one_label_each
from .checks import at_least, exactly
from .pair_objectives import contrastive, cosent, online_contrastive

PairFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(B, D), (B, D) -> (B,)."""


class CoSENTLoss(Loss):
    """Order pairs by label: the pair labelled higher must score higher.

    Args:
        model: the encoder to train.
        scale: inverse temperature; multiplies the scores.
        similarity_fct: (B, D), (B, D) -> (B,); higher is closer.

    Columns: two. Labels: (B,) float, any range; only their order matters.
    Source: Huang et al. 2024, https://doi.org/10.1109/TASLP.2024.3402087
    """

    citations = ("huang2024cosent",)

    def __init__(self, model: nn.Module, scale: float = 20.0, similarity_fct: PairFunction = pairwise_cos_sim) -> None:
        super().__init__(model)
        self.scale = scale
        self.similarity_fct = similarity_fct

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        first, second = at_least(type(self).__name__, embeddings, 2, "two texts")[:2]
        flat = one_label_each(type(self).__name__, labels, len(first))
        return cosent(self.scale * self.similarity_fct(first, second), flat)


class AnglELoss(CoSENTLoss):
    """``CoSENTLoss`` on the angle between embeddings read as complex numbers, whose gradient does not fade.

    Args:
        model: the encoder to train.
        scale: inverse temperature; multiplies the scores.

    Columns: two, with labels as ``CoSENTLoss``. Or an anchor, a positive and any number of negatives: pairs of the
    anchor with the positive are labelled as given, or 1, and those with a negative 1 less that.
    Source: Li and Li 2024, https://aclanthology.org/2024.acl-long.101
    """

    citations = ("li2024angle",)

    def __init__(self, model: nn.Module, scale: float = 20.0) -> None:
        super().__init__(model, scale, pairwise_angle_sim)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        anchors, *others = at_least("AnglELoss", embeddings, 2, "two texts, or an anchor, a positive and negatives")
        if len(others) == 1:
            if labels is None:
                raise ValueError("AnglELoss requires labels for datasets with pairs.")
            return super().compute_loss_from_embeddings(embeddings, labels)
        of_positives = anchors.new_ones(len(anchors))
        if labels is not None:
            of_positives = one_label_each("AnglELoss", labels, len(anchors)).to(anchors.dtype)
        of_all = torch.cat([of_positives, *[1 - of_positives] * (len(others) - 1)])
        return super().compute_loss_from_embeddings([anchors.repeat(len(others), 1), torch.cat(others)], of_all)


class CosineSimilarityLoss(Loss):
    """The cosine of each pair must be its label.

    Args:
        model: the encoder to train.
        loss_fct: of the cosines and the labels, each (B,).
        cos_score_transformation: applied to the cosines first.

    Columns: two. Labels: (B,) float in the range of the transformed cosine.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fct: nn.Module | None = None,
        cos_score_transformation: nn.Module | None = None,
    ) -> None:
        super().__init__(model)
        self.loss_fct = nn.MSELoss() if loss_fct is None else loss_fct
        self.cos_score_transformation = nn.Identity() if cos_score_transformation is None else cos_score_transformation

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        first, second = at_least("CosineSimilarityLoss", embeddings, 2, "two texts")[:2]
        flat = one_label_each("CosineSimilarityLoss", labels, len(first))
        scores = self.cos_score_transformation(pairwise_cos_sim(first, second))
        return self.loss_fct(scores, flat.to(scores.dtype))


class SiameseDistanceMetric:
    """Distances of the pairs of a contrastive loss: (B, D), (B, D) -> (B,)."""

    @staticmethod
    def EUCLIDEAN(x: Tensor, y: Tensor) -> Tensor:
        """Length of the difference; 1e-6 is added to every dimension first, so that the gradient exists."""
        return F.pairwise_distance(x, y, p=2)

    @staticmethod
    def MANHATTAN(x: Tensor, y: Tensor) -> Tensor:
        """Sum of absolute differences; 1e-6 is added to every dimension first."""
        return F.pairwise_distance(x, y, p=1)

    @staticmethod
    def COSINE_DISTANCE(x: Tensor, y: Tensor) -> Tensor:
        """1 less the cosine, 0..2."""
        return 1 - pairwise_cos_sim(x, y)


class _Siamese(Loss):
    """What both contrastive losses share: distances of pairs, labels that should be 0 or 1."""

    distance_metric: PairFunction
    _other_labels: str  # what becomes of labels that are neither
    _has_warned = False

    def _distances(self, embeddings: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B,) and (B,)."""
        name = type(self).__name__
        first, second = embeddings
        flat = one_label_each(name, labels, len(first))
        if not self._has_warned and ((flat != 0) & (flat != 1)).any():
            self._has_warned = True
            warnings.warn(f"{name} expects binary labels (0 or 1). {self._other_labels}", UserWarning, stacklevel=2)
        return self.distance_metric(first, second), flat

    def get_config_dict(self) -> dict[str, Any]:
        return {
            **super().get_config_dict(),
            "distance_metric": metric_name(self.distance_metric, SiameseDistanceMetric),
        }


class ContrastiveLoss(_Siamese):
    """Pull pairs labelled 1 together, and push pairs labelled 0 apart up to a margin.

    Args:
        model: the encoder to train.
        distance_metric: (B, D), (B, D) -> (B,); one of ``SiameseDistanceMetric``, or any function.
        margin: the distance from which on negatives are far enough.
        size_average: mean of the pairs, else their sum.

    Columns: two. Labels: (B,) 0 or 1; values between weigh both parts.
    Source: Hadsell et al. 2006, https://doi.org/10.1109/CVPR.2006.100
    """

    citations = ("hadsell2006dimensionality",)
    _other_labels = (
        "Non-binary labels are accepted but are used directly to weight the positive term, with 1 - label weighting "
        "the negative term."
    )

    def __init__(
        self,
        model: nn.Module,
        distance_metric: PairFunction = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: float = 0.5,
        size_average: bool = True,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.margin = margin
        self.size_average = size_average

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        pair = exactly("ContrastiveLoss", embeddings, 2, "two texts")
        distances, flat = self._distances(pair, labels)
        losses = contrastive(distances, flat.to(distances.dtype), self.margin)
        return losses.mean() if self.size_average else losses.sum()


class OnlineContrastiveLoss(_Siamese):
    """``ContrastiveLoss``, summed over the hard pairs of each batch alone.

    Hard are negatives nearer than the farthest positive, and positives farther than the nearest negative.

    Args:
        model: the encoder to train.
        distance_metric: (B, D), (B, D) -> (B,); one of ``SiameseDistanceMetric``, or any function.
        margin: the distance from which on negatives are far enough.

    Columns: two. Labels: (B,) 0 or 1; pairs with other labels are ignored.
    """

    _other_labels = (
        "Pairs with any other label are ignored, since they match neither the positive nor the negative set."
    )

    def __init__(
        self,
        model: nn.Module,
        distance_metric: PairFunction = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: float = 0.5,
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric
        self.margin = margin

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        pair = at_least("OnlineContrastiveLoss", embeddings, 2, "two texts")[:2]
        return online_contrastive(*self._distances(pair, labels), self.margin)


class SoftmaxLoss(Loss):
    """Classify pairs by a linear layer on both embeddings, trained along, which is thrown away afterwards.

    Args:
        model: the encoder to train.
        embedding_dimension: D, the width of its embeddings.
        num_labels: how many classes there are.
        concatenation_sent_rep: the layer sees both embeddings u and v, ...
        concatenation_sent_difference: ... |u - v|, ...
        concatenation_sent_multiplication: ... and u * v.
        loss_fct: of the logits (B, num_labels) and the labels (B,).

    Columns: two. Labels: (B,) int, 0 ... num_labels - 1. Without labels, the loss gives the embeddings and the logits.
    Raises: ValueError if the layer would see nothing.
    Source: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084
    """

    citations = ("reimers2019sentence",)

    @renamed_arguments(sentence_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        model: nn.Module,
        embedding_dimension: int,
        num_labels: int,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: nn.Module | None = None,
    ) -> None:
        super().__init__(model)
        self.embedding_dimension = embedding_dimension
        self.num_labels = num_labels
        self.concatenation_sent_rep = concatenation_sent_rep
        self.concatenation_sent_difference = concatenation_sent_difference
        self.concatenation_sent_multiplication = concatenation_sent_multiplication
        parts = 2 * concatenation_sent_rep + concatenation_sent_difference + concatenation_sent_multiplication
        if not parts:
            raise ValueError(
                "At least one of concatenation_sent_rep, concatenation_sent_difference, or "
                "concatenation_sent_multiplication must be True."
            )
        self.classifier = nn.Linear(parts * embedding_dimension, num_labels, device=module_device(model))
        self.loss_fct = nn.CrossEntropyLoss() if loss_fct is None else loss_fct

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        u, v = exactly("SoftmaxLoss", embeddings, 2, "two texts")
        seen = [u, v] if self.concatenation_sent_rep else []
        if self.concatenation_sent_difference:
            seen.append((u - v).abs())
        if self.concatenation_sent_multiplication:
            seen.append(u * v)
        logits = self.classifier(torch.cat(seen, dim=1).to(self.classifier.weight.dtype))
        if labels is None:
            return embeddings, logits
        return self.loss_fct(logits, one_label_each("SoftmaxLoss", labels, len(u)))


def metric_name(metric: PairFunction, home: type) -> str:
    """How a configuration writes a metric: "SiameseDistanceMetric.EUCLIDEAN", or the name of another function."""
    for name, known in vars(home).items():
        if isinstance(known, staticmethod) and known.__func__ is metric:
            return f"{home.__name__}.{name}"
    return str(getattr(metric, "__name__", type(metric).__name__))
