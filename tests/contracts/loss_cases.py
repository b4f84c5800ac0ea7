"""How to make each dense loss, and a batch for it. A loss without a case fails the contract by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sentence_transformers import losses
from sentence_transformers.losses.gradcache import GradCache

TEXTS = [
    ["a cat sat on the mat", "dogs bark", "it rains in the north today", "she reads", "two men play chess", "cold tea"],
    [
        "the cat is sitting",
        "a dog is loud at night",
        "rain",
        "a woman with a book",
        "chess",
        "the tea is no longer hot",
    ],
    ["a bird", "silence everywhere", "the sun shines", "he sleeps all day long", "they swim", "warm milk and honey"],
]
"""Three columns of a batch."""
ROWS = len(TEXTS[0])

SCORES = torch.tensor([0.1, 0.9, 0.4, 0.4, 0.75, 0.0], dtype=torch.float64)
BINARY = torch.tensor([1, 0, 1, 1, 0, 0])
CLASSES = torch.tensor([0, 1, 2, 0, 1, 0])
MARGINS = torch.linspace(-0.5, 0.5, ROWS, dtype=torch.float64)
RANKED = torch.tensor([[0.9, 0.1], [0.5, 0.6], [0.3, 0.2], [0.8, 0.0], [0.7, 0.4], [0.2, 0.3]], dtype=torch.float64)
WIDTH = 32  # of the embeddings of the tiny models


def teacher() -> torch.Tensor:
    """(ROWS, WIDTH): embeddings of another model."""
    return torch.sin(torch.arange(ROWS * WIDTH, dtype=torch.float64)).reshape(ROWS, WIDTH)


@dataclass(frozen=True)
class Case:
    """One loss.

    Attributes:
        columns: how many columns of ``TEXTS`` it is given.
        labels: for them; None for none.
        wrap: makes the loss of the model, where it needs more than that.
        from_embeddings: whether embeddings and labels alone decide it.
    """

    columns: int
    labels: Any = None
    wrap: Callable[[Any, type[Any]], Any] | None = None
    from_embeddings: bool = True

    def make(self, kind: type[Any], model: Any) -> Any:
        return kind(model) if self.wrap is None else self.wrap(model, kind)


def _guided(model: Any, kind: type[Any]) -> Any:
    return kind(model, guide=model, temperature=0.1)


def _around(model: Any, kind: type[Any]) -> Any:
    inner = losses.MultipleNegativesRankingLoss(model)
    if kind is losses.MatryoshkaLoss:
        return kind(model, inner, matryoshka_dims=[WIDTH, 8])
    if kind is losses.Matryoshka2dLoss:
        return kind(model, inner, matryoshka_dims=[WIDTH, 8], n_layers_per_step=-1, n_dims_per_step=-1)
    return kind(model, inner, n_layers_per_step=-1)


def _denoising(model: Any, kind: type[Any]) -> Any:
    return kind(model, decoder_name_or_path=str(model[0].pretrained.folder), tie_encoder_decoder=True)


def _classifying(model: Any, kind: type[Any]) -> Any:
    return kind(model, embedding_dimension=WIDTH, num_labels=3).double()


RANKING = Case(3)
SYMMETRIC = Case(2)
CASES: dict[str, Case] = {
    "AdaptiveLayerLoss": Case(2, wrap=_around, from_embeddings=False),
    "AnglELoss": Case(2, SCORES),
    "BatchAllTripletLoss": Case(1, CLASSES),
    "BatchHardSoftMarginTripletLoss": Case(1, CLASSES),
    "BatchHardTripletLoss": Case(1, CLASSES),
    "BatchSemiHardTripletLoss": Case(1, CLASSES),
    "CachedGISTEmbedLoss": Case(3, wrap=_guided, from_embeddings=False),
    "CachedMultipleNegativesRankingLoss": RANKING,
    "CachedMultipleNegativesSymmetricRankingLoss": SYMMETRIC,
    "CoSENTLoss": Case(2, SCORES),
    "ContrastiveLoss": Case(2, BINARY),
    "ContrastiveTensionLoss": Case(2, BINARY, from_embeddings=False),
    "ContrastiveTensionLossInBatchNegatives": Case(1, from_embeddings=False),
    "CosineSimilarityLoss": Case(2, SCORES),
    "DenoisingAutoEncoderLoss": Case(2, wrap=_denoising, from_embeddings=False),
    "DistillKLDivLoss": Case(3, RANKED),
    "EmbedDistillLoss": Case(2, teacher()),
    "GISTEmbedLoss": Case(3, wrap=_guided, from_embeddings=False),
    "GlobalOrthogonalRegularizationLoss": Case(2),
    "MSELoss": Case(2, teacher()),
    "MarginMSELoss": Case(3, MARGINS),
    "Matryoshka2dLoss": Case(2, wrap=_around, from_embeddings=False),
    "MatryoshkaLoss": Case(2, wrap=_around),
    "MegaBatchMarginLoss": SYMMETRIC,
    "MultipleNegativesRankingLoss": RANKING,
    "MultipleNegativesSymmetricRankingLoss": SYMMETRIC,
    "OnlineContrastiveLoss": Case(2, BINARY),
    "SoftmaxLoss": Case(2, CLASSES, wrap=_classifying),
    "TripletLoss": Case(3),
}

CACHED = {
    "CachedGISTEmbedLoss": "GISTEmbedLoss",
    "CachedMultipleNegativesRankingLoss": "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesSymmetricRankingLoss": "MultipleNegativesSymmetricRankingLoss",
    "MegaBatchMarginLoss": "MegaBatchMarginLoss",
}
"""Loss with a gradient cache -> the one without."""


def plain(name: str, model: Any) -> Any:
    """The loss ``name``, which has no gradient cache, or can do without."""
    case = CASES[name]
    if name == "MegaBatchMarginLoss":
        return losses.MegaBatchMarginLoss(model, use_mini_batched_version=False)
    return case.make(getattr(losses, name), model)


def in_parts(name: str, model: Any, rows: int) -> Any:
    """The loss ``name``, which has a gradient cache, with parts of so many rows."""
    loss = CASES[name].make(getattr(losses, name), model)
    assert isinstance(loss, GradCache)
    loss.mini_batch_size = rows
    return loss
