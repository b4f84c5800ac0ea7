"""Self-attention over packed sequences with gradients and dropout, for CPUs.

Sequences stand in order of their length. Neighbours of nearly one length are computed together, in a block that is
padded to the longest of them; a long one is computed alone, so that its scores stay in the cache of the processor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.dropout import kept, scale

SPARE = 2**16
"""Scores that may be computed in vain rather than have one more block: about as many as its calls take time for."""
LARGE = 2**20
"""Scores of a block, above which no further sequence is added to it."""
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Block:
    """``count`` sequences, their tokens [start, stop), each padded to ``width``.

    places: (stop - start,) where the tokens stand among the count * width of the block; None: nothing is padded.
    seen: (count,) how many tokens of each sequence are looked at; None: all of the width.
    """

    start: int
    stop: int
    count: int
    width: int
    places: Tensor | None
    seen: Tensor | None

    def pad(self, rows: Tensor) -> Tensor:
        """(stop - start, heads, head_width) -> (count, heads, width, head_width), zero where there is padding."""
        if self.places is not None:
            rows = rows.new_zeros(self.count * self.width, *rows.shape[1:]).index_copy_(0, self.places, rows)
        return rows.view(self.count, self.width, *rows.shape[1:]).transpose(1, 2)

    def rows(self, block: Tensor) -> Tensor:
        """The way back, from (count, heads, width, head_width)."""
        rows = block.transpose(1, 2).flatten(0, 1)
        return rows if self.places is None else rows[self.places]

    def take(self, x: Tensor) -> Tensor:
        """Out of (N, heads, head_width): (count * heads, width, head_width), as products want it."""
        block = self.pad(x[self.start : self.stop])
        return block[0] if self.count == 1 else block.reshape(-1, *block.shape[2:])

    def put(self, block: Tensor, into: Tensor) -> None:
        """The way back: write a block into its rows of (N, heads, head_width)."""
        into[self.start : self.stop] = self.rows(block.view(self.count, -1, *block.shape[1:]))


@dataclass(frozen=True)
class Blocks:
    """The blocks of a batch, and what is masked in them."""

    blocks: tuple[Block, ...]
    causal: bool
    like: Tensor
    _made: dict[tuple[int, int | None, bool], Tensor | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls, lengths: Sequence[int], visible: Sequence[int] | None, heads: int, causal: bool, like: Tensor
    ) -> Blocks:
        """Cut sequences, of ascending lengths above 0, into blocks.

        Args:
            visible: how many tokens of each are looked at; None: all.
            like: a tensor of the type and device to compute with.
        """
        blocks, start = [], 0
        for first, end in cut(lengths, heads):
            some, width = lengths[first:end], lengths[end - 1]
            real = sum(some)
            places = seen = None
            if real < width * len(some):
                place = torch.arange(width, device=like.device)
                places = (place < torch.tensor(some, device=like.device)[:, None]).view(-1).nonzero()[:, 0]
            if visible is not None or places is not None:
                seen = torch.tensor((visible or lengths)[first:end], device=like.device)
            blocks.append(Block(start, start + real, len(some), width, places, seen))
            start += real
        return cls(tuple(blocks), causal, like)

    def mask(self, at: int, window: int | None, with_causal: bool) -> Tensor | None:
        """What is added to the scores of block ``at``: (count or 1, 1, width or 1, width), 0 or next to -inf; None for
        nothing.

        Args:
            window: a token sees those at a smaller distance; None: all.
            with_causal: the mask hides what comes later, where the network does; else the caller sees to that.
        """
        block = self.blocks[at]
        window = window if window is not None and window < block.width else None
        key = (at, window, with_causal)
        if key not in self._made:
            self._made[key] = self._make(block, window, with_causal and self.causal)
        return self._made[key]

    def _make(self, block: Block, window: int | None, causal: bool) -> Tensor | None:
        place = torch.arange(block.width, device=self.like.device)
        distance = place[:, None] - place[None, :]  # query minus key
        hidden = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=self.like.device)
        if block.seen is not None:
            hidden = hidden | (place >= block.seen[:, None])[:, None, None]
        if window is not None:
            hidden = hidden | (distance.abs() >= window)
        if causal:
            hidden = hidden | (distance < 0)
        if hidden.numel() == 1:
            return None
        # not -inf: a token may see nothing at all, as padding does in a window
        lowest = torch.finfo(self.like.dtype).min / 2
        return torch.zeros_like(hidden, dtype=self.like.dtype).masked_fill_(hidden, lowest)


def cut(lengths: Sequence[int], heads: int) -> Iterator[tuple[int, int]]:
    """Cut ascending lengths into blocks: (first, end) of each."""
    first = wanted = 0
    for at, length in enumerate(lengths):
        scores = heads * (at + 1 - first) * length**2
        if at > first and (scores > LARGE or scores - heads * (wanted + length**2) > SPARE):
            yield first, at
            first, wanted = at, 0
        wanted += length**2
    if len(lengths) > first:
        yield first, len(lengths)


def attend(
    q: Tensor, k: Tensor, v: Tensor, blocks: Blocks, window: int | None, rate: float, bias: Tensor | None
) -> Tensor:
    """Attention within each sequence: (N, heads, head_width) of queries, keys and values -> (N, heads * head_width).

    Args:
        rate: of the dropout of attention weights.
        bias: (heads, T, T), added to the scores; T is at least the longest sequence.
    """
    q, k = q.to(v.dtype), k.to(v.dtype)  # rotations are float32 under autocast
    if rate or bias is not None:
        saves = torch.is_grad_enabled()
        out: Tensor = _Weighed.apply(q, k, v, bias, blocks, window, rate, saves)  # type: ignore[no-untyped-call]
    else:
        out = _plain(q, k, v, blocks, window)
    return out.flatten(1)


def _plain(q: Tensor, k: Tensor, v: Tensor, blocks: Blocks, window: int | None) -> Tensor:
    """Attention as torch computes it, which does not keep the weights."""
    if not blocks.blocks:
        return v
    sizes, found = [block.stop - block.start for block in blocks.blocks], []
    # not slices: the gradient of each would be added to as many zeros as the whole has numbers
    parts = zip(*(torch.split(x, sizes) for x in (q, k, v)), strict=True)
    for at, (block, rows) in enumerate(zip(blocks.blocks, parts, strict=True)):
        mask = blocks.mask(at, window, with_causal=window is not None or block.seen is not None)
        some = [block.pad(x) for x in rows]
        causal = blocks.causal and mask is None
        mixed = F.scaled_dot_product_attention(some[0], some[1], some[2], attn_mask=mask, is_causal=causal)
        found.append(block.rows(mixed))
    return torch.cat(found)


class _Weighed(torch.autograd.Function):
    """Attention whose weights are kept: with dropout, or with a bias that is trained."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        blocks: Blocks,
        window: int | None,
        rate: float,
        saves: bool,
    ) -> Tensor:
        out, weights = torch.empty_like(v), []
        factor = 1 / math.sqrt(q.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            for at, block in enumerate(blocks.blocks):
                scores = _product(block.take(q), block.take(k).transpose(1, 2), factor)
                scores = scores.float() if scores.dtype in HALF else scores
                whole = scores.view(block.count, -1, block.width, block.width)
                if bias is not None:
                    whole += bias[:, : block.width, : block.width]
                mask = blocks.mask(at, window, with_causal=True)
                if mask is not None:
                    whole += mask
                sure = scores.softmax(-1).to(v.dtype)
                left = sure * kept(sure.shape, rate, sure.dtype) if rate else sure
                block.put(torch.bmm(left, block.take(v)), out)
                if saves:
                    weights += [sure, left]
            if rate:
                out *= scale(rate)
        if saves:
            ctx.save_for_backward(q, k, v, bias, out, *weights)
            ctx.blocks, ctx.rate = blocks, rate
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        """With p the weights, d those left by dropout, s its scale, g the gradient of the output o of one query:
        the gradient of the scores is p * (d / p * s * (g V^T) - g . o), as the sum over a row of d * s * (g V^T) is
        g . o. Source: Dao et al. 2022 (FlashAttention), https://arxiv.org/abs/2205.14135, appendix B.2.
        """
        q, k, v, bias, out, *weights = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        (gradient,) = gradients
        found = [torch.empty_like(x) for x in (q, k, v)]
        of_bias = None if bias is None else torch.zeros_like(bias)
        factor = 1 / math.sqrt(q.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            along = (gradient * out).sum(-1, keepdim=True)  # (N, heads, 1)
            gradient = gradient * scale(ctx.rate) if ctx.rate else gradient
            for block, sure, left in zip(blocks.blocks, weights[::2], weights[1::2], strict=True):
                taken = block.take(gradient)
                block.put(torch.bmm(left.transpose(1, 2), taken), found[2])
                scores = torch.bmm(taken, block.take(v).transpose(1, 2)).mul_(left)
                scores.addcmul_(sure, block.take(along), value=-1)
                block.put(_product(scores, block.take(k), factor), found[0])
                block.put(_product(scores.transpose(1, 2), block.take(q), factor), found[1])
                if of_bias is not None:
                    width = block.width
                    of_bias[:, :width, :width] += scores.view(block.count, -1, width, width).sum(0)
        return *found, of_bias, None, None, None, None


def _product(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """factor * left @ right, of (n, a, b) and (n, b, c)."""
    return torch.baddbmm(left.new_empty(1, 1, 1), left, right, beta=0, alpha=factor)
