"""A quick look at a wide product in half precision: which of its numbers may matter, with certainty.

Processors with matrix units for bfloat16 multiply it many times faster than float32. Its errors have a bound, so what
stays below a bar, or below the best, by more than that need not be computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .tokens import Packed

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

ROUNDING = 2.0**-8
"""Largest relative error of a number rounded to bfloat16, which has 8 significant bits."""
SUMS = 2.0**-22
"""Of two sums in float32, of exact and of rounded products, for each term (Higham 2002, Accuracy and Stability of
Numerical Algorithms, section 3.1): half of it, and as much again for the bound itself, which is computed in float32."""
ROWS = 4096
"""So many rows of a matrix are rounded at once."""
GROUP = 16
"""Of so many products, spread over a row, first only the largest is looked at."""
LOOK = 1024
"""Rows of products that are compared with the bar at once: what is noted of them stays in a cache."""
LEAST = 2.0**-100
"""Products below are not trusted: matrix units take the smallest numbers for zero."""


@cache
def is_worthwhile() -> bool:
    """Whether this processor multiplies bfloat16 much faster than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that is supported
    return capabilities is not None and bool(capabilities().get("amx_bf16"))


@dataclass(frozen=True)
class Rounded:
    """Rows in half precision, and what that cost.

    values: (n, D) bfloat16. lengths: (n,) of the rows before. losses: (n,) lengths of what rounding took away.
    """

    values: Tensor
    lengths: Tensor
    losses: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Rounded:
        """Of (n, D) float32."""
        values = torch.empty_like(rows, dtype=torch.bfloat16)
        lengths, losses = rows.new_empty(len(rows)), rows.new_empty(len(rows))
        for start in range(0, len(rows), ROWS):
            at = slice(start, start + ROWS)
            values[at] = rows[at]
            torch.linalg.vector_norm(rows[at], dim=1, out=lengths[at])
            torch.linalg.vector_norm(rows[at] - values[at], dim=1, out=losses[at])
        return cls(values, lengths, losses)

    def split(self, rows: int) -> Iterator[Rounded]:
        """So many rows after the other."""
        parts = (torch.split(part, rows) for part in (self.values, self.lengths, self.losses))
        return (Rounded(*part) for part in zip(*parts, strict=True))


def bound(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], width: int) -> Tensor:
    """How far the dot product of two rounded rows is at most from that of the rows, before it is rounded itself.

    x y - x' y' = (x - x') y + x' (y - y'), each at most as large as the lengths of its two factors multiplied
    (Cauchy-Schwarz).

    Args:
        one, other: lengths and losses, of shapes that fit each other. width: D.
    """
    (left, left_losses), (right, right_losses) = one, other
    return (left_losses + SUMS * width * left) * right + (left + left_losses) * right_losses


@dataclass(frozen=True)
class Screen:
    """A (V, D) float32 matrix rounded, whose columns of products with tokens are compared with a bar."""

    rounded: Rounded

    @classmethod
    def of(cls, weight: Tensor) -> Screen:
        return cls(Rounded.of(weight))

    @property
    def lengths(self) -> Tensor:
        """(V,) of the rows."""
        return self.rounded.lengths

    def may_exceed(self, tokens: Packed, bar: Tensor, columns: int) -> Tensor:
        """Which columns of ``tokens @ weight.T`` may have a number above the bar among the tokens of a sequence.

        Args:
            tokens: (N, D) float32. bar: (V,). columns: how many to compute at a time.

        Returns: (B, V) bool; surely True where there is one, mostly False where there is none.
        """
        rounded, weight = Rounded.of(tokens.values), self.rounded
        longest, lost = (Packed(some[:, None], tokens.lengths).max() for some in (rounded.lengths, rounded.losses))
        found = []
        for start in range(0, len(weight.values), columns):
            at = slice(start, start + columns)
            highest = tokens.replace(F.linear(rounded.values, weight.values[at])).max().float()  # (B, columns)
            # before it was rounded it may have been larger: away from zero, or towards it
            highest = torch.maximum(highest * (1 + 1.01 * ROUNDING), highest * (1 - ROUNDING))
            slack = bound((longest, lost), (weight.lengths[at], weight.losses[at]), tokens.values.shape[1])
            found.append(highest + slack > bar[at])
        return torch.cat(found, dim=1)


@dataclass(frozen=True)
class Shortlist:
    """For each of q rows some of n columns. Column after column: so the corpus is read once, and in order.

    starts: (n + 1,) int64: column j is listed for the rows from ``starts[j]`` to before ``starts[j + 1]``. columns,
    rows: (m,) int64, of all pairs; rows ascend in each column. open_rows: (u,) int64, for which nothing could be told:
    they have no pair.
    """

    starts: Array
    columns: Array
    rows: Array
    open_rows: Array


class Shortlister:
    """Finds what may be among the best of a row of products.

    Args:
        corpus: (n, D). rows: of a call, at most; space for their products is kept.
    """

    def __init__(self, corpus: Rounded, rows: int) -> None:
        count = len(corpus.values)
        self.corpus = corpus
        self.sizes = (corpus.lengths.amax(), corpus.losses.amax())
        self.products = torch.empty(count * rows, dtype=torch.bfloat16)

    def __call__(self, queries: Rounded, limit: int) -> Shortlist:
        """The columns of ``queries @ corpus.T`` that may be among the ``limit`` largest of their row, or equal to them.

        Args:
            limit: at most n // GROUP. Only rows with so many positive products, and others that are not much less than
                the best, have a list: a sixteenth of n is the most.
        """
        rows, count = len(queries.values), len(self.corpus.values)
        products = self.products[: count * rows].view(count, rows)
        torch.mm(self.corpus.values, queries.values.t(), out=products)  # the other way round takes twice as long
        bits = products.view(torch.int16)  # positive numbers are in the order of their bits, and above negative ones
        groups = count // GROUP
        highest = bits[: groups * GROUP].view(GROUP, groups, rows).amax(0).t().contiguous().numpy()
        # the ``limit`` best are at least as large as so many groups have: before rounding, as the next smaller number
        least = torch.from_numpy(np.partition(highest, groups - limit, axis=1)[:, groups - limit] - 1)
        slack = bound((queries.lengths, queries.losses), self.sizes, queries.values.shape[1])
        bar = least.view(torch.bfloat16).float() - 2 * slack  # not a number where no product is positive
        is_told = bar >= LEAST
        bar_bits = torch.where(is_told, (bar.view(torch.int32) >> 16).to(torch.int16), torch.iinfo(torch.int16).max)
        return _shortlist(_reaching(bits.numpy(), bar_bits.numpy()), is_told.numpy(), count)


def _reaching(bits: Array, bar: Array) -> Array:
    """The places in (n, q) of the numbers that are at least those of (q,), one row after the other."""
    reaches = np.empty((min(LOOK, len(bits)), len(bar)), dtype=bool)
    found = []
    for start in range(0, len(bits), LOOK):
        some = bits[start : start + LOOK]
        np.greater_equal(some, bar, out=reaches[: len(some)])
        found.append(np.flatnonzero(reaches[: len(some)]) + start * len(bar))
    return np.concatenate(found)


def _shortlist(places: Array, is_told: Array, count: int) -> Shortlist:
    """From the places in ``count`` columns, one after the other; rows with very many of them become open."""
    columns, rows = np.divmod(places, len(is_told))
    counts = np.bincount(rows, minlength=len(is_told))
    is_open = ~is_told | (counts > count // GROUP)
    if (counts[is_open] > 0).any():
        is_kept = ~is_open[rows]
        columns, rows = columns[is_kept], rows[is_kept]
    return Shortlist(np.searchsorted(columns, np.arange(count + 1)), columns, rows, np.flatnonzero(is_open))
