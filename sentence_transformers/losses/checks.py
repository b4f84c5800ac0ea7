"""What losses ask of the columns and settings that they get, with one form of message for each."""

from __future__ import annotations

import math
from typing import TypeVar

Column = TypeVar("Column")
"""Of embeddings or logits, or of what the dataset has."""


def exactly(name: str, columns: list[Column], count: int, what: str) -> list[Column]:
    """The columns. Raises: ValueError unless there are ``count``; ``what`` names them."""
    if len(columns) != count:
        raise ValueError(f"{name} expects {count} columns ({what}), but got {len(columns)}. {_HINT}")
    return columns


def at_least(name: str, columns: list[Column], count: int, what: str) -> list[Column]:
    """The columns. Raises: ValueError if there are fewer than ``count``; ``what`` names them."""
    if len(columns) < count:
        raise ValueError(f"{name} expects at least {count} columns ({what}), but got {len(columns)}. {_HINT}")
    return columns


def positive_finite(name: str, value: float) -> float:
    """The value. Raises: ValueError unless it is above 0 and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value}.")
    return value


def temperatures(both: float, student: float | None, teacher: float | None) -> tuple[float, float, float]:
    """The temperature of both, the student's and the teacher's; None: that of both. Raises: as ``positive_finite``."""
    return (
        positive_finite("temperature", both),
        positive_finite("student_temperature", both if student is None else student),
        positive_finite("teacher_temperature", both if teacher is None else teacher),
    )


_HINT = "Labels do not count; rename or select the columns of the dataset."
