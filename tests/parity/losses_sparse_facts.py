"""Cases of the losses of sparse encoders, for the recorder and for the tests.

Embeddings are made by a rule, and the model hands them on; a few cases train a small model on texts. Knows nothing of
either implementation: classes are looked up by name in a namespace.
"""

from __future__ import annotations

from typing import Any

import torch
from losses_pairs_facts import RANKED, ROWS, SCORES, TEACHER, described
from torch import Tensor, nn

WIDTH, HIDDEN = 6, 9

INNER: dict[str, tuple[str, dict[str, Any], int, Tensor | None]] = {
    "ranking": ("SparseMultipleNegativesRankingLoss", {}, 3, None),
    "ranking, pairs": ("SparseMultipleNegativesRankingLoss", {"scale": 0.5}, 2, None),
    "margin": ("SparseMarginMSELoss", {}, 3, SCORES),
    "kl": ("SparseDistillKLDivLoss", {}, 4, RANKED),
    "kl, temperatures": ("SparseDistillKLDivLoss", {"student_temperature": 3.0}, 4, RANKED),
    "triplet": ("SparseTripletLoss", {}, 3, None),
    "cosent": ("SparseCoSENTLoss", {}, 2, SCORES),
    "angle": ("SparseAnglELoss", {}, 2, SCORES),
    "cosine": ("SparseCosineSimilarityLoss", {}, 2, SCORES),
    "mse": ("SparseMSELoss", {}, 2, TEACHER),
}
"""Name -> class of a loss inside, its arguments, the number of columns, labels."""

BOTH = {"document_regularizer_weight": 0.3, "query_regularizer_weight": 0.7}
THRESHOLDS = {"document_regularizer_threshold": 4, "query_regularizer_threshold": 3}
OTHER = {"document_regularizer": "Largest", "query_regularizer": "Largest"}

SPLADE: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "mse alone": (None, "mse", {}),
    # not around mse, where the reference compares all rows of column k with the teacher's row k
    **{f"splade, {inner}": ("SpladeLoss", inner, BOTH) for inner in INNER if inner != "mse"},
    "documents alone": ("SpladeLoss", "ranking", {"document_regularizer_weight": 0.3}),
    "all are documents": (
        "SpladeLoss",
        "margin",
        {"document_regularizer_weight": 0.3, "use_document_regularizer_only": True},
    ),
    "thresholds": ("SpladeLoss", "ranking", BOTH | THRESHOLDS),
    "threshold above all": ("SpladeLoss", "margin", BOTH | {"document_regularizer_threshold": WIDTH}),
    "other regularizers": ("SpladeLoss", "ranking", BOTH | OTHER),
    "cached": ("CachedSpladeLoss", "ranking", BOTH),
    "cached, small parts": ("CachedSpladeLoss", "ranking", BOTH | THRESHOLDS | {"mini_batch_size": 3}),
    "cached, kl": ("CachedSpladeLoss", "kl", BOTH | {"mini_batch_size": 2}),
}
"""Name -> class (None: the loss inside alone), loss inside, arguments."""

CSR: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "csr": (None, {}, "idle"),
    "csr, weights": (None, {"beta": 2.0, "gamma": 0.25}, "idle"),
    "csr, none idle": (None, {}, "none idle"),
    "csr, one row": ("margin", {}, "one row"),
    "csr, margin": ("margin", {}, "idle"),
    "csr, cosine": ("cosine", {}, "idle"),
}
"""Name -> loss inside, arguments, what the autoencoder gives."""

TEXTS = (
    ["hello world", "one", "a b c d"],
    ["the world, hello!", "one two three four", "e"],
    ["nothing", "five six", "c d e f g."],
)
TRAINED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "texts, splade": ("splade", "SpladeLoss", BOTH),
    "texts, cached splade": ("splade", "CachedSpladeLoss", BOTH | {"mini_batch_size": 2}),
    "texts, csr": ("csr", "CSRLoss", {}),
    "texts, csr of standardised": ("csr, standardised", "CSRLoss", {"beta": 1.0}),
}
"""Name -> small model, class, arguments."""


def column(seed: int, width: int = WIDTH) -> Tensor:
    """(ROWS, width) float64, >= 0, a third of it 0; exact in float32 too."""
    i = torch.arange(ROWS, dtype=torch.float64)[:, None]
    j = torch.arange(width, dtype=torch.float64)
    return (torch.sin(1.7 * i + 0.9 * j + 2 * seed) + 0.4).clamp(min=0).mul(64).round() / 64


class Handed(nn.Module):
    """Hands on its features; what is ``given`` is the embedding."""

    similarity_fn_name = "dot"

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def get_embedding_dimension(self) -> int:
        return WIDTH

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if "given" not in features:
            return features
        return {**features, "sentence_embedding": features["given"] + self.shift}


class Largest(nn.Module):
    """A regulariser of somebody."""

    def compute_loss_from_embeddings(self, embeddings: Tensor) -> Tensor:
        return embeddings.amax(1).mean()


def autoencoded(seed: int, kind: str) -> dict[str, Any]:
    """Outputs of an autoencoder, which need not fit together."""
    names = ("backbone", "decoded_embedding_k", "decoded_embedding_4k", "decoded_embedding_k_pre_bias")
    found: dict[str, Any] = {"sentence_embedding": column(seed, HIDDEN)}
    for place, name in enumerate((*names, "decoded_embedding_aux")):
        key = f"sentence_embedding_{name}" if name == "backbone" else name
        found[key] = column(10 * seed + place) - 0.5
    if kind == "none idle":
        found["decoded_embedding_aux"] = None
    rows = slice(1 if kind == "one row" else None)
    return {name: None if value is None else value[rows].clone().requires_grad_() for name, value in found.items()}


def inner(losses: Any, name: str, model: nn.Module) -> nn.Module:
    kind, arguments, _, _ = INNER[name]
    loss: nn.Module = getattr(losses, kind)(model, **arguments)
    return loss


def outcome(loss: nn.Module, features: list[dict[str, Any]], labels: Tensor | None) -> dict[str, Any]:
    """Parts of a loss, and what its gradients by all features are like; ``parts`` are summed as the trainer does."""
    result = loss(features, labels)
    parts = result if isinstance(result, dict) else {"": result}
    torch.stack([part.reshape(()) for part in parts.values()]).sum().backward()
    gradients = {
        f"{place} {name}": described(value.grad)
        for place, one in enumerate(features)
        for name, value in one.items()
        if isinstance(value, Tensor) and value.grad is not None and value.grad.any()
    }
    return {"parts": {name: part.item() for name, part in parts.items()}, "gradients": gradients}


def sparse(losses: Any, name: str) -> dict[str, Any]:
    """One of ``SPLADE``, and how the model compares afterwards."""
    kind, inside, given = SPLADE[name]
    arguments, model = dict(given), Handed()
    for key in OTHER.keys() & arguments.keys():
        arguments[key] = Largest()
    loss = inner(losses, inside, model)
    if kind is not None:
        loss = getattr(losses, kind)(model, loss, **arguments)
    _, _, columns, labels = INNER[inside]
    features: list[dict[str, Any]] = [{"given": column(one).requires_grad_()} for one in range(columns)]
    return {**outcome(loss, features, labels), "similarity": model.similarity_fn_name}


def reconstructed(losses: Any, name: str) -> dict[str, Any]:
    """One of ``CSR``."""
    inside, arguments, kind = CSR[name]
    model = Handed()
    base = None if inside is None else inner(losses, inside, model)
    columns, labels = (2, None) if inside is None else INNER[inside][2:]
    features = [autoencoded(one, kind) for one in range(columns)]
    rows = len(features[0]["sentence_embedding"])
    return outcome(losses.CSRLoss(model, base, **arguments), features, None if labels is None else labels[:rows])


def trained(losses: Any, name: str, model: Any) -> dict[str, Any]:
    """The parts of one of ``TRAINED``; ``model``: a small encoder in float64, in evaluation mode."""
    _, kind, arguments = TRAINED[name]
    for module in model.modules():
        if type(module).__name__ == "SpladePooling":
            module.train()  # has gradients in training only
        idle = dict(module.named_buffers(recurse=False)).get("stats_last_nonzero")
        if idle is not None:
            idle.copy_(100 * (torch.arange(len(idle)) % 3 == 0))
    loss = getattr(losses, kind)(model, losses.SparseMultipleNegativesRankingLoss(model), **arguments)
    model.zero_grad()
    result = loss([model.preprocess(texts) for texts in TEXTS], None)
    torch.stack([part.reshape(()) for part in result.values()]).sum().backward()
    gradients = {
        name: described(parameter.grad)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
        and name.endswith(("latent_bias", "pre_bias", "output.dense.weight", "word_embeddings.weight"))
    }
    return {"parts": {name: part.item() for name, part in result.items()}, "gradients": gradients}


def folder_of(tiny_heads: Any, name: str, folder: Any) -> Any:
    """The small model of one of ``TRAINED``."""
    which = TRAINED[name][0]
    if which == "splade":
        return tiny_heads.build_splade(folder, "max", "relu")
    return tiny_heads.build_csr(folder, normalize=which.endswith("standardised"))
