"""Examples, as a dataset gives them, to the batch that a loss gets: labels, and features of each column.

What a batch is like is said once, here; how a column is tokenised is the model's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import columns

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Batch = dict[str, Any]


@dataclass
class BaseDataCollator:
    """Makes batches of examples; a family of models says in ``collate_inputs`` what it wants of the inputs.

    Args:
        preprocess_fn: ``(inputs, prompt=..., task=..., max_length=...) -> features``, as ``model.preprocess``; ``task``
            and ``max_length`` are given only where there is one.
        valid_label_columns: names of labels; the first that is there becomes ``batch["label"]``.
        router_mapping: column -> route of a ``Router``, or dataset -> column -> route.
        prompts: what to put before the inputs: one text, or by column, by dataset, or by dataset and column.
        max_length: the most tokens of an input; or by task, ``{"query": 32, "document": 300}``.
    """

    preprocess_fn: Callable[..., dict[str, Any]]
    valid_label_columns: list[str] = field(default_factory=lambda: list(columns.LABEL_COLUMNS))
    router_mapping: columns.PerColumn = field(default_factory=dict, repr=False)
    prompts: columns.PerColumn = field(default_factory=dict, repr=False)
    max_length: int | dict[str, int] | None = field(default=None, repr=False)
    _warned_columns: set[tuple[str, ...]] = field(default_factory=set, init=False, repr=False)

    def __call__(self, features: Sequence[Row]) -> Batch:
        """One batch.

        Args:
            features: examples, column -> value, all of one dataset.

        Returns: ``label``, where there is one; ``dataset_name``, where the examples have one; and the inputs.
        Raises: ValueError for examples with unequal columns, and for labels that make no tensor.
        """
        if not features or not features[0]:
            return {}
        columns.check_rows(features)
        first = features[0]
        batch: Batch = {}
        dataset = first.get(columns.DATASET_NAME)
        if dataset is not None:
            batch[columns.DATASET_NAME] = dataset
        label = columns.label_column(first, self.valid_label_columns)
        if label is not None:
            batch["label"] = self.collate_labels([row[label] for row in features], label)
        names = columns.input_columns(first, label)
        self.maybe_warn_about_column_order(names)
        batch.update(self.collate_inputs({name: [row[name] for row in features] for name in names}, dataset))
        return batch

    def collate_labels(self, values: list[Any], column: str) -> Any:
        """The labels of a batch, (B,) or (B, ...).

        Args:
            values: one of each example.
            column: their name, for messages.
        """
        return stacked(values, column)

    def collate_inputs(self, inputs: dict[str, list[Any]], dataset: str | None) -> Batch:
        """The part of the batch that comes of the inputs: features of each column, under ``<column>_<key>``."""
        prompts = columns.of_dataset("prompts", self.prompts, dataset)
        routes = columns.of_dataset("router_mapping", self.router_mapping, dataset)
        batch: Batch = {}
        for place, (column, values) in enumerate(inputs.items()):
            task = columns.of_column(routes, column) or self.default_task(place)
            found = self.preprocess(values, columns.of_column(prompts, column), task)
            batch.update({f"{column}_{key}": value for key, value in found.items()})
            if task is not None:
                batch[f"{column}_task"] = task
        return batch

    def default_task(self, place: int) -> str | None:
        """The task of the ``place``-th input where the router mapping names none."""
        return None

    def preprocess(self, values: list[Any], prompt: str | None, task: str | None) -> dict[str, Any]:
        """The features of one column."""
        length = self.max_length.get(task or "") if isinstance(self.max_length, dict) else self.max_length
        settings = {"task": task, "max_length": length}
        return self.preprocess_fn(
            values, prompt=prompt, **{name: value for name, value in settings.items() if value is not None}
        )

    def maybe_warn_about_column_order(self, column_names: Sequence[str]) -> None:
        """Log what looks like a mistake in the inputs, once for each set of columns.

        Args:
            column_names: what the model reads, in order.
        """
        key = tuple(column_names)
        if key in self._warned_columns:
            return
        self._warned_columns.add(key)
        for remark in columns.order_remarks(key):
            logger.warning(remark)
        ids = columns.id_like(key)
        if ids:
            logger.warning(columns.id_remark(ids))


@dataclass
class SentenceTransformerDataCollator(BaseDataCollator):
    """Batches for the losses of dense encoders: features of each column, as ``anchor_input_ids``."""


def stacked(values: list[Any], column: str) -> Tensor:
    """Labels of the examples of a batch as one tensor.

    Args:
        values: numbers, (nested) lists of numbers of equal lengths, arrays or tensors of equal shapes.

    Raises: ValueError for anything else.
    """
    try:
        if isinstance(values[0], Tensor):
            return torch.stack(values)
        if isinstance(values[0], np.ndarray):
            return torch.from_numpy(np.stack(values))
        return torch.tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Column {column!r} holds the labels: expected numbers, or lists of numbers of equal lengths, found "
            f"{_shown(values)}. Make numbers of them, e.g. dataset.class_encode_column({column!r}); or if it is no "
            f"label, rename it: dataset.rename_column({column!r}, 'text'). ({error})"
        ) from error


def _shown(values: list[Any]) -> str:
    text = repr(values[:4])
    return text if len(text) <= 120 else f"{text[:117]}..."
