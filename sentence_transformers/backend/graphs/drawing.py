"""The transformer of a spec as nodes of a graph, over padded batches: the counterpart of ``native.encoder``.

Knows nothing of files, texts or pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sentence_transformers.backend.graphs.attention import (
    Batch,
    Biases,
    Rotation,
    attend,
    attend_fused,
    draw_rotation,
    first,
    is_plain,
)
from sentence_transformers.backend.graphs.builder import MICROSOFT, Graph
from sentence_transformers.backend.graphs.facts import IDS, MASK, TYPES
from sentence_transformers.backend.graphs.levels import Level
from sentence_transformers.backend.graphs.steps import activate, activated_linear, linear, normalise
from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.weights import Layer, Linear, Norm, Weights, exact

BATCH, TOKENS = "batch_size", "sequence_length"  # the names of the sizes that vary


def draw_inputs(graph: Graph, with_types: bool) -> Batch:
    """The inputs of every graph, (B, T) int64: ids, mask, and segment numbers where the network takes them."""
    names = (IDS, MASK, TYPES) if with_types else (IDS, MASK)
    for name in names:
        graph.input(name, (BATCH, TOKENS))
    with graph.scope("places"):
        shape = graph.add("Shape", IDS)
        length = graph.add("Slice", shape, graph.ints(1), graph.ints(2), name="length")
        count = graph.add("Squeeze", length)
        places = graph.add("Range", graph.integer(0), count, graph.integer(1))
    return Batch(IDS, MASK, TYPES if with_types else None, places, length)


def draw_encoder(
    graph: Graph, spec: Spec, weights: Weights, batch: Batch, level: Level, first_only: bool = False
) -> str:
    """Token ids -> hidden states (B, T, width).

    Args:
        first_only: of the last layer, compute the first token of every row alone: (B, 1, width).
    """
    x = _embed(graph, spec, weights, batch)
    biases = Biases(graph, spec, weights.relative_bias, batch)
    turns = {theta: draw_rotation(graph, theta, spec.head_width, batch) for theta in sorted(set(spec.thetas))}
    for i, layer in enumerate(weights.layers):
        with graph.scope(f"layer.{i}"):
            rotation = turns[spec.thetas[i]] if turns else None
            x = _layer(graph, spec, layer, x, biases, spec.windows[i] if spec.windows else None, rotation, level,
                       first_only and i == spec.layers - 1)  # fmt: skip
    with graph.scope("final"):
        return _norm(graph, spec, x, weights.final_norm)


def _layer(
    graph: Graph,
    spec: Spec,
    layer: Layer,
    x: str,
    biases: Biases,
    window: int | None,
    rotation: Rotation | None,
    level: Level,
    first_only: bool,
) -> str:
    before = spec.norm_first
    with graph.scope("attention"):
        y = _norm(graph, spec, x, layer.attention_norm) if before else x
        if level.gpu and not first_only and biases.hides_padding_only(window) and is_plain(spec, layer):
            context = attend_fused(graph, spec, layer, y, biases.batch)
        else:
            context = attend(graph, spec, layer, y, biases, window, rotation, first_only)
        x = _add(graph, spec, first(graph, x, axis=1) if first_only else x, context, exact(layer.out),
                 None if before else layer.attention_norm, level)  # fmt: skip
    with graph.scope("mlp"):
        y = _norm(graph, spec, x, layer.mlp_norm) if before else x
        inner = _inner(graph, spec, layer, y, level)
        return _add(graph, spec, x, inner, exact(layer.down), None if before else layer.mlp_norm, level)


def _add(graph: Graph, spec: Spec, x: str, y: str, layer: Linear, norm: Norm | None, level: Level) -> str:
    """``norm(x + linear(y))``."""
    if level.gpu and norm is not None and spec.norm == "layer":
        product = graph.add("MatMul", y, graph.parameter("out.weight", layer.weight.t()), name="out")
        gain, shift = graph.parameter("norm.weight", norm.weight), norm.bias
        return graph.add(
            "SkipLayerNormalization",
            product,
            x,
            gain,
            None if shift is None else graph.parameter("norm.bias", shift),
            None if layer.bias is None else graph.parameter("out.bias", layer.bias),
            domain=MICROSOFT,
            epsilon=spec.epsilon,
        )
    total = graph.add("Add", linear(graph, y, layer, "out"), x, name="sum")
    return _norm(graph, spec, total, norm)


def _embed(graph: Graph, spec: Spec, weights: Weights, batch: Batch) -> str:
    """Sum of the embedding tables, normed and widened where the family does so."""
    with graph.scope("embeddings"):
        assert isinstance(weights.words, Tensor)
        x = graph.add("Gather", graph.parameter("words", weights.words), batch.ids, name="words")
        types = weights.types
        if weights.positions is not None:
            rows = weights.positions
            if types is not None and batch.types is None:  # all tokens are of type 0
                rows, types = rows + types[0], None
            x = graph.add("Add", x, _positions(graph, spec, graph.parameter("positions", rows), batch))
        if types is not None and batch.types is not None:
            x = graph.add("Add", x, graph.add("Gather", graph.parameter("types", types), batch.types))
        x = _norm(graph, spec, x, weights.embedding_norm)
        if weights.embedding_projection is not None:
            x = linear(graph, x, weights.embedding_projection, "projection")
        return x


def _positions(graph: Graph, spec: Spec, table: str, batch: Batch) -> str:
    """Rows of the table of positions: (T, width), or (B, T, width) where the padding token takes no place."""
    if spec.padding_id is None:
        return graph.add("Slice", table, graph.ints(0), batch.length, graph.ints(0), name="positions")
    padding = graph.integer(spec.padding_id)
    real = graph.cast(graph.add("Not", graph.add("Equal", batch.ids, padding)), torch.int64)
    rows = graph.add("Mul", graph.add("CumSum", real, graph.integer(1)), real)
    return graph.add("Gather", table, graph.add("Add", rows, padding), name="positions")


def _inner(graph: Graph, spec: Spec, layer: Layer, y: str, level: Level) -> str:
    if not spec.gated:
        return activated_linear(graph, y, exact(layer.up), "up", spec.activation, level)
    gate, up = graph.add_many("Split", 2, linear(graph, y, exact(layer.up), "up"), axis=-1)
    return graph.add("Mul", activate(graph, gate, spec.activation, level), up)


def _norm(graph: Graph, spec: Spec, x: str, norm: Norm | None) -> str:
    return x if norm is None else normalise(graph, x, norm, spec.norm, spec.epsilon)
