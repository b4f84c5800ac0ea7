"""The datasets that a trainer is given: brought into one form, and checked before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from . import columns

logger = logging.getLogger(__name__)


def checked(dataset: Any, what: str) -> Any:
    """A dataset, or several by name, ready for training.

    Args:
        dataset: of ``datasets``, a dict of them, or anything with a length that gives examples by number; or None.
        what: "train" or "eval", for messages.

    Raises: ValueError for columns with names that are taken, and for streamed data of unknown columns.
    """
    if isinstance(dataset, Mapping) and not isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        dataset = DatasetDict(dict(dataset))
    for one in dataset.values() if isinstance(dataset, Mapping) else [dataset]:
        if isinstance(one, IterableDataset) and not one.column_names:
            raise ValueError(_features_hint(one, what))
        if isinstance(one, (Dataset, IterableDataset)):
            columns.check_names(one.column_names or [], what)
    return dataset


def _features_hint(dataset: IterableDataset, what: str) -> str:
    """What to write so that the columns are known; the types are those of the first example."""
    first = next(iter(dataset), None)
    example = {} if first is None else Dataset.from_list([first]).features
    features = ", ".join(f"{name!r}: {kind!r}" for name, kind in example.items())
    return (
        f"The columns of the streamed {what} dataset are not known before its first example is read. Expected an "
        "IterableDataset with features; name them, e.g.: "
        f"{what}_dataset = {what}_dataset.cast(Features({{{features}}}))"
    )


def check_not_streamed(dataset: Any) -> None:
    """Raises: ValueError for several datasets of which one is streamed: their batches cannot be mixed by number."""
    streamed = isinstance(dataset, IterableDatasetDict) or (
        isinstance(dataset, Mapping) and any(isinstance(one, IterableDataset) for one in dataset.values())
    )
    if streamed:
        raise ValueError(
            "Several datasets are trained on by number, so none of them may be an IterableDataset. Load them without "
            "streaming=True, or join them first: datasets.interleave_datasets([...])."
        )


def check_named(loss: Mapping[str, Any], dataset: Any, what: str) -> None:
    """Raises: ValueError unless the datasets have names, and each has a loss."""
    if dataset is None:
        return
    if not isinstance(dataset, Mapping):
        raise ValueError(
            f"Losses by name ({list(loss)}) need datasets by name: expected {what}_dataset={{{next(iter(loss), '')!r}: "
            f"...}}, got a {type(dataset).__name__}."
        )
    missing = [name for name in dataset if name not in loss]
    if missing:
        raise ValueError(
            f"Every {what} dataset needs a loss of the same name: {missing} have none; there are losses for "
            f"{list(loss)}."
        )


def with_names(dataset: DatasetDict) -> DatasetDict:
    """The datasets, each with a column that says its name; computed when rows are read, nothing is copied."""
    return DatasetDict({name: _with_name(one, name) for name, one in dataset.items()})


def _with_name(dataset: Any, name: str) -> Any:
    if not isinstance(dataset, Dataset):
        return dataset
    kind = dataset.format["type"]
    if kind is None:
        return dataset.with_transform(Named(name))
    if kind == "custom":
        return dataset.with_transform(Named(name, dataset.format["format_kwargs"]["transform"]))
    return dataset.add_column(columns.DATASET_NAME, [name] * len(dataset))


@dataclass
class Named:
    """A transform of ``datasets``: some rows, and the name of the dataset beside each."""

    name: str
    before: Any = None

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = dict(rows if self.before is None else self.before(rows))
        count = len(next(iter(rows.values()), []))
        return {**rows, columns.DATASET_NAME: [self.name] * count}


def is_streamed(dataset: Any) -> bool:
    """Whether a dataset has no numbers: it is read from its beginning."""
    return isinstance(dataset, datasets.IterableDataset)
