"""From a batch, as a collator makes it, back to what a loss takes: the features of each column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._types import Features

MAIN_FEATURES = (
    "_input_ids",
    "_sentence_embedding",
    "_pixel_values",
    "_input_features",
    "_input_values",
    "_pixel_values_videos",
)
"""A key of a batch that ends so begins with the name of a column; every column has one such key."""


def column_names(keys: Iterable[str]) -> list[str]:
    """The columns of a batch, in order."""
    found = (key.removesuffix(ending) for key in keys for ending in MAIN_FEATURES if key.endswith(ending))
    return list(dict.fromkeys(found))


def by_column(batch: Mapping[str, Any]) -> list[Features]:
    """The features of each column of a batch whose keys are ``<column>_<feature>``.

    Columns may have names that begin alike ("answer", "answer_long"): a key belongs to the longest that fits.
    """
    names = column_names(batch)
    found: dict[str, Features] = {name: {} for name in names}
    for key, value in batch.items():
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if owner is not None:
            found[owner][key[len(owner) + 1 :]] = value
    return list(found.values())
