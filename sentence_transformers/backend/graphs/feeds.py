"""Token ids in the form that graphs read: padded on the right. On numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sentence_transformers.backend.graphs.facts import IDS, MASK, TYPES
from sentence_transformers.backend.graphs.session import POSITIONS, Array


def padded(
    ids: Array,
    lengths: Sequence[int],
    inputs: Sequence[str],
    *,
    types: Array | None = None,
    visible: Sequence[int] | None = None,
    padding_id: int = 0,
) -> tuple[dict[str, Array], Array]:
    """N packed ids of B sequences -> the inputs of a graph (B, T), and which of their places are tokens (B, T) bool.

    Args:
        inputs: those that the graph has. types: (N,) segment numbers, or None where all are 0.
        visible: how many tokens of each sequence the others look at, or None for all.
    """
    sizes = np.asarray(lengths, dtype=np.int64)[:, None]
    place = np.arange(max((1, *lengths)), dtype=np.int64)
    real = place < sizes
    seen = real if visible is None else place < np.asarray(visible, dtype=np.int64)[:, None]
    feeds = {IDS: _spread(ids, real, padding_id), MASK: seen.astype(np.int64)}
    if TYPES in inputs:
        feeds[TYPES] = np.zeros(real.shape, np.int64) if types is None else _spread(types, real, 0)
    if POSITIONS in inputs:
        feeds[POSITIONS] = np.ascontiguousarray(np.broadcast_to(place, real.shape))
    return feeds, real


def _spread(values: Array, real: Array, fill: int) -> Array:
    out = np.full(real.shape, fill, dtype=np.int64)
    out[real] = values
    return out
