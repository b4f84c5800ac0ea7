"""What ``fit`` is given, for a trainer: loaders of ``InputExample``s as datasets, and whose turn it is.

Knows nothing of models and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any, Protocol

from datasets import Dataset
from torch import Tensor
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader

from ...modules.routes import take_task
from .. import samplers
from ..loaders import seeded
from ..samplers import BatchSamplers
from .data import InputExample, NoDuplicatesDataLoader, SentenceLabelDataset


class Loader(Protocol):
    """Batches of examples: torch's ``DataLoader``, or one of the loaders in ``legacy_data``."""

    collate_fn: Any

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Material:
    """All examples of one loader.

    Attributes:
        dataset: columns ``sentence_0``, ``sentence_1``, ...; and ``label``, unless all labels are 0.
        batch_size: examples of the largest batch.
        kind: which examples make a batch.
        routes: column -> route of a ``Router``, where the texts name one.
    """

    dataset: Dataset
    batch_size: int
    kind: BatchSamplers
    routes: dict[str, str]


def read(loader: Loader, with_labels: bool = False) -> Material:
    """Read a loader to its end, once: what it draws at random is the same in all epochs.

    Args:
        with_labels: keep labels that are all 0.

    Raises: ValueError for a loader without examples, and for examples without texts, or with unequal numbers of them.
    """
    batches = list(batches_of(loader))
    examples = [example for batch in batches for example in batch]
    if not examples:
        raise ValueError("fit needs examples, but a loader has none.")
    columns: dict[str, Any] = {}
    routes: dict[str, str] = {}
    for place, texts in enumerate(columns_of(examples)):
        name = f"sentence_{place}"
        columns[name], route = take_task(texts, None)
        if route is not None:
            routes[name] = route
    labels = [_plain(example.label) for example in examples]
    if with_labels or not all(isinstance(label, Real) and float(label) == 0 for label in labels):
        columns["label"] = labels
    return Material(Dataset.from_dict(columns), max(map(len, batches)), kind_of(loader), routes)


def batches_of(loader: Loader) -> Iterator[list[InputExample]]:
    """The examples of each batch, whatever the loader would make of them."""
    before, loader.collate_fn = loader.collate_fn, _as_they_are
    try:
        yield from loader
    finally:
        loader.collate_fn = before


def columns_of(examples: Sequence[Any]) -> list[list[Any]]:
    """The texts of examples, column by column.

    Raises: ValueError for what is no ``InputExample``, and for examples without texts, or with unequal numbers of them.
    """
    for example in examples:
        if not isinstance(example, InputExample):
            raise ValueError(
                f"fit takes loaders of InputExample, but one gives {type(example).__name__}. Give a "
                "datasets.Dataset to the trainer."
            )
    counts = sorted({len(example.texts or []) for example in examples})
    if counts[0] == 0 or len(counts) > 1:
        raise ValueError(
            f"All examples of a loader must have the same number of texts, one at least; found {counts}. Give those "
            "with other numbers as an objective of their own."
        )
    return [list(texts) for texts in zip(*[example.texts for example in examples], strict=True)]


def kind_of(loader: Loader) -> BatchSamplers:
    """Which examples make a batch of a trainer, for batches like those of the loader."""
    if isinstance(loader, NoDuplicatesDataLoader):
        return BatchSamplers.NO_DUPLICATES
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, SentenceLabelDataset):
        return BatchSamplers.GROUP_BY_LABEL
    return BatchSamplers.BATCH_SAMPLER


def _as_they_are(examples: list[Any]) -> list[Any]:
    return examples


def _plain(label: Any) -> Any:
    return label.detach().cpu().numpy() if isinstance(label, Tensor) else label


# --- whose turn it is -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turns:
    """Makes the sampler of a training on several materials, in turn; each has batches of its own kind and size.

    Attributes:
        kinds, sizes: of each.
        steps: how many batches an epoch has; None: until one material has no more.
    """

    kinds: tuple[BatchSamplers, ...]
    sizes: tuple[int, ...]
    steps: int | None = None

    def __call__(
        self, dataset: ConcatDataset[Any], batch_samplers: list[BatchSampler], generator: Any = None, seed: int = 0
    ) -> BatchSampler:
        """As ``TrainingArguments.multi_dataset_batch_sampler`` is called; ``batch_samplers`` are not used."""
        each = [
            samplers.batch_sampler(kind, part, size, drop_last=False, generator=seeded(seed), seed=seed)
            for kind, size, part in zip(self.kinds, self.sizes, dataset.datasets, strict=True)
        ]
        if self.steps is None:
            return samplers.RoundRobinBatchSampler(dataset, each, generator, seed)
        return EndlessTurnsBatchSampler(dataset, each, generator, seed, self.steps)


class EndlessTurnsBatchSampler(samplers.MultiDatasetDefaultBatchSampler):
    """A batch of each dataset in turn; one that has no more begins again. An epoch goes on where the last one ended.

    Args:
        dataset, batch_samplers, generator, seed: see ``MultiDatasetDefaultBatchSampler``.
        steps: batches of an epoch.
    """

    def __init__(
        self,
        dataset: ConcatDataset[Any],
        batch_samplers: list[BatchSampler],
        generator: Any = None,
        seed: int = 0,
        steps: int = 1,
    ) -> None:
        super().__init__(dataset, batch_samplers, generator, seed)
        self.steps = steps

    def __iter__(self) -> Iterator[list[int]]:
        count, first = len(self.batch_samplers), self.epoch * self.steps
        streams = [self._stream(place, (first - place + count - 1) // count) for place in range(count)]
        offsets = self.offsets()
        for turn in range(first, first + self.steps):
            place = turn % count
            yield [offsets[place] + row for row in next(streams[place])]

    def __len__(self) -> int:
        return self.steps

    def _stream(self, place: int, done: int) -> Iterator[list[int]]:
        """The batches of one dataset without end, but for the first ``done``."""
        sampler: Any = self.batch_samplers[place]
        again, skipped = divmod(done, len(sampler))
        while True:
            sampler.set_epoch(again)
            yield from islice(sampler, skipped, None)
            again, skipped = again + 1, 0
