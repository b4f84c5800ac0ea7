"""The slow formula of a store: a list, float64, and conditions read aloud. What all other stores are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from sentence_transformers.search.stores.base import Match, Rows, Settings, Store
from sentence_transformers.search.stores.where import All, Condition, Not, Test

if TYPE_CHECKING:
    from typing import TypeAlias

    from sentence_transformers.search.stores.base import SparseRows

    Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One row. dense: (D,) float64. sparse: dimension -> value."""

    id: str
    dense: Array | None
    sparse: dict[int, float] | None
    text: str | None
    metadata: dict[str, Any]


class SlowStore(Store):
    """Rows in a list, in the order in which they were added; a row that replaces another one is the last."""

    def __init__(
        self,
        *,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(Settings().agree(Settings(similarity, width, sparse_width, notes or {})))
        self.rows: list[Row] = []
        self._lock = Lock()

    def persist(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _prepare(self, settings: Settings) -> None:
        pass

    def _put(self, rows: Rows) -> None:
        added = [
            Row(
                one,
                None if rows.dense is None else rows.dense[place].astype(np.float64),
                None
                if rows.sparse is None
                else dict(zip(*(part.tolist() for part in rows.sparse[place]), strict=True)),
                rows.texts[place],
                rows.metadata[place],
            )
            for place, one in enumerate(rows.ids)
        ]
        with self._lock:
            self.rows = [row for row in self.rows if row.id not in set(rows.ids)] + added

    def _delete_ids(self, ids: list[str]) -> int:
        return self._keep(lambda row: row.id not in ids)

    def _delete_where(self, condition: Condition) -> int:
        return self._keep(lambda row: not holds(condition, row.metadata))

    def _keep(self, wanted: Callable[[Row], bool]) -> int:
        with self._lock:
            before = len(self.rows)
            self.rows = [row for row in self.rows if wanted(row)]
            return before - len(self.rows)

    def _count(self, condition: Condition | None) -> int:
        return len(self._those(condition))

    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        rows = [row for row in self._those(condition) if row.dense is not None]
        return [_best([(row, self._closeness(query, row.dense)) for row in rows], limit) for query in queries]

    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]:
        rows = [row for row in self._those(condition) if row.sparse is not None]
        return [_best([(row, _dot(query, row.sparse or {})) for row in rows], limit) for query in queries]

    def _those(self, condition: Condition | None) -> list[Row]:
        return [row for row in self.rows if condition is None or holds(condition, row.metadata)]

    def _closeness(self, query: Array, row: Array | None) -> float:
        assert row is not None
        product = float(query.astype(np.float64) @ row)
        if self.settings.similarity == "dot":
            return product
        lengths = float(np.linalg.norm(query.astype(np.float64)) * np.linalg.norm(row))
        return product / lengths if lengths else 0.0


def _dot(query: tuple[Array, Array], row: dict[int, float]) -> float:
    return sum(value * row.get(place, 0.0) for place, value in zip(*(part.tolist() for part in query), strict=True))


def _best(scored: list[tuple[Row, float]], limit: int) -> list[Match]:
    ranked = sorted(scored, key=lambda pair: -pair[1])
    return [Match(row.id, score, row.text, dict(row.metadata)) for row, score in ranked[:limit]]


def holds(condition: Condition, metadata: Mapping[str, Any]) -> bool:
    """Whether the condition holds for the metadata of a row, as ``where`` says it."""
    if isinstance(condition, Not):
        return not holds(condition.part, metadata)
    if isinstance(condition, Test):
        return condition.key in metadata and _passes(condition, metadata[condition.key])
    parts = [holds(part, metadata) for part in condition.parts]
    return all(parts) if isinstance(condition, All) else any(parts)


def _passes(test: Test, value: Any) -> bool:
    if test.operator == "exists":
        return True
    if test.operator == "contains":
        return isinstance(value, list) and any(_equal(item, test.operand) for item in value)
    if isinstance(value, list):
        return False
    if test.operator == "in":
        return any(_equal(value, operand) for operand in test.operand)
    if _kind(value) is not _kind(test.operand) or isinstance(value, bool):
        return False
    return {
        "gt": value > test.operand,
        "gte": value >= test.operand,
        "lt": value < test.operand,
        "lte": value <= test.operand,
    }[test.operator]


def _equal(one: Any, other: Any) -> bool:
    return _kind(one) is _kind(other) and bool(one == other)


def _kind(value: Any) -> type:
    """bool, str, or float for all numbers."""
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float
