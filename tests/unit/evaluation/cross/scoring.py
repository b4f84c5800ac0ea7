"""A reranker whose scores are given, and that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.unit.evaluation.evaluating import Card


class Scoring:
    """Scores pairs by a table, or a function of the two texts.

    Args:
        scores: pair -> a number, or one for each of several labels.
    """

    def __init__(self, scores: Mapping[tuple[str, str], Any] | Callable[[str, str], Any], num_labels: int = 1) -> None:
        self.score = scores if callable(scores) else lambda first, second: scores[first, second]
        self.num_labels = num_labels
        self.model_card_data = Card()
        self.calls: list[tuple[list[tuple[str, str]], dict[str, Any]]] = []

    def predict(self, pairs: Any, **settings: Any) -> Any:
        self.calls.append(([tuple(pair) for pair in pairs], settings))
        shape = (len(pairs),) if self.num_labels == 1 else (len(pairs), self.num_labels)
        return np.array([self.score(*pair) for pair in pairs], dtype=np.float32).reshape(shape)
