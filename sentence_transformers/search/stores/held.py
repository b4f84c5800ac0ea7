"""Embeddings in memory, as a file of rows fills it, to be searched exactly. Knows neither the file nor what rows are.

A number is that of a row; numbers only ever grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...ops.similarity import dot_score
from ..nearest import top
from ..semantic import semantic_search
from .base import StoreError

if TYPE_CHECKING:
    from typing import TypeAlias

    from .base import SparseRows

    Array: TypeAlias = np.ndarray[Any, Any]

SMALLEST_SPACE = 1024
"""Rows for which there is space at first; it is doubled when it is full."""
BLOCK_SCORES = 2**24
"""Scores of sparse queries that are computed at once: 64 MiB."""
SHORTEST = 1e-12
"""A row that is shorter is taken for zero, which is 0 from everything."""


class Held(Protocol):
    """Embeddings that follow a file; used by one thread at a time."""

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
        self._numbers = np.empty(0, dtype=np.int64)
        self._rows = _csr(np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), 1)
        self._waiting: list[tuple[Array, list[bytes]]] = []  # put together when they are searched

    def extend(self, numbers: Array, blobs: list[bytes]) -> None:
        self._waiting.append((numbers, blobs))
        self.last = int(numbers[-1])

    def drop(self, numbers: Array) -> None:
        self._take_in()
        kept = ~np.isin(self._numbers, numbers)
        if kept.all():
            return
        starts, ids, values = _arrays(self._rows)
        lengths = np.diff(starts)
        inside = np.repeat(kept, lengths)
        width = self._rows.shape[1]
        self._numbers = self._numbers[kept]
        self._rows = _csr(_starts(lengths[kept]), ids[inside], values[inside], width)

    def search(self, queries: SparseRows, limit: int, allowed: Array | None) -> tuple[Array, Array]:
        self._take_in()
        numbers = self._numbers
        places = _places(numbers, allowed)
        numbers = numbers if places is None else numbers[places]
        limit = min(limit, len(numbers))
        if limit == 0:
            return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
        found = []
        at_once = max(1, BLOCK_SCORES // len(self._numbers))
        for first in range(0, len(queries), at_once):
            asked = _columns(queries[first : first + at_once], self._rows.shape[1])
            scores = (self._rows @ asked).t().contiguous()  # (q, n)
            found.append(top(scores if places is None else scores[:, torch.from_numpy(places)], limit))
        best = torch.cat([ids for _, ids in found]).numpy()
        return torch.cat([scores for scores, _ in found]).numpy(), numbers[best]

    def _take_in(self) -> None:
        if not self._waiting:
            return
        added = [sparse_row(blob) for _, blobs in self._waiting for blob in blobs]
        starts, ids, values = _arrays(self._rows)
        lengths = np.concatenate([np.diff(starts), np.array([len(row) for row, _ in added], dtype=np.int64)])
        ids = np.concatenate([ids, *(row for row, _ in added)])
        values = np.concatenate([values, *(row for _, row in added)])
        width = max(self._rows.shape[1], int(ids.max(initial=0)) + 1)
        self._numbers = np.concatenate([self._numbers, *(numbers for numbers, _ in self._waiting)])
        self._rows = _csr(_starts(lengths), ids, values, width)
        self._waiting = []


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
    asked, there = torch.from_numpy(queries), torch.from_numpy(rows)
    scores, places = semantic_search(asked, there, top_k=limit, score_function=dot_score, as_arrays=True)
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


def _columns(rows: SparseRows, width: int) -> Tensor:
    """(V, q) dense from q sparse rows; dimensions that no kept row has add nothing."""
    dense = np.zeros((width, len(rows)), dtype=np.float32)
    for place, (ids, values) in enumerate(rows):
        known = ids < width
        dense[ids[known], place] = values[known]
    return torch.from_numpy(dense)


def _csr(starts: Array, ids: Array, values: Array, width: int) -> Tensor:
    parts = (torch.from_numpy(starts), torch.from_numpy(ids.astype(np.int64, copy=False)), torch.from_numpy(values))
    return torch.sparse_csr_tensor(*parts, size=(len(starts) - 1, width), check_invariants=False)


def _arrays(csr: Tensor) -> tuple[Array, Array, Array]:
    """Where each row starts, (n + 1,); dimensions and values of all rows, one behind the other."""
    return csr.crow_indices().numpy(), csr.col_indices().numpy(), csr.values().numpy()


def _starts(lengths: Array) -> Array:
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts
