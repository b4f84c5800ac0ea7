"""How to make each loss, and a batch for it. A loss without a case fails the contract by name.

Losses of dense encoders go by their names, those of other families by namespace and name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import tiny
import tiny_heads
import torch

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder, losses
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
        model: one of ``MODELS``.
        texts: columns instead of ``TEXTS``.
    """

    columns: int
    labels: Any = None
    wrap: Callable[[Any, type[Any]], Any] | None = None
    from_embeddings: bool = True
    model: str = "bert"
    texts: Any = None

    def make(self, kind: type[Any], model: Any) -> Any:
        return kind(model) if self.wrap is None else self.wrap(model, kind)


def _labelled(labels: int) -> Callable[[Path], Any]:
    settings = {"num_labels": labels}
    return lambda folder: tiny.build("bert", folder, model_class="BertForSequenceClassification", settings=settings)


MODELS: dict[str, tuple[type[Any], Callable[[Path], Any]]] = {
    "bert": (SentenceTransformer, lambda folder: tiny.build("bert", folder)),
    "splade": (SparseEncoder, lambda folder: tiny_heads.build_splade(folder, "max", "relu")),
    "csr": (SparseEncoder, tiny_heads.build_csr),
    "late": (MultiVectorEncoder, lambda folder: tiny_heads.build_late("bert", folder)),
    "reranker": (CrossEncoder, _labelled(1)),
    "classifier": (CrossEncoder, _labelled(3)),
}
"""What a loss is for: an encoder, and how the files of a small one are made."""


def kind_of(name: str) -> Any:
    """The class of a case."""
    namespace, _, own = name.rpartition(".")
    return getattr(import_module(f"sentence_transformers.{namespace or 'losses'}"), own)


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

SPARSE, LATE, CROSS = "sparse_encoder.losses", "multi_vector_encoder.losses", "cross_encoder.losses"


def _splade(model: Any, kind: type[Any]) -> Any:
    return kind(model, losses.MultipleNegativesRankingLoss(model), 0.1, 0.2)


def _projected(model: Any, kind: type[Any]) -> Any:
    torch.manual_seed(5)
    return kind(model, projection_dim=WIDTH).double()


def _inside(model: Any, kind: type[Any]) -> Any:
    """One that is only used inside of another."""
    return kind_of(f"{SPARSE}.SpladeLoss")(model, kind(model), 0.1, 0.2)


def _regularizing(model: Any, kind: type[Any]) -> Any:
    inner = losses.MultipleNegativesRankingLoss(model)
    return kind_of(f"{SPARSE}.SpladeLoss")(model, inner, 0.1, document_regularizer=kind(model))


def _reconstructing(model: Any, kind: type[Any]) -> Any:
    return kind_of(f"{SPARSE}.CSRLoss")(model)


def inside(columns: int, labels: Any = None) -> Case:
    return Case(columns, labels, wrap=_inside, model="splade")


CASES |= {
    f"{SPARSE}.{name}": case
    for name, case in {
        "CSRLoss": Case(3, from_embeddings=False, model="csr"),
        "CSRReconstructionLoss": Case(3, wrap=_reconstructing, from_embeddings=False, model="csr"),
        "CachedSpladeLoss": Case(3, wrap=_splade, model="splade"),
        "FlopsLoss": Case(3, wrap=_regularizing, model="splade"),
        "SparseAnglELoss": inside(2, SCORES),
        "SparseCoSENTLoss": inside(2, SCORES),
        "SparseCosineSimilarityLoss": inside(2, SCORES),
        "SparseDistillKLDivLoss": inside(3, RANKED),
        "SparseMSELoss": Case(2, teacher(), model="csr", wrap=_projected),
        "SparseMarginMSELoss": inside(3, MARGINS),
        "SparseMultipleNegativesRankingLoss": inside(3),
        "SparseTripletLoss": inside(3),
        "SpladeLoss": Case(3, wrap=_splade, model="splade"),
    }.items()
}
CASES |= {
    f"{LATE}.{name}": case
    for name, case in {
        "CachedMultiVectorMultipleNegativesRankingLoss": Case(3, model="late"),
        "MultiVectorDistillKLDivLoss": Case(3, RANKED, model="late"),
        "MultiVectorMarginMSELoss": Case(3, MARGINS, model="late"),
        "MultiVectorMultipleNegativesRankingLoss": Case(3, model="late"),
    }.items()
}

LISTS = [
    TEXTS[0],
    [[TEXTS[1][row], TEXTS[2][row], TEXTS[1][(row + 2) % ROWS]][: 2 + row % 2] for row in range(ROWS)],
]
"""Queries, and two or three documents of each."""
GRADES = [torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)[: 2 + row % 2] for row in range(ROWS)]


def _all_negatives(model: Any, kind: type[Any]) -> Any:
    """Without the chance of which negatives are drawn."""
    return kind(model, num_negatives=None)


def pairs(columns: int, labels: Any = None, **settings: Any) -> Case:
    return Case(columns, labels, from_embeddings=False, **{"model": "reranker", **settings})


LISTED = pairs(2, GRADES, texts=LISTS)
CASES |= {
    f"{CROSS}.{name}": case
    for name, case in {
        "ADRMSELoss": LISTED,
        "BinaryCrossEntropyLoss": pairs(2, SCORES),
        "CachedMultipleNegativesRankingLoss": pairs(3, wrap=_all_negatives),
        "CrossEntropyLoss": pairs(2, CLASSES, model="classifier"),
        "LambdaLoss": LISTED,
        "ListMLELoss": LISTED,
        "ListNetLoss": LISTED,
        "MSELoss": pairs(2, SCORES),
        "MarginMSELoss": pairs(3, MARGINS),
        "MultipleNegativesRankingLoss": pairs(3, wrap=_all_negatives),
        "PListMLELoss": LISTED,
        "RankNetLoss": LISTED,
    }.items()
}

CACHED = {
    "CachedGISTEmbedLoss": "GISTEmbedLoss",
    "CachedMultipleNegativesRankingLoss": "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesSymmetricRankingLoss": "MultipleNegativesSymmetricRankingLoss",
    "MegaBatchMarginLoss": "MegaBatchMarginLoss",
    f"{CROSS}.CachedMultipleNegativesRankingLoss": f"{CROSS}.MultipleNegativesRankingLoss",
    f"{SPARSE}.CachedSpladeLoss": f"{SPARSE}.SpladeLoss",
    f"{LATE}.CachedMultiVectorMultipleNegativesRankingLoss": f"{LATE}.MultiVectorMultipleNegativesRankingLoss",
}
"""Loss with a gradient cache -> the one without."""


def plain(name: str, model: Any) -> Any:
    """The loss ``name``, which has no gradient cache, or can do without."""
    case = CASES[name]
    if name == "MegaBatchMarginLoss":
        return losses.MegaBatchMarginLoss(model, use_mini_batched_version=False)
    return case.make(kind_of(name), model)


def in_parts(name: str, model: Any, rows: int) -> Any:
    """The loss ``name``, which has a gradient cache, with parts of so many rows."""
    loss = CASES[name].make(kind_of(name), model)
    assert isinstance(loss, GradCache)
    loss.mini_batch_size = rows
    return loss
