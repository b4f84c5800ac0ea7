"""Cases of the pair, triplet, distillation, regularisation and wrapping losses, for the recorder and for the tests.

Embeddings are made by a rule; the model hands them on. Knows nothing of either implementation: classes are looked up
by name in a namespace.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

ROWS, WIDTH = 8, 6


def column(seed: int, rows: int = ROWS, width: int = WIDTH) -> Tensor:
    """(rows, width) float64."""
    i = torch.arange(rows, dtype=torch.float64)[:, None]
    j = torch.arange(width, dtype=torch.float64)
    return torch.sin(1.3 * i + 0.7 * j + seed) + 0.3 * torch.cos(i * j + 2 * seed)


class Given(nn.Module):
    """Hands on the embeddings in its features."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def get_embedding_dimension(self) -> int:
        return WIDTH

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"sentence_embedding": features["given"] + self.shift}


SCORES = torch.tensor([0.125, 0.875, 0.5, 0.5, 0.25, 0.0, 1.0, 0.375], dtype=torch.float64)  # exact in float32 too
BINARY = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
CLASSES = torch.tensor([0, 1, 0, 1, 2, 0, 2, 3])
TEACHER = column(9)
TWO_TEACHERS = torch.stack([column(9), column(10)], dim=1)
RANKED = column(11, width=3)

# name -> class, arguments, columns (a number, or tensors), labels
CASES: dict[str, tuple[str, dict[str, Any], Any, Tensor | None]] = {
    "cosent": ("CoSENTLoss", {}, 2, SCORES),
    "cosent, classes": ("CoSENTLoss", {"scale": 3.0}, 2, CLASSES),
    "cosent, ties": ("CoSENTLoss", {}, 2, torch.ones(ROWS)),
    "angle": ("AnglELoss", {}, 2, SCORES),
    "angle, negatives": ("AnglELoss", {}, 4, None),
    "angle, labelled negatives": ("AnglELoss", {}, 4, SCORES),
    "cosine": ("CosineSimilarityLoss", {}, 2, SCORES),
    "cosine, other": (
        "CosineSimilarityLoss",
        {"loss_fct": nn.L1Loss(), "cos_score_transformation": nn.Sigmoid()},
        2,
        SCORES,
    ),
    **{
        f"{name}, {metric}, {which}": (name, {"distance_metric": metric, "margin": 1.5}, 2, labels)
        for name in ("ContrastiveLoss", "OnlineContrastiveLoss")
        for metric in (
            "SiameseDistanceMetric.EUCLIDEAN",
            "SiameseDistanceMetric.MANHATTAN",
            "SiameseDistanceMetric.COSINE_DISTANCE",
        )
        for which, labels in {
            "mixed": BINARY,
            "positive": torch.ones(ROWS),
            "negative": torch.zeros(ROWS),
            "one positive": (torch.arange(ROWS) == 3).long(),
        }.items()
    },
    "contrastive, sum": ("ContrastiveLoss", {"size_average": False}, 2, BINARY),
    "contrastive, scores": ("ContrastiveLoss", {}, 2, SCORES),
    "online, scores": ("OnlineContrastiveLoss", {}, 2, SCORES),
    **{
        f"triplet, {metric}": ("TripletLoss", {"distance_metric": metric, "triplet_margin": 1}, 3, None)
        for metric in (
            "TripletDistanceMetric.COSINE",
            "TripletDistanceMetric.EUCLIDEAN",
            "TripletDistanceMetric.MANHATTAN",
        )
    },
    **{
        f"{name}, {metric}, {which}": (
            name,
            {"distance_metric": f"BatchHardTripletLossDistanceFunction.{metric}"}
            | ({} if "Soft" in name else {"margin": margin}),
            1,
            labels,
        )
        for name in (
            "BatchAllTripletLoss",
            "BatchHardTripletLoss",
            "BatchHardSoftMarginTripletLoss",
            "BatchSemiHardTripletLoss",
        )
        for metric, margin in {"euclidean_distance": 0.7, "cosine_distance": 0.2}.items()
        for which, labels in {
            "mixed": CLASSES,
            "one class": torch.zeros(ROWS, dtype=torch.int64),
            "all different": torch.arange(ROWS),
            "one other": (torch.arange(ROWS) == 2).long(),
        }.items()
    },
    **{
        f"batch, {name}, defaults": (name, {}, 1, CLASSES)
        for name in ("BatchAllTripletLoss", "BatchHardTripletLoss", "BatchSemiHardTripletLoss")
    },
    **{
        f"embeddings, {metric}": ("EmbedDistillLoss", {"distance_metric": metric}, 2, labels)
        for metric, labels in {"mse": TEACHER, "l2": TWO_TEACHERS, "cosine": TWO_TEACHERS}.items()
    },
    "mse": ("MSELoss", {}, 1, TEACHER),
    "mse, two columns": ("MSELoss", {}, 2, TEACHER),
    "margin, one": ("MarginMSELoss", {}, 3, SCORES),
    "margin, scores": ("MarginMSELoss", {}, 3, RANKED[:, :2]),
    "margin, two": ("MarginMSELoss", {}, 4, RANKED[:, :2]),
    "margin, three scores": ("MarginMSELoss", {}, 4, RANKED),
    "kl": ("DistillKLDivLoss", {}, 4, RANKED),
    "kl, both temperatures": ("DistillKLDivLoss", {"temperature": 2.0}, 4, RANKED),
    "kl, student's": ("DistillKLDivLoss", {"temperature": 2.0, "student_temperature": 3.0}, 4, RANKED),
    "kl, teacher's": ("DistillKLDivLoss", {"teacher_temperature": 0.5}, 4, RANKED),
    "orthogonal": ("GlobalOrthogonalRegularizationLoss", {}, 2, None),
    "orthogonal, sum": (
        "GlobalOrthogonalRegularizationLoss",
        {"aggregation": "sum", "mean_weight": 2.0, "second_moment_weight": 0.5},
        3,
        None,
    ),
    "orthogonal, mean alone": ("GlobalOrthogonalRegularizationLoss", {"second_moment_weight": None}, 1, None),
    "matryoshka": ("MatryoshkaLoss", {"loss": "CosineSimilarityLoss", "matryoshka_dims": [2, 6, 4]}, 2, SCORES),
    "matryoshka, weights": (
        "MatryoshkaLoss",
        {"loss": "MarginMSELoss", "matryoshka_dims": [2, 6, 4], "matryoshka_weights": [1, 10, 100]},
        3,
        SCORES,
    ),
    "matryoshka, teacher": ("MatryoshkaLoss", {"loss": "MSELoss", "matryoshka_dims": [6, 3]}, 2, TWO_TEACHERS),
    **{
        f"matryoshka, drawn {seed}": (
            "MatryoshkaLoss",
            {"loss": "CoSENTLoss", "matryoshka_dims": [2, 6, 4, 3], "n_dims_per_step": 2, "seed": seed},
            2,
            SCORES,
        )
        for seed in range(3)
    },
}
SOFTMAX = {
    "softmax": {},
    "softmax, difference": {"concatenation_sent_rep": False},
    "softmax, all": {"concatenation_sent_multiplication": True},
}

# class, arguments; on a small BERT with three layers and the texts below
LAYERED: dict[str, tuple[str, dict[str, Any]]] = {
    "one, seed 0": ("AdaptiveLayerLoss", {"seed": 0}),
    "one, seed 1": ("AdaptiveLayerLoss", {"seed": 1}),
    "two, seed 0": ("AdaptiveLayerLoss", {"seed": 0, "n_layers_per_step": 2}),
    "all": ("AdaptiveLayerLoss", {"n_layers_per_step": -1}),
    "all, log": ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "layer_weighting": "log", "kl_div_weight": 0}),
    "all, linear": ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "layer_weighting": "linear", "kl_div_weight": 0}),
    "weights": (
        "AdaptiveLayerLoss",
        {"n_layers_per_step": 9, "last_layer_weight": 2.0, "prior_layers_weight": 0.3, "kl_div_weight": 0.7,
         "kl_temperature": 0.9},
    ),
    "two dimensions": (
        "Matryoshka2dLoss",
        {"matryoshka_dims": [32, 8], "matryoshka_weights": [1, 3], "n_layers_per_step": -1, "n_dims_per_step": -1},
    ),
}  # fmt: skip
TEXTS = (["hello world", "a b c d", "one two three"], ["world", "c d e f g", "four"])
TEXT_SCORES = torch.tensor([0.2, 0.8, 0.5], dtype=torch.float64)


def described(gradient: Tensor | None) -> list[float] | None:
    """Two numbers that change when any number of a gradient does."""
    if gradient is None:
        return None
    weights = torch.cos(torch.arange(gradient.numel(), dtype=torch.float64)).view_as(gradient)
    return [(gradient * weights).sum().item(), gradient.abs().sum().item()]


def outcome(loss: nn.Module, columns: list[Tensor], labels: Tensor | None, seed: int = 0) -> dict[str, Any]:
    """Parts of a loss, and what its gradients are like."""
    random.seed(seed)
    leaves = [one.clone().requires_grad_() for one in columns]
    result = loss([{"given": one} for one in leaves], labels)
    parts = result if isinstance(result, dict) else {"": result}
    gradients = torch.autograd.grad(sum(parts.values()), leaves, allow_unused=True)
    return {"parts": {name: part.item() for name, part in parts.items()}, "gradients": [*map(described, gradients)]}


def evaluated(losses: Any, name: str) -> dict[str, Any]:
    """One of ``CASES``; ``losses``: a namespace with the classes."""
    kind, given, columns, labels = CASES[name]
    arguments, model = dict(given), Given()
    seed = arguments.pop("seed", 0)
    if "loss" in arguments:
        arguments["loss"] = getattr(losses, arguments["loss"])(model)
    if "distance_metric" in arguments and "." in arguments["distance_metric"]:
        home, metric = arguments["distance_metric"].split(".")
        arguments["distance_metric"] = getattr(getattr(losses, home), metric)
    loss = getattr(losses, kind)(model, **arguments)
    return outcome(loss, [column(one) for one in range(columns)], labels, seed)


def classified(losses: Any, name: str) -> dict[str, Any]:
    """One of ``SOFTMAX``, with weights by a rule."""
    loss = losses.SoftmaxLoss(Given(), WIDTH, 4, **SOFTMAX[name]).double()
    with torch.no_grad():
        loss.classifier.weight.copy_(column(1, *loss.classifier.weight.shape))
        loss.classifier.bias.copy_(column(2, 1, 4)[0])
    return outcome(loss, [column(0), column(1)], CLASSES)


def layered(losses: Any, name: str, model: Any) -> dict[str, Any]:
    """One of ``LAYERED``; ``model``: an encoder in float64, in evaluation mode."""
    kind, given = LAYERED[name]
    arguments = dict(given)
    random.seed(arguments.pop("seed", 0))
    loss = getattr(losses, kind)(model, losses.CosineSimilarityLoss(model), **arguments)
    model.zero_grad()
    result = loss([model.preprocess(texts) for texts in TEXTS], TEXT_SCORES)
    result.backward()
    gradients = {
        name: described(parameter.grad)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and name.endswith(("output.dense.weight", "word_embeddings.weight"))
    }
    return {"loss": result.item(), "gradients": gradients}


def namespace(*modules: Any) -> SimpleNamespace:
    """The names of several modules as one."""
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})
