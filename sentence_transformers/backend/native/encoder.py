"""One transformer encoder for all families of the table, over packed tokens: no padding, nothing masked away.

Inference only: it writes into buffers and must run without gradients. Knows nothing of files, texts or pooling.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.attention import End, Masks, attend, ends, rotations
from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.linear import activate_, add_linear_, linear_into, normalise
from sentence_transformers.backend.native.varlen import whole_batch
from sentence_transformers.backend.native.weights import Layer, Norm, Weights
from sentence_transformers.ops.tokens import TokenIds


def encode(
    spec: Spec, weights: Weights, tokens: TokenIds, all_layers: bool = False, only: End | None = None
) -> list[Tensor]:
    """Token ids -> hidden states.

    Args:
        spec, weights: the network.
        tokens: N ids of B sequences, on the device of the weights.
        all_layers: also return the embedding output and every layer's output.
        only: "first" or "last": compute the output of this token of every sequence alone, which saves most of the
            last layer. No sequence may be empty.

    Returns: a list of (N, width) tensors; the last one is the output of the network, (B, width) with ``only``.
    Raises: ValueError if a sequence is longer than the table of positions.
    """
    x = _embed(spec, weights, tokens)
    masks, whole = Masks(spec, weights.relative_bias, tokens, x), whole_batch(spec, tokens, x)
    turns = rotations(spec.thetas, tokens.positions(), spec.head_width, x.dtype) if spec.thetas else {}
    states = []
    for i, layer in enumerate(weights.layers):
        if all_layers:
            states.append(x.clone())  # the layers below add to x in place
        window = spec.windows[i] if spec.windows else None
        rotation = turns[spec.thetas[i]] if turns else None
        end = only if i == spec.layers - 1 else None

        y = _norm(spec, x, layer.attention_norm) if spec.norm_first else x
        qkv = linear_into("wide", y, layer.qkv)
        context = attend(spec, layer, qkv, tokens.groups, masks, window, rotation, end, whole)
        x = add_linear_(x if end is None else ends(x, tokens.lengths, end), context, layer.out)
        x = x if spec.norm_first else _norm(spec, x, layer.attention_norm)

        y = _norm(spec, x, layer.mlp_norm) if spec.norm_first else x
        x = add_linear_(x, _inner(spec, layer, y), layer.down)
        x = x if spec.norm_first else _norm(spec, x, layer.mlp_norm)
    states.append(_norm(spec, x, weights.final_norm))
    return states


def _embed(spec: Spec, weights: Weights, tokens: TokenIds) -> Tensor:
    """Sum of the embedding tables, normed and widened where the family does so: (N, width), a fresh tensor."""
    words = weights.words
    x = F.embedding(tokens.ids, words) if isinstance(words, Tensor) else words[tokens.ids]
    if weights.positions is not None:
        x += F.embedding(position_rows(spec, tokens), weights.positions)
    if weights.types is not None:
        x += weights.types[0] if tokens.type_ids is None else F.embedding(tokens.type_ids, weights.types)
    x = _norm(spec, x, weights.embedding_norm)
    if weights.embedding_projection is not None:
        x = F.linear(x, weights.embedding_projection.weight, weights.embedding_projection.bias)
    return x


def position_rows(spec: Spec, tokens: TokenIds) -> Tensor:
    """(N,) rows of the position table."""
    longest = max(tokens.lengths, default=0)
    if spec.position_limit is not None and longest > spec.position_limit:
        raise ValueError(
            f"This model reads at most {spec.position_limit} tokens, its table of positions ends there; got a sequence "
            f"of {longest}. Set model.max_seq_length = {spec.position_limit} or less."
        )
    positions = tokens.positions()
    if spec.padding_id is None:
        return positions
    padding = tokens.ids == spec.padding_id
    if padding.any():  # somebody wrote "<pad>" into a text: such a token has no place, those after it move up
        for group in tokens.groups:
            real = ~padding[group.start : group.stop].view(group.count, group.length)
            positions[group.start : group.stop] = ((real.cumsum(1) * real) - 1).view(-1)
    return positions + (spec.padding_id + 1)


def _inner(spec: Spec, layer: Layer, y: Tensor) -> Tensor:
    return activate_(linear_into("wide", y, layer.up), spec.activation, spec.gated)


def _norm(spec: Spec, x: Tensor, norm: Norm | None) -> Tensor:
    return x if norm is None else normalise(x, norm, spec.norm, spec.epsilon)
