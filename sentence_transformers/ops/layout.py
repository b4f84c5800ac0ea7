"""From a padded features dict to packed tokens, and back with gradients. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.ops.tokens import TokenIds


@dataclass(frozen=True)
class Layout:
    """Where packed tokens stand in a padded batch.

    real: (B, T) bool, where there is a token. places: (N,) the rows of the tokens among B * T, in packed order.
    """

    real: Tensor
    places: Tensor

    def pad(self, values: Tensor) -> Tensor:
        """(N, D) -> (B, T, D), zero where there is no token."""
        out = values.new_zeros(self.real.numel(), values.shape[-1])
        return out.index_copy_(0, self.places, values).view(*self.real.shape, -1)


def packed_tokens(
    features: Mapping[str, Any], device: torch.device, by_length: bool = False
) -> tuple[TokenIds, Layout]:
    """The tokens of a padded batch, whatever side the padding is on.

    Args:
        features: ``input_ids`` (B, T); perhaps ``attention_mask``, ``token_type_ids`` and, of tokens that expand a
            query, ``query_expansion_positions``, as large.
        by_length: the shortest sequence first, those without a token left out.
    """
    ids = features["input_ids"].to(device)
    seen = features["attention_mask"].to(device) != 0 if "attention_mask" in features else torch.ones_like(ids) != 0
    added = features.get("query_expansion_positions")
    real = seen if added is None else seen | added.to(device)
    counts = real.sum(1)
    order = torch.arange(len(ids), device=device)
    if by_length:
        order = counts.argsort(stable=True)
        order = order[counts[order] > 0]
    rows, columns = real[order].nonzero(as_tuple=True)
    places = order[rows] * ids.shape[1] + columns
    types = features.get("token_type_ids")
    types = None if types is None or not types.any() else types.to(device).reshape(-1)[places]
    lengths = tuple(counts[order].tolist())
    visible = lengths if added is None else tuple(seen.sum(1)[order].tolist())
    tokens = TokenIds(ids.reshape(-1)[places], lengths, types, None if visible == lengths else visible)
    return tokens, Layout(real, places)
