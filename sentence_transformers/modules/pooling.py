"""Token embeddings to one vector per input. Every mode is written once, over the reductions of ``ops.tokens``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.errors import one_of
from sentence_transformers.modules.parts import WithDimension, renamed_arguments
from sentence_transformers.ops.tokens import Packed, Padded, Tokens

TINY = 1e-9  # what an input without tokens is divided by


@dataclass(frozen=True)
class Counted:
    """The tokens that count, with what some modes need to know beside them.

    dropped: how many tokens of the prompt were left out in front; places are still counted from the first one.
    weight_sums: (B,), where ``WordWeights`` weighted the tokens. first: (B, D), a first-token vector made elsewhere.
    """

    tokens: Tokens
    dropped: int
    weight_sums: Tensor | None
    first: Tensor | None


def _mean(counted: Counted) -> Tensor:
    if isinstance(counted.tokens, Packed) and counted.weight_sums is None:
        return counted.tokens.mean()
    total, count = counted.tokens.sum()
    return total / _weight_sum(count, counted)


def _mean_sqrt(counted: Counted) -> Tensor:
    total, count = counted.tokens.sum()
    return total / _weight_sum(count, counted).sqrt()


def _weighted_mean(counted: Counted) -> Tensor:
    tokens = counted.tokens
    places = tokens.positions() + counted.dropped + 1
    total, weight = tokens.sum(places.to(tokens.values.dtype))
    return total / weight.clamp(min=TINY)


def _max(counted: Counted) -> Tensor:
    return counted.tokens.max()


def _last(counted: Counted) -> Tensor:
    return counted.tokens.take("last")


def _first(counted: Counted) -> Tensor:
    return counted.tokens.take("first") if counted.first is None else counted.first


def _weight_sum(count: Tensor, counted: Counted) -> Tensor:
    """(B, 1): the number of tokens, or the sum of their weights."""
    sums = counted.weight_sums
    return (count if sums is None else sums.to(count.dtype).view(-1, 1)).clamp(min=TINY)


# In the order in which the boolean flags of old config files are read.
MODES: dict[str, Callable[[Counted], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def modes_of_flags(flags: dict[str, bool]) -> list[str]:
    """The modes that old boolean flags switch on, in their fixed order; "mean" when none is on."""
    return [mode for flag, mode in OLD_FLAGS.items() if flags.get(flag)] or ["mean"]


def _old_flags(constructor: Callable[..., None]) -> Callable[..., None]:
    """Decorator: take the boolean flags of old versions for ``pooling_mode``."""

    @functools.wraps(constructor)
    def construct(self: Pooling, *args: Any, **kwargs: Any) -> None:
        flags = {name: kwargs.pop(name) for name in OLD_FLAGS if name in kwargs}
        if flags:
            warnings.warn("Pooling(pooling_mode_...=True) is now pooling_mode='...'", FutureWarning, stacklevel=2)
            kwargs["pooling_mode"] = modes_of_flags(flags)
        constructor(self, *args, **kwargs)

    return construct


class Pooling(WithDimension):
    """Reduce token embeddings to one vector.

    Reads ``token_embeddings`` (B, T, D) with ``attention_mask``, or ``Packed``; writes ``sentence_embedding``
    (B, n * D).

    Args:
        embedding_dimension: D.
        pooling_mode: "cls" (first token), "max", "mean", "mean_sqrt_len_tokens" (sum / sqrt(T)), "weightedmean"
            (weights 1 ... T), "lasttoken"; or n of them, whose vectors are joined in this order.
        include_prompt: whether the tokens of the prompt count.

    Raises: ValueError for an unknown mode.
    Source: "weightedmean" is Muennighoff 2022 (SGPT), https://arxiv.org/abs/2202.08904
    """

    config_keys: ClassVar[Sequence[str]] = ("embedding_dimension", "pooling_mode", "include_prompt")
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    accepts_packed: ClassVar[bool] = True

    @_old_flags
    @renamed_arguments(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        pooling_mode: str | Sequence[str] = "mean",
        include_prompt: bool = True,
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        names = [pooling_mode] if isinstance(pooling_mode, str) else list(pooling_mode)
        self.modes = tuple(one_of("pooling_mode", name, tuple(MODES)) for name in names)
        self.include_prompt = include_prompt

    @property
    def pooling_mode(self) -> str | tuple[str, ...]:
        """The mode, or the modes where there are several."""
        return self.modes[0] if len(self.modes) == 1 else self.modes

    @property
    def pooling_output_dimension(self) -> int:
        """n * D."""
        return len(self.modes) * self.embedding_dimension

    @property
    def word_embedding_dimension(self) -> int:
        """The old name of ``embedding_dimension``."""
        return self.embedding_dimension

    def get_embedding_dimension(self) -> int:
        """The width of ``sentence_embedding``."""
        return self.pooling_output_dimension

    def get_pooling_mode_str(self) -> str:
        """The modes joined by ``+``."""
        return "+".join(self.modes)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Half types are accumulated in float32 and returned in their own type."""
        tokens = _tokens(features)
        dtype = tokens.values.dtype
        if dtype in (torch.float16, torch.bfloat16):
            tokens = tokens.replace(tokens.values.float())
        dropped = 0 if self.include_prompt else int(features.get("prompt_length") or 0)
        if dropped:
            tokens = tokens.drop_first(dropped)
        counted = Counted(tokens, dropped, features.get("token_weights_sum"), features.get("cls_token_embeddings"))
        vectors = [MODES[mode](counted) for mode in self.modes]
        pooled = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)
        features["sentence_embedding"] = pooled.to(dtype)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)

    @classmethod
    def load_config(
        cls, model_name_or_path: str, subfolder: str = "", config_filename: str | None = None, **hub: Any
    ) -> dict[str, Any]:
        """Read the config; the boolean flags of old files become ``pooling_mode``."""
        config = super().load_config(model_name_or_path, subfolder, config_filename, **hub)
        flags = {name: config.pop(name) for name in OLD_FLAGS if name in config}
        if flags:
            config.setdefault("pooling_mode", modes_of_flags(flags))
        return config


def _tokens(features: Features) -> Tokens:
    values = features["token_embeddings"]
    if isinstance(values, Packed):
        return values
    mask = features.get("attention_mask")
    if mask is None or mask.shape[-1] != values.shape[1]:
        mask = torch.ones(values.shape[:2], dtype=torch.int64, device=values.device)
    return Padded(values, mask.to(values.device))
