"""Correlations of two lists of numbers, on numpy arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pearson(x: Any, y: Any) -> float:
    """The linear correlation of x and y, -1..1; nan if one of them is constant or has a nan.

    Args:
        x: (n,) numbers. y: as ``x``.

    Raises: ValueError if the lengths differ, or there are less than two pairs.
    Source: Pearson 1895, https://doi.org/10.1098/rspl.1895.0041
    """
    left, right = equally_many("x", x, "y", y)
    if len(left) < 2:
        raise ValueError(f"A correlation needs at least two pairs of numbers, got {len(left)}.")
    if (left == left[0]).all() or (right == right[0]).all():  # the mean of equal numbers may be off by rounding
        return math.nan
    left, right = left - left.mean(), right - right.mean()
    # not by dot: its threads would wait for each other, for a few thousand numbers
    product = float((left * right).sum() / np.sqrt((left * left).sum()) / np.sqrt((right * right).sum()))
    return min(1.0, max(-1.0, product)) if not math.isnan(product) else product


def spearman(x: Any, y: Any) -> float:
    """The correlation of the ranks of x and y; arguments, errors and nan are those of ``pearson``.

    Source: Spearman 1904, https://doi.org/10.2307/1412159
    """
    left, right = equally_many("x", x, "y", y)
    if np.isnan(left).any() or np.isnan(right).any():
        return math.nan
    return pearson(average_ranks(left), average_ranks(right))


def average_ranks(values: Any) -> Array:
    """(n,) numbers -> (n,) float64 ranks, the smallest number has 1; equal numbers share the mean of their ranks."""
    given = np.asarray(values)
    order = np.argsort(given)
    in_order = given[order]
    is_last = np.append(in_order[1:] != in_order[:-1], True)[: len(given)]  # of its group of equal numbers
    ends = np.flatnonzero(is_last) + 1
    sizes = np.diff(ends, prepend=0)
    ranks = np.empty(len(given))
    ranks[order] = np.repeat(ends - (sizes - 1) / 2, sizes)
    return ranks


def equally_many(left_name: str, left: Any, right_name: str, right: Any) -> tuple[Array, Array]:
    """Both as (n,) float64; ValueError unless they are equally long lists."""
    x, y = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(
            f"{left_name} and {right_name} must be equally long lists, got shapes {x.shape} and {y.shape}."
        )
    return x, y
