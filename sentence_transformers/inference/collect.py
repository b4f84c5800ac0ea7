"""Where the rows of finished batches go: straight into their place in the result, in the order of the inputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Ints = np.ndarray[Any, Any]


class Collector(Protocol):
    """Takes the rows of a batch; batches come in any order, from any thread, and never share a place."""

    def put(self, places: Ints, rows: Any) -> None:
        """Row k of ``rows`` is the result of input ``places[k]``."""

    def repeat(self, sources: Ints, places: Ints) -> None:
        """The result of input ``places[k]`` is that of ``sources[k]``, which is already here."""


class Matrix:
    """Rows of equal width, in one tensor made when the first batch shows the width.

    Args:
        count: how many inputs there are.
        device: where the result is wanted; None leaves it where it was computed.
        widen: store half types as float32 (numpy has no bfloat16).
    """

    def __init__(self, count: int, device: torch.device | None = None, widen: bool = False) -> None:
        self.count, self.device, self.widen = count, device, widen
        self.values: Tensor | None = None
        self._lock = threading.Lock()

    def _result(self, rows: Tensor) -> Tensor:
        with self._lock:
            if self.values is None:
                dtype = torch.float32 if self.widen and rows.dtype is torch.bfloat16 else rows.dtype
                with torch.inference_mode(False):  # an ordinary tensor: the caller may use it with gradients
                    self.values = torch.empty(
                        self.count, *rows.shape[1:], dtype=dtype, device=self.device or rows.device
                    )
            return self.values

    def put(self, places: Ints, rows: Tensor) -> None:
        result = self._result(rows)
        index = torch.from_numpy(places).to(result.device)
        result.index_copy_(0, index, rows.to(result.device, result.dtype))

    def repeat(self, sources: Ints, places: Ints) -> None:
        assert self.values is not None
        self.values[torch.from_numpy(places)] = self.values[torch.from_numpy(sources)]


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
