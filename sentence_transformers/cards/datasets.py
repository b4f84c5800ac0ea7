"""What a card says about a dataset: where it comes from, its size, its columns, some examples.

Knows a dataset by its columns, its length and its ``info``, whatever its class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, TypeAlias

from . import columns
from .columns import CountTokens, KeepImage
from .markdown import code, table

Facts: TypeAlias = dict[str, Any]
"""Of one dataset: name, id, revision, split, size, columns, stats, examples, loss; and tables of the last ones."""
Rows: TypeAlias = dict[str, list[Any]]
"""Column -> values."""

SAMPLE = 100
"""Rows that are looked at."""
EXAMPLES = 3
"""Rows that are shown."""
HIDDEN = "dataset_name"
"""A column that the trainer adds."""

HUB_FILE = re.compile(r"hf://datasets/([^/@\s]+(?:/[^/@\s]+)?)@([0-9a-f]{7,40})(?:/|$)")
"""Where a file of a dataset was loaded from: name on the Hub, revision."""


def by_name(dataset: Any) -> dict[str | None, Any]:
    """Several datasets by name; a single one under None."""
    if dataset is None:
        return {}
    return dict(dataset) if isinstance(dataset, Mapping) else {None: dataset}


def origin(dataset: Any, name: str | None) -> Facts:
    """What a dataset knows of where it comes from.

    Args:
        name: what the caller calls it; wins over its own name.
    """
    info = getattr(dataset, "info", None)
    found: Facts = {"name": name}
    places = (HUB_FILE.match(str(url)) for url in getattr(info, "download_checksums", None) or ())
    match = next((one for one in places if one is not None), None)
    if match is not None:
        found["id"], found["revision"] = match.groups()
        found["name"] = name or str(found["id"]).rpartition("/")[2]
        config = getattr(info, "config_name", None)
        if config not in (None, "default"):
            found["config"] = str(config)
    split = getattr(dataset, "split", None)
    if split is not None:
        found["split"] = str(split)
    return found


def size(dataset: Any) -> int | None:
    """How many rows there are; None where nobody knows."""
    return len(dataset) if isinstance(dataset, Sized) else None


def sample(dataset: Any, count: int = SAMPLE) -> Rows:
    """The first rows, as columns. Rows are dicts; of others nothing is known."""
    names = getattr(dataset, "column_names", None)
    if isinstance(dataset, Sized) and isinstance(dataset, Iterable) and names:
        found = dataset[:count]  # type: ignore[index]
        if isinstance(found, Mapping):
            return {name: list(values) for name, values in found.items() if name != HIDDEN}
    if isinstance(dataset, Sized) and not isinstance(dataset, Iterable):
        rows: list[Any] = [dataset[i] for i in range(min(count, len(dataset)))]  # type: ignore[index]
    else:
        rows = list(islice(iter(dataset), count))
    found = {}
    for row in rows:
        for name, value in row.items() if isinstance(row, Mapping) else ():
            if name != HIDDEN:
                found.setdefault(name, []).append(value)
    return found


def described(
    dataset: Any, known: Mapping[str, Any], loss: Any, count: CountTokens, keep_image: KeepImage | None
) -> Facts:
    """All facts of a dataset.

    Args:
        known: what is known of it already.
        loss: what it is trained with: its name and its settings.
    """
    rows = sample(dataset)
    stats = [columns.described(name, values, count) for name, values in rows.items()]
    shown: list[Sequence[Any]] = list(zip(*(values[:EXAMPLES] for values in rows.values()), strict=False))
    header = [code(name) for name in rows]
    cells = [[columns.example(value, keep_image) for value in row] for row in shown]
    return {
        **known,
        "size": size(dataset),
        "columns": list(rows),
        "stats": {one.name: {"dtype": one.kind, "modality": one.modality, "data": one.details} for one in stats},
        "stats_table": _stats_table(stats),
        "examples_table": table(header, cells) if cells else "",
        "loss": loss,
    }


def _stats_table(stats: Sequence[columns.Column]) -> str:
    if not stats:
        return ""
    rows = [["type", *(one.kind for one in stats)]]
    if any(one.modality for one in stats):
        rows.append(["modality", *(one.modality for one in stats)])
    return table(["", *(code(one.name) for one in stats)], [*rows, ["details", *(one.cell() for one in stats)]])
