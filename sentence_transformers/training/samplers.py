"""Which examples make a batch: at random, without repeated values, two of a label, or from several datasets in turn.

Same seed and epoch, same batches. What makes values equal, and how batches are packed, is in ``distinct``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch.utils.data import BatchSampler, ConcatDataset, RandomSampler, Sampler

from ..errors import one_of
from . import columns, distinct

logger = logging.getLogger(__name__)


class BatchSamplers(str, Enum):
    """How the batches of one dataset are made up."""

    BATCH_SAMPLER = "batch_sampler"
    """At random (``DefaultBatchSampler``)."""
    NO_DUPLICATES = "no_duplicates"
    """No text twice in a batch (``NoDuplicatesBatchSampler``), for losses with in-batch negatives."""
    NO_DUPLICATES_HASHED = "no_duplicates_hashed"
    """The same; the values are compared before training begins rather than at its first step."""
    GROUP_BY_LABEL = "group_by_label"
    """At least two examples of every label that a batch has (``GroupByLabelBatchSampler``), for triplet losses."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        one_of("batch_sampler", value, [member.value for member in cls])


class MultiDatasetBatchSamplers(str, Enum):
    """How the batches of several datasets follow each other."""

    ROUND_ROBIN = "round_robin"
    """One of each in turn, until the first has no more (``RoundRobinBatchSampler``)."""
    PROPORTIONAL = "proportional"
    """All batches of all of them in random order (``ProportionalBatchSampler``)."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        one_of("multi_dataset_batch_sampler", value, [member.value for member in cls])


class SetEpochMixin:
    """What draws other batches in every epoch: ``seed + epoch`` seeds the generator when iteration begins."""

    epoch = 0
    seed = 0
    generator: torch.Generator | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self.epoch = epoch

    def reseed(self) -> None:
        """Begin the random numbers of this epoch. Without a generator of its own, torch's global one is left alone."""
        if self.generator is not None:
            self.generator.manual_seed(self.seed + self.epoch)


@runtime_checkable
class HasEpoch(Protocol):
    """A sampler of any origin that wants to know the epoch."""

    def set_epoch(self, epoch: int) -> None: ...


class DefaultBatchSampler(SetEpochMixin, BatchSampler):
    """Batches at random; and the base of those that are not.

    Args:
        dataset: what to draw from; or a torch ``Sampler``, which says the order itself.
        batch_size: examples in a batch.
        drop_last: leave out a last batch that is smaller.
        valid_label_columns: names of labels; None for ``columns.LABEL_COLUMNS``.
        generator: of the random numbers; None for torch's global one.
        seed: with the epoch, seeds the generator.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        self.orders_itself = isinstance(dataset, Sampler)
        sampler = dataset if self.orders_itself else RandomSampler(dataset, generator=generator)
        super().__init__(sampler, batch_size, drop_last)
        self.valid_label_columns = valid_label_columns
        self.generator = generator
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        if not self.orders_itself:
            self.reseed()
        yield from super().__iter__()

    def _keep(self, dataset: Any) -> None:
        """Draw from the dataset directly, without a sampler between.

        Where batches are shared among processes, ``accelerate`` tells only ``.sampler`` of a new epoch: be that, too.
        """
        self.dataset = dataset
        self.sampler = cast("Sampler[Any]", self)


class NoDuplicatesBatchSampler(DefaultBatchSampler):
    """Batches in which no value comes twice, in whichever columns; labels apart. Values are compared as texts.

    Every batch takes the first examples that fit, in random order. With ``drop_last``, an epoch that has fewer full
    batches than ``len`` is filled up with examples of the epoch, in a new order; without, the last batches are small.

    Args:
        dataset, batch_size, drop_last, valid_label_columns, generator, seed: see ``DefaultBatchSampler``.
        precompute_hashes: compare all values now; else when the first batch is asked for. Once in any case.
        precompute_num_proc: processes that read the values; more than one is worth it where columns are computed.
        precompute_batch_size: examples that are read at once.
    """

    PASSES = 3
    """How often at most the dataset is gone through for one epoch."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        precompute_hashes: bool = False,
        precompute_num_proc: int | None = None,
        precompute_batch_size: int = 1000,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._keep(dataset)
        self.precompute_hashes = precompute_hashes
        self.precompute_num_proc = precompute_num_proc
        self.precompute_batch_size = precompute_batch_size
        self._numbers: distinct.Numbers | None = None
        self._told: set[str] = set()
        if precompute_hashes:
            self._compare()

    def _compare(self) -> distinct.Numbers:
        if self._numbers is None:
            labels = columns.LABEL_COLUMNS if self.valid_label_columns is None else self.valid_label_columns
            hashes = distinct.value_hashes(
                self.dataset,
                {*labels, columns.DATASET_NAME},
                batch_size=self.precompute_batch_size,
                num_proc=self.precompute_num_proc,
            )
            self._numbers = distinct.repeated(hashes)
        return self._numbers

    def __iter__(self) -> Iterator[list[int]]:
        numbers, expected, done = self._compare(), len(self), 0
        self.reseed()
        for attempt in range(self.PASSES):
            order = torch.randperm(len(numbers), generator=self.generator).numpy()
            for batch in distinct.first_fit(order, numbers, self.batch_size, keep_partial=not self.drop_last):
                yield batch
                done += 1
                if attempt and done == expected:
                    return
            if done >= expected or not done:
                break
            self._tell(
                "refilled",
                f"Only {done} of {expected} batches of {self.batch_size} could be filled without repeated values; the "
                "other examples share too many. The rest is filled with examples of this epoch again.",
            )
        if done < expected:
            self._tell(
                "short",
                f"Only {done} of {expected} batches of {self.batch_size} could be filled without repeated values: the "
                "dataset has too few distinct ones. Make per_device_train_batch_size smaller, or repeated columns "
                "fewer.",
            )

    def __len__(self) -> int:
        size = len(self.dataset)
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def _tell(self, what: str, message: str) -> None:
        """Log something once, not in every epoch."""
        if what not in self._told:
            logger.warning(message)
        self._told.add(what)


class GroupByLabelBatchSampler(DefaultBatchSampler):
    """Batches that have at least two labels, and an even number of examples of each.

    Labels come by turns, in a new random order each round, two examples at a time. What then remains of a label goes
    unused in this epoch: one example of an odd number, and all when no second label has two examples left.

    Args:
        dataset: with a column of labels.
        batch_size: even and at least 4.
        drop_last: leave out a last batch that is smaller; one of fewer than 4 always is.
        valid_label_columns, generator, seed: see ``DefaultBatchSampler``.

    Raises: ValueError for other batch sizes, for no column of labels, and unless two labels have two examples each.
    """

    SMALLEST = 4

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._keep(dataset)
        if batch_size < self.SMALLEST or batch_size % 2:
            raise ValueError(f"batch_size must be an even number >= {self.SMALLEST}, but got {batch_size}.")
        self.groups = self._group(self._labels())
        pairs = sorted(len(rows) // 2 for rows in self.groups.values())
        self._stream_length = 2 * sum(min(count, pairs[-2]) for count in pairs)  # the last label alone does not go on

    def _labels(self) -> list[Any]:
        names = self.dataset.column_names
        column = columns.label_column(names, self.valid_label_columns)
        if column is None:
            valid = list(columns.LABEL_COLUMNS if self.valid_label_columns is None else self.valid_label_columns)
            raise ValueError(
                f"None of the valid_label_columns {valid} are in the dataset, which only has these columns: "
                f"{list(names)}. Rename the column of labels: dataset.rename_column(..., {(valid or ['label'])[0]!r})."
            )
        stored = self.dataset.with_format(None)  # a transform may need the other columns, too
        return list(stored[column][:])

    @staticmethod
    def _group(labels: Sequence[Any]) -> dict[Any, list[int]]:
        """Label -> numbers of its examples, for labels that have two or more."""
        groups: dict[Any, list[int]] = {}
        for row, label in enumerate(labels):
            if isinstance(label, (list, dict)):
                raise ValueError(f"Expected one label of each example, a number or a text, but found {label!r}.")
            groups.setdefault(label, []).append(row)
        usable = {label: rows for label, rows in groups.items() if len(rows) >= 2}
        if len(usable) < 2:
            raise ValueError(
                "GroupByLabelBatchSampler requires at least 2 distinct labels with >= 2 samples each, but only "
                f"{len(usable)} label(s) qualified. The dataset has {len(groups)}; labels must be classes, not scores."
            )
        return usable

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        batch: list[int] = []
        for pair in self._pairs():
            batch += pair
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if len(batch) >= self.SMALLEST and not self.drop_last:
            yield batch

    def _pairs(self) -> Iterator[list[int]]:
        """Pairs of one label each, no label twice in a row within a batch."""
        shuffled = {label: self._shuffled(rows) for label, rows in self.groups.items()}
        labels, last, taken, told = list(shuffled), None, 0, 0
        while len(labels) > 1:
            labels = self._shuffled(labels)
            if told and labels[0] == last and 2 * told % self.batch_size:
                labels[0], labels[1] = labels[1], labels[0]
            for label in labels:
                yield shuffled[label][taken : taken + 2]
            last, taken, told = labels[-1], taken + 2, told + len(labels)
            labels = [label for label in labels if len(shuffled[label]) >= taken + 2]

    def _shuffled(self, values: list[Any]) -> list[Any]:
        return [values[place] for place in torch.randperm(len(values), generator=self.generator).tolist()]

    def __len__(self) -> int:
        full, rest = divmod(self._stream_length, self.batch_size)
        return full + (rest >= self.SMALLEST and not self.drop_last)


class MultiDatasetDefaultBatchSampler(SetEpochMixin, BatchSampler, ABC):
    """Batches of several datasets, each of one dataset; the base of those that say which is next.

    Args:
        dataset: all datasets, one after the other.
        batch_samplers: of each.
        generator: of the random numbers; None for torch's global one.
        seed: with the epoch, seeds the generator.

    Raises: ValueError unless there is one sampler for each dataset.
    """

    def __init__(
        self,
        dataset: ConcatDataset[Any],
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        if len(dataset.datasets) != len(batch_samplers):
            raise ValueError(
                "The number of batch samplers must match the number of datasets in the ConcatDataset: expected "
                f"{len(dataset.datasets)}, got {len(batch_samplers)}."
            )
        first = batch_samplers[0]
        super().__init__(cast("Sampler[int]", self), first.batch_size, first.drop_last)  # see DefaultBatchSampler._keep
        self.dataset = dataset
        self.batch_samplers = batch_samplers
        self.generator = generator
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is, here and in the samplers of the datasets."""
        super().set_epoch(epoch)
        for sampler in self.batch_samplers:
            if isinstance(sampler, HasEpoch):
                sampler.set_epoch(epoch)

    def offsets(self) -> list[int]:
        """Where each dataset begins among all examples."""
        return [0, *self.dataset.cumulative_sizes[:-1]]

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]: ...

    @abstractmethod
    def __len__(self) -> int: ...


class RoundRobinBatchSampler(MultiDatasetDefaultBatchSampler):
    """A batch of each dataset in turn, until one has no more: all datasets count the same, large ones are cut."""

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        offsets = self.offsets()
        for batches in zip(*self.batch_samplers):  # noqa: B905 (the shortest ends it)
            for offset, batch in zip(offsets, batches, strict=True):
                yield [offset + row for row in batch]

    def __len__(self) -> int:
        return min(map(len, self.batch_samplers)) * len(self.batch_samplers)


class ProportionalBatchSampler(MultiDatasetDefaultBatchSampler):
    """Every batch of every dataset, in random order: datasets count by their sizes."""

    def __iter__(self) -> Iterator[list[int]]:
        self.reseed()
        turns = np.repeat(np.arange(len(self.batch_samplers)), [len(sampler) for sampler in self.batch_samplers])
        order = torch.randperm(len(turns), generator=self.generator).numpy()
        offsets, batches = self.offsets(), [iter(sampler) for sampler in self.batch_samplers]
        for turn in turns[order].tolist():
            batch = next(batches[turn], None)  # a sampler may have fewer than its length says
            if batch is not None:
                yield [offsets[turn] + row for row in batch]

    def __len__(self) -> int:
        return sum(map(len, self.batch_samplers))


# --- which one is meant -----------------------------------------------------------------------------------------------


def batch_sampler(
    choice: Any,
    dataset: Any,
    batch_size: int,
    drop_last: bool,
    valid_label_columns: list[str] | None = None,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> BatchSampler:
    """The sampler that ``TrainingArguments.batch_sampler`` asks for.

    Args:
        choice: a ``BatchSamplers`` or its value; or a class or function, which is called as
            ``choice(dataset, batch_size=, drop_last=, valid_label_columns=, generator=, seed=)``.
        dataset, batch_size, drop_last, valid_label_columns, generator, seed: see ``DefaultBatchSampler``.
    """
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "drop_last": drop_last,
        "valid_label_columns": valid_label_columns,
        "generator": generator,
        "seed": seed,
    }
    if not isinstance(choice, str) and callable(choice):
        return cast(BatchSampler, choice(dataset, **settings))
    kind = BatchSamplers(choice)
    if kind is BatchSamplers.GROUP_BY_LABEL:
        return GroupByLabelBatchSampler(dataset, **settings)
    if kind is BatchSamplers.BATCH_SAMPLER:
        return DefaultBatchSampler(dataset, **settings)
    return NoDuplicatesBatchSampler(dataset, **settings, precompute_hashes=kind is BatchSamplers.NO_DUPLICATES_HASHED)


def multi_dataset_batch_sampler(
    choice: Any,
    dataset: ConcatDataset[Any],
    batch_samplers: list[BatchSampler],
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> BatchSampler:
    """The sampler that ``TrainingArguments.multi_dataset_batch_sampler`` asks for.

    Args:
        choice: a ``MultiDatasetBatchSamplers`` or its value; or a class or function, which is called as
            ``choice(dataset, batch_samplers=, generator=, seed=)``.
        dataset, batch_samplers, generator, seed: see ``MultiDatasetDefaultBatchSampler``.
    """
    settings: dict[str, Any] = {"batch_samplers": batch_samplers, "generator": generator, "seed": seed}
    if not isinstance(choice, str) and callable(choice):
        return cast(BatchSampler, choice(dataset, **settings))
    if MultiDatasetBatchSamplers(choice) is MultiDatasetBatchSamplers.ROUND_ROBIN:
        return RoundRobinBatchSampler(dataset, **settings)
    return ProportionalBatchSampler(dataset, **settings)
