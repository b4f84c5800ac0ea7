"""Token embeddings in one of two layouts, and the few reductions that pooling is written in.

``Packed`` is what the engine computes with: all tokens of a batch behind one another, no padding.
``Padded`` is the (batch, tokens, width) form of the public features dict. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from sentence_transformers.ops.device import moved


@dataclass(frozen=True)
class Group:
    """A run of sequences of one length: rows ``[first, first + count)``, tokens ``[start, stop)``."""

    first: int
    count: int
    length: int
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.count * self.length


def groups_of(lengths: Sequence[int]) -> tuple[Group, ...]:
    """Cut a sequence of lengths into runs of equal neighbours."""
    groups: list[Group] = []
    first = start = 0
    for length, run in groupby(lengths):
        count = sum(1 for _ in run)
        groups.append(Group(first, count, length, start))
        first += count
        start += count * length
    return tuple(groups)


@dataclass(frozen=True)
class TokenIds:
    """The token ids of a batch without padding.

    ids: (N,) int64, all sequences one behind the other. lengths: B ints that sum to N.
    type_ids: (N,) int64 segment numbers, or None when they are all 0.
    visible: B ints, or None for all: only the first so many tokens of a sequence are looked at by others (the tokens
        behind them, which expand a query, look at those and at nothing else).
    """

    ids: Tensor
    lengths: tuple[int, ...]
    type_ids: Tensor | None = None
    visible: tuple[int, ...] | None = None

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(self.lengths)

    def positions(self) -> Tensor:
        """(N,) int64: the place of every token within its own sequence."""
        return positions_of(self.groups, self.ids.device)

    def to(self, device: torch.device) -> TokenIds:
        types = None if self.type_ids is None else moved(self.type_ids, device)
        return TokenIds(moved(self.ids, device), self.lengths, types, self.visible)


def positions_of(groups: Sequence[Group], device: torch.device) -> Tensor:
    if device.type == "cuda" and len(groups) > 1:  # one copy instead of a kernel or two for every length
        return moved(positions_of(groups, torch.device("cpu")), device)
    parts = [torch.arange(g.length, device=device).repeat(g.count) for g in groups[1:]]
    if not groups:
        return torch.empty(0, dtype=torch.int64, device=device)
    first = torch.arange(groups[0].length, device=device)  # alone, this is the whole of a single query
    first = first if groups[0].count == 1 else first.repeat(groups[0].count)
    return torch.cat([first, *parts]) if parts else first


@dataclass(frozen=True)
class Packed:
    """Token vectors without padding. values: (N, D) float; lengths: B ints that sum to N."""

    values: Tensor
    lengths: tuple[int, ...]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(self.lengths)

    def _blocks(self, values: Tensor) -> Iterator[Tensor]:
        """One dense (count, length, ...) view for each run of equal lengths."""
        for g in self.groups:
            yield values[g.start : g.stop].view(g.count, g.length, *values.shape[1:])

    def replace(self, values: Tensor) -> Packed:
        return Packed(values, self.lengths)

    def positions(self) -> Tensor:
        """(N,) int64: the place of every token within its own sequence."""
        return positions_of(self.groups, self.values.device)

    def sum(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted sum over tokens. weights: (N,) float or None (ones). Returns (B, D) and the weight sums (B, 1)."""
        width = self.values.shape[-1]
        if not self.lengths:
            return self.values.new_zeros(0, width), self.values.new_zeros(0, 1)
        if weights is None:
            total = torch.cat([block.sum(1) for block in self._blocks(self.values)])
            counts = torch.tensor(self.lengths, dtype=total.dtype, device=total.device)[:, None]
            return total, counts
        weights = weights.to(self.values.dtype)
        total = torch.cat([block.sum(1) for block in self._blocks(self.values * weights[:, None])])
        return total, torch.cat([block.sum(1) for block in self._blocks(weights[:, None])])

    def mean(self) -> Tensor:
        """(B, D): the mean over tokens; zeros for a sequence without tokens."""
        parts = [block.mean(1) if block.shape[1] else block.sum(1) for block in self._blocks(self.values)]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else self.values.new_zeros(0, self.values.shape[-1])

    def max(self) -> Tensor:
        """(B, D): the largest value of every dimension; -inf for a sequence without tokens."""
        parts = []
        for group, block in zip(self.groups, self._blocks(self.values), strict=True):
            empty = self.values.new_full((group.count, self.values.shape[-1]), -torch.inf)
            parts.append(block.amax(1) if group.length else empty)
        return torch.cat(parts) if parts else self.values.new_zeros(0, self.values.shape[-1])

    def take(self, end: str) -> Tensor:
        """(B, D): the ``"first"`` or ``"last"`` token of every sequence; zeros for a sequence without tokens."""
        at = 0 if end == "first" else -1
        parts = []
        for group, block in zip(self.groups, self._blocks(self.values), strict=True):
            parts.append(block[:, at] if group.length else self.values.new_zeros(group.count, block.shape[-1]))
        return torch.cat(parts) if parts else self.values.new_zeros(0, self.values.shape[-1])

    def drop_first(self, count: int) -> Packed:
        """Without the first ``count`` tokens of every sequence."""
        blocks = [block[:, count:].reshape(-1, block.shape[-1]) for block in self._blocks(self.values)]
        lengths = tuple(max(0, length - count) for length in self.lengths)
        return Packed(torch.cat(blocks) if blocks else self.values, lengths)

    def rows(self) -> list[Tensor]:
        """B tensors (T_i, D)."""
        return list(torch.split(self.values, list(self.lengths)))

    def pad(self) -> Padded:
        """The padded form; padding is zero and stands on the right."""
        if not self.lengths:
            return Padded(self.values.new_zeros(0, 0, self.values.shape[-1]), self.values.new_zeros(0, 0))
        width = max(self.lengths)
        values = self.values.new_zeros(len(self.lengths), width, self.values.shape[-1])
        mask = torch.zeros(len(self.lengths), width, dtype=torch.int64, device=self.values.device)
        for group, block in zip(self.groups, self._blocks(self.values), strict=True):
            values[group.first : group.first + group.count, : group.length] = block
            mask[group.first : group.first + group.count, : group.length] = 1
        return Padded(values, mask)


@dataclass(frozen=True)
class Padded:
    """Token vectors with padding on either side. values: (B, T, D) float; mask: (B, T), 1 for a real token."""

    values: Tensor
    mask: Tensor

    def replace(self, values: Tensor) -> Padded:
        return Padded(values, self.mask)

    def positions(self) -> Tensor:
        """(B, T) int64: the place of every real token among the real tokens of its sequence (padding: arbitrary)."""
        return (self.mask.to(torch.int64).cumsum(1) - 1).clamp(min=0)

    def sum(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted sum over real tokens. weights: (B, T) float or None. Returns (B, D) and the weight sums (B, 1)."""
        mask = self.mask.to(self.values.dtype)
        scale = mask if weights is None else mask * weights.to(self.values.dtype)
        return (self.values * scale[..., None]).sum(1), scale.sum(1, keepdim=True)

    def max(self) -> Tensor:
        """(B, D): the largest value of every dimension over real tokens; -inf where there are none."""
        return self.values.masked_fill(self.mask[..., None] == 0, -torch.inf).amax(1)

    def take(self, end: str) -> Tensor:
        """(B, D): the ``"first"`` or ``"last"`` real token; zeros where there are none."""
        real = self.mask != 0
        width = real.shape[1]
        index = real.int().argmax(1) if end == "first" else width - 1 - real.flip(1).int().argmax(1)
        chosen = self.values[torch.arange(len(index), device=index.device), index]
        return chosen * real.any(1, keepdim=True).to(chosen.dtype)

    def drop_first(self, count: int) -> Padded:
        """Without the first ``count`` real tokens of every sequence (the mask is copied, not changed)."""
        kept = (self.mask != 0) & (self.mask.to(torch.int64).cumsum(1) > count)
        return Padded(self.values, kept.to(self.mask.dtype))

    def rows(self) -> list[Tensor]:
        """B tensors (T_i, D): real tokens only."""
        return [row[keep] for row, keep in zip(self.values, self.mask != 0, strict=True)]

    def pack(self) -> Packed:
        """The packed form: real tokens only, in order."""
        real = self.mask != 0
        return Packed(self.values[real], tuple(real.sum(1).tolist()))


Tokens = Packed | Padded
