"""A model whose embeddings are given, and that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


class Card:
    def __init__(self) -> None:
        self.told: list[tuple[Any, dict[str, float], int, int]] = []

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, float], epoch: int, step: int) -> None:
        self.told.append((evaluator, metrics, epoch, step))


class Given:
    """Encodes texts to the vectors in a table; ``encode_query`` to those in another one, if there is one."""

    def __init__(
        self,
        vectors: Mapping[str, Sequence[float]],
        queries: Mapping[str, Sequence[float]] | None = None,
        similarity_fn_name: str = "cosine",
    ) -> None:
        self.vectors = vectors
        self.queries = vectors if queries is None else queries
        self.similarity_fn_name = similarity_fn_name
        self.model_card_data = Card()
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []

    def encode(self, texts: Any, **settings: Any) -> Any:
        return self._rows("encode", self.vectors, texts, settings)

    def encode_query(self, texts: Any, **settings: Any) -> Any:
        return self._rows("encode_query", self.queries, texts, settings)

    def encode_document(self, texts: Any, **settings: Any) -> Any:
        return self._rows("encode_document", self.vectors, texts, settings)

    def _rows(self, method: str, table: Mapping[str, Sequence[float]], texts: Any, settings: dict[str, Any]) -> Any:
        self.calls.append((method, list(texts), settings))
        if not len(texts):
            return np.empty(0)  # as SentenceTransformer
        rows = np.array([table[text] for text in texts], dtype=np.float64)[:, : settings.get("truncate_dim")]
        return torch.from_numpy(rows) if settings.get("convert_to_tensor") else rows
