"""Self-attention over packed sequences: sequences of equal length run as one dense call, so nothing is masked away.

A mask exists only where the network itself asks for one: a local window, or MPNet's relative position bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.linear import normalise, scratch
from sentence_transformers.backend.native.varlen import Whole
from sentence_transformers.backend.native.weights import Layer
from sentence_transformers.ops.device import moved
from sentence_transformers.ops.tokens import Group, TokenIds

Rotation = tuple[Tensor, Tensor]  # cosines and sines, (N, head_width)
End = Literal["first", "last"]  # of a sequence


class Masks:
    """Attention masks of one batch, by group of sequences and window; made once, used by all layers."""

    def __init__(self, spec: Spec, relative_bias: Tensor | None, tokens: TokenIds, like: Tensor) -> None:
        self.spec, self.relative_bias, self.visible, self.like = spec, relative_bias, tokens.visible, like
        self._made: dict[tuple[int, int | None], Tensor | None] = {}

    def get(self, group: Group, window: int | None) -> Tensor | None:
        """(T, T) bool, True = visible; or (heads, T, T) float to add; None when nothing is hidden or added.

        Either has one more dimension in front, the sequences, where some tokens are invisible.
        """
        length = group.length
        key = (length, window if window is not None and window < length else None)
        if key not in self._made:
            self._made[key] = self._make(*key)
        mask = self._made[key]
        if self.visible is None:
            return mask
        seen = torch.tensor(self.visible[group.first : group.first + group.count], device=self.like.device)
        keys = (torch.arange(length, device=self.like.device) < seen[:, None])[:, None, None]  # (count, 1, 1, T)
        if mask is None:
            return keys
        return mask & keys if mask.dtype is torch.bool else mask.masked_fill(~keys, -torch.inf)

    def _make(self, length: int, window: int | None) -> Tensor | None:
        if self.relative_bias is not None:
            return relative_position_bias(self.relative_bias, length).to(self.like.dtype)
        hides = self.visible is not None and self.spec.causal  # torch takes a mask or is_causal, not both
        if window is None and not hides:
            return None
        place = torch.arange(length, device=self.like.device)
        distance = place[:, None] - place[None, :]  # query minus key
        visible = distance.abs() < (length if window is None else window)
        return visible & (distance >= 0) if self.spec.causal else visible


def relative_position_bias(table: Tensor, length: int) -> Tensor:
    """(heads, T, T) bias of T5 / MPNet. table: (buckets, heads)."""
    return table[relative_buckets(length, len(table), table.device)].permute(2, 0, 1)


def relative_buckets(length: int, buckets: int, device: torch.device, max_distance: int = 128) -> Tensor:
    """(T, T) rows of the table: near distances have a bucket each, far ones share logarithmic buckets.

    Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1.
    """
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]  # query minus key
    half = buckets // 2
    exact = half // 2
    near = distance.abs()
    far = (
        exact + (torch.log(near.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)).long()
    )
    return torch.where(near < exact, near, far.clamp(max=half - 1)) + (distance < 0) * half


def rotations(thetas: Sequence[float], positions: Tensor, head_width: int, dtype: torch.dtype) -> dict[float, Rotation]:
    """Cosines and sines of every token, one pair for each base frequency in use.

    Source: Su et al. 2021 (RoFormer), https://arxiv.org/abs/2104.09864; halves rotated as in GPT-NeoX.
    """
    made = {}
    for theta in set(thetas):
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width
        angle = positions[:, None].float() * (1.0 / theta**exponent)
        angle = torch.cat((angle, angle), dim=-1)  # (N, head_width)
        made[theta] = (angle.cos().to(dtype), angle.sin().to(dtype))
    return made


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x (N, heads, head_width) turned by the angle of its token."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]


def attend(
    spec: Spec,
    layer: Layer,
    qkv: Tensor,
    groups: Sequence[Group],
    masks: Masks,
    window: int | None,
    rotation: Rotation | None,
    end: End | None = None,
    whole: Whole | None = None,
) -> Tensor:
    """qkv (N, (heads + 2 kv_heads) * head_width) -> context (N, heads * head_width), perhaps in a scratch buffer.

    With ``end``, the context of the first or last token of every sequence only: (B, heads * head_width).
    With ``whole``, all sequences in one call.
    """
    if whole is not None:
        mixed = whole.attend(*_parts(spec, layer, qkv, rotation, whole.repeats), window)
        if end is None:
            return mixed
        return ends(mixed, [group.length for group in groups for _ in range(group.count)], end)
    tokens, width = qkv.shape[0], spec.heads * spec.head_width
    plain = rotation is None and layer.query_norm is None and spec.kv_heads == spec.heads
    parts = () if plain else _parts(spec, layer, qkv, rotation)
    outputs = [qkv.new_empty(0, width)] if not tokens else []
    for group in groups:
        if group.length == 0:  # a text without a single token
            continue
        rows, shape = slice(group.start, group.stop), (group.count, group.length)
        if plain:
            q, k, v = qkv[rows].view(*shape, 3, spec.heads, spec.head_width).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (part[rows].view(*shape, spec.heads, spec.head_width).transpose(1, 2) for part in parts)
        mask, causal = masks.get(group, window), spec.causal
        if end is not None:
            place = slice(0, 1) if end == "first" else slice(group.length - 1, None)
            q, mask = q[:, :, place], None if mask is None else mask[..., place, :]
            causal = causal and end == "first"  # the last token sees all, and torch counts from the first
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None)
        outputs.append(mixed.transpose(1, 2).reshape(-1, width))
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs, out=scratch.take("context", sum(map(len, outputs)), width, qkv))


def ends(x: Tensor, lengths: Sequence[int], end: End) -> Tensor:
    """(N, width) -> (B, width): the first or last token of every sequence."""
    stops = torch.tensor(lengths).cumsum(0)
    rows = stops - 1 if end == "last" else torch.cat((stops.new_zeros(1), stops[:-1]))
    return x[moved(rows, x.device)]


def _parts(
    spec: Spec, layer: Layer, qkv: Tensor, rotation: Rotation | None, repeats: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each (N, heads, head_width): normed, rotated, shared keys and values repeated."""
    sizes = (spec.heads, spec.kv_heads, spec.kv_heads)
    query, key, value = (
        part.view(-1, heads, spec.head_width)
        for part, heads in zip(qkv.split_with_sizes([n * spec.head_width for n in sizes], -1), sizes, strict=True)
    )
    if layer.query_norm is not None and layer.key_norm is not None:
        query = normalise(query, layer.query_norm, spec.norm, spec.epsilon)
        key = normalise(key, layer.key_norm, spec.norm, spec.epsilon)
    if rotation is not None:
        query, key = rotate(query, rotation), rotate(key, rotation)
    if repeats and spec.kv_heads != spec.heads:
        key, value = (part.repeat_interleave(spec.heads // spec.kv_heads, dim=1) for part in (key, value))
    return query, key, value
