"""The steps every layer of a graph is made of: linear maps, activations, norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from sentence_transformers.backend.graphs.builder import MICROSOFT, Graph
from sentence_transformers.backend.graphs.levels import Level
from sentence_transformers.backend.native.weights import Linear, Norm

Step: TypeAlias = Callable[[Graph, str, torch.dtype | None], str]


def linear(graph: Graph, x: str, layer: Linear, name: str) -> str:
    """x (..., in) -> (..., out). The matrix is stored (in, out), so that nothing is transposed at run time."""
    out = graph.add("MatMul", x, graph.parameter(f"{name}.weight", layer.weight.t()), name=name)
    return out if layer.bias is None else graph.add("Add", out, graph.parameter(f"{name}.bias", layer.bias), name=name)


def activated_linear(graph: Graph, x: str, layer: Linear, name: str, activation: str, level: Level) -> str:
    """``activate(linear(x))``, the bias and GELU in one where they may be."""
    if not (level.fused and layer.bias is not None and activation in GELUS):
        return activate(graph, linear(graph, x, layer, name), activation, level)
    product = graph.add("MatMul", x, graph.parameter(f"{name}.weight", layer.weight.t()), name=name)
    op = "BiasGelu" if activation == "gelu" and not level.tanh_gelu else "FastGelu"
    return graph.add(op, product, graph.parameter(f"{name}.bias", layer.bias), domain=MICROSOFT)


def activate(graph: Graph, x: str, activation: str, level: Level, dtype: torch.dtype | None = None) -> str:
    """An activation of ``native.linear.ACTIVATIONS``, or "sigmoid". dtype: of x, where it is not that of the graph."""
    if activation == "gelu" and level.tanh_gelu:
        activation = "gelu_new"
    if level.fused and activation in GELUS:
        return graph.add("Gelu" if activation == "gelu" else "FastGelu", x, domain=MICROSOFT)
    return ACTIVATIONS[activation](graph, x, dtype)


def layer_norm(graph: Graph, x: str, norm: Norm, epsilon: float) -> str:
    """Over the last dimension."""
    bias = None if norm.bias is None else graph.parameter("norm.bias", norm.bias)
    gain = graph.parameter("norm.weight", norm.weight)
    return graph.add("LayerNormalization", x, gain, bias, axis=-1, epsilon=epsilon, name="norm")


def rms(graph: Graph, x: str, gain: Tensor, epsilon: float) -> str:
    """Root-mean-square norm over the last dimension, in float32; ``gain`` broadcasts to x."""
    wide = x if graph.dtype is torch.float32 else graph.cast(x, torch.float32)
    square = graph.add("Pow", wide, graph.number(2, torch.float32))
    mean = graph.add("ReduceMean", square, axes=[-1], keepdims=1)
    root = graph.add("Sqrt", graph.add("Add", mean, graph.number(epsilon, torch.float32)))
    scaled = graph.add("Div", wide, root)
    narrow = scaled if graph.dtype is torch.float32 else graph.cast(scaled, graph.dtype)
    return graph.add("Mul", narrow, graph.parameter("norm.weight", gain), name="norm")


def normalise(graph: Graph, x: str, norm: Norm, kind: str, epsilon: float) -> str:
    """A norm of ``native.linear.normalise``."""
    return layer_norm(graph, x, norm, epsilon) if kind == "layer" else rms(graph, x, norm.weight, epsilon)


def _gelu(graph: Graph, x: str, dtype: torch.dtype | None) -> str:
    # written out: runtimes know the pattern, but not all know the operator
    erf = graph.add("Erf", graph.add("Div", x, graph.number(math.sqrt(2), dtype)))
    return graph.add(
        "Mul", graph.add("Mul", x, graph.add("Add", erf, graph.number(1, dtype))), graph.number(0.5, dtype), name="gelu"
    )


def _tanh_gelu(graph: Graph, x: str, dtype: torch.dtype | None) -> str:
    cube = graph.add("Mul", graph.add("Pow", x, graph.number(3, dtype)), graph.number(0.044715, dtype))
    inner = graph.add("Mul", graph.add("Add", x, cube), graph.number(math.sqrt(2 / math.pi), dtype))
    upper = graph.add("Add", graph.add("Tanh", inner), graph.number(1, dtype))
    return graph.add("Mul", graph.add("Mul", x, graph.number(0.5, dtype)), upper, name="gelu")


def _silu(graph: Graph, x: str, dtype: torch.dtype | None) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x), name="silu")


def _quick_gelu(graph: Graph, x: str, dtype: torch.dtype | None) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", graph.add("Mul", x, graph.number(1.702, dtype))), name="gelu")


def _operator(op: str) -> Step:
    return lambda graph, x, dtype: graph.add(op, x)


GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")

ACTIVATIONS: dict[str, Step] = {
    "gelu": _gelu,
    **dict.fromkeys(GELUS[1:], _tanh_gelu),
    "quick_gelu": _quick_gelu,
    "relu": _operator("Relu"),
    "silu": _silu,
    "swish": _silu,
    "tanh": _operator("Tanh"),
    "sigmoid": _operator("Sigmoid"),
}
