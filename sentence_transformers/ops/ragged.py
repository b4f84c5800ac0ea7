"""Rows of several items in one block: token vectors of many inputs, without padding. Knows nothing of scores.

Where ``ops.tokens.Packed`` is what modules compute with, ``Ragged`` is what is kept: tensor or array, sliced by item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

Values = TypeVar("Values", Tensor, "np.ndarray[Any, Any]")


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[Values]):
    """n items of different length in one block.

    Args:
        values: (N, D), the rows of all items one behind the other.
        offsets: (n + 1,) int64, ascending from 0 to N: item i is ``values[offsets[i] : offsets[i + 1]]``.

    Items and slices (of step 1) are views. ``ops.maxsim`` takes it for a list of items.
    Raises: ValueError if the offsets do not fit the values.
    """

    values: Values
    offsets: np.ndarray[Any, np.dtype[np.int64]]

    def __post_init__(self) -> None:
        offsets = np.asarray(self.offsets, dtype=np.int64)
        object.__setattr__(self, "offsets", offsets)
        ascending = offsets.ndim == 1 and len(offsets) > 0 and bool((np.diff(offsets) >= 0).all())
        if not ascending or offsets[0] != 0 or offsets[-1] != len(self.values):
            raise ValueError(
                f"offsets must ascend from 0 to the number of rows, {len(self.values)}; got {offsets!r:.200}."
            )

    @classmethod
    def of(cls, items: Sequence[Values]) -> Ragged[Values]:
        """Copy a list of at least one (t_i, D) tensors, or arrays, into one block.

        Raises: ValueError if there are no items, or if they are not matrices of one width.
        """
        if len(items) == 0:
            raise ValueError("Ragged.of() needs at least one item, got none: their width would not be known.")
        shapes = {tuple(item.shape[1:]) for item in items}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"All items must be (tokens, width) with one width, got items {sorted(shapes)} wide.")
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in items], out=offsets[1:])
        parts: list[Any] = list(items)
        block: Any = torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)
        return cls(block, offsets)

    def __len__(self) -> int:
        """n."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, at: int) -> Values: ...

    @overload
    def __getitem__(self, at: slice) -> Ragged[Values]: ...

    def __getitem__(self, at: int | slice) -> Values | Ragged[Values]:
        """An item, (t_i, D), or some of them."""
        if isinstance(at, slice):
            return self._slice(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"There are {len(self)} items, got the index {at}.")
        at = at % len(self)
        return self.values[int(self.offsets[at]) : int(self.offsets[at + 1])]

    def __iter__(self) -> Iterator[Values]:
        return iter(self.to_list())

    def to_list(self) -> list[Values]:
        """The n items, (t_i, D) each."""
        places = self.offsets.tolist()
        return [self.values[start:stop] for start, stop in zip(places, places[1:], strict=False)]

    def _slice(self, at: slice) -> Ragged[Values]:
        start, stop, step = at.indices(len(self))
        if step != 1:
            raise ValueError(f"Items are taken with step 1, got {at}.")
        offsets = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])
