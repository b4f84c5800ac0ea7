"""Cases of the list-wise losses of rerankers, for the recorder and for the tests.

Scores are made by a rule; the model hands on the score whose number is the text of the document. Knows nothing of
either implementation: classes are looked up by name in a namespace.
"""

from __future__ import annotations

from typing import Any

import torch
from losses_pairs_facts import described
from torch import Tensor, nn


def scores(count: int, seed: int = 0) -> Tensor:
    """(count,) float64 of -3.25..3.4, the first 211 all different, exact in float32 too."""
    return ((torch.arange(count, dtype=torch.float64) * 51 + 5 * seed) % 211) / 32 - 3.25


class Handed(nn.Module):
    """A reranker whose scores are given; it remembers which pairs it was asked to read at once."""

    def __init__(self, values: Tensor, num_labels: int = 1) -> None:
        super().__init__()
        self.values = nn.Parameter(values.clone())
        self.num_labels = num_labels
        self.asked: list[tuple[list[Any], str | None, str | None]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def preprocess(self, pairs: Any, prompt: str | None = None, task: str | None = None, **kwargs: Any) -> Any:
        self.asked.append((list(pairs), prompt, task))
        return {"place": torch.tensor([int(document) for _, document in pairs])}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"scores": self.values[features["place"]][:, None]}


EVEN = [[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]]
RAGGED = [[1.0, 0.0, 3.0, 2.0], [2.0], [0.0, 4.0, 0.5, 1.0, 0.25], [1.0, 2.0]]
TIES = [[1.0, 1.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [2.0, 1.0, 2.0]]
NEGATIVE = [[-1.0, 0.5, -2.0], [1.0, -0.5]]
LISTS = {"even": EVEN, "ragged": RAGGED, "ties": TIES, "negative": NEGATIVE}
HOLE = [[1.0, 0.0, 2.0], [], [0.0, 3.0]]
LONG = [[float(place % 5) for place in range(200)], [2.0, 1.0, 0.0]]
SCHEMES = ("NoWeightingScheme", "NDCGLoss1Scheme", "NDCGLoss2Scheme", "LambdaRankScheme", "NDCGLoss2PPScheme")

# name -> class, arguments ("weighting_scheme", "lambda_weight": a class by name, with arguments), labels, factor
CASES: dict[str, tuple[str, dict[str, Any], list[list[float]], float]] = {
    **{
        f"{kind}, {which}": (kind, {}, labels, 1.0)
        for kind in ("ListNetLoss", "ListMLELoss", "PListMLELoss", "ADRMSELoss", "LambdaLoss", "RankNetLoss")
        for which, labels in LISTS.items()
    },
    **{
        f"{kind}, hole": (kind, {}, HOLE, 1.0)  # the reference's ListNetLoss is NaN
        for kind in ("ListMLELoss", "PListMLELoss", "ADRMSELoss", "LambdaLoss", "RankNetLoss")
    },
    **{
        f"{kind}, long": (kind, {}, LONG, 1.0)
        for kind in ("ListNetLoss", "ListMLELoss", "PListMLELoss", "ADRMSELoss", "LambdaLoss")
    },
    **{
        f"{kind}, by label": (kind, {"respect_input_order": False}, TIES, 1.0)
        for kind in ("ListMLELoss", "PListMLELoss")
    },
    "PListMLELoss, no weights": ("PListMLELoss", {"lambda_weight": None}, RAGGED, 1.0),
    "PListMLELoss, tanh": ("PListMLELoss", {"activation_fn": nn.Tanh()}, RAGGED, 1.0),
    "ADRMSELoss, sharp": ("ADRMSELoss", {"alpha": 4.0}, RAGGED, 1.0),
    "ADRMSELoss, smooth": ("ADRMSELoss", {"alpha": 0.25, "mini_batch_size": 3}, TIES, 1.0),
    "ListNetLoss, sigmoid": ("ListNetLoss", {"activation_fn": nn.Sigmoid(), "mini_batch_size": -1}, RAGGED, 1.0),
    "ListNetLoss, steep": ("ListNetLoss", {}, RAGGED, 16.0),
    "LambdaLoss, steep": ("LambdaLoss", {}, RAGGED, 16.0),
    "LambdaLoss, equal scores": ("LambdaLoss", {}, RAGGED, 0.0),
    **{
        f"{scheme}, {k}, {log}": (
            "LambdaLoss",
            {"weighting_scheme": (scheme, {}), "k": k, "reduction_log": log, "sigma": 1.5},
            RAGGED,
            1.0,
        )
        for scheme in SCHEMES
        for k in (None, 1, 3)
        for log in ("binary", "natural")
    },
    **{f"{scheme}, negative": ("LambdaLoss", {"weighting_scheme": (scheme, {})}, NEGATIVE, 1.0) for scheme in SCHEMES},
    "NDCGLoss2PPScheme, mu": ("LambdaLoss", {"weighting_scheme": ("NDCGLoss2PPScheme", {"mu": 2.0})}, RAGGED, 1.0),
    "LambdaLoss, no scheme": ("LambdaLoss", {"weighting_scheme": None, "k": 2}, RAGGED, 1.0),
    "LambdaLoss, least DCG": ("LambdaLoss", {"eps": 6.0}, RAGGED, 1.0),
    "RankNetLoss, k": ("RankNetLoss", {"k": 2, "sigma": 0.5, "reduction_log": "natural"}, RAGGED, 1.0),
}


def batch(labels: list[list[float]]) -> tuple[list[Any], list[Tensor]]:
    """Columns whose documents are numbered from the first to the last, and labels."""
    counts = [len(some) for some in labels]
    starts = [sum(counts[:place]) for place in range(len(counts))]
    lists = [[str(start + place) for place in range(count)] for start, count in zip(starts, counts, strict=True)]
    return [[f"query {place}" for place in range(len(counts))], lists], [torch.tensor(some) for some in labels]


def evaluated(losses: Any, name: str) -> dict[str, Any]:
    """One of ``CASES``; ``losses``: a namespace with the classes."""
    kind, given, labels, factor = CASES[name]
    arguments = dict(given)
    if isinstance(arguments.get("weighting_scheme"), tuple):
        scheme, settings = arguments["weighting_scheme"]
        arguments["weighting_scheme"] = getattr(losses, scheme)(**settings)
    model = Handed(scores(sum(map(len, labels))) * factor)
    value = getattr(losses, kind)(model, **arguments)(*batch(labels))
    (gradient,) = torch.autograd.grad(value, [model.values])
    return {"loss": value.item(), "gradient": described(gradient)}
