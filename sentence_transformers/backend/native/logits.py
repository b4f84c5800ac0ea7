"""Logits of a network with a head, over packed tokens. Inference only; knows nothing of files or texts."""

from __future__ import annotations

import torch
from torch import Tensor

from sentence_transformers.backend.native.attention import End
from sentence_transformers.backend.native.encoder import encode
from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.heads import Head
from sentence_transformers.backend.native.linear import activate_, normalise
from sentence_transformers.backend.native.weights import HeadWeights, Weights
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.screen import Screen
from sentence_transformers.ops.tokens import Packed, TokenIds


def logits(spec: Spec, weights: Weights, tokens: TokenIds, screen: Screen | None = None) -> Tensor | Projected:
    """Token ids -> logits.

    Args:
        screen: of the output matrix of a head on all tokens.

    Returns: (B, rows) where the head reads one vector a sequence; for a head on all tokens, (N, rows) not yet computed.
    """
    head, parts = spec.head, weights.head
    assert head is not None and parts is not None
    end = _end(head, tokens)
    states = encode(spec, weights, tokens, only=end)[-1]
    if head.reads == "all":
        x = _transform(spec, head, parts, states)
        return Projected(Packed(x, tokens.lengths), parts.out.weight, parts.out.bias, screen)
    if end is None:
        states = _read(head, states, tokens)
    x = _transform(spec, head, parts, states)
    return torch.nn.functional.linear(x, parts.out.weight, parts.out.bias)


def _end(head: Head, tokens: TokenIds) -> End | None:
    """The one end of every sequence whose state is read, if it is the same for all."""
    if head.reads not in ("first", "last") or 0 in tokens.lengths or not tokens.lengths:
        return None
    if head.reads == "last" and head.padding_id is not None:
        last = torch.tensor(tokens.lengths, device=tokens.ids.device).cumsum(0) - 1
        if (tokens.ids[last] == head.padding_id).any():
            return None
    return head.reads


def _read(head: Head, states: Tensor, tokens: TokenIds) -> Tensor:
    """(N, D) -> (B, D)."""
    packed = Packed(states, tokens.lengths)
    if head.reads == "mean":
        return packed.mean()
    if head.reads == "last" and head.padding_id is not None:  # a text that ends in the padding token
        real = Packed((tokens.ids != head.padding_id)[:, None].int(), tokens.lengths).pad().values[..., 0]
        place = torch.arange(real.shape[1], device=real.device)
        chosen = (real * place).argmax(1)
        return packed.pad().values[torch.arange(len(chosen), device=chosen.device), chosen]
    return packed.take(head.reads)


def _transform(spec: Spec, head: Head, parts: HeadWeights, x: Tensor) -> Tensor:
    if parts.dense is not None:
        x = torch.nn.functional.linear(x, parts.dense.weight, parts.dense.bias)
        x = activate_(x, head.activation, gated=False)
    return x if parts.norm is None else normalise(x, parts.norm, "layer", spec.epsilon)
