"""One call computed by several processes: which part each one does, and how the rows come together again.

All processes cut the call into the same batches as one process would, so the rows are the same to the last bit. How
they reach each other is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sentence_transformers.inference.collect import Collector, Ints

Pack: TypeAlias = Callable[[Any], Any]
Parcel: TypeAlias = tuple[Ints, Any]
"""Places, and the rows that belong there."""

Helper: TypeAlias = Callable[..., bool]
"""Takes what ``run.run`` takes; says whether it did the call."""

_helper: ContextVar[Helper | None] = ContextVar("helper", default=None)


def helper_of_thread() -> Helper | None:
    """Who is offered the calls of this thread before it computes them itself."""
    return _helper.get()


@contextmanager
def offered_to(helper: Helper | None) -> Iterator[None]:
    """Inside, the calls of this thread are offered to ``helper`` first; None: to nobody."""
    token = _helper.set(helper)
    try:
        yield
    finally:
        _helper.reset(token)


@dataclass(frozen=True)
class Share:
    """The part of one process: every so many-th window; of the last ones, too few to go round, batches in turn.

    number: of the process, from 0. count: how many there are. threads: for so many the batches are planned.
    """

    number: int
    count: int
    threads: int

    def is_divided(self, window: int, windows: int) -> bool:
        """Whether the batches of a window are shared by all processes."""
        return window >= windows - windows % self.count

    def has(self, window: int, windows: int) -> bool:
        """Whether something of a window is for this process."""
        return self.is_divided(window, windows) or window % self.count == self.number

    def tells(self, window: int, windows: int) -> bool:
        """Whether it is for this process to tell what was found out about a window that it has."""
        return self.number == 0 or not self.is_divided(window, windows)

    def batches(self, window: int, windows: int) -> slice:
        """Which of the batches of a window that it has are for this process."""
        return slice(self.number, None, self.count) if self.is_divided(window, windows) else slice(None)


class Kept:
    """Collects the rows of one process for another one.

    Args:
        pack: makes rows small and free of devices (``Collector.pack``).
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self.parcels: list[Parcel] = []

    def put(self, places: Ints, rows: Any) -> None:
        self.parcels.append((places, self._pack(rows)))

    def repeat(self, sources: Ints, places: Ints) -> None:
        """Who joins the rows knows that."""

    def pack(self, rows: Any) -> Any:
        return self._pack(rows)


class Gathered:
    """Collects rows of this process and of others; repeats wait until all are there.

    Args:
        collector: takes them.
        count: how many rows there will be.
        device: where those of others go first.
    """

    def __init__(self, collector: Collector, count: int, device: torch.device) -> None:
        self._collector, self._count, self._device = collector, count, device
        self._found: list[int] = []  # several threads add to it
        self._repeats: list[tuple[Ints, Ints]] = []

    def put(self, places: Ints, rows: Any) -> None:
        self._found.append(len(places))
        self._collector.put(places, rows)

    def repeat(self, sources: Ints, places: Ints) -> None:
        self._repeats.append((sources, places))

    def pack(self, rows: Any) -> Any:
        return self._collector.pack(rows)

    def add(self, parcels: list[Parcel]) -> None:
        """Take the rows of another process."""
        for places, rows in parcels:
            self.put(places, _moved(rows, self._device))

    def finish(self) -> None:
        """Fill the places of repeated inputs. Raises: RuntimeError if rows are missing."""
        repeated = sum(len(places) for _, places in self._repeats)
        found = sum(self._found)
        if found + repeated != self._count:
            raise RuntimeError(
                f"Expected {self._count - repeated} rows from all processes, got {found}: they cut the inputs "
                "into other batches. Are the model, its settings and the versions of all packages the same everywhere?"
            )
        for sources, places in self._repeats:
            self._collector.repeat(sources, places)


def _moved(rows: Any, device: torch.device) -> Any:
    if isinstance(rows, Tensor):
        return rows.to(device)
    if isinstance(rows, dict):
        return {key: _moved(value, device) for key, value in rows.items()}
    return [_moved(row, device) for row in rows] if isinstance(rows, (list, tuple)) else rows
