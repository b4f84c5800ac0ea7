"""The weights of one encoder, in the form it computes with: projections that run together are one tensor.

They come from a checkpoint's state dict, or from a live transformers model; in the second case the model's own
parameters are made views of the fused tensors, so that a training step is seen here without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from sentence_transformers.backend.native.families import Names, Spec, Unsupported
from sentence_transformers.backend.native.heads import Head
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


class Rounded(Protocol):
    """A linear layer with rounded weights (see ``int8``)."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) -> (N, out)."""

    def add_to_(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual (N, out) += layer(x), in place."""


class RoundedTable(Protocol):
    """An embedding table with rounded rows."""

    def __getitem__(self, ids: Tensor) -> Tensor:
        """(N,) -> (N, width)."""

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...


def exact(layer: Linear | Rounded) -> Linear:
    """A layer that was not rounded. Raises: TypeError for one that was: its weights are gone."""
    if not isinstance(layer, Linear):
        raise TypeError("This network was rounded to 8 bits: read its weights from its folder again.")
    return layer


@dataclass(frozen=True)
class Norm:
    """weight, bias: (width,)."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Layer:
    """qkv: (heads + 2 kv_heads) * head_width rows; up: inner rows, or gate above up (2 * inner) when gated."""

    qkv: Linear | Rounded
    out: Linear | Rounded
    attention_norm: Norm | None
    up: Linear | Rounded
    down: Linear | Rounded
    mlp_norm: Norm
    query_norm: Norm | None
    key_norm: Norm | None


@dataclass(frozen=True)
class HeadWeights:
    """dense: (inner, width); out: (rows, inner)."""

    dense: Linear | None
    norm: Norm | None
    out: Linear


@dataclass(frozen=True)
class Weights:
    """words: (vocabulary, embedding_width); positions, types: the other embedding tables."""

    words: Tensor | RoundedTable
    positions: Tensor | None
    types: Tensor | None
    embedding_norm: Norm | None
    embedding_projection: Linear | None
    relative_bias: Tensor | None  # (buckets, heads)
    layers: tuple[Layer, ...]
    final_norm: Norm | None
    head: HeadWeights | None


def from_state(spec: Spec, state: Mapping[str, Tensor], path: Path, by_columns: bool = False) -> Weights:
    """Pick the tensors of the encoder and its head out of a checkpoint.

    Args:
        by_columns: lay the matrices of the layers out by columns: 10 % faster for a handful of tokens on a CPU. Not
            for parameters that somebody trains: other code expects those to be contiguous.

    Raises:
        ModelFileError: a tensor is missing or has another shape; names file, key, expected and found.
        Unsupported: the checkpoint has no head for the task.
    """
    return _Reader(
        spec, {plain: state[key] for plain, key in _plain_names(state, spec.names).items()}, path, by_columns
    ).read()


def adopt(spec: Spec, parameters: Mapping[str, torch.nn.Parameter], path: Path) -> tuple[Weights, set[str]]:
    """Take over the parameters of a live model: fused tensors are made, and its parameters become views of them.

    Returns: the weights, and the names of the parameters that they do not use. Where there is one that matters, the
        parameters are as they were.
    Raises: as ``from_state``.
    """
    names = _plain_names(parameters, spec.names)
    reader = _Reader(spec, {plain: parameters[name].data for plain, name in names.items()}, path)
    weights = reader.read()
    unused = {name for plain, name in names.items() if plain not in reader.used}
    if not any(matters(name) for name in unused):
        for plain, view in reader.views.items():
            parameters[names[plain]].data = view
    return weights, unused


def unused(spec: Spec, parameters: Mapping[str, Tensor], path: Path) -> set[str]:
    """The names of the parameters of a live model that the weights of a spec do not use. Copies nothing.

    Raises: as ``from_state``.
    """
    names = _plain_names(parameters, spec.names)
    reader = _Reader(
        spec, {plain: torch.empty_like(parameters[name], device="meta") for plain, name in names.items()}, path
    )
    reader.read()
    return {name for plain, name in names.items() if plain not in reader.used}


def prefix_of(names: Names, state: Mapping[str, Any]) -> str:
    """What a model with a task head puts before the names of the encoder's tensors."""
    return next((prefix for prefix in names.prefixes if f"{prefix}{names.words}.weight" in state), "")


def matters(name: str) -> bool:
    """Whether some output may depend on a parameter that the weights here do not use."""
    return "pooler." not in name


def convert(weights: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same weights with ``change`` applied to every tensor (a move, a cast); shared tensors stay shared."""
    made: dict[int, Tensor] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, Tensor):
            if id(part) not in made:
                made[id(part)] = change(part)
            return made[id(part)]
        if isinstance(part, tuple):
            return tuple(walk(item) for item in part)
        if is_dataclass(part) and not isinstance(part, type):
            return type(part)(**{f.name: walk(getattr(part, f.name)) for f in fields(part)})
        return part

    return walk(weights)  # type: ignore[no-any-return]


def _plain_names(state: Mapping[str, Any], names: Names) -> dict[str, str]:
    """Tensor names without the prefix of a task head, and with the names of today -> the names they have."""
    prefix, plain = prefix_of(names, state), {}
    for key in state:
        name = key[len(prefix) :] if key.startswith(prefix) else key
        plain[name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = key
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
            head=None if spec.head is None else self._head(spec.head),
        )

    def _head(self, head: Head) -> HeadWeights:
        for name in (head.dense, head.norm):
            if name is not None and f"{name}.weight" not in self.state:
                raise Unsupported(f"a checkpoint without {name}")
        words = f"{self.spec.names.words}.weight" if head.tied else None
        weight = self._first_of((f"{head.out}.weight", words), (head.rows, head.inner))
        bias = None
        if head.out_bias:
            bias = self._first_of((f"{head.out}.bias", head.bias), (head.rows,))
        dense = (
            None
            if head.dense is None
            else self._linear((head.dense,), 0, (head.inner,), self.spec.width, head.dense_bias)
        )
        return HeadWeights(dense, self._head_norm(head), Linear(weight, bias))

    def _head_norm(self, head: Head) -> Norm | None:
        if head.norm is None:
            return None
        bias = self._tensor(f"{head.norm}.bias", (head.inner,)) if head.norm_bias else None
        return Norm(self._tensor(f"{head.norm}.weight", (head.inner,)), bias)

    def _first_of(self, names: tuple[str | None, ...], shape: tuple[int, ...]) -> Tensor:
        """The first of some tensors that is there, as it is stored; nothing depends on the others."""
        present = [name for name in names if name is not None and name in self.state]
        if not present:
            raise Unsupported(f"a checkpoint without {names[0]}")
        self.used.update(present)
        return self._tensor(present[0], shape)

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
