"""Objectives on pairs: one score or distance for each row against one label. Pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum of exp(scores[j] - scores[i]) over all i, j with labels[i] > labels[j]), in O(B log B).

    Args:
        scores: (B,) float, already scaled.
        labels: (B,) only their order matters; equal ones and NaN contribute nothing.

    Returns: () float >= 0; exactly 0 when all labels tie.
    Source: Huang et al. 2024, https://doi.org/10.1109/TASLP.2024.3402087
    """
    if not len(scores):
        return scores.sum()
    ordered, order = labels.to(scores.dtype).sort()  # NaN comes last
    lower = torch.searchsorted(ordered, ordered)  # (B,): how many labels are below this one
    below = scores[order].logcumsumexp(0)[(lower - 1).clamp(min=0)]
    terms = (below - scores[order]).masked_fill((lower == 0) | (ordered != ordered), -torch.inf)
    return torch.logsumexp(F.pad(terms, (1, 0)), dim=0)  # the padded 0 is the "1 +"


def contrastive(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Half of label * d^2 + (1 - label) * relu(margin - d)^2 for each pair: (B,), (B,) -> (B,).

    Source: Hadsell et al. 2006, https://doi.org/10.1109/CVPR.2006.100
    """
    return 0.5 * (labels * distances.square() + (1 - labels) * F.relu(margin - distances).square())


def online_contrastive(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Sum of d^2 over the hard positives and relu(margin - d)^2 over the hard negatives.

    A negative is hard if it is nearer than the farthest positive, a positive if it is farther than the nearest
    negative. Where the other side has no pairs, the mean of the own side is the limit.

    Args:
        distances: (B,) float.
        labels: (B,) 1 for positives, 0 for negatives; pairs with any other label count as neither.

    Returns: () float >= 0.
    """
    is_positive, is_negative = labels == 1, labels == 0
    hard_negative = is_negative & (distances < _limit(distances, is_positive, is_negative))
    hard_positive = is_positive & (-distances < _limit(-distances, is_negative, is_positive))
    pushed = F.relu(margin - distances).square()
    return torch.where(hard_positive, distances.square(), torch.where(hard_negative, pushed, 0.0)).sum()


def _limit(distances: Tensor, others: Tensor, own: Tensor) -> Tensor:
    """The largest of the others; where there are none, the mean of the own."""
    largest = distances.masked_fill(~others, -torch.inf).max()
    mean = (distances * own).sum() / own.sum().clamp(min=1)
    return torch.where(others.any(), largest, mean)
