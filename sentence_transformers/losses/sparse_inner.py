"""The losses to put inside of ``SpladeLoss`` or ``CSRLoss``: dense ones, with defaults for embeddings of any length.

Alone they would make dense embeddings of a sparse encoder, so that is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from torch import Tensor, nn

from ..ops.similarity import dot_score, pairwise_cos_sim, pairwise_dot_score
from .base import Features, Loss
from .contrastive import QUERY_TO_DOC, MultipleNegativesRankingLoss, SimilarityFunction
from .distillation import DistillKLDivLoss, MarginMSELoss
from .joining import encoder_of
from .pairs import AnglELoss, CoSENTLoss, CosineSimilarityLoss, PairFunction
from .triplets import TripletLoss


class OnlyInside(Loss):
    """A loss that is for the inside of another. To be put before the loss whose objective is used."""

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> NoReturn:
        """Raises: AttributeError."""
        raise AttributeError(
            f"{type(self).__name__} should not be used alone. Use it with SpladeLoss or CSRLoss, as their loss=..."
        )


class SparseMultipleNegativesRankingLoss(OnlyInside, MultipleNegativesRankingLoss):
    """``MultipleNegativesRankingLoss`` on dot products, to be put inside of ``SpladeLoss`` or ``CSRLoss``.

    Args:
        model: the encoder to train.
        scale, similarity_fct, gather_across_devices, directions, partition_mode, hardness_mode, hardness_strength: see
            ``MultipleNegativesRankingLoss``.

    Columns: anchor, positive, any number of negatives. No labels.
    """

    def __init__(
        self,
        model: nn.Module,
        scale: float = 1.0,
        similarity_fct: SimilarityFunction = dot_score,
        gather_across_devices: bool = False,
        directions: Sequence[str] = QUERY_TO_DOC,
        partition_mode: str = "joint",
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


class SparseMarginMSELoss(OnlyInside, MarginMSELoss):
    """``MarginMSELoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``; same arguments, columns and labels."""


class SparseDistillKLDivLoss(OnlyInside, DistillKLDivLoss):
    """``DistillKLDivLoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``.

    Args:
        model: the student.
        similarity_fct, student_temperature, teacher_temperature: see ``DistillKLDivLoss``.
        temperature: T of both, > 0; higher than for dense embeddings, for dot products of sparse ones are large.

    Columns and labels: those of ``DistillKLDivLoss``.
    """

    def __init__(
        self,
        model: nn.Module,
        similarity_fct: PairFunction = pairwise_dot_score,
        temperature: float = 2.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model, similarity_fct, temperature, student_temperature, teacher_temperature)


class SparseTripletLoss(OnlyInside, TripletLoss):
    """``TripletLoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``; same columns.

    Args: those of ``TripletLoss``: model, distance_metric, triplet_margin.
    """


class SparseCoSENTLoss(OnlyInside, CoSENTLoss):
    """``CoSENTLoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``; the model compares by cosine from now on.

    Args:
        model: the encoder to train.
        scale, similarity_fct: see ``CoSENTLoss``.

    Columns and labels: those of ``CoSENTLoss``.
    """

    def __init__(self, model: nn.Module, scale: float = 20.0, similarity_fct: PairFunction = pairwise_cos_sim) -> None:
        super().__init__(model, scale, similarity_fct)
        compare_by_cosine(model)


class SparseAnglELoss(OnlyInside, AnglELoss):
    """``AnglELoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``; the model compares by cosine from now on.

    Args:
        model: the encoder to train.
        scale: see ``AnglELoss``.

    Columns and labels: those of ``AnglELoss``.
    """

    def __init__(self, model: nn.Module, scale: float = 20.0) -> None:
        super().__init__(model, scale)
        compare_by_cosine(model)


class SparseCosineSimilarityLoss(OnlyInside, CosineSimilarityLoss):
    """``CosineSimilarityLoss``, to be put inside of ``SpladeLoss`` or ``CSRLoss``; the model compares by cosine then.

    Args:
        model: the encoder to train.
        loss_fct, cos_score_transformation: see ``CosineSimilarityLoss``.

    Columns and labels: those of ``CosineSimilarityLoss``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fct: nn.Module | None = None,
        cos_score_transformation: nn.Module | None = None,
    ) -> None:
        super().__init__(model, loss_fct, cos_score_transformation)
        compare_by_cosine(model)


def compare_by_cosine(model: nn.Module) -> None:
    """What is trained by cosines is compared by them afterwards, also of an encoder that is wrapped."""
    encoder_of(model).similarity_fn_name = "cosine"
