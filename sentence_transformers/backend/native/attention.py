"""Self-attention over packed sequences: sequences of equal length run as one dense call, so nothing is masked away.

A mask exists only where the network itself asks for one: a local window, or MPNet's relative position bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.linear import normalise, scratch
from sentence_transformers.backend.native.weights import Layer
from sentence_transformers.ops.tokens import Group

Rotation = tuple[Tensor, Tensor]  # cosines and sines, (N, head_width)


class Masks:
    """Attention masks of one batch, by sequence length and window; made once, used by all layers."""

    def __init__(self, spec: Spec, relative_bias: Tensor | None, like: Tensor) -> None:
        self.spec, self.relative_bias, self.like = spec, relative_bias, like
        self._made: dict[tuple[int, int | None], Tensor | None] = {}

    def get(self, length: int, window: int | None) -> Tensor | None:
        """(T, T) bool, True = visible; or (heads, T, T) float to add; None when nothing is hidden or added."""
        key = (length, window if window is not None and window < length else None)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, length: int, window: int | None) -> Tensor | None:
        if self.relative_bias is not None:
            return relative_position_bias(self.relative_bias, length).to(self.like.dtype)
        if window is None:
            return None
        place = torch.arange(length, device=self.like.device)
        distance = place[:, None] - place[None, :]  # query minus key
        visible = distance.abs() < window
        return visible & (distance >= 0) if self.spec.causal else visible


def relative_position_bias(table: Tensor, length: int, max_distance: int = 128) -> Tensor:
    """(heads, T, T) bias of T5 / MPNet: near distances have a bucket each, far ones share logarithmic buckets.

    table: (buckets, heads). Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1.
    """
    place = torch.arange(length, device=table.device)
    distance = place[:, None] - place[None, :]  # query minus key
    half = len(table) // 2
    exact = half // 2
    near = distance.abs()
    far = (
        exact + (torch.log(near.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)).long()
    )
    bucket = torch.where(near < exact, near, far.clamp(max=half - 1)) + (distance < 0) * half
    return table[bucket].permute(2, 0, 1)


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
) -> Tensor:
    """qkv (N, (heads + 2 kv_heads) * head_width) -> context (N, heads * head_width), perhaps in a scratch buffer."""
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
        mask = masks.get(group.length, window)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=spec.causal and mask is None)
        outputs.append(mixed.transpose(1, 2).reshape(-1, width))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, out=scratch.take("context", tokens, width, qkv))


def _parts(spec: Spec, layer: Layer, qkv: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
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
    if spec.kv_heads != spec.heads:
        key, value = (part.repeat_interleave(spec.heads // spec.kv_heads, dim=1) for part in (key, value))
    return query, key, value
