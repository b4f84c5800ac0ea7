"""Columns of a batch run as one, so that a step calls the model once. Knows nothing of losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features: TypeAlias = dict[str, Any]

BY_TOKEN = {"input_ids", "attention_mask", "token_type_ids", "query_expansion_positions"}
MORE = 1.1
"""Columns are joined for a padded forward if they then have at most so many times as many places."""


def embed_columns(model: nn.Module, columns: Sequence[Features], embed: Callable[[Features], Tensor]) -> list[Tensor]:
    """The embeddings of each column. Columns that differ in their texts only go through the model together.

    Args:
        embed: features of some inputs -> a tensor with a row for each.
    """
    found: dict[int, Tensor] = {}
    for places in alike(columns, padding_is_free=_at_first(model, "trains_without_padding", False)):
        if len(places) == 1:
            found[places[0]] = embed(columns[places[0]])
        else:
            some = [columns[place] for place in places]
            rows = torch.split(embed(join(some, _padding_id(model))), [len(column["input_ids"]) for column in some])
            found.update(zip(places, rows, strict=True))
    return [found[place] for place in range(len(columns))]


def encoder_of(model: Any) -> Any:
    """The encoder itself, of one that may be wrapped for several processes or compiled."""
    inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
    return model if inner is None else encoder_of(inner)


def alike(columns: Sequence[Features], padding_is_free: bool) -> list[list[int]]:
    """The places of columns that can be joined."""
    groups: list[list[int]] = []
    for place in sorted(range(len(columns)), key=lambda place: _size(columns[place])):
        last = next((group for group in groups if _same_kind(columns[group[0]], columns[place])), None)
        if last is not None and (padding_is_free or _stay_small([columns[other] for other in (*last, place)])):
            last.append(place)
        else:
            groups.insert(0, [place])
    return sorted(sorted(group) for group in groups)


def join(columns: Sequence[Features], padding_id: int) -> Features:
    """Columns of one kind as one, padded to the width of the widest on the side where they have padding already."""
    width = max(column["input_ids"].shape[1] for column in columns)
    sides = [_is_padded_left(column["attention_mask"]) for column in columns]
    joined = dict(columns[0])
    for name in BY_TOKEN & columns[0].keys():
        fill = padding_id if name == "input_ids" else 0
        parts = []
        for column, left in zip(columns, sides, strict=True):
            more = width - column[name].shape[1]
            parts.append(F.pad(column[name], (more, 0) if left else (0, more), value=fill))
        joined[name] = torch.cat(parts)
    return joined


def cat_rows(parts: Sequence[Tensor]) -> Tensor:
    """The rows of several parts as one tensor. Of token vectors, (B, T, D), each part may have another T."""
    return torch.cat(equally_long(parts))


def equally_long(parts: Sequence[Tensor]) -> list[Tensor]:
    """Token vectors (B, T, D) with the largest T of all parts, zeros behind; tensors of any other rank as they are."""
    if parts[0].dim() != 3:
        return list(parts)
    width = max(part.shape[1] for part in parts)
    return [part if part.shape[1] == width else F.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts]


def _size(column: Features) -> int:
    ids = column.get("input_ids")
    return ids.shape[-1] if isinstance(ids, Tensor) else 0


def _same_kind(one: Features, other: Features) -> bool:
    """Whether all tensors have a row for each input and a place for each token, and the rest is the same."""
    if one.keys() != other.keys() or not {"input_ids", "attention_mask"} <= one.keys():
        return False
    for name, value in one.items():
        if isinstance(value, Tensor):
            shapes = [(column[name].shape, column["input_ids"].shape) for column in (one, other)]
            if name not in BY_TOKEN or any(len(shape) != 2 or shape != ids for shape, ids in shapes):
                return False
        elif not isinstance(value, (str, int, float, type(None))) or value != other[name]:
            return False
    return True


def _stay_small(columns: Sequence[Features]) -> bool:
    shapes = [column["input_ids"].shape for column in columns]
    joined = sum(rows for rows, _ in shapes) * max(width for _, width in shapes)
    return bool(joined <= MORE * sum(rows * width for rows, width in shapes))


def _is_padded_left(mask: Tensor) -> bool:
    return bool((mask[:, 0] == 0).any()) and not bool((mask[:, -1] == 0).any())


def _padding_id(model: nn.Module) -> int:
    """What the tokenizer of the model pads with; RoBERTa counts positions by it."""
    return getattr(_at_first(model, "tokenizer", None), "pad_token_id", None) or 0


def _at_first(model: Any, name: str, default: Any) -> Any:
    """What the first module of an encoder, also of one wrapped for several processes or compiled, has of this name."""
    encoder = encoder_of(model)
    first = next(iter(encoder), None) if isinstance(encoder, nn.Sequential) else None
    return getattr(first, name, default)
