"""Self-attention of a graph over padded batches: what is added to the scores, rotary positions, and the product itself.

The counterpart of ``native.attention``; padding is hidden by a large negative number, made once and used by all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sentence_transformers.backend.graphs.builder import MICROSOFT, Graph
from sentence_transformers.backend.graphs.steps import linear, rms
from sentence_transformers.backend.native.attention import relative_buckets
from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.weights import Layer, Linear, Norm, exact

HIDDEN = {torch.float32: -1e9, torch.float16: -1e4}  # finite: a row that is all padding must not become NaN
FAR = 128  # the distance from which on the relative bias stays the same

Rotation = tuple[str, str]  # cosines, and sines whose first half is negative: (T, 1, head_width)


@dataclass(frozen=True)
class Batch:
    """Values that all parts of a graph read.

    ids, mask, types: (B, T) int64. places: (T,) int64, 0 ... T - 1. length: (1,) int64, T.
    """

    ids: str
    mask: str
    types: str | None
    places: str
    length: str


class Biases:
    """What is added to the attention scores, by window: broadcasts to (B, heads, T, T). Drawn once."""

    def __init__(self, graph: Graph, spec: Spec, relative_bias: Tensor | None, batch: Batch) -> None:
        self.graph, self.spec, self.relative_bias, self.batch = graph, spec, relative_bias, batch
        self._made: dict[int | None, str] = {}
        self._keys = self._distance = ""

    def get(self, window: int | None) -> str:
        """``window``: a token sees keys at distance < window; None sees all."""
        if window not in self._made:
            with self.graph.scope("attention_bias"):
                self._made[window] = self._draw(window)
        return self._made[window]

    def hides_padding_only(self, window: int | None) -> bool:
        """Whether scores are left as they are between all tokens."""
        return window is None and self.relative_bias is None and not self.spec.causal

    def _draw(self, window: int | None) -> str:
        graph = self.graph
        if self.relative_bias is not None:
            return graph.add("Add", self._relative(self.relative_bias), self.keys())
        seen = [] if window is None else [graph.add("Less", graph.add("Abs", self.distance()), graph.integer(window))]
        if self.spec.causal:
            seen.append(graph.add("GreaterOrEqual", self.distance(), graph.integer(0)))
        if not seen:
            return self.keys()
        visible = seen[0] if len(seen) == 1 else graph.add("And", *seen)  # (T, T)
        return graph.add("Where", visible, self.keys(), graph.number(HIDDEN[graph.dtype]))  # (B, 1, T, T)

    def keys(self) -> str:
        """(B, 1, 1, T): hides padding."""
        if not self._keys:
            graph = self.graph
            real = graph.cast(graph.add("Unsqueeze", self.batch.mask, graph.ints(1, 2)), graph.dtype)
            padding = graph.add("Sub", graph.number(1), real)
            self._keys = graph.add("Mul", padding, graph.number(HIDDEN[graph.dtype]), name="keys")
        return self._keys

    def distance(self) -> str:
        """(T, T) int64: query minus key."""
        if not self._distance:
            graph, places = self.graph, self.batch.places
            rows, columns = (graph.add("Unsqueeze", places, graph.ints(axis)) for axis in (1, 0))
            self._distance = graph.add("Sub", rows, columns, name="distance")
        return self._distance

    def _relative(self, table: Tensor) -> str:
        """(heads, T, T), from one row for each distance of -FAR ... FAR."""
        graph = self.graph
        buckets = relative_buckets(FAR + 1, len(table), table.device)  # of row minus column
        rows = table[torch.cat((buckets[0, 1:].flip(0), buckets[:, 0]))]
        far = graph.integer(FAR)
        near = graph.add("Min", graph.add("Max", self.distance(), graph.integer(-FAR)), far)
        found = graph.add("Gather", graph.parameter("by_distance", rows), graph.add("Add", near, far))
        return graph.add("Transpose", found, perm=[2, 0, 1])


def draw_rotation(graph: Graph, theta: float, head_width: int, batch: Batch) -> Rotation:
    """The turns of every place, computed in float32 (see ``native.attention.rotations``)."""
    with graph.scope(f"rotation_{theta:g}"):
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        frequencies = graph.weight("frequencies", 1.0 / theta**exponent)
        places = graph.add("Unsqueeze", graph.cast(batch.places, torch.float32), graph.ints(1, 2))
        angle = graph.add("Mul", places, frequencies)  # (T, 1, head_width / 2)
        cos, sin = graph.add("Cos", angle), graph.add("Sin", angle)
        turns = (
            graph.add("Concat", cos, cos, axis=-1, name="cosines"),
            graph.add("Concat", graph.add("Neg", sin), sin, axis=-1, name="sines"),
        )
        if graph.dtype is not torch.float32:
            turns = (graph.cast(turns[0], graph.dtype), graph.cast(turns[1], graph.dtype))
        return turns


def attend(
    graph: Graph,
    spec: Spec,
    layer: Layer,
    x: str,
    biases: Biases,
    window: int | None,
    rotation: Rotation | None,
    first_only: bool = False,
) -> str:
    """x (B, T, width) -> context (B, T, heads * head_width), or (B, 1, ...) of the first tokens alone."""
    query, key, value = _parts(graph, spec, layer, x, rotation)  # (B, T, heads, head_width)
    bias = biases.get(window)
    if first_only:
        query, bias = first(graph, query, axis=1), first(graph, bias, axis=2)
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3], name="query")
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1], name="key")
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3], name="value")
    groups = spec.heads // spec.kv_heads
    if groups > 1:  # queries that share a key: one more dimension, in which keys and values are the same
        query = graph.add("Reshape", query, graph.ints(0, spec.kv_heads, groups, -1, spec.head_width))
        key, value, bias = (graph.add("Unsqueeze", part, graph.ints(2)) for part in (key, value, bias))
    scores = graph.add("Add", graph.add("MatMul", query, key), bias, name="scores")
    context = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value, name="context")
    if groups > 1:
        context = graph.add("Reshape", context, graph.ints(0, spec.heads, -1, spec.head_width))
    context = graph.add("Transpose", context, perm=[0, 2, 1, 3])
    return graph.add("Reshape", context, graph.ints(0, 0, spec.heads * spec.head_width))


def attend_fused(graph: Graph, spec: Spec, layer: Layer, x: str, batch: Batch) -> str:
    """``attend`` as one operator of onnxruntime's own, where nothing is hidden but padding."""
    qkv = linear(graph, x, _scaled(spec, layer), "qkv")
    query, key, value = graph.add_many("Split", 3, qkv, axis=2)
    real = graph.cast(batch.mask, torch.int32)
    inputs = (query, key, value, None, real)
    return graph.add("MultiHeadAttention", *inputs, domain=MICROSOFT, num_heads=spec.heads, scale=1.0)


def is_plain(spec: Spec, layer: Layer) -> bool:
    """Whether queries, keys and values are used as they come out of their projections."""
    return layer.query_norm is None and spec.kv_heads == spec.heads and not spec.thetas


def first(graph: Graph, value: str, axis: int) -> str:
    """The first entry along an axis, which stays."""
    return graph.add("Slice", value, graph.ints(0), graph.ints(1), graph.ints(axis))


def _parts(graph: Graph, spec: Spec, layer: Layer, x: str, rotation: Rotation | None) -> list[str]:
    """Queries, keys and values, each (B, T, heads, head_width): normed and rotated; queries scaled."""
    qkv = linear(graph, x, _scaled(spec, layer), "qkv")
    width = spec.head_width
    if layer.query_norm is None and rotation is None:
        sizes = graph.ints(*(n * width for n in (spec.heads, spec.kv_heads, spec.kv_heads)))
        parts = graph.add_many("Split", 3, qkv, sizes, axis=2)
        counts = (spec.heads, spec.kv_heads, spec.kv_heads)
        return [graph.add("Reshape", p, graph.ints(0, 0, n, width)) for p, n in zip(parts, counts, strict=True)]
    both = spec.heads + spec.kv_heads
    turned, value = graph.add_many("Split", 2, qkv, graph.ints(both * width, spec.kv_heads * width), axis=2)
    turned = graph.add("Reshape", turned, graph.ints(0, 0, both, width))
    if layer.query_norm is not None and layer.key_norm is not None:
        turned = rms(graph, turned, _head_norms(spec, layer.query_norm, layer.key_norm), spec.epsilon)
    if rotation is not None:
        turned = _rotate(graph, turned, rotation)
    query, key = graph.add_many("Split", 2, turned, graph.ints(spec.heads, spec.kv_heads), axis=2)
    return [query, key, graph.add("Reshape", value, graph.ints(0, 0, spec.kv_heads, width))]


def _rotate(graph: Graph, x: str, rotation: Rotation) -> str:
    """x (B, T, heads, head_width) turned by the angle of its place."""
    left, right = graph.add_many("Split", 2, x, axis=-1)
    swapped = graph.add("Concat", right, left, axis=-1)
    return graph.add("Add", graph.add("Mul", x, rotation[0]), graph.add("Mul", swapped, rotation[1]), name="rotated")


def _scaled(spec: Spec, layer: Layer) -> Linear:
    """The projections with the scale of attention in those of the queries; a norm behind them would take it off."""
    qkv = exact(layer.qkv)
    if layer.query_norm is not None:
        return qkv
    factor = torch.ones(qkv.weight.shape[0], dtype=torch.float32, device=qkv.weight.device)
    factor[: spec.heads * spec.head_width] = spec.head_width**-0.5
    bias = qkv.bias
    return Linear(qkv.weight * factor[:, None], None if bias is None else bias * factor)


def _head_norms(spec: Spec, query: Norm, key: Norm) -> Tensor:
    """(heads + kv_heads, head_width): the gains, those of the queries with the scale of attention."""
    scaled = query.weight.float() * spec.head_width**-0.5
    return torch.cat((scaled.expand(spec.heads, -1), key.weight.float().expand(spec.kv_heads, -1)))
