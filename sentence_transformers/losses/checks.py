"""What losses ask of the columns and settings that they get, with one form of message for each."""

from __future__ import annotations

import math

from torch import Tensor


def exactly(name: str, embeddings: list[Tensor], count: int, what: str) -> list[Tensor]:
    """The columns. Raises: ValueError unless there are ``count``; ``what`` names them."""
    if len(embeddings) != count:
        raise ValueError(f"{name} expects {count} columns ({what}), but got {len(embeddings)}. {_HINT}")
    return embeddings


def at_least(name: str, embeddings: list[Tensor], count: int, what: str) -> list[Tensor]:
    """The columns. Raises: ValueError if there are fewer than ``count``; ``what`` names them."""
    if len(embeddings) < count:
        raise ValueError(f"{name} expects at least {count} columns ({what}), but got {len(embeddings)}. {_HINT}")
    return embeddings


def positive_finite(name: str, value: float) -> float:
    """The value. Raises: ValueError unless it is above 0 and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value}.")
    return value


_HINT = "Labels do not count; rename or select the columns of the dataset."
