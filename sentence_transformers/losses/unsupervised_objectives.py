"""What losses without labelled data minimise, as functions of scores. Knows nothing of models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_tension(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log sigmoid(scores) where the label is 1, and of -log(1 - sigmoid(scores)) where it is 0.

    Args:
        scores: (B,) dot products of two embeddings.
        labels: (B,) 1 where they are of the same text, else 0.

    Returns: () float, natural log.
    Source: Carlsson et al. 2021, https://openreview.net/forum?id=Ov_sMNau-PF
    """
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="sum")


def matched_both_ways(scores: Tensor) -> Tensor:
    """Cross entropy of finding i in row i, and of finding it in column i; the mean of both.

    Args:
        scores: (B, B), already scaled.

    Returns: () float, natural log.
    Source: section 4.1 of Radford et al. 2021, https://arxiv.org/abs/2103.00020
    """
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def next_tokens(logits: Tensor, ids: Tensor, padding_id: int | None) -> Tensor:
    """Mean of -log p(token) over the tokens behind the first one that are no padding.

    Args:
        logits: (B, T - 1, words); place t is about token t + 1.
        ids: (B, T) int64.
        padding_id: the id that is not predicted; None if all are.

    Returns: () float, natural log.
    Source: Wang, Reimers and Gurevych 2021, https://arxiv.org/abs/2104.06979
    """
    ignored = -100 if padding_id is None else padding_id
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=ignored)
