"""Cases of the losses with in-batch negatives, for the recorder and for the tests.

Embeddings are made by a rule; the model and the guide hand them on. Knows nothing of either implementation: classes are
looked up by name in a namespace.
"""

from __future__ import annotations

import warnings
from itertools import chain, combinations
from typing import Any

import torch
from losses_pairs_facts import ROWS, Given, column, described
from torch import Tensor, nn

OTHERS = ("query_to_query", "doc_to_query", "doc_to_doc")
SYMMETRIC = ("query_to_doc", "doc_to_query")
ALL_SETS = [("query_to_doc", *some) for some in chain.from_iterable(combinations(OTHERS, n) for n in range(4))]
HARDNESS = ("in_batch_negatives", "hard_negatives", "all_negatives")
GISTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "margin": {"margin": 0.1},
    "negative margin": {"margin": -0.1},
    "relative": {"margin_strategy": "relative", "margin": 0.6},
    "no anchors": {"contrast_anchors": False},
    "no positives": {"contrast_positives": False},
    "pairs alone": {"temperature": 0.5, "contrast_anchors": False, "contrast_positives": False},
}

# name -> class, arguments, number of columns
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    **{
        f"ranking, {', '.join(directions)}, {columns} columns": (
            "MultipleNegativesRankingLoss",
            {"directions": directions},
            columns,
        )
        for directions in ALL_SETS
        for columns in (2, 4)
    },
    **{
        f"ranking, per direction, {columns} columns": (
            "MultipleNegativesRankingLoss",
            {"directions": SYMMETRIC, "partition_mode": "per_direction", "scale": 7.0},
            columns,
        )
        for columns in (2, 3)
    },
    **{
        f"ranking, {mode}, {partition}, {columns} columns": (
            "MultipleNegativesRankingLoss",
            {"hardness_mode": mode, "hardness_strength": 3.0, "directions": SYMMETRIC, "partition_mode": partition},
            columns,
        )
        for mode in HARDNESS
        for partition in ("joint", "per_direction")
        for columns in (2, 4)
    },
    "symmetric": ("MultipleNegativesSymmetricRankingLoss", {"scale": 5.0}, 3),
    "cached": ("CachedMultipleNegativesRankingLoss", {"mini_batch_size": 3}, 3),
    "cached, all": (
        "CachedMultipleNegativesRankingLoss",
        {"mini_batch_size": 3, "directions": ALL_SETS[-1], "hardness_mode": "all_negatives", "hardness_strength": 2.0},
        4,
    ),
    "cached symmetric": ("CachedMultipleNegativesSymmetricRankingLoss", {"mini_batch_size": 3}, 2),
    **{f"guided, {name}": ("GISTEmbedLoss", given, 2) for name, given in GISTS.items()},
    **{f"guided, {name}, negative": ("GISTEmbedLoss", given, 3) for name, given in GISTS.items()},
    **{
        f"cached guided, {name}": ("CachedGISTEmbedLoss", {**given, "mini_batch_size": 3}, 4)
        for name, given in GISTS.items()
    },
    "margin": ("MegaBatchMarginLoss", {"mini_batch_size": 3}, 2),
    "margin, other": ("MegaBatchMarginLoss", {"positive_margin": 0.5, "negative_margin": -0.2}, 2),
    "margin, at once": ("MegaBatchMarginLoss", {"use_mini_batched_version": False}, 2),
}


class Encoder(Given):
    """Hands on what is in its features under a name; has what losses ask of an encoder."""

    max_seq_length = 8

    def __init__(self, tokenizer: Any, name: str = "given") -> None:
        super().__init__()
        self.tokenizer, self.name = tokenizer, name

    def __getitem__(self, place: int) -> nn.Module:
        return self

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"sentence_embedding": features[self.name] + self.shift}


def guided(seed: int, rows: int = ROWS) -> Tensor:
    """What the guide makes of a column: (rows, 9) float64, with cosines that are mostly above 0."""
    return column(20 + 3 * seed, rows, 9) + 0.8 * column(50, rows, 9)


def features(columns: list[Tensor]) -> list[dict[str, Any]]:
    """The features of columns, for the model and the guide."""
    return [
        {"given": one, "guided": guided(place, len(one)), "attention_mask": torch.ones(len(one), 2, dtype=torch.int64)}
        for place, one in enumerate(columns)
    ]


def built(losses: Any, name: str, tokenizer: Any) -> nn.Module:
    """The loss of one of ``CASES``; ``losses``: a namespace with the classes."""
    kind, given, _ = CASES[name]
    guide = (Encoder(tokenizer, "guided"),) if "GIST" in kind else ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loss: nn.Module = getattr(losses, kind)(Encoder(tokenizer), *guide, **given)
    return loss


def evaluated(losses: Any, name: str, tokenizer: Any) -> dict[str, Any]:
    """The loss of a case, and what its gradients are like."""
    leaves = [column(one).requires_grad_() for one in range(CASES[name][2])]
    value = built(losses, name, tokenizer)(features(leaves), None)
    value.backward()
    return {"loss": value.item(), "gradients": [described(leaf.grad) for leaf in leaves]}
