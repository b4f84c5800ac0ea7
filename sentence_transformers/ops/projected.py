"""Token vectors whose last, very wide matrix product is put off: who reduces over tokens does so block by block.

A masked-LM head gives 30,522 numbers a token. All of them at once are 250 MB for 2,048 tokens, and nobody wants them:
SPLADE wants the largest of every column. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .screen import Screen
from .tokens import Packed

BLOCK_ELEMENTS = 2**20
"""How many products are held at once: a block that a core reads again while it is still in its cache."""

MOST_CHOSEN = 1 / 8
"""Above this share of columns that a screen lets pass, computing all of them is as quick."""


@dataclass(frozen=True)
class Projected:
    """``tokens @ weight.T + bias``, (N, V), not computed yet.

    tokens: (N, D) in packed layout; weight: (V, D); bias: (V,) or None. screen: of ``weight``, where there is one.
    """

    tokens: Packed
    weight: Tensor
    bias: Tensor | None = None
    screen: Screen | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.tokens.lengths

    @property
    def width(self) -> int:
        """V."""
        return self.weight.shape[0]

    @property
    def _columns(self) -> int:
        """How many columns make a block."""
        return max(256, BLOCK_ELEMENTS // max(1, len(self.tokens.values)))

    def whole(self) -> Packed:
        """All products at once, (N, V)."""
        return self.tokens.replace(F.linear(self.tokens.values, self.weight, self.bias))

    def blocks(self, columns: int | None = None) -> Iterator[tuple[slice, Packed]]:
        """The products of some columns after the other: the columns, and their (N, columns) values.

        Args:
            columns: how many at a time; None: as many as ``BLOCK_ELEMENTS`` allows.
        """
        x, step = self.tokens.values, columns or self._columns
        for start in range(0, self.width, step):
            at = slice(start, min(start + step, self.width))
            yield at, self.tokens.replace(F.linear(x, self.weight[at], None if self.bias is None else self.bias[at]))

    def max(self) -> Tensor:
        """(B, V): the largest product of every column over the tokens of a sequence; -inf without tokens."""
        out = self.tokens.values.new_empty(len(self.lengths), self.width)
        for at, products in Projected(self.tokens, self.weight).blocks():
            out[:, at] = products.max()
        return out if self.bias is None else out.add_(self.bias)  # a sum rounds monotonely: no need to add it before

    def max_above(self, bar: float) -> Tensor:
        """(B, V): ``max()`` where that is above the bar; elsewhere the bar, or what is below it."""
        if self.screen is None:
            return self.max()
        bars = torch.full_like(self.screen.lengths, bar)
        chosen = self.screen.may_exceed(self.tokens, bars if self.bias is None else bars - self.bias, self._columns)
        if chosen.count_nonzero() > MOST_CHOSEN * chosen.numel():
            return self.max()
        out = self.tokens.values.new_full(chosen.shape, bar)
        for row, tokens, columns in zip(out, self.tokens.rows(), chosen, strict=True):
            at = columns.nonzero().squeeze(1)
            if len(tokens) and len(at):
                highest = F.linear(tokens, self.weight[at]).amax(0)
                row[at] = highest if self.bias is None else highest + self.bias[at]
        return out


def at_places(value: Any, real: Tensor) -> Any:
    """Packed vectors of the N real places of a (B, T) mask -> (B, T, D), zero elsewhere; all else as it is."""
    if isinstance(value, Projected):
        value = value.whole()
    if not isinstance(value, Packed):
        return value
    out = value.values.new_zeros(*real.shape, value.values.shape[-1])
    out[real] = value.values
    return out
