"""Which examples of a dataset share values, and how to pack examples that share none into batches.

Values are told apart by 64-bit hashes of their texts: a chance of 1e-7 among two million that two count as equal, which
only moves an example to another batch. Knows nothing of epochs and seeds.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import need

Hashes: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.int32]
"""(n, k): in each row the numbers of its values; -1 for values that no other place of the dataset has."""
CHUNK = 4096
WRITTEN = (bool, int, float, complex, bytes, list, tuple, dict, np.generic)


def value_hashes(dataset: Any, skip: Collection[str], *, batch_size: int = 1000, num_proc: int | None = None) -> Hashes:
    """Hashes of all values of a dataset, (n, k) for n examples of k columns.

    Args:
        dataset: of ``datasets``; or anything with a length that gives examples, column -> value, by number.
        skip: columns that do not count.
        batch_size: examples that are read at once.
        num_proc: processes that read; for a ``datasets.Dataset`` alone.

    Raises: ValueError if no column is left, or examples have different columns.
    """
    if not len(dataset):
        return np.empty((0, 0), np.uint64)
    source = _source(dataset)
    if num_proc is not None and num_proc > 1 and source is not dataset:
        return _hashed_by_processes(source, skip, batch_size, num_proc)
    parts = [_hashed(_read(source, start, batch_size), skip) for start in range(0, len(dataset), batch_size)]
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError("All examples must have the same columns, but some have more of them than others.")
    return np.concatenate(parts)


def _source(dataset: Any) -> Any:
    """A dataset to read from: of ``datasets``, the stored values, unless a transform computes them."""
    datasets = need("datasets", extra="train", what="Training")
    if isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom":
        return dataset.with_format("arrow")
    return dataset


def _read(source: Any, start: int, count: int) -> Mapping[str, Any]:
    """Some examples, as column -> values."""
    if not _reads_slices(source):
        rows = [source[row] for row in range(start, min(start + count, len(source)))]
        return {name: [row[name] for row in rows] for name in rows[0]}
    found = source[start : start + count]
    return found if isinstance(found, Mapping) else dict(zip(found.column_names, found.columns, strict=True))


def _reads_slices(source: Any) -> bool:
    datasets = need("datasets", extra="train", what="Training")
    return isinstance(source, datasets.Dataset)


def _hashed(batch: Mapping[str, Any], skip: Collection[str]) -> Hashes:
    """(rows, columns that count)."""
    kept = [name for name in batch if name not in skip]
    if not kept:
        raise ValueError(f"Expected columns beside {sorted(skip)} to tell examples apart, found {list(batch)}.")
    return np.stack([_hashed_column(batch[name]) for name in kept], axis=1)


def _hashed_column(values: Any) -> Hashes:
    digest = need("xxhash", extra="train", what="Batches without duplicates").xxh3_64_intdigest
    arrow = need("pyarrow", extra="train", what="Batches without duplicates")
    if isinstance(values, arrow.ChunkedArray):
        if _all_texts(values.type, arrow) and not values.null_count:
            return np.fromiter(map(digest, values.cast(arrow.large_binary()).to_pylist()), np.uint64, len(values))
        values = values.to_pylist()
    return np.fromiter((digest(_bytes(value)) for value in values), np.uint64, len(values))


def _all_texts(kind: Any, arrow: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _bytes(value: Any) -> bytes:
    """What is compared: texts and what can be written as a text as that, arrays and objects by what is in them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return f"{value.shape}".encode() + value.tobytes()
    if value is None or isinstance(value, WRITTEN):
        return str(value).encode("utf-8", "surrogatepass")
    return pickle.dumps(value)


def _hashed_by_processes(source: Any, skip: Collection[str], batch_size: int, num_proc: int) -> Hashes:
    def hashed(table: Any) -> dict[str, Any]:
        found = _hashed(dict(zip(table.column_names, table.columns, strict=True)), skip)
        return {"hashes": list(found)}

    kept = source.map(
        hashed,
        batched=True,
        batch_size=batch_size,
        num_proc=num_proc,
        remove_columns=source.column_names,
        load_from_cache_file=False,
        keep_in_memory=True,
        desc="Comparing values",
    )
    return np.stack(kept.with_format("numpy")["hashes"][:]).astype(np.uint64)


def repeated(hashes: Hashes) -> Numbers:
    """Small numbers for the values that come more than once in the dataset, -1 for the others."""
    ordered = np.sort(hashes, axis=None)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    numbers = np.full(hashes.shape, -1, np.int32)
    if not len(again):
        return numbers
    for start in range(0, len(hashes), CHUNK):  # not at once, which would need a multiple of the memory
        some = hashes[start : start + CHUNK]
        places = np.minimum(np.searchsorted(again, some), len(again) - 1)
        numbers[start : start + CHUNK] = np.where(again[places] == some, places, -1)
    return numbers


def first_fit(order: npt.NDArray[np.int64], numbers: Numbers, size: int, *, keep_partial: bool) -> Iterator[list[int]]:
    """Pack examples into batches that share no values.

    Every example goes to the first batch that has room and none of its values. So each batch holds what a search,
    in order, through all that earlier batches left over would find first.

    Args:
        order: the examples, (n,).
        numbers: what ``repeated`` returned, (n, k).
        size: examples in a batch.
        keep_partial: give batches that did not become full, too.

    Yields: numbers of examples, as soon as a batch and those before it are full.
    """
    bins = _Bins(size, int(numbers.max(initial=-1)) + 1)
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        values = numbers[rows]
        shares = np.any(values >= 0, axis=1)
        shared = iter(values[shares].tolist())
        for row, has_shared in zip(rows.tolist(), shares.tolist(), strict=True):
            bins.add(row, {value for value in next(shared) if value >= 0} if has_shared else ())
        yield from bins.take_full()
    yield from bins.take_rest(keep_partial)


class _Bins:
    """Batches in the making, by number.

    Args:
        size: examples in a full one.
        values: how many values there are that come more than once.
    """

    def __init__(self, size: int, values: int) -> None:
        self.size = size
        self.kept: dict[int, list[int]] = {}
        self.taken = 0
        self._first = 0  # no bin before it has room
        self._next: list[int] = []  # bin -> itself; where it is full, one on the way to the next that is not
        self._floors = array("i", bytes(4 * values))  # value -> no bin before it can take the value
        self._held: dict[int, set[int]] = {}  # value -> bins after its floor that have it

    def add(self, row: int, values: Collection[int]) -> None:
        """Put an example into the first bin that can take it. An example may have a value once."""
        place = self._fitting(values) if values else self._first
        for value in values:
            self._hold(value, place)
        if place == len(self._next):
            self._next.append(place)
            self.kept[place] = []
        rows = self.kept[place]
        rows.append(row)
        if len(rows) == self.size:
            self._next[place] = place + 1
            self._first = self._open(self._first)

    def _fitting(self, values: Collection[int]) -> int:
        place = self._open(max(self._first, *[self._floors[value] for value in values]))
        held = [self._held[value] for value in values if value in self._held]
        while held and any(place in bins for bins in held):
            place = self._open(place + 1)
        return place

    def _hold(self, value: int, place: int) -> None:
        """Remember that a bin has a value: by its floor, where no bin between could take it."""
        floor = self._floors[value]
        if place > self._first and place > floor and place > self._open(max(floor, self._first)):
            self._held.setdefault(value, set()).add(place)
            return
        self._floors[value] = place + 1
        held = self._held.get(value)
        if held:
            self._pass(value, held)

    def _pass(self, value: int, held: set[int]) -> None:
        """Raise a floor over the bins above it that have the value."""
        floor = self._open(self._floors[value])
        while floor in held:
            held.remove(floor)
            floor = self._open(floor + 1)
        self._floors[value] = floor
        if not held:
            del self._held[value]

    def _open(self, place: int) -> int:
        """The first bin from ``place`` on that is not full; the next new one where all are."""
        bins, end = self._next, place
        while end < len(bins) and bins[end] != end:
            end = bins[end]
        while place < end:  # shorten the way for the next time
            bins[place], place = end, bins[place]
        return end

    def take_full(self) -> Iterator[list[int]]:
        """The full bins before the first that is not."""
        while self.taken < self._first:
            yield self.kept.pop(self.taken)
            self.taken += 1

    def take_rest(self, keep_partial: bool) -> Iterator[list[int]]:
        """All others, in order."""
        for place in sorted(self.kept):
            if keep_partial or len(self.kept[place]) == self.size:
                yield self.kept[place]
