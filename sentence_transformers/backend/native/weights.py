"""The weights of one encoder, in the form it computes with: projections that run together are one tensor.

They come from a checkpoint's state dict, or from a live transformers model; in the second case the model's own
parameters are made views of the fused tensors, so that a training step is seen here without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from sentence_transformers.backend.native.families import Names, Spec
from sentence_transformers.hub import checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Linear:
    """weight: (out, in); bias: (out,) or None."""

    weight: Tensor
    bias: Tensor | None

    @cached_property
    def transposed(self) -> Tensor:
        """(in, out), a view."""
        return self.weight.t()


@dataclass(frozen=True)
class Norm:
    """weight, bias: (width,)."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Layer:
    """qkv: (heads + 2 kv_heads) * head_width rows; up: inner rows, or gate above up (2 * inner) when gated."""

    qkv: Linear
    out: Linear
    attention_norm: Norm | None
    up: Linear
    down: Linear
    mlp_norm: Norm
    query_norm: Norm | None
    key_norm: Norm | None


@dataclass(frozen=True)
class Weights:
    """words: (vocabulary, embedding_width); positions, types: the other embedding tables."""

    words: Tensor
    positions: Tensor | None
    types: Tensor | None
    embedding_norm: Norm | None
    embedding_projection: Linear | None
    relative_bias: Tensor | None  # (buckets, heads)
    layers: tuple[Layer, ...]
    final_norm: Norm | None


def from_state(spec: Spec, state: Mapping[str, Tensor], path: Path, by_columns: bool = False) -> Weights:
    """Pick the encoder's tensors out of a checkpoint.

    Args:
        by_columns: lay the matrices of the layers out by columns: 10 % faster for a handful of tokens on a CPU. Not
            for parameters that somebody trains: other code expects those to be contiguous.

    Raises:
        ModelFileError: a tensor is missing or has another shape; names file, key, expected and found.
    """
    return _Reader(spec, _plain_names(state, spec.names), path, by_columns).read()


def adopt(spec: Spec, parameters: Mapping[str, torch.nn.Parameter], path: Path) -> tuple[Weights, set[str]]:
    """Take over the parameters of a live model: fused tensors are made, and its parameters become views of them.

    Returns: the weights, and the names of the parameters that they consist of.
    """
    reader = _Reader(spec, {name: parameter.data for name, parameter in parameters.items()}, path)
    weights = reader.read()
    if reader.used == set(parameters):
        for name, view in reader.views.items():
            parameters[name].data = view
    return weights, reader.used


def convert(weights: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same weights with ``change`` applied to every tensor (a move, a cast)."""
    if isinstance(weights, Tensor):
        return change(weights)  # type: ignore[return-value]
    if isinstance(weights, tuple):
        return tuple(convert(item, change) for item in weights)  # type: ignore[return-value]
    if is_dataclass(weights) and not isinstance(weights, type):
        return type(weights)(**{f.name: convert(getattr(weights, f.name), change) for f in fields(weights)})
    return weights


def _plain_names(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Tensor names without the prefix of a task head, and with the names of today."""
    words = names.words + ".weight"
    prefix = next((p for p in names.prefixes if p + words in state), "")
    plain = {}
    for key, tensor in state.items():
        name = key[len(prefix) :] if key.startswith(prefix) else key
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        plain[name] = tensor
    return plain


class _Reader:
    """Reads one spec's tensors by name; remembers which names became part of a fused tensor."""

    def __init__(self, spec: Spec, state: dict[str, Tensor], path: Path, by_columns: bool = False) -> None:
        self.spec, self.state, self.path, self.by_columns = spec, state, path, by_columns
        self.views: dict[str, Tensor] = {}
        self.used: set[str] = set()

    def read(self) -> Weights:
        spec, names = self.spec, self.spec.names
        width = spec.embedding_width
        return Weights(
            words=self._tensor(names.words + ".weight", (spec.vocabulary, width)),
            positions=self._table(names.positions, spec.max_positions, width),
            types=self._table(names.types, spec.types, width) if spec.types else None,
            embedding_norm=self._norm(names.embedding_norm, width),
            embedding_projection=self._projection(names.embedding_projection),
            relative_bias=self._table(names.relative_bias, spec.relative_buckets, spec.heads),
            layers=tuple(self._layer(i) for i in range(spec.layers)),
            final_norm=self._norm(names.final_norm, spec.width),
        )

    def _layer(self, i: int) -> Layer:
        spec, names = self.spec, self.spec.names
        query, key = spec.heads * spec.head_width, spec.kv_heads * spec.head_width
        qkv_rows = (query, key, key) if len(names.qkv) == 3 else (query + 2 * key,)
        up_rows = (spec.inner,) * len(names.up) if len(names.up) == 2 or not spec.gated else (2 * spec.inner,)
        bare = i == 0 and not spec.first_norm
        return Layer(
            qkv=self._linear(names.qkv, i, qkv_rows, spec.width, spec.attention_bias),
            out=self._linear((names.out,), i, (spec.width,), query, spec.out_bias),
            attention_norm=None if bare else self._norm(names.attention_norm, spec.width, i),
            up=self._linear(names.up, i, up_rows, spec.width, spec.mlp_bias),
            down=self._linear((names.down,), i, (spec.width,), spec.inner, spec.mlp_bias),
            mlp_norm=self._must_norm(names.mlp_norm, spec.width, i),
            query_norm=self._norm(names.query_norm, spec.head_width, i),
            key_norm=self._norm(names.key_norm, spec.head_width, i),
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        self.used.add(name)
        return checkpoint.tensor(self.state, name, shape, self.path)

    def _table(self, name: str | None, rows: int, width: int) -> Tensor | None:
        return None if name is None else self._tensor(name + ".weight", (rows, width))

    def _projection(self, name: str | None) -> Linear | None:
        if name is None:
            return None
        return self._linear((name,), 0, (self.spec.width,), self.spec.embedding_width, True)

    def _linear(self, names: tuple[str, ...], i: int, rows: tuple[int, ...], width: int, bias: bool) -> Linear:
        names = tuple(name.format(i=i) for name in names)
        weight = self._fused([(f"{name}.weight", (n, width)) for name, n in zip(names, rows, strict=True)])
        if not bias:
            return Linear(weight, None)
        return Linear(weight, self._fused([(f"{name}.bias", (n,)) for name, n in zip(names, rows, strict=True)]))

    def _fused(self, parts: list[tuple[str, tuple[int, ...]]]) -> Tensor:
        tensors = [self._tensor(name, shape) for name, shape in parts]
        if self.by_columns and tensors[0].ndim == 2:
            return torch.cat([tensor.t() for tensor in tensors], dim=1).t()
        if len(tensors) == 1:
            return tensors[0]
        whole = torch.cat(tensors)
        pieces = torch.split(whole, [len(t) for t in tensors])
        self.views.update({name: piece for (name, _), piece in zip(parts, pieces, strict=True)})
        return whole

    def _norm(self, name: str | None, width: int, i: int = 0) -> Norm | None:
        return None if name is None else self._must_norm(name, width, i)

    def _must_norm(self, name: str, width: int, i: int = 0) -> Norm:
        name = name.format(i=i)
        bias = self._tensor(f"{name}.bias", (width,)) if self.spec.norm_bias else None
        return Norm(self._tensor(f"{name}.weight", (width,)), bias)
