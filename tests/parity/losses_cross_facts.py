"""Cases of the pointwise and contrastive losses of rerankers, for the recorder and for the tests.

A small BERT in float64, without dropout, reads texts and is told labels made by a rule. Knows nothing of either
implementation: classes are looked up by name in a namespace.
"""

from __future__ import annotations

from typing import Any

import torch
from losses_pairs_facts import described
from torch import Tensor, nn

TEXTS = (
    ["hello world", "a b c d", "one two three", "x", "where is it?"],
    ["the world, hello!", "c d e", "four five six seven", "y", "it is here, and there."],
    ["nothing", "q r", "r r. two", "s", "hello"],
    ["k l m", "l", "three: one", "n n n n", "a cat"],
)
ROWS = len(TEXTS[0])
PROMPT = "find: "

SCORES = torch.tensor([0.125, 0.875, 0.5, 0.0, 1.0])  # exact in every type
BINARY = torch.tensor([0, 1, 1, 0, 1])
CLASSES = torch.tensor([2, 0, 1, 1, 0])
LIKELY = torch.tensor([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0.75, 0.25], [0.125, 0.5, 0.375], [0, 0, 1]])
MARGINS = torch.tensor([[0.5, -1.0], [2.0, 0.25], [0.0, 1.5], [-0.125, 0.375], [1.0, 1.0]])
TEACHER = torch.tensor([[1.0, 2, 0], [3, 1, 1], [0, 0.5, 2], [0.25, 1, -1], [2, 2, 2]])

BCE, CE, MARGIN = "BinaryCrossEntropyLoss", "CrossEntropyLoss", "MarginMSELoss"
RANKING, CACHED = "MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"

# name -> class, arguments, number of columns, labels
CASES: dict[str, tuple[str, dict[str, Any], int, Tensor | None]] = {
    "binary": (BCE, {}, 2, BINARY),
    "binary, scores": (BCE, {}, 2, SCORES),
    "binary, column of scores": (BCE, {}, 2, SCORES[:, None]),
    "binary, weight": (BCE, {"pos_weight": torch.tensor(3.0)}, 2, BINARY),
    "binary, sigmoid, sum": (BCE, {"activation_fn": nn.Sigmoid(), "reduction": "sum"}, 2, SCORES),
    "classes": (CE, {}, 2, CLASSES),
    "classes, probabilities": (CE, {}, 2, LIKELY),
    "classes, smoothed": (CE, {"activation_fn": nn.Tanh(), "label_smoothing": 0.25}, 2, CLASSES),
    "classes, weights": (CE, {"weight": torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)}, 2, CLASSES),
    "scores": ("MSELoss", {}, 2, SCORES),
    "scores, classes": ("MSELoss", {"activation_fn": nn.Sigmoid()}, 2, BINARY),
    "scores, sum": ("MSELoss", {"reduction": "sum"}, 2, SCORES),
    "margin": (MARGIN, {}, 3, SCORES),
    "margin, two": (MARGIN, {}, 4, MARGINS),
    "margin, two scores": (MARGIN, {}, 3, MARGINS),
    "margin, three scores": (MARGIN, {"activation_fn": nn.Sigmoid()}, 4, TEACHER),
    "margin, sum": (MARGIN, {"reduction": "sum"}, 4, TEACHER),
    **{
        f"{name}, {columns} columns, {count}": (kind, {"num_negatives": count, **more}, columns, None)
        for name, kind, more in (("ranking", RANKING, {}), ("cached", CACHED, {"mini_batch_size": 3}))
        for columns in (2, 3, 4)
        for count in (None, 1, 4, 99)
    },
    "ranking": (RANKING, {}, 3, None),
    "ranking, scale": (RANKING, {"num_negatives": None, "scale": 3.0}, 2, None),
    "ranking, no activation": (RANKING, {"num_negatives": None, "scale": 1.0, "activation_fn": None}, 3, None),
    "cached": (CACHED, {}, 3, None),
    "cached, tanh": (CACHED, {"num_negatives": 2, "activation_fn": nn.Tanh(), "mini_batch_size": 1}, 3, None),
}

PROMPTED = ("binary, scores", "margin, two", "ranking, 3 columns, None")
"""Cases that are also run with a prompt."""

REFUSED: dict[str, tuple[str, int, int, Tensor | None]] = {
    "several labels, binary": (BCE, 3, 2, BINARY),
    "several labels, scores": ("MSELoss", 3, 2, SCORES),
    "several labels, margin": (MARGIN, 3, 3, SCORES),
    "several labels, ranking": (RANKING, 3, 2, None),
    "several labels, cached": (CACHED, 3, 2, None),
    **{f"{count} columns, {kind}": (kind, 1, count, SCORES) for kind in (BCE, CE, "MSELoss") for count in (1, 3)},
    "labels, binary": (BCE, 1, 2, SCORES[:3]),
    "labels, scores": ("MSELoss", 1, 2, MARGINS),
    "labels, margin": (MARGIN, 1, 4, SCORES),
    "labels, margins": (MARGIN, 1, 3, TEACHER),
}
"""Class, labels of the model, number of columns, labels of the batch: what is refused, with which message."""


def spread(model: Any) -> Any:
    """The model in float64, without dropout, and with scores that are further apart."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("classifier.weight"):
                parameter.mul_(6)
    return model.double().eval()


def labels_of(name: str) -> int:
    """How many labels the model of a case has."""
    return 3 if CASES[name][0] == CE else 1


def evaluated(losses: Any, name: str, model: Any, prompt: str | None = None) -> dict[str, Any]:
    """The value of one of ``CASES``, and what its gradients are like; ``model``: from ``spread``."""
    kind, arguments, columns, labels = CASES[name]
    loss = getattr(losses, kind)(model, **arguments)
    model.zero_grad()
    torch.manual_seed(7)
    value = loss([list(texts) for texts in TEXTS[:columns]], labels, **({} if prompt is None else {"prompt": prompt}))
    value.backward()
    gradients = {
        name: described(parameter.grad)
        for name, parameter in model.named_parameters()
        if name.endswith(("classifier.weight", "layer.1.output.dense.weight", "word_embeddings.weight"))
    }
    return {"loss": value.item(), "gradients": gradients}


def refused(losses: Any, name: str, models: dict[int, Any]) -> str:
    """The message of one of ``REFUSED``; "" if it is none. ``models``: by the number of their labels."""
    kind, count, columns, labels = REFUSED[name]
    try:
        getattr(losses, kind)(models[count])([list(texts) for texts in TEXTS[:columns]], labels)
    except ValueError as error:
        return str(error)
    return ""
