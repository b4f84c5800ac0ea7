"""Batches of several processes that train together: made as one batch for all, then dealt out.

So that no text is twice in what all of them see at a step, and all are at the same dataset. ``accelerate`` gives
process i every i-th batch; here it is said what stands in that row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch.utils.data import BatchSampler, IterableDataset, Sampler

from .samplers import HasEpoch


class Joined(BatchSampler):
    """Batches of one process each, put together to batches for all; what is left over is dropped.

    Args:
        batches: what to put together; those with fewer rows than their ``batch_size`` are left out.
        count: how many processes there are.
    """

    def __init__(self, batches: BatchSampler, count: int) -> None:
        super().__init__(batches.sampler, batches.batch_size * count, drop_last=True)
        self.batches = batches
        self.count = count

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        if isinstance(self.batches, HasEpoch):
            self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        joined: list[int] = []
        for batch in self.batches:
            if len(batch) == self.batches.batch_size:
                joined += batch
            if len(joined) == self.batch_size:
                yield joined
                joined = []

    def __len__(self) -> int:
        return len(self.batches) // self.count


class Dealt(BatchSampler):
    """Batches for all processes, as a row of those of each; those that cannot be divided are left out.

    Args:
        batches: what to divide.
        count: how many processes there are.
    """

    def __init__(self, batches: BatchSampler, count: int) -> None:
        # ``accelerate`` tells only ``sampler`` of a new epoch: be that, too
        super().__init__(cast("Sampler[int]", self), batches.batch_size // count, batches.drop_last)
        self.batches = batches
        self.count = count

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        if isinstance(self.batches, HasEpoch):
            self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch_size
        for batch in self.batches:
            if len(batch) == size * self.count:
                yield from (batch[start : start + size] for start in range(0, len(batch), size))

    def __len__(self) -> int:
        return len(self.batches) * self.count


class Stream(IterableDataset[Any]):
    """A streamed dataset that every process reads from its beginning; ``accelerate`` then drops what is for others.

    It would give the files of a stream of ``datasets`` out to the processes, which then end at different steps, and
    wait for each other for ever.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)
