"""Token ids of numpy as tensors: packed for the engine, padded for everybody else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.modules.processing import Ints, TextProcessor, TokenTable, spans
from sentence_transformers.ops.tokens import TokenIds


def take(table: TokenTable, rows: Ints) -> TokenIds:
    """The ids of some inputs, in the given order, as one packed batch."""
    lengths = table.sizes[rows]
    index = spans(table.starts[rows], lengths)
    types = None if table.types is None else torch.from_numpy(table.types[index])
    visible = None if table.visible is None else tuple(table.visible[rows].tolist())
    return TokenIds(torch.from_numpy(table.ids[index]), tuple(lengths.tolist()), types, visible)


def pad(processor: TextProcessor, tokens: TokenIds) -> Features:
    """The public padded form: ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, (B, T) int64.

    The mask is 0 at padding and at tokens that the others do not look at.
    """
    side, lengths = processor.padding_side, tokens.lengths
    features: Features = {"input_ids": pad_rows(tokens.ids, lengths, processor.padding_id, side)}
    if processor.with_types:
        types = torch.zeros_like(tokens.ids) if tokens.type_ids is None else tokens.type_ids
        features["token_type_ids"] = pad_rows(types, lengths, 0, side)
    mask = torch.ones_like(tokens.ids)
    if tokens.visible is not None:
        visible = torch.tensor(tokens.visible, dtype=torch.int64)
        mask = (tokens.positions() < visible.repeat_interleave(torch.tensor(lengths))).to(torch.int64)
    features["attention_mask"] = pad_rows(mask, lengths, 0, side)
    return features


def pad_rows(values: Tensor, lengths: Sequence[int], fill: int, side: str = "right") -> Tensor:
    """(N,) values of B rows one behind the other -> (B, longest) with ``fill`` on the given side."""
    width = max(lengths, default=0)
    out = values.new_full((len(lengths), width), fill)
    for row, part in zip(out, torch.split(values, list(lengths)), strict=True):
        if side == "left":
            row[width - len(part) :] = part
        else:
            row[: len(part)] = part
    return out
