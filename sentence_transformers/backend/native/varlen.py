"""Attention over a whole packed batch at once, whatever its lengths: for GPUs, where a call for each length is slow.

Half precision takes torch's variable-length flash attention; else the batch is padded for attention alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.families import Spec
from sentence_transformers.ops.device import moved
from sentence_transformers.ops.tokens import TokenIds

DEVICES = ("cuda",)
FEW = 4  # lengths in a batch up to which a call for each is not worse
HALF = (torch.float16, torch.bfloat16)
WIDEST_HEAD = 256  # of flash attention


class Whole(Protocol):
    """Attention of one batch."""

    @property
    def repeats(self) -> bool:
        """Whether keys and values are to be given for every head of the queries."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """(N, heads, head_width) each -> (N, heads * head_width). window: keys at smaller distance are seen."""


def whole_batch(spec: Spec, tokens: TokenIds, like: Tensor) -> Whole | None:
    """What computes the attention of a batch at once; None where a call for each length is better, or has to be.

    Args:
        like: hidden states of the batch.
    """
    odd = spec.relative_buckets or tokens.visible is not None or 0 in tokens.lengths or not tokens.lengths
    if like.device.type not in DEVICES or odd:
        return None
    fits = like.dtype in HALF and spec.head_width % 8 == 0 and spec.head_width <= WIDEST_HEAD
    flash = _flash() if fits else None
    if flash is not None:
        return Flash(flash, _starts(tokens, like.device), max(tokens.lengths), spec.causal)
    return Masked.of(tokens, like.device, spec.causal) if len(tokens.groups) > FEW else None


def _flash() -> Callable[..., Any] | None:
    """``torch.nn.attention.varlen.varlen_attn``; None in a torch without it."""
    try:
        found: Callable[..., Any] = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    return found


def _starts(tokens: TokenIds, device: torch.device) -> Tensor:
    """(B + 1,) int32: where sequences begin, and the end."""
    if len(tokens.groups) == 1:  # nothing to copy, so that a forward of it can be recorded
        return torch.arange(len(tokens.lengths) + 1, dtype=torch.int32, device=device) * tokens.lengths[0]
    return moved(F.pad(torch.tensor(tokens.lengths).cumsum(0), (1, 0)).to(torch.int32), device)


@dataclass(frozen=True)
class Flash:
    """Variable-length flash attention: nothing is padded.

    function: ``varlen_attn``. starts: (B + 1,) int32. longest: of the sequences.
    """

    function: Callable[..., Any]
    starts: Tensor
    longest: int
    causal: bool
    repeats: bool = False

    def attend(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        left = -1 if window is None or window > self.longest else window - 1
        mixed: Tensor = self.function(
            query,
            key,
            value,
            self.starts,
            self.starts,
            self.longest,
            self.longest,
            window_size=(left, 0 if self.causal else left),
            enable_gqa=key.shape[1] != query.shape[1],
        )
        return mixed.reshape(len(query), -1)


@dataclass(frozen=True)
class Masked:
    """Queries, keys and values padded to the longest sequence, and padding masked away.

    places: (N,) where the tokens stand among B * T. real: (B, T) bool.
    """

    places: Tensor
    real: Tensor
    causal: bool
    repeats: bool = True
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: TokenIds, device: torch.device, causal: bool) -> Masked:
        """Of a batch; the tables are made on the CPU and moved once."""
        lengths = torch.tensor(tokens.lengths)
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        return cls(moved(real.view(-1).nonzero()[:, 0], device), moved(real, device), causal)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        q, k, v = (self._padded(part) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(window))
        return mixed.transpose(1, 2).reshape(self.real.numel(), -1)[self.places]

    def _padded(self, part: Tensor) -> Tensor:
        """(N, heads, head_width) -> (B, heads, T, head_width)."""
        out = part.new_zeros(self.real.numel(), *part.shape[1:])
        return out.index_copy_(0, self.places, part).view(*self.real.shape, *part.shape[1:]).transpose(1, 2)

    def _mask(self, window: int | None) -> Tensor:
        """(B, 1, 1 or T, T) bool, True where a key is seen; the same for all layers of a window."""
        if window not in self._masks:
            seen = self.real[:, None, None]
            if window is not None or self.causal:
                place = torch.arange(self.real.shape[1], device=self.real.device)
                distance = place[:, None] - place  # query minus key
                near = distance.abs() < (len(place) if window is None else window)
                # a query of the padding that sees nothing would be nan, and it may as well see itself
                seen = (seen & (near & (distance >= 0) if self.causal else near)) | (distance == 0)
            self._masks[window] = seen
        return self._masks[window]
