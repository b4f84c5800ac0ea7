"""Embeddings in memory, as a file of rows fills it, to be searched exactly. Knows neither the file nor what rows are.

A number is that of a row; numbers only ever grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...ops.similarity import dot_score
from ..semantic import semantic_search
from .base import StoreError

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

SMALLEST_SPACE = 1024
"""Rows for which there is space at first; it is doubled when it is full."""
SHORTEST = 1e-12
"""A row that is shorter is taken for zero, which is 0 from everything."""


class Held(Protocol):
    """Embeddings that follow a file. ``extend`` and ``drop`` are called by one thread at a time, ``search`` by any."""

    last: int
    """The highest number so far, 0 at first."""

    def extend(self, numbers: Array, blobs: list[bytes]) -> None:
        """Take in rows with higher numbers, (n,) int64 and ascending."""

    def drop(self, numbers: Array) -> None:
        """Forget the rows of these numbers, of which some may never have been here."""

    def search(self, queries: Any, limit: int, allowed: Array | None) -> tuple[Array, Array]:
        """Scores (q, k) float32 and numbers (q, k) int64 of the closest rows, best first, k at most ``limit``.

        Args:
            queries: q of them. allowed: ascending numbers, if only these may be found.
        """


class HeldDense:
    """Dense embeddings, at unit length for "cosine"."""

    def __init__(self, similarity: str) -> None:
        self.is_cosine = similarity == "cosine"
        self.last = 0
        self._space_numbers = np.empty(0, dtype=np.int64)
        self._space = np.empty((0, 0), dtype=np.float32)
        # what a search looks at; never changed once it is here, so that searches need no lock
        self._view = (self._space_numbers, self._space)

    def extend(self, numbers: Array, blobs: list[bytes]) -> None:
        rows = dense_rows(blobs)
        if self.is_cosine:
            rows = unit_rows(rows)
        held = len(self._view[0])
        count = held + len(numbers)
        if count > len(self._space_numbers) or rows.shape[1] != self._space.shape[1]:
            space = max(SMALLEST_SPACE, 2 * held, count)
            self._space_numbers = _moved(self._space_numbers[:held], (space,))
            self._space = _moved(self._space[:held], (space, rows.shape[1]))
        self._space_numbers[held:count], self._space[held:count] = numbers, rows
        self._view = (self._space_numbers[:count], self._space[:count])
        self.last = int(numbers[-1])

    def drop(self, numbers: Array) -> None:
        held, rows = self._view
        kept = ~np.isin(held, numbers)
        if not kept.all():
            self._space_numbers, self._space = held[kept], rows[kept]
            self._view = (self._space_numbers, self._space)

    def search(self, queries: Array, limit: int, allowed: Array | None) -> tuple[Array, Array]:
        numbers, rows = self._view
        places = _places(numbers, allowed)
        if places is not None:
            numbers, rows = numbers[places], rows[places]
        return best_rows_of(unit_rows(queries) if self.is_cosine else queries, rows, numbers, limit)

    def count(self) -> int:
        """How many rows there are."""
        return len(self._view[0])

    def view(self) -> tuple[Array, Array]:
        """Numbers (n,), ascending, and rows (n, D) as they are compared; both are not to be changed."""
        return self._view


class HeldSparse:
    """Sparse embeddings; a score is the dot product."""

    def __init__(self) -> None:
        self.last = 0
        self._view = (np.empty(0, dtype=np.int64), _sparse_tensor([], 1))

    def extend(self, numbers: Array, blobs: list[bytes]) -> None:
        held, rows = self._view
        added = _sparse_tensor([sparse_row(blob) for blob in blobs], rows.shape[1])
        width = max(rows.shape[1], added.shape[1])
        self._view = (np.concatenate([held, numbers]), _stacked(rows, added, width))
        self.last = int(numbers[-1])

    def drop(self, numbers: Array) -> None:
        held, rows = self._view
        kept = ~np.isin(held, numbers)
        if not kept.all():
            self._view = (held[kept], _sparse_part(rows, torch.from_numpy(kept)))

    def search(self, queries: list[tuple[Array, Array]], limit: int, allowed: Array | None) -> tuple[Array, Array]:
        numbers, rows = self._view
        places = _places(numbers, allowed)
        if places is not None:
            kept = np.zeros(len(numbers), dtype=bool)
            kept[places] = True
            numbers, rows = numbers[places], _sparse_part(rows, torch.from_numpy(kept))
        # dimensions that no row has add nothing
        known = [(ids[ids < rows.shape[1]], values[ids < rows.shape[1]]) for ids, values in queries]
        return _best(_sparse_tensor(known, rows.shape[1]), rows, numbers, limit)


def dense_rows(blobs: list[bytes]) -> Array:
    """(n, D) float32. Raises: StoreError for blobs of different lengths."""
    lengths = set(map(len, blobs))
    if len(lengths) > 1:
        raise StoreError(f"The store holds embeddings of different sizes, {sorted(lengths)} bytes: it is damaged.")
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1).astype(np.float32, copy=False)


def sparse_row(blob: bytes) -> tuple[Array, Array]:
    """Dimensions (k,) int32, ascending, and values (k,) float32."""
    half = len(blob) // 2
    return np.frombuffer(blob[:half], dtype="<i4"), np.frombuffer(blob[half:], dtype="<f4")


def unit_rows(rows: Array) -> Array:
    """(n, D) at unit length; zero stays zero."""
    lengths: Array = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Array = rows / np.maximum(lengths, SHORTEST, dtype=np.float32)
    return scaled


def best_rows_of(queries: Array, rows: Array, numbers: Array, limit: int) -> tuple[Array, Array]:
    """Scores (q, k) and numbers (q, k) of the rows (n, D), whose numbers are (n,), with the highest dot products."""
    return _best(torch.from_numpy(queries), torch.from_numpy(rows), numbers, limit)


def _best(queries: Tensor, rows: Tensor, numbers: Array, limit: int) -> tuple[Array, Array]:
    scores, places = semantic_search(queries, rows, top_k=limit, score_function=dot_score, as_arrays=True)
    return scores, numbers[places]


def _places(numbers: Array, allowed: Array | None) -> Array | None:
    """Where the allowed numbers are; None where all are allowed."""
    if allowed is None:
        return None
    places = np.flatnonzero(np.isin(numbers, allowed, assume_unique=True))
    return None if len(places) == len(numbers) else places


def _moved(rows: Array, shape: tuple[int, ...]) -> Array:
    """The rows at the start of a larger space, whose rest is not touched, and so takes no memory."""
    space = np.empty(shape, dtype=rows.dtype)
    if rows.size:
        space[: len(rows)] = rows
    return space


def _sparse_tensor(rows: list[tuple[Array, Array]], width: int) -> Tensor:
    """Coalesced COO (n, V), V at least ``width``."""
    lengths = np.array([len(ids) for ids, _ in rows], dtype=np.int64)
    ids = np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in rows)])
    values = np.concatenate([np.empty(0, dtype=np.float32), *(values for _, values in rows)])
    places = np.stack([np.repeat(np.arange(len(rows)), lengths), ids])
    shape = (len(rows), max(width, int(ids.max(initial=0)) + 1))
    return _coo(torch.from_numpy(places), torch.from_numpy(values), shape)


def _stacked(above: Tensor, below: Tensor, width: int) -> Tensor:
    """The rows of both, coalesced COO."""
    places = below.indices().clone()
    places[0] += len(above)
    shape = (len(above) + len(below), width)
    return _coo(torch.cat([above.indices(), places], dim=1), torch.cat([above.values(), below.values()]), shape)


def _sparse_part(rows: Tensor, kept: Tensor) -> Tensor:
    """The rows (n, V) for which ``kept`` (n,) is true, coalesced COO."""
    places = rows.indices()
    inside = kept[places[0]]
    places = places[:, inside]
    places[0] = (kept.cumsum(0) - 1)[places[0]]
    return _coo(places, rows.values()[inside], (int(kept.sum()), rows.shape[1]))


def _coo(places: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    # the places are in order already; nothing is gained by looking
    return torch.sparse_coo_tensor(places, values, shape, is_coalesced=True, check_invariants=False)
