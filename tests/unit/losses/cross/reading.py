"""A reranker whose scores are given, and that remembers what it was asked."""

from __future__ import annotations

from typing import Any

import torch
from losses_pairs_facts import column
from torch import Tensor, nn

ROWS = 5


class Reading(nn.Module):
    """Looks up the logits of a pair of two numbers, written as texts.

    Args:
        logits: (first texts, second texts, labels).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.num_labels = logits.shape[2]
        self.asked: list[list[tuple[str, str]]] = []
        self.settings: list[dict[str, Any]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def preprocess(self, pairs: Any, **settings: Any) -> dict[str, Any]:
        self.asked.append([tuple(pair) for pair in pairs])
        self.settings.append(settings)
        return {"places": torch.tensor([[int(text) for text in pair] for pair in pairs])}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        first, second = features["places"].unbind(1)
        return {"scores": self.logits[first, second]}


def reading(columns: int, labels: int = 1, factor: float = 2.0) -> Reading:
    """Of ``ROWS`` first texts with ``columns`` columns of second ones."""
    return Reading(factor * column(3, ROWS, ROWS * columns * labels).reshape(ROWS, ROWS * columns, labels))


def texts(columns: int) -> list[list[str]]:
    """The first texts, and columns of second ones, numbered from column to column."""
    numbers = [str(place) for place in range(ROWS * columns)]
    return [numbers[:ROWS], *(numbers[start : start + ROWS] for start in range(0, ROWS * columns, ROWS))]


def gradient(value: Tensor, model: Reading) -> Tensor:
    """Of all logits; 0 for those without a part in the value."""
    (found,) = torch.autograd.grad(value, [model.logits])
    return found
