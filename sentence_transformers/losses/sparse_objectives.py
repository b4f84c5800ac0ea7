"""Objectives of sparse embeddings: how much it costs to search them, how well an autoencoder revives what is idle.

Pure functions; a reconstruction is compared by ``teacher_objectives.embedding_mse``.
"""

from __future__ import annotations

from torch import Tensor


def flops(embeddings: Tensor, threshold: float | None = None) -> Tensor:
    """Sum over the dimensions of the squared mean activation: how many products two such embeddings need, smoothly.

    Args:
        embeddings: (B, V), >= 0.
        threshold: rows with at most so many numbers other than 0 count as zero; None: none.

    Returns: (); 0 if no row is above the threshold.
    Source: Paria et al. 2020, https://arxiv.org/abs/2004.05665
    """
    if threshold is not None:
        active = (embeddings != 0).sum(1, keepdim=True)
        embeddings = embeddings * (active > threshold)
    return embeddings.mean(0).square().sum()


def normalized_mse(found: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference, divided by that of the mean of the rows, the best guess that is the same for all.

    Args:
        found, target: (B, D).

    Returns: (); not divided where all rows of the target are equal, for instance a single one.
    Source: Gao et al. 2024, https://arxiv.org/abs/2406.04093
    """
    variance = (target - target.mean(0)).square().mean()
    return (found - target).square().mean() / variance.where(variance > 0, 1.0)
