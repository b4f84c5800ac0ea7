"""The forward pass of training, over packed tokens: no padding, gradients in the parameters of the transformers model.

It calls the modules of that model (linear layers, norms, embedding tables) in the order that the table of families
says; only attention, dropout and rotary positions are computed here. Knows nothing of files, texts or pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers.backend.native.attention import Rotation, relative_buckets, rotate, rotations
from sentence_transformers.backend.native.dropout import dropout
from sentence_transformers.backend.native.encoder import position_rows
from sentence_transformers.backend.native.families import Names, Spec
from sentence_transformers.backend.native.training_attention import Blocks, attend
from sentence_transformers.ops.tokens import TokenIds

Step: TypeAlias = Callable[[Tensor], Tensor]

# element-wise, a new tensor
ACTIVATIONS: dict[str, Step] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Drops:
    """Where a family drops: names of ``nn.Dropout`` modules, or of a module and its attribute that is the rate.

    weights: of attention. attention, output: what the two halves of a layer add. inner: before the last projection.
    """

    layer: str
    weights: str
    embeddings: str | None = None
    attention: str | None = None
    inner: str | None = None
    output: str | None = None


_BERT = Drops(
    layer="encoder.layer.{i}",
    weights="encoder.layer.{i}.attention.self.dropout",
    embeddings="embeddings.dropout",
    attention="encoder.layer.{i}.attention.output.dropout",
    output="encoder.layer.{i}.output.dropout",
)
_DECODER = Drops(layer="layers.{i}", weights="layers.{i}.self_attn.attention_dropout")

DROPS: dict[str, Drops] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    "mpnet": Drops(
        layer="encoder.layer.{i}",
        weights="encoder.layer.{i}.attention.attn.dropout",
        embeddings="embeddings.dropout",
        attention="encoder.layer.{i}.attention.dropout",
        output="encoder.layer.{i}.output.dropout",
    ),
    "distilbert": Drops(
        layer="transformer.layer.{i}",
        weights="transformer.layer.{i}.attention.dropout",
        embeddings="embeddings.dropout",
        output="transformer.layer.{i}.ffn.dropout",
    ),
    "modernbert": Drops(
        layer="layers.{i}",
        weights="layers.{i}.attn.attention_dropout",
        embeddings="embeddings.drop",
        attention="layers.{i}.attn.out_drop",
        inner="layers.{i}.mlp.drop",
    ),
    "qwen3": _DECODER,
    "mistral": _DECODER,
    "llama": _DECODER,
}


class Rate:
    """How much is dropped somewhere, as the modules of the live model say at this moment."""

    def __init__(self, module: nn.Module, attribute: str) -> None:
        self.module, self.attribute = module, attribute

    def now(self) -> float:
        return float(vars(self.module)[self.attribute]) if self.module.training else 0.0

    def __call__(self, x: Tensor) -> Tensor:
        return dropout(x, self.now())


@dataclass(frozen=True)
class LiveLayer:
    """The modules of one layer. qkv, up: one, or several that read the same."""

    module: Any
    qkv: tuple[nn.Module, ...]
    query_norm: Step | None
    key_norm: Step | None
    weights: Rate
    out: Step
    attention_drop: Step
    attention_norm: Step
    up: tuple[nn.Module, ...]
    inner_drop: Step
    down: Step
    output_drop: Step
    mlp_norm: Step


class LiveEncoder:
    """The encoder of a family, made of the modules of a transformers model.

    Args:
        prefix: what stands before the names of the modules, in a model with a head.
    """

    def __init__(self, spec: Spec, model: nn.Module, prefix: str) -> None:
        self.spec = spec
        modules = {name[len(prefix) :]: module for name, module in model.named_modules() if name.startswith(prefix)}
        names, drops = spec.names, DROPS[spec.family]
        self.words = modules[names.words]
        self.positions = _named(modules, names.positions)
        self.types = _named(modules, names.types) if spec.types else None
        self.embedding_norm = _step(modules, names.embedding_norm)
        self.embedding_drop = _rate(modules, drops.embeddings) or _same
        self.embedding_projection = _step(modules, names.embedding_projection)
        self.relative_bias = _named(modules, names.relative_bias)
        self.layers = [self._layer(modules, i, names, drops) for i in range(spec.layers)]
        self.final_norm = _step(modules, names.final_norm)

    def _layer(self, modules: Mapping[str, nn.Module], i: int, names: Names, drops: Drops) -> LiveLayer:
        weights = _rate(modules, drops.weights, i)
        assert weights is not None
        bare = i == 0 and not self.spec.first_norm
        return LiveLayer(
            module=modules[drops.layer.format(i=i)],
            qkv=tuple(modules[name.format(i=i)] for name in names.qkv),
            query_norm=_named(modules, names.query_norm, i),
            key_norm=_named(modules, names.key_norm, i),
            weights=weights,
            out=modules[names.out.format(i=i)],
            attention_drop=_rate(modules, drops.attention, i) or _same,
            attention_norm=_same if bare else modules[names.attention_norm.format(i=i)],
            up=tuple(modules[name.format(i=i)] for name in names.up),
            inner_drop=_rate(modules, drops.inner, i) or _same,
            down=modules[names.down.format(i=i)],
            output_drop=_rate(modules, drops.output, i) or _same,
            mlp_norm=modules[names.mlp_norm.format(i=i)],
        )

    def encode(self, tokens: TokenIds, all_layers: bool = False) -> list[Tensor]:
        """Token ids -> hidden states, as ``encoder.encode`` gives them, but with gradients and dropout.

        Args:
            tokens: sequences of ascending lengths above 0.

        Returns: a list of (N, width) tensors; the last is the output.
        Raises: ValueError if a sequence is longer than the table of positions.
        """
        spec = self.spec
        x = self._embed(tokens)
        blocks = Blocks.of(tokens.lengths, tokens.visible, spec.heads, spec.causal, x.new_empty(0))
        turns = rotations(spec.thetas, tokens.positions(), spec.head_width, x.dtype) if spec.thetas else {}
        bias = self._bias(tokens)
        states = []
        for i, layer in enumerate(self.layers):
            if all_layers:
                states.append(x)
            window = spec.windows[i] if spec.windows else None
            rotation = turns[spec.thetas[i]] if turns else None

            def run(x: Tensor, layer: LiveLayer = layer, window: Any = window, rotation: Any = rotation) -> Tensor:
                return self._run(layer, x, blocks, window, rotation, bias)

            checkpointed = getattr(layer.module, "gradient_checkpointing", False) and layer.module.training
            x = layer.module._gradient_checkpointing_func(run, x) if checkpointed else run(x)
        return [*states, self.final_norm(x)]

    def _embed(self, tokens: TokenIds) -> Tensor:
        x: Tensor = self.words(tokens.ids)
        if self.types is not None:
            x = x + (self.types.weight[0] if tokens.type_ids is None else self.types(tokens.type_ids))
        if self.positions is not None:
            x = x + self.positions(position_rows(self.spec, tokens))
        return self.embedding_projection(self.embedding_drop(self.embedding_norm(x)))

    def _bias(self, tokens: TokenIds) -> Tensor | None:
        """(heads, T, T) for the longest sequence."""
        if self.relative_bias is None:
            return None
        table = self.relative_bias.weight
        buckets = relative_buckets(max(tokens.lengths, default=0), len(table), table.device)
        found: Tensor = self.relative_bias(buckets)
        return found.permute(2, 0, 1)

    def _run(
        self,
        layer: LiveLayer,
        x: Tensor,
        blocks: Blocks,
        window: int | None,
        rotation: Rotation | None,
        bias: Tensor | None,
    ) -> Tensor:
        first = self.spec.norm_first
        q, k, v = self._heads(layer, layer.attention_norm(x) if first else x, rotation)
        context = attend(q, k, v, blocks, window, layer.weights.now(), bias)
        x = x + layer.attention_drop(layer.out(context))
        x = x if first else layer.attention_norm(x)
        x = x + layer.output_drop(layer.down(self._inner(layer, layer.mlp_norm(x) if first else x)))
        return x if first else layer.mlp_norm(x)

    def _heads(self, layer: LiveLayer, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (N, heads, head_width)."""
        spec = self.spec
        parts = [module(x) for module in layer.qkv]
        if len(parts) == 1:
            parts = list(parts[0].split([n * spec.head_width for n in (spec.heads, spec.kv_heads, spec.kv_heads)], -1))
        q, k, v = (part.unflatten(-1, (-1, spec.head_width)) for part in parts)
        if layer.query_norm is not None and layer.key_norm is not None:
            q, k = layer.query_norm(q), layer.key_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if spec.kv_heads != spec.heads:
            k, v = (part.repeat_interleave(spec.heads // spec.kv_heads, dim=1) for part in (k, v))
        return q, k, v

    def _inner(self, layer: LiveLayer, x: Tensor) -> Tensor:
        parts = [module(x) for module in layer.up]
        activate = ACTIVATIONS[self.spec.activation]
        if not self.spec.gated:
            return layer.inner_drop(activate(parts[0]))
        first, second = parts if len(parts) == 2 else parts[0].chunk(2, dim=-1)
        return layer.inner_drop(activate(first) * second)


def _same(x: Tensor) -> Tensor:
    return x


def _named(modules: Mapping[str, nn.Module], name: str | None, i: int = 0) -> Any:
    return None if name is None else modules[name.format(i=i)]


def _step(modules: Mapping[str, nn.Module], name: str | None) -> Step:
    return _same if name is None else modules[name]


def _rate(modules: Mapping[str, nn.Module], name: str | None, i: int = 0) -> Rate | None:
    """None where nothing is dropped, nor could be."""
    if name is None:
        return None
    name = name.format(i=i)
    if name in modules:
        return Rate(modules[name], "p") if isinstance(modules[name], nn.Dropout) else None
    owner, _, attribute = name.rpartition(".")
    return Rate(modules[owner], attribute)
