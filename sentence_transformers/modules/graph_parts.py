"""The modules behind a transformer as nodes of a graph: a table from the class of a module to what draws it.

To make another module part of exported graphs, add a row to ``DRAWN``. A module that is not in the table ends the
graph; it is computed by torch on what the graph gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.graphs.attention import Batch, first
from sentence_transformers.backend.graphs.builder import Graph
from sentence_transformers.backend.graphs.facts import HeldModule
from sentence_transformers.backend.graphs.heads import draw_last, mean, take, total_and_count
from sentence_transformers.backend.graphs.levels import PLAIN
from sentence_transformers.backend.graphs.steps import activate
from sentence_transformers.hub.trust import type_string
from sentence_transformers.modules.linear import SENTENCE, Dense, Dropout, LayerNorm, Normalize
from sentence_transformers.modules.pooling import TINY, Pooling
from sentence_transformers.modules.splade import SpladePooling

TOKENS = "token_embeddings"
F32 = torch.float32


@dataclass
class Sketch:
    """A graph that is being drawn, behind its transformer.

    features: name -> value, float32: ``token_embeddings`` (B, T, D), ``sentence_embedding`` (B, D). widths: name -> D.
    words: draws the logits of a head on all tokens, (B, T, some columns) at a time; None where there is no such head.
    """

    graph: Graph
    batch: Batch
    features: dict[str, str] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    words: Callable[[], Iterator[str]] | None = None


def draw_module(sketch: Sketch, module: nn.Module) -> bool:
    """Add a module to a graph; False where it cannot be added, and then the graph is as before."""
    draw = DRAWN.get(type(module))
    if draw is None or not all(is_as_written(part, type(part)) for part in module.modules()):
        return False
    with sketch.graph.scope(type(module).__name__):
        return draw(sketch, module)


def held(module: Any) -> HeldModule:
    """What a graph says of a module that it holds; equal as long as the module is what was drawn."""
    config = json.loads(json.dumps(module.get_config_dict()))
    if isinstance(module, SpladePooling):
        config.pop("embedding_dimension", None)  # found out from the first batch
    return HeldModule(type_string(type(module)), config, _digest(module))


def _digest(module: nn.Module) -> str:
    """Of the weights, as float32; "" without any."""
    weights = module.state_dict()
    if not weights:
        return ""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(f"{name}{tuple(value.shape)}".encode())
        found.update(value.detach().to("cpu", F32).contiguous().numpy().tobytes())
    return found.hexdigest()


def is_as_written(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether ``forward`` of a class alone decides what a module computes."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return type(module).forward is kind.forward and not hooks and "forward" not in vars(module)


# --- the modules -----------------------------------------------------------------------------------------------------


def _pooling(sketch: Sketch, module: Pooling) -> bool:
    tokens = sketch.features.get(TOKENS)
    if tokens is None or not module.include_prompt:  # how long a prompt is, a graph does not know
        return False
    vectors = [POOLED[mode](sketch.graph, tokens, sketch.batch) for mode in module.modes]
    pooled = vectors[0] if len(vectors) == 1 else sketch.graph.add("Concat", *vectors, axis=-1)
    sketch.features[SENTENCE] = pooled
    sketch.widths[SENTENCE] = len(vectors) * sketch.widths[TOKENS]
    return True


def _mean(graph: Graph, tokens: str, batch: Batch) -> str:
    return mean(graph, tokens, batch, F32)


def _mean_sqrt(graph: Graph, tokens: str, batch: Batch) -> str:
    total, count = total_and_count(graph, tokens, batch, F32)
    return graph.add("Div", total, graph.add("Sqrt", graph.add("Max", count, graph.number(TINY, F32))))


def _weighted_mean(graph: Graph, tokens: str, batch: Batch) -> str:
    places = graph.add("CumSum", batch.mask, graph.integer(1))  # 1 ... T of the real tokens
    weights = graph.cast(graph.add("Mul", places, batch.mask), F32)
    row = graph.add("Unsqueeze", weights, graph.ints(1))  # (B, 1, T)
    total = graph.add("Squeeze", graph.add("MatMul", row, tokens), graph.ints(1))
    weight = graph.add("ReduceSum", row, graph.ints(2), keepdims=0)
    return graph.add("Div", total, graph.add("Max", weight, graph.number(TINY, F32)))


def _max(graph: Graph, tokens: str, batch: Batch) -> str:
    real = graph.cast(graph.add("Unsqueeze", batch.mask, graph.ints(2)), torch.bool)
    kept = graph.add("Where", real, tokens, first(graph, tokens, axis=1))
    return graph.add("ReduceMax", kept, axes=[1], keepdims=0)


def _first(graph: Graph, tokens: str, batch: Batch) -> str:
    return graph.add("Squeeze", first(graph, tokens, axis=1), graph.ints(1))


def _last(graph: Graph, tokens: str, batch: Batch) -> str:
    return take(graph, tokens, draw_last(graph, batch))


POOLED: dict[str, Callable[[Graph, str, Batch], str]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def _dense(sketch: Sketch, module: Dense) -> bool:
    function = module.activation_function
    activation = activation_name(function) if isinstance(function, nn.Module) else None
    value, written = sketch.features.get(module.module_input_name), module.module_output_name
    if activation is None or value is None or written not in (SENTENCE, TOKENS):
        return False
    graph = sketch.graph
    out = _linear(graph, value, module.linear)
    if activation:
        out = activate(graph, out, activation, PLAIN, F32)
    if module.residual is not None:
        residual = module.residual
        out = graph.add("Add", out, _linear(graph, value, residual) if isinstance(residual, nn.Linear) else value)
    sketch.features[written], sketch.widths[written] = out, module.out_features
    return True


def activation_name(function: nn.Module) -> str | None:
    """What ``steps.ACTIVATIONS`` calls a torch activation; "" for none; None for one that is not there."""
    if type(function) is nn.GELU:
        return "gelu_new" if function.approximate == "tanh" else "gelu"
    names = {nn.Identity: "", nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "silu", nn.Sigmoid: "sigmoid"}
    return names.get(type(function))


def _linear(graph: Graph, x: str, layer: nn.Linear) -> str:
    out = graph.add("MatMul", x, graph.parameter("weight", layer.weight.t(), F32))
    bias: Tensor | None = layer.bias
    return out if bias is None else graph.add("Add", out, graph.parameter("bias", bias, F32))


def _normalize(sketch: Sketch, module: Normalize) -> bool:
    value, written = sketch.features.get(module.module_input_name), module.module_output_name
    if written not in (SENTENCE, TOKENS):
        return False
    if value is None:  # as in torch, nothing happens
        return True
    graph = sketch.graph
    length = graph.add("ReduceL2", value, axes=[-1], keepdims=1)
    sketch.features[written] = graph.add("Div", value, graph.add("Max", length, graph.number(1e-12, F32)))
    sketch.widths[written] = sketch.widths[module.module_input_name]
    return True


def _layer_norm(sketch: Sketch, module: LayerNorm) -> bool:
    value = sketch.features.get(SENTENCE)
    if value is None:
        return False
    graph, norm = sketch.graph, module.norm
    weight, bias = (graph.parameter("weight", part, F32) for part in (norm.weight, norm.bias))
    sketch.features[SENTENCE] = graph.add("LayerNormalization", value, weight, bias, axis=-1, epsilon=norm.eps)
    return True


def _dropout(sketch: Sketch, module: Dropout) -> bool:
    return SENTENCE in sketch.features


def _splade(sketch: Sketch, module: SpladePooling) -> bool:
    if sketch.words is None:
        return False
    graph, parts = sketch.graph, []
    row = graph.add("Unsqueeze", graph.cast(sketch.batch.mask, F32), graph.ints(1))  # (B, 1, T)
    for logits in sketch.words():
        logits = logits if graph.dtype is F32 else graph.cast(logits, F32)
        if module.pooling_strategy == "max":  # padding has the logits of the first token
            parts.append(_saturated(graph, graph.add("ReduceMax", logits, axes=[1], keepdims=0), module))
        else:
            total = graph.add("MatMul", row, _saturated(graph, logits, module))
            parts.append(graph.add("Squeeze", total, graph.ints(1)))
    sketch.features[SENTENCE] = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=-1)
    return True


def _saturated(graph: Graph, logits: str, module: SpladePooling) -> str:
    one = graph.number(1, F32)
    once = graph.add("Log", graph.add("Add", graph.add("Relu", logits), one))
    return once if module.activation_function == "relu" else graph.add("Log", graph.add("Add", once, one))


DRAWN: dict[type[nn.Module], Callable[[Sketch, Any], bool]] = {
    Pooling: _pooling,
    Dense: _dense,
    Normalize: _normalize,
    LayerNorm: _layer_norm,
    Dropout: _dropout,
    SpladePooling: _splade,
}
