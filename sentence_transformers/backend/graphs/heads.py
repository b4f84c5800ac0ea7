"""The head of a network as nodes of a graph: logits from hidden states. The counterpart of ``native.logits``."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sentence_transformers.backend.graphs.attention import Batch, first
from sentence_transformers.backend.graphs.builder import Graph
from sentence_transformers.backend.graphs.drawing import draw_encoder
from sentence_transformers.backend.graphs.levels import Level
from sentence_transformers.backend.graphs.steps import activate, layer_norm, linear
from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.heads import Head
from sentence_transformers.backend.native.weights import HeadWeights, Linear, Weights

COLUMNS = 4096  # words whose logits are computed at a time where only their reduction over the tokens is kept


def draw_states(graph: Graph, spec: Spec, weights: Weights, batch: Batch, level: Level) -> str:
    """What the output layer of a head reads: (B, inner), or (B, T, inner) of a head on all tokens."""
    head, parts = _head(spec, weights)
    states = draw_encoder(graph, spec, weights, batch, level, first_only=head.reads == "first")
    with graph.scope("head"):
        if head.reads != "all":
            states = _read(graph, head, states, batch)
        if parts.dense is not None:
            states = activate(graph, linear(graph, states, parts.dense, "dense"), head.activation, level)
        return states if parts.norm is None else layer_norm(graph, states, parts.norm, spec.epsilon)


def draw_logits(graph: Graph, spec: Spec, weights: Weights, states: str) -> str:
    """``draw_states`` -> logits: (B, rows), or (B, T, rows) of a head on all tokens."""
    _, parts = _head(spec, weights)
    with graph.scope("head"):
        return linear(graph, states, parts.out, "out")


def draw_word_columns(graph: Graph, spec: Spec, weights: Weights, states: str, batch: Batch) -> Iterator[str]:
    """The logits of all words, some columns at a time: (B, T, columns). Padding has those of the first token."""
    _, parts = _head(spec, weights)
    weight, bias = parts.out.weight, parts.out.bias
    with graph.scope("head"):
        real = graph.cast(graph.add("Unsqueeze", batch.mask, graph.ints(2)), torch.bool)
        states = graph.add("Where", real, states, first(graph, states, axis=1), name="real")
        for start in range(0, weight.shape[0], COLUMNS):
            rows = slice(start, start + COLUMNS)
            yield linear(graph, states, Linear(weight[rows], None if bias is None else bias[rows]), "words")


def draw_last(graph: Graph, batch: Batch, padding_id: int | None = None) -> str:
    """(B,) int64: the place of the last real token, on whichever side the padding is; 0 where there is none."""
    real = batch.mask
    if padding_id is not None:  # a text that ends in the padding token
        other = graph.add("Not", graph.add("Equal", batch.ids, graph.integer(padding_id)))
        real = graph.add("Mul", real, graph.cast(other, torch.int64))
    return graph.add("ReduceMax", graph.add("Mul", real, batch.places), axes=[1], keepdims=0, name="last")


def take(graph: Graph, values: str, places: str) -> str:
    """values (B, T, D), places (B,) -> (B, D)."""
    return graph.add("GatherND", values, graph.add("Unsqueeze", places, graph.ints(1)), batch_dims=1)


def mean(graph: Graph, values: str, batch: Batch, dtype: torch.dtype) -> str:
    """The mean over real tokens: (B, T, D) -> (B, D). dtype: of the values."""
    total, count = total_and_count(graph, values, batch, dtype)
    return graph.add("Div", total, graph.add("Max", count, graph.number(1e-9 if dtype is torch.float32 else 1, dtype)))


def total_and_count(graph: Graph, values: str, batch: Batch, dtype: torch.dtype) -> tuple[str, str]:
    """The sum over real tokens (B, D), and their number (B, 1)."""
    row = graph.add("Unsqueeze", graph.cast(batch.mask, dtype), graph.ints(1))  # (B, 1, T)
    total = graph.add("Squeeze", graph.add("MatMul", row, values), graph.ints(1))
    return total, graph.add("ReduceSum", row, graph.ints(2), keepdims=0)


def _head(spec: Spec, weights: Weights) -> tuple[Head, HeadWeights]:
    assert spec.head is not None and weights.head is not None
    return spec.head, weights.head


def _read(graph: Graph, head: Head, states: str, batch: Batch) -> str:
    """(B, T, width), or (B, 1, width) of the first token -> (B, width)."""
    if head.reads == "first":
        return graph.add("Squeeze", states, graph.ints(1))
    if head.reads == "mean":
        return mean(graph, states, batch, graph.dtype)
    return take(graph, states, draw_last(graph, batch, head.padding_id))
