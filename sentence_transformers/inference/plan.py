"""Which inputs run together: longest first, cut by a budget of tokens. Knows only their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = np.ndarray[Any, Any]

BUDGET = 1024  # tokens of one batch on one CPU thread: larger ones leave the cache (docs/performance.md)
SMALLEST = 128  # tokens below which splitting a call over more threads costs more than it gains


@dataclass(frozen=True)
class Plan:
    """order: the inputs, longest first; cuts: slots at which batches begin, and the end."""

    order: Ints
    cuts: tuple[int, ...]

    @classmethod
    def build(cls, sizes: Ints, batch_size: int, budget: int) -> Plan:
        """At most ``batch_size`` inputs and ``budget`` units of size a batch; a giant runs alone."""
        order = np.argsort(-sizes, kind="stable")
        cuts, start, total = [0], 0, 0
        for slot, size in enumerate(sizes[order].tolist()):
            if slot > start and (total + size > budget or slot - start >= batch_size):
                cuts.append(slot)
                start, total = slot, 0
            total += size
        return cls(order, (*cuts, len(order)))

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self.cuts) - 1 if len(self.order) else 0

    def __iter__(self) -> Iterator[Ints]:
        """The numbers of the inputs of every batch."""
        for begin, end in zip(self.cuts[:-1], self.cuts[1:], strict=True):
            if begin < end:
                yield self.order[begin:end]


def token_budget(total: int, threads: int) -> int:
    """Tokens of a batch, so that a small call is spread over all threads and a large one stays in cache."""
    return max(SMALLEST, min(BUDGET, -(-total // threads)))
