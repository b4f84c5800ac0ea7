"""Objectives on lists: the scores of the documents of each query against their labels. Pure functions.

All work on matrices (Q, N): a row for each query, its documents first, padding behind. ``mask``, (Q, N) bool, is true
for documents. What stands in the padding changes neither values nor gradients; a query without documents adds 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def padded(scores: Tensor, labels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Lists as matrices.

    Args:
        scores: (P,) of the documents of all queries, one query after the other; P >= 1.
        labels: of the documents of each query; their lengths say which scores are whose.

    Returns: scores and labels (Q, N), at least float32, 0 in the padding, and the mask.
    """
    counts = torch.tensor([len(some) for some in labels])
    mask = torch.arange(int(counts.max())) < counts[:, None]
    places = mask.flatten().nonzero()[:, 0].to(scores.device)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    flat = torch.cat([some.reshape(-1) for some in labels]).to(wide)
    empty = wide.new_zeros(mask.numel())
    found, wanted = (empty.index_copy(0, places, values).view(mask.shape) for values in (wide, flat))
    return found, wanted, mask.to(scores.device)


def in_order_of(keys: Tensor, mask: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """The documents of each row by falling ``keys``, those with equal ones as they were; padding stays behind."""
    order = keys.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return tuple(each.gather(1, order) for each in values)


def listnet(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of softmax(scores) from softmax(labels), mean of the queries.

    Source: Cao et al. 2007, https://doi.org/10.1145/1273496.1273513 (the chance of each document to be first)
    """
    log_found = _only(scores, mask).log_softmax(dim=1)
    wanted = _only(labels, mask).softmax(dim=1).masked_fill(~mask, 0)
    return -(wanted * log_found).sum() / len(scores)


def plackett_luce(scores: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """-log of the chance that documents drawn by exp(score), without putting back, come in the order of the columns.

    Args:
        scores: (Q, N) the best document first.
        weights: (Q, N) >= 0 of the places; each row is scaled to the sum 1. None: 1 for every place.

    Returns: the weighted sum over the places, mean of the queries.
    Source: Xia et al. 2008, https://doi.org/10.1145/1390156.1390306; with weights, Lan et al. 2014,
        https://auai.org/uai2014/proceedings/individuals/164.pdf
    """
    rest = _only(scores, mask).flip(1).logcumsumexp(dim=1).flip(1)  # of this place and all behind it
    terms = (rest - scores).masked_fill(~mask, 0)
    if weights is not None:
        counted = weights.to(terms).expand_as(terms).masked_fill(~mask, 0)
        terms = terms * (counted / counted.sum(1, keepdim=True).clamp(min=torch.finfo(terms.dtype).tiny))
    return terms.sum() / len(scores)


def adr_mse(scores: Tensor, labels: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """Squared error of smooth ranks, each divided by the discount of the true rank, mean of all documents.

    The smooth rank counts a document above by sigmoid(alpha * how much higher its score is); documents with equal
    labels share the mean of their ranks.

    Source: Schlatt et al. 2024, https://arxiv.org/abs/2405.07920
    """
    above = (alpha * (scores[:, None, :] - scores[:, :, None])).sigmoid()  # (Q, i, j): j above i
    truly = (1 + (labels[:, None, :] - labels[:, :, None]).sign()) / 2  # 1, or 1/2 for a tie
    # either counts a document itself as 1/2
    smooth, true = (0.5 + some.masked_fill(~mask[:, None, :], 0).sum(2) for some in (above, truly))
    errors = (true - smooth).square() / torch.log2(true + 1)
    return errors.masked_fill(~mask, 0).sum() / mask.sum()


def rank_discounts(labels: Tensor) -> Tensor:
    """log2(1 + rank) of the N ranks, (1, N)."""
    return torch.arange(2, labels.shape[1] + 2, device=labels.device, dtype=labels.dtype).log2()[None]


def relative_gains(relevance: Tensor, discounts: Tensor, k: int | None, eps: float) -> Tensor:
    """(2^relevance - 1) / the best DCG@k that the documents of the query allow.

    Args:
        relevance: (Q, N) >= 0; 0 in the padding.
        discounts: (1, N).
        k: ranks that count; None: all.
        eps: the least that is divided by.
    """
    # all times 2^-highest, which keeps them finite
    highest = relevance.amax(1, keepdim=True)
    gains = (relevance - highest).exp2() * -torch.expm1(-relevance * math.log(2))
    best = gains.sort(dim=1, descending=True).values / discounts
    return gains / best[:, :k].sum(1, keepdim=True).clamp(min=eps * (-highest).exp2())


def pairs_in_reach(mask: Tensor, k: int | None) -> Tensor:
    """(Q, N, N) bool: both are documents, and at least one of them is among the first ``k`` columns. None: all."""
    both = mask[:, :, None] & mask[:, None, :]
    if k is None:
        return both
    first = torch.arange(mask.shape[1], device=mask.device) < k
    return both & (first[:, None] | first)


def pairwise_logistic(scores: Tensor, pairs: Tensor, weights: Tensor) -> Tensor:
    """-log sigmoid(scores[i] - scores[j]) of pairs, each times its weight, mean of all pairs; 0 without pairs.

    Args:
        scores: (Q, N), already scaled.
        pairs: (Q, i, j) bool: those that count.
        weights: broadcast to (Q, i, j).

    Source: Burges et al. 2005, https://doi.org/10.1145/1102351.1102363; with weights, Wang et al. 2018,
        https://doi.org/10.1145/3269206.3271784
    """
    terms = F.softplus(scores[:, None, :] - scores[:, :, None])
    counted = weights.to(terms).expand_as(terms).masked_fill(~pairs, 0)
    return (terms * counted).sum() / pairs.sum().clamp(min=1)


def _only(values: Tensor, mask: Tensor) -> Tensor:
    """With so low numbers in the padding that their exp is 0 beside any document's, but finite."""
    return values.masked_fill(~mask, torch.finfo(values.dtype).min / 4)
