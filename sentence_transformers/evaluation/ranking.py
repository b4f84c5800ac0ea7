"""Numbers that say how well a ranking serves its queries: pure functions of arrays. Knows nothing of models.

Of retrieval, where the best results of a large corpus are known in order, from a matrix of which of them are relevant.
Of reranking, where all candidates of a query have scores, from the scores: equal ones have no order among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import positive

Array = npt.NDArray[Any]

# --- retrieval: (q, k) bool, whether the k best results of q queries are relevant; fewer columns are a smaller corpus


def accuracy_at(relevance: Array, limit: int) -> Array:
    """Whether a relevant result is among the first ``limit``: (q, k) bool -> (q,) float64, 0 or 1."""
    return np.where(relevance[:, :limit].any(axis=1), 1.0, 0.0)


def precision_at(relevance: Array, limit: int) -> Array:
    """The relevant results among the first ``limit``, as a share of ``limit``: (q, k) bool -> (q,) float64."""
    hits: Array = relevance[:, :limit].sum(axis=1)
    return hits / limit


def recall_at(relevance: Array, counts: Array, limit: int) -> Array:
    """The relevant results among the first ``limit``, as a share of all that are relevant.

    Args:
        relevance: (q, k) bool. counts: (q,) how many documents are relevant, found or not, >= 1.

    Returns: (q,) float64.
    """
    hits: Array = relevance[:, :limit].sum(axis=1)
    return hits / counts


def reciprocal_rank_at(relevance: Array, limit: int) -> Array:
    """1 / the rank of the first relevant result, 0 if it is beyond ``limit``: (q, k) bool -> (q,) float64."""
    head = relevance[:, :limit]
    if not head.shape[1]:
        return np.zeros(len(head))
    return np.where(head.any(axis=1), 1 / (head.argmax(axis=1) + 1), 0.0)


def ndcg_at(relevance: Array, counts: Array, limit: int) -> Array:
    """Normalised discounted cumulative gain of the first ``limit`` results.

    Args:
        relevance: (q, k) bool; a relevant result gains 1. counts: (q,) how many documents are relevant, >= 1.

    Returns: (q,) float64, 0..1; 1 is as many relevant results first as there can be.
    Source: Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418
    """
    head = relevance[:, :limit]
    gains: Array = head @ discounts(head.shape[1])
    return gains / ideal_gains(counts, limit)


def average_precision_at(relevance: Array, counts: Array, limit: int) -> Array:
    """The sum of the precisions at the relevant ones among the first ``limit`` results, as a share of the best sum.

    Args:
        relevance: (q, k) bool. counts: (q,) how many documents are relevant, >= 1.

    Returns: (q,) float64, 0..1.
    Source: https://en.wikipedia.org/wiki/Evaluation_measures_(information_retrieval)#Average_precision
    """
    head = relevance[:, :limit]
    precisions = head.cumsum(axis=1) / np.arange(1, head.shape[1] + 1)
    sums: Array = (precisions * head).sum(axis=1)
    return sums / np.minimum(counts, limit)


def discounts(count: int) -> Array:
    """How much a result counts for at the ranks 1 to ``count``: (count,) float64, 1 / log2(rank + 1)."""
    return 1 / np.log2(np.arange(2, count + 2))


def ideal_gains(counts: Array, limit: int) -> Array:
    """Discounted gains of rankings that begin with ``counts`` (q,) relevant results, up to ``limit``: (q,) float64."""
    most = np.minimum(counts, limit)
    sums = np.concatenate([[0.0], np.cumsum(discounts(int(most.max(initial=0))))])
    return sums[most]


@dataclass(frozen=True)
class Cutoffs:
    """At how many results each metric of retrieval is taken.

    Raises: ValueError for a number below 1, and if there is none for nDCG, which says how good a model is.
    """

    accuracy: tuple[int, ...]
    precision_recall: tuple[int, ...]
    mrr: tuple[int, ...]
    ndcg: tuple[int, ...]
    map: tuple[int, ...]

    @classmethod
    def of(cls, *limits: Sequence[int]) -> Cutoffs:
        """Of lists, in the order of the attributes."""
        return cls(*(tuple(some) for some in limits))

    def __post_init__(self) -> None:
        for name, limits in vars(self).items():
            for limit in limits:
                positive(f"{name}_at_k", limit)
        if not self.ndcg:
            raise ValueError("ndcg_at_k must not be empty: the primary metric is taken at its largest number.")

    @property
    def largest(self) -> int:
        """So many results are needed."""
        return max(self.accuracy + self.precision_recall + self.mrr + self.ndcg + self.map)

    def metrics(self, relevance: Array, counts: Array) -> dict[str, dict[int, float]]:
        """Means over all queries: metric, such as "ndcg@k" -> number of results -> value.

        Args:
            relevance: (q, k) bool, q >= 1, k >= ``largest`` unless the corpus is smaller. counts: (q,) how many
                documents are relevant, >= 1.
        """
        head = relevance[:, : self.largest]
        return {
            "accuracy@k": {k: float(accuracy_at(head, k).mean()) for k in self.accuracy},
            "precision@k": {k: float(precision_at(head, k).mean()) for k in self.precision_recall},
            "recall@k": {k: float(recall_at(head, counts, k).mean()) for k in self.precision_recall},
            "ndcg@k": {k: float(ndcg_at(head, counts, k).mean()) for k in self.ndcg},
            "mrr@k": {k: float(reciprocal_rank_at(head, k).mean()) for k in self.mrr},
            "map@k": {k: float(average_precision_at(head, counts, k).mean()) for k in self.map},
        }

    def columns(self, function: str) -> dict[str, str]:
        """Of one score function: column of a CSV file, such as "cosine-NDCG@10" -> metric, "cosine_ndcg@10"."""
        parts = [("Accuracy", k) for k in self.accuracy]
        parts += [(name, k) for k in self.precision_recall for name in ("Precision", "Recall")]
        parts += [("MRR", k) for k in self.mrr] + [("NDCG", k) for k in self.ndcg] + [("MAP", k) for k in self.map]
        return {f"{function}-{name}@{k}": f"{function}_{name.lower()}@{k}" for name, k in parts}


# --- reranking: all candidates of a query have scores


@dataclass(frozen=True)
class ScoredLists:
    """The N candidates of q queries, query after query, those of a query best first.

    Attributes:
        counts: (q,) int64, how many candidates of a query are relevant.
        queries: (N,) int64, of which query. ranks: (N,) int64, from 0.
        relevance: (N,) bool.
        groups: (N,) int64, ascending; candidates of a query with equal scores are one group.
    """

    counts: Array
    queries: Array
    ranks: Array
    relevance: Array
    groups: Array

    @classmethod
    def of(cls, scores: Sequence[Any], relevance: Sequence[Any], later_first: bool = False) -> ScoredLists:
        """Sort and group.

        Args:
            scores: for each of q queries (n,) numbers, higher is better. relevance: likewise, (n,) bool.
            later_first: of equal scores the later candidate has the better rank; else the earlier one. Only
                ``reciprocal_rank`` depends on it.

        Raises: ValueError if there are not as many scores as candidates, or a score is NaN.
        """
        values = [np.asarray(some) for some in scores]
        truths = [np.asarray(some, dtype=bool) for some in relevance]
        if [some.shape for some in values] != [some.shape for some in truths] or any(some.ndim != 1 for some in values):
            raise ValueError("scores and relevance must be lists of equally many numbers, one for each candidate.")
        sizes = np.array([len(some) for some in values], dtype=np.int64)
        flat, truth = np.concatenate([np.empty(0, np.float32), *values]), np.concatenate([np.empty(0, bool), *truths])
        if np.isnan(flat).any():
            raise ValueError("The scores of candidates must be numbers, got NaN.")
        queries = np.repeat(np.arange(len(sizes)), sizes)
        places = np.arange(len(flat))
        order = np.lexsort((-places if later_first else places, -flat, queries))
        flat, truth = flat[order], truth[order]
        is_new = np.append(True, (flat[1:] != flat[:-1]) | (queries[1:] != queries[:-1]))[: len(flat)]
        return cls(
            counts=np.bincount(queries, weights=truth, minlength=len(sizes)).astype(np.int64),
            queries=queries,
            ranks=places - np.repeat(sizes.cumsum() - sizes, sizes),
            relevance=truth,
            groups=is_new.cumsum() - 1,
        )

    def reciprocal_rank(self, limit: int) -> Array:
        """1 / the rank of the first relevant candidate, 0 if it is beyond ``limit`` or there is none: (q,) float64."""
        found = np.zeros(len(self.counts))
        is_hit = self.relevance & (self.ranks < limit)
        hits, first = np.unique(self.queries[is_hit], return_index=True)
        found[hits] = 1 / (self.ranks[is_hit][first] + 1)
        return found

    def ndcg(self, limit: int) -> Array:
        """Normalised discounted cumulative gain of the first ``limit`` candidates: (q,) float64, 0..1.

        Candidates with equal scores share what they gain, wherever the limit falls among them: the mean over all their
        orders, as in scikit-learn's ``ndcg_score``. 0 without relevant candidates.

        Source: McSherry and Najork 2008, https://doi.org/10.1007/978-3-540-78646-7_38
        """
        shares = np.bincount(self.groups, weights=self.relevance) / np.bincount(self.groups)
        counted = self.ranks < limit
        weights = discounts(limit)[self.ranks[counted]] * shares[self.groups[counted]]
        gains = np.bincount(self.queries[counted], weights=weights, minlength=len(self.counts))
        best = ideal_gains(self.counts, limit)
        return np.divide(gains, best, out=np.zeros_like(best), where=best > 0)

    def average_precision(self) -> Array:
        """The mean precision over the relevant candidates, each taken with its whole group: (q,) float64, 0..1.

        As scikit-learn's ``average_precision_score``; 0 without relevant candidates.
        """
        last = np.flatnonzero(np.append(self.groups[1:] != self.groups[:-1], True)[: len(self.groups)])
        hits = self.relevance.cumsum()[last]  # of all queries up to here
        found = np.diff(hits, prepend=0)
        queries = self.queries[last]
        hits -= (self.counts.cumsum() - self.counts)[queries]
        weights = found * hits / (self.ranks[last] + 1)
        sums = np.bincount(queries, weights=weights, minlength=len(self.counts))
        return np.divide(sums, self.counts, out=np.zeros(len(sums)), where=self.counts > 0)
