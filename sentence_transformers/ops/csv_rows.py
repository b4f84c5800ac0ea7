"""Add columns to what is already written of a CSV file of results."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def append_to_last_row(csv_path: str | Path, additional_data: Iterable[Any]) -> bool:
    """Write further values behind those of the last row.

    Args:
        csv_path: a file (UTF-8) with a header and at least one row.
        additional_data: the values; None becomes an empty field.

    Returns: False, with the file unchanged, if there is no row below the header.
    Raises: FileNotFoundError.
    """
    with open(csv_path, encoding="utf-8", newline="") as file:
        rows: list[list[Any]] = list(csv.reader(file))
    if len(rows) < 2:
        return False
    rows[-1].extend(additional_data)
    with open(csv_path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return True
