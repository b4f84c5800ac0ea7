"""What the columns of a training dataset mean: which one is the label, which are inputs, and what looks like a mistake.

The order of the inputs counts, their names do not. Knows column names and settings, neither datasets nor models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

LABEL_COLUMNS = ("label", "labels", "score", "scores")
"""The first of these that a dataset has is its label."""
DATASET_NAME = "dataset_name"
"""Put into every batch where several datasets are trained on and something depends on which one it is."""
RESERVED = ("return_loss", DATASET_NAME)
ORDERS = (
    ("anchor", "positive", "negative"),
    ("question", "answer"),
    ("query", "response"),
    ("hypothesis", "entailment", "contradiction"),
)
"""Names that say at which place a column is expected."""
ID_ENDINGS = ("_id", "_ids", "_idx")

PerColumn: TypeAlias = str | Mapping[str, str] | Mapping[str, Mapping[str, str]] | None
"""One text for all columns; or by column; or by dataset; or by dataset and then by column."""


def label_column(columns: Iterable[str], valid: Iterable[str] | None = None) -> str | None:
    """The name of the column that holds labels; None where there is none.

    Args:
        columns: the names of all columns.
        valid: names of labels, the most wanted first; None for ``LABEL_COLUMNS``.
    """
    present = set(columns)
    return next((name for name in (LABEL_COLUMNS if valid is None else valid) if name in present), None)


def input_columns(columns: Iterable[str], label: str | None) -> list[str]:
    """The columns that the model reads, in order: all but the label and the name of the dataset."""
    return [name for name in columns if name not in (label, DATASET_NAME)]


def check_names(columns: Iterable[str], dataset: str) -> None:
    """Raise ``ValueError`` where a dataset has a column whose name is taken.

    Args:
        dataset: what the dataset is called in the message, such as "train".
    """
    columns = list(columns)
    taken = sorted(set(RESERVED).intersection(columns))
    if taken:
        raise ValueError(
            f"The following column names are invalid in your {dataset} dataset: {taken}. They are reserved: expected "
            f"columns other than {list(RESERVED)}, found {columns}. Rename them, e.g. "
            f"dataset.rename_column({taken[0]!r}, 'text')."
        )


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``ValueError`` unless all examples of a batch have the columns of the first."""
    expected = list(rows[0])
    for row in rows:
        if row.keys() != rows[0].keys():
            raise ValueError(
                f"All examples of a batch must have the same columns: expected {expected}, as in the first, found "
                f"{list(row)}. Give datasets with different columns under different names, "
                "train_dataset={'first': ..., 'second': ...}, or make their columns equal with select_columns."
            )


def order_remarks(inputs: Sequence[str]) -> list[str]:
    """What to tell of columns that are not at the place that their names promise; empty where all is well.

    Args:
        inputs: the columns that the model reads, in order.
    """
    found = []
    for order in ORDERS:
        misplaced = _misplaced(inputs, order)
        if misplaced is not None:
            place = inputs.index(misplaced)
            wanted = [name for name in order if name in inputs]
            wanted += [name for name in inputs if name not in order]
            found.append(
                f"Column {misplaced!r} is at index {place}, but a column of this name is usually expected at index "
                f"{order.index(misplaced)}: losses go by the order of the columns ({list(inputs)} here), not by their "
                f"names. If it is a mistake: dataset = dataset.select_columns({wanted}), with the label column added."
            )
    return found


def _misplaced(inputs: Sequence[str], order: Sequence[str]) -> str | None:
    present = [name for name in order if name in inputs]
    if present == ["hypothesis"]:  # (premise, hypothesis) is the usual order of inference data
        return None
    return next((name for name in present if inputs.index(name) != order.index(name)), None)


def id_like(inputs: Iterable[str]) -> list[str]:
    """The columns whose names promise ids rather than what is to be read."""
    return [name for name in inputs if name == "id" or name.endswith(ID_ENDINGS)]


def id_remark(names: Sequence[str]) -> str:
    """What to tell of them."""
    return (
        f"Column(s) {list(names)} look like ids, but are tokenised and trained on as texts. Replace ids by what they "
        "stand for, e.g. with dataset.set_transform(sentence_transformers.util.resolve_ids(...)), or drop them with "
        f"dataset.remove_columns({list(names)})."
    )


def of_dataset(name: str, setting: PerColumn, dataset: str | None) -> str | Mapping[str, str] | None:
    """What a setting says of one dataset: one text for all of its columns, or a text by column.

    Args:
        name: of the setting, for messages.
        dataset: the name of the dataset; None where only one is trained on.

    Raises: ValueError if the setting goes by datasets, and the dataset has no name.
    """
    if setting is None or isinstance(setting, str):
        return setting
    chosen = setting.get(dataset) if dataset is not None else None
    if chosen is not None:
        return chosen
    nested = [key for key, value in setting.items() if isinstance(value, Mapping)]
    if nested and dataset is None:
        raise ValueError(
            f"{name} maps names of datasets to columns (its keys are {list(setting)}), but the dataset has no name. "
            f"Expected column -> text, or datasets with these names: train_dataset={{{nested[0]!r}: ...}}, and "
            "eval_dataset likewise."
        )
    return {key: value for key, value in setting.items() if isinstance(value, str)}


def of_column(setting: str | Mapping[str, str] | None, column: str) -> str | None:
    """What is left of it for one column."""
    return setting.get(column) if isinstance(setting, Mapping) else setting
