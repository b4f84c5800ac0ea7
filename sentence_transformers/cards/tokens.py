"""How many tokens a model makes of texts, for statistics of its data."""

from __future__ import annotations

from typing import Any

import numpy as np

from .columns import CountTokens
from .guard import logged


def counter(model: Any) -> CountTokens:
    """A function that counts tokens as the model reads them: cut at its longest input, with special tokens."""

    def count(texts: list[str]) -> list[int] | None:
        sizes: list[int] | None = None
        if model is not None and "text" in model.modalities:
            with logged("numbers of tokens"):
                sizes = _sizes(model.preprocess(texts), len(texts))
        return sizes

    return count


def _sizes(features: dict[str, Any], count: int) -> list[int] | None:
    if (mask := features.get("attention_mask")) is not None and len(mask) == count:
        return [int(size) for size in mask.sum(-1)]
    if (starts := features.get("offsets")) is not None and len(starts) == count:  # all tokens in one row
        return [int(size) for size in np.diff([*starts.tolist(), len(features["input_ids"])])]
    return None
