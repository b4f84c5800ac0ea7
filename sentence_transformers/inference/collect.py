"""Where the rows of finished batches go: straight into their place in the result, in the order of the inputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.ops.tensors import is_sparse, to_coo

Ints = np.ndarray[Any, Any]


class Collector(Protocol):
    """Takes the rows of a batch; batches come in any order, from any thread, and never share a place."""

    def put(self, places: Ints, rows: Any) -> None:
        """Row k of ``rows`` is the result of input ``places[k]``."""

    def repeat(self, sources: Ints, places: Ints) -> None:
        """The result of input ``places[k]`` is that of ``sources[k]``, which is already here."""

    def pack(self, rows: Any) -> Any:
        """The rows of a batch as another process sends them, for ``put`` here; it needs no collector of its own."""


HELD = 2**28
"""Bytes of results that stay on another device before they come to the CPU in one copy."""


class Matrix:
    """Rows of equal width, in one tensor made when the first batch shows the width.

    Rows that are wanted on the CPU and were computed elsewhere come in one copy, of a large call in several: a copy
    for every batch would wait for the batch each time.

    Args:
        count: how many inputs there are.
        device: where the result is wanted; None leaves it where it was computed.
        widen: store half types as float32 (numpy has no bfloat16).
    """

    def __init__(self, count: int, device: torch.device | None = None, widen: bool = False) -> None:
        self.count, self.device, self.widen = count, device, widen
        self._values: Tensor | None = None
        self._held: list[tuple[Ints, Tensor]] = []
        self._size = 0
        self._lock = threading.Lock()

    @property
    def values(self) -> Tensor | None:
        """The result; None before the first batch."""
        self._bring()
        return self._values

    def _bring(self) -> None:
        """Copy what is still on another device."""
        with self._lock:
            held, self._held, self._size = self._held, [], 0
        if held:
            rows = torch.cat([part for _, part in held])
            self._store(np.concatenate([places for places, _ in held]), rows)

    def _result(self, rows: Tensor) -> Tensor:
        with self._lock:
            if self._values is None:
                dtype = torch.float32 if self.widen and rows.dtype is torch.bfloat16 else rows.dtype
                with torch.inference_mode(False):  # an ordinary tensor: the caller may use it with gradients
                    self._values = torch.empty(
                        self.count, *rows.shape[1:], dtype=dtype, device=self.device or rows.device
                    )
            return self._values

    def put(self, places: Ints, rows: Tensor) -> None:
        if self.device is None or rows.device.type == self.device.type:
            self._store(places, rows)
            return
        with self._lock:
            self._held.append((places, rows))
            self._size += rows.numel() * rows.element_size()
            is_full = self._size > HELD
        if is_full:
            self._bring()

    def _store(self, places: Ints, rows: Tensor) -> None:
        result = self._result(rows)
        index = torch.from_numpy(places).to(result.device)
        result.index_copy_(0, index, rows.to(result.device, result.dtype))

    def repeat(self, sources: Ints, places: Ints) -> None:
        values = self.values
        assert values is not None
        values[torch.from_numpy(places)] = values[torch.from_numpy(sources)]

    @staticmethod
    def pack(rows: Tensor) -> Tensor:
        """Without what else is in their memory."""
        return rows.detach().to("cpu", copy=True).contiguous()


class Rows:
    """One object per input, in a list."""

    def __init__(self, count: int) -> None:
        self.values: list[Any] = [None] * count

    def put(self, places: Ints, rows: Sequence[Any]) -> None:
        for place, row in zip(places.tolist(), rows, strict=True):
            self.values[place] = row

    def repeat(self, sources: Ints, places: Ints) -> None:
        for source, place in zip(sources.tolist(), places.tolist(), strict=True):
            row = self.values[source]
            self.values[place] = row.clone() if isinstance(row, Tensor) else row

    @staticmethod
    def pack(rows: Any) -> Any:
        """All tensors on the CPU."""
        if isinstance(rows, Tensor):
            return rows.detach().cpu()
        if isinstance(rows, dict):
            return {key: Rows.pack(value) for key, value in rows.items()}
        return [Rows.pack(row) for row in rows] if isinstance(rows, (list, tuple)) else rows


class SparseRows:
    """Rows of which only the numbers other than zero are kept: 4 bytes for the column and one number for each.

    Args:
        count: how many inputs there are.
        device: where the result is wanted; None leaves it where it was computed.
    """

    def __init__(self, count: int, device: torch.device | None = None) -> None:
        self.count, self.device = count, device
        self.width = 0
        self._batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # places, counts; columns, numbers
        self._sources = np.arange(count)  # an input gets the row of this one
        self._whole: Tensor | None = None

    def put(self, places: Ints, rows: Tensor) -> None:
        """rows: (B, width), dense or sparse."""
        if is_sparse(rows):
            coo = to_coo(rows)
            indices, values = coo.indices(), coo.values()
        else:
            indices = rows.nonzero().T
            values = rows[indices[0], indices[1]]
        device = self.device or rows.device
        counts = torch.bincount(indices[0], minlength=len(rows)).to(device)
        columns = indices[1].to(device, torch.int32)
        self.width = rows.shape[1]
        self._batches.append((torch.from_numpy(places).to(device), counts, columns, values.to(device)))

    def repeat(self, sources: Ints, places: Ints) -> None:
        self._sources[places] = self._sources[sources]

    @staticmethod
    def pack(rows: Tensor) -> Tensor:
        """As sparse rows."""
        return (to_coo(rows) if is_sparse(rows) else rows.to_sparse()).detach().cpu()

    def tensor(self) -> Tensor:
        """The result: (count, width), sparse COO, coalesced. The batches are given up for it."""
        if self._whole is None:
            with torch.inference_mode(False):  # an ordinary tensor: the caller may use it with gradients
                self._whole = self._join()
        return self._whole

    def rows(self) -> list[Tensor]:
        """``count`` sparse (width,) tensors."""
        whole = self.tensor()
        counts = torch.bincount(whole.indices()[0], minlength=self.count).tolist()
        parts = zip(torch.split(whole.indices()[1:], counts, 1), torch.split(whole.values(), counts), strict=True)
        with torch.inference_mode(False):
            return [_sparse(columns.clone(), values.clone(), (self.width,)) for columns, values in parts]

    def _join(self) -> Tensor:
        if not self._batches:
            return torch.empty(self.count, self.width).to_sparse()
        device, dtype = self._batches[0][2].device, self._batches[0][3].dtype
        counts = torch.zeros(self.count, dtype=torch.int64, device=device)
        for places, sizes, _, _ in self._batches:
            counts[places] = sizes
        sources = torch.from_numpy(self._sources).to(device)
        counts = counts[sources]
        starts = counts.cumsum(0) - counts
        indices = torch.empty(2, int(counts.sum()), dtype=torch.int64, device=device)
        values = torch.empty(indices.shape[1], dtype=dtype, device=device)
        indices[0] = torch.repeat_interleave(counts, output_size=indices.shape[1])
        while self._batches:
            places, sizes, columns, numbers = self._batches.pop()
            at = _ranges(starts[places], sizes)
            indices[1][at], values[at] = columns.long(), numbers
        copies = (sources != torch.arange(self.count, device=device)).nonzero()[:, 0]
        to, origin = (_ranges(starts[rows], counts[copies]) for rows in (copies, sources[copies]))
        indices[1][to], values[to] = indices[1][origin], values[origin]
        return _sparse(indices, values, (self.count, self.width))


def _ranges(starts: Tensor, sizes: Tensor) -> Tensor:
    """``starts[i], starts[i] + 1, ...``, ``sizes[i]`` of them for each i, one behind the other."""
    ends = sizes.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    first = (starts - ends + sizes).repeat_interleave(sizes, output_size=total)
    return first + torch.arange(total, device=starts.device)


def _sparse(indices: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True, check_invariants=False)
