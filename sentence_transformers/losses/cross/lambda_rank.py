"""Losses on pairs of documents of a query: the one with the higher label should score higher, by how much it matters.

A scheme weighs the pairs. It sees the documents in the order of their scores; users may bring their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import one_of, positive
from ..checks import positive_finite
from .listwise import ListLoss
from .listwise_objectives import in_order_of, pairs_in_reach, pairwise_logistic, rank_discounts, relative_gains

PairWeights: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Gain, discount, labels, as ``BaseWeightingScheme.forward`` gets them -> weights, broadcast to (Q, N, N)."""


class BaseWeightingScheme(nn.Module):
    """How much each pair of documents of a query counts."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """The weights of all pairs (i, j); those that do not count, and padding, are left out afterwards.

        Args:
            gain: (Q, N) (2^label - 1) / the best DCG, of the documents from the highest score to the lowest; 0 in the
                padding.
            discount: (1, N) log2(1 + rank).
            true_sorted: (Q, N) the labels in the same order, those below 0 as 0.

        Returns: broadcast to (Q, N, N); row i is the document with the higher label.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it weighs pairs: write its forward.")


class NoWeightingScheme(BaseWeightingScheme):
    """All pairs count alike, as in RankNet. Source: Burges et al. 2005, https://doi.org/10.1145/1102351.1102363"""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        return gain.new_ones(())


class NDCGLoss1Scheme(BaseWeightingScheme):
    """A bound of NDCG: the gain over the discount of document i. All pairs of documents count, also i with itself.

    Source: Wang et al. 2018, https://doi.org/10.1145/3269206.3271784
    """

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        return (gain / discount)[:, :, None]


class NDCGLoss2Scheme(BaseWeightingScheme):
    """A tighter bound of NDCG: by the difference of the gains, and by how far apart the documents rank.

    Source: Wang et al. 2018, https://doi.org/10.1145/3269206.3271784
    """

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        places = torch.arange(gain.shape[1], device=gain.device)
        apart = (places[:, None] - places).abs()
        steps = F.pad((1 / discount).diff(dim=1).abs(), (1, 0))  # (1, N), by distance; 0 for none
        return steps[:, apart] * _differences(gain)


class LambdaRankScheme(BaseWeightingScheme):
    """By how much NDCG changes when the two documents change places.

    Source: Burges et al. 2006, https://papers.nips.cc/paper/2971; Wang et al. 2018,
        https://doi.org/10.1145/3269206.3271784
    """

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        return _differences(1 / discount) * _differences(gain)


class NDCGLoss2PPScheme(BaseWeightingScheme):
    """``NDCGLoss2Scheme`` and ``LambdaRankScheme`` together.

    Args:
        mu: the weight of the former.

    Source: Wang et al. 2018, https://doi.org/10.1145/3269206.3271784
    """

    def __init__(self, mu: float = 10.0) -> None:
        super().__init__()
        self.mu = mu
        self.ndcg_loss2 = NDCGLoss2Scheme()
        self.lambda_rank = LambdaRankScheme()

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        of_both: tuple[Tensor, ...] = (gain, discount, true_sorted)
        found: Tensor = self.mu * self.ndcg_loss2(*of_both) + self.lambda_rank(*of_both)
        return found


class LambdaLoss(ListLoss):
    """Every two documents of a query with different labels should score in that order, weighed by what it does to NDCG.

    Args:
        model: the ``CrossEncoder`` to train.
        weighting_scheme: gain, discount, labels -> weights of the pairs (see ``BaseWeightingScheme``). A class is
            called without arguments first; None: ``NoWeightingScheme``.
        k: pairs count where at least one is among the k highest scores, and gains are divided by the best DCG@k;
            None: all.
        sigma: multiplies the scores, > 0.
        eps: the least DCG that is divided by.
        reduction_log: "binary": logarithms to base 2, "natural": to base e.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all.

    Columns: queries, lists of documents. Labels: lists of float; those below 0 have no gain.
    Raises: ValueError for a setting out of its range.
    Source: Wang et al. 2018, https://doi.org/10.1145/3269206.3271784
    """

    citations = ("wang2018lambdaloss",)

    def __init__(
        self,
        model: nn.Module,
        weighting_scheme: PairWeights | type[BaseWeightingScheme] | None = NDCGLoss2PPScheme,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: str = "binary",
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        scheme = NoWeightingScheme if weighting_scheme is None else weighting_scheme
        self.weighting_scheme: PairWeights = scheme() if isinstance(scheme, type) else scheme
        self.k = None if k is None else positive("k", k)
        self.sigma = positive_finite("sigma", sigma)
        self.eps = eps
        self.reduction_log = one_of("reduction_log", reduction_log, ("binary", "natural"))

    def objective(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        scores, labels = in_order_of(scores, mask, scores, labels)  # the mask is that of before: padding stays behind
        relevance, discounts = labels.clamp(min=0), rank_discounts(labels)
        gains = relative_gains(relevance, discounts, self.k, self.eps)
        pairs = pairs_in_reach(mask, self.k)
        if not isinstance(self.weighting_scheme, NDCGLoss1Scheme):
            pairs = pairs & (labels[:, :, None] > labels[:, None, :])
        weights = self.weighting_scheme(gains, discounts, relevance)
        loss = pairwise_logistic(self.sigma * scores, pairs, weights)
        return loss / math.log(2) if self.reduction_log == "binary" else loss


class RankNetLoss(LambdaLoss):
    """Every two documents of a query with different labels should score in that order; all such pairs count alike.

    Args:
        model: the ``CrossEncoder`` to train.
        k, sigma, eps, reduction_log, activation_fn, mini_batch_size: as for ``LambdaLoss``.

    Columns: queries, lists of documents. Labels: lists of float; only their order matters.
    Raises: ValueError for a setting out of its range.
    Source: Burges et al. 2005, https://doi.org/10.1145/1102351.1102363
    """

    citations = ("burges2005learning",)

    def __init__(
        self,
        model: nn.Module,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: str = "binary",
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, NoWeightingScheme, k, sigma, eps, reduction_log, activation_fn, mini_batch_size)


def _differences(values: Tensor) -> Tensor:
    """|values[i] - values[j]|: (Q, N) -> (Q, N, N)."""
    return (values[:, :, None] - values[:, None, :]).abs()
