"""Objectives on triplets: something must be nearer than something else. Pure functions on distances."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def triplet(near: Tensor, far: Tensor, margin: float) -> Tensor:
    """relu(near - far + margin) for each triplet: (B,), (B,) -> (B,).

    Source: Schroff et al. 2015, https://arxiv.org/abs/1503.03832
    """
    return F.relu(near - far + margin)


def same_class(labels: Tensor) -> Tensor:
    """(B,) -> (B, B) bool: a pair of two different rows of one class."""
    return (labels[:, None] == labels[None, :]).fill_diagonal_(False)


def other_class(labels: Tensor) -> Tensor:
    """(B,) -> (B, B) bool: a pair of two classes."""
    return labels[:, None] != labels[None, :]


def all_triplets(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean of the losses above 0 over all anchors, positives and negatives.

    Args:
        distances: (B, B) >= 0. labels: (B,) classes.

    Returns: () float; 0 without triplets.
    Source: Hermans et al. 2017, https://arxiv.org/abs/1703.07737
    """
    anchors, positives = same_class(labels).nonzero(as_tuple=True)  # each (P,)
    losses = triplet(distances[anchors, positives, None], distances[anchors], margin)  # (P, B)
    losses = losses * other_class(labels)[anchors]
    return losses.sum() / ((losses > 0).sum() + 1e-16)


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row as anchor: the farthest positive, and the nearest negative.

    Args:
        distances: (B, B) >= 0. labels: (B,) classes.

    Returns: (B,) and (B,). Without a positive: 0; without a negative: the largest of the row.
    Source: Hermans et al. 2017, https://arxiv.org/abs/1703.07737
    """
    farthest = distances.masked_fill(~same_class(labels), 0).max(dim=1).values
    row_maximum = distances.max(dim=1, keepdim=True).values
    nearest = torch.where(other_class(labels), distances, row_maximum).min(dim=1).values
    return farthest, nearest


def semi_hard_triplets(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean over all anchors and positives, with the nearest negative that is farther than the positive.

    Where no negative is, the farthest negative; where the batch has no other class, distance 0.

    Args:
        distances: (B, B) >= 0. labels: (B,) classes.

    Returns: () float; 0 without pairs of one class.
    Source: Schroff et al. 2015, https://arxiv.org/abs/1503.03832
    """
    anchors, positives = same_class(labels).nonzero(as_tuple=True)  # each (P,)
    near = distances[anchors, positives]
    is_negative, rows = other_class(labels)[anchors], distances[anchors]  # each (P, B)
    is_semi_hard = is_negative & (rows > near[:, None])
    outside = rows.masked_fill(~is_semi_hard, torch.inf).min(dim=1).values
    farthest = rows.masked_fill(~is_negative, 0).max(dim=1).values
    far = torch.where(is_semi_hard.any(dim=1), outside, farthest)
    return triplet(near, far, margin).sum() / max(len(near), 1)
