"""From the packed features of the engine to the padded features dict that everybody else's modules expect."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers._types import Features
from sentence_transformers.ops.device import moved
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import Packed, TokenIds


def accepts_packed(module: nn.Module) -> bool:
    """Whether a module says that it reads packed token embeddings, and nobody hooked in who expects padded ones."""
    return bool(getattr(module, "accepts_packed", False)) and not _hooked(module)


def threads_safe(module: nn.Module) -> bool:
    """Whether several threads may run a module at once: it says so, and nobody hooked into it or into a part of it."""
    return bool(getattr(module, "threads_safe", False)) and not _hooked_anywhere(module)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _hooked_anywhere(module: nn.Module) -> bool:
    return _hooked(module) or any(part is not None and _hooked_anywhere(part) for part in module._modules.values())


def padded(features: Features) -> Features:
    """The same features with (B, T, ...) tensors; padding stands on the right."""
    tokens = features.get("tokens")
    out: Features = {}
    for key, value in features.items():
        if isinstance(value, Projected):
            value = value.whole()
        if isinstance(value, Packed):
            layout = value.pad()
            out[key] = layout.values
            out.setdefault("attention_mask", layout.mask)
        elif isinstance(value, list) and value and isinstance(value[0], Packed):
            out[key] = [item.pad().values for item in value]
        elif key != "tokens":
            out[key] = value
    if isinstance(tokens, TokenIds):
        out["input_ids"] = _pad_ids(tokens.ids, tokens.lengths)
        out.setdefault("attention_mask", _pad_ids(torch.ones_like(tokens.ids), tokens.lengths))
        if tokens.type_ids is not None:
            out["token_type_ids"] = _pad_ids(tokens.type_ids, tokens.lengths)
        if tokens.visible is not None:  # the others expand a query
            seen = torch.tensor(tokens.visible, device=tokens.ids.device)[:, None]
            added = (out["attention_mask"] != 0) & (out["attention_mask"].cumsum(1) > seen)
            out["query_expansion_positions"] = added
            out["attention_mask"] = out["attention_mask"].masked_fill(added, 0)
    return out


def _pad_ids(values: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """(N,) -> (B, T), zero on the right."""
    return Packed(values[:, None], lengths).pad().values[..., 0]


def to_device(features: Features, device: torch.device) -> Features:
    """The same features with every tensor on a device."""
    return {key: _move(value, device) for key, value in features.items()}


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, TokenIds):
        return value.to(device)
    return moved(value, device) if isinstance(value, Tensor) else value
