"""Clusters of rows that are alike: around a row (communities), or linked by one pair after another.

Both look at all pairs, a block at a time, and hold no more than the pairs of a block or of some communities. Knows
nothing of models, and nothing of text.
"""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch

from ..errors import positive
from ..ops.similarity import cos_sim, pairwise_dot_score
from .pairs import RowPairs
from .semantic import embedding_matrix

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike

    Array: TypeAlias = np.ndarray[Any, Any]

CENTRES = 256
"""For so many rows at once it is found out who is near; some are taken by an earlier one meanwhile, in vain."""
CENTRE_PAIRS = 2**22
"""At most so many are near them, unless they are near one."""


def community_detection(
    embeddings: EmbeddingsLike,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Groups of rows around a centre, disjoint: fast clustering without a number of clusters.

    Every row with at least ``min_community_size`` rows, itself among them, of a cosine >= ``threshold`` is a centre of
    those. Centres are gone through by the number of their rows, of equal ones the lower first. One that was taken
    already is skipped; the others take those of their rows that are still free, if they are enough. The cosine of a
    row to itself is 1, or 0 if the row is zero; those of other pairs are rounded: to find equal rows, ask for a little
    less than 1.

    Args:
        embeddings: (n, D), dense or sparse; need not have unit length.
        threshold: least cosine to the centre, -1..1.
        min_community_size: rows of a community, >= 1.
        batch_size: at most so many times n cosines are held at once, >= 1. The result does not depend on it.
        show_progress_bar: show one.

    Returns: communities of row indices, largest first; in each the centre, then the others by their cosine to it, of
        equal ones the lower first.
    Raises: ValueError for embeddings that are not (rows, width), for NaN or infinite ones, for a threshold that is not
        a finite number, for a size below 1.
    """
    smallest, at_once = positive("min_community_size", min_community_size), positive("batch_size", batch_size)
    least, rows = _number("threshold", threshold), embedding_matrix(embeddings)
    if len(rows) < smallest:
        return []
    with torch.no_grad():
        pairs = RowPairs.of(rows, cos_sim, (at_once, len(rows)))
        sizes = _sizes(pairs, least, show_progress_bar)
        return _communities(pairs, least, sizes, smallest)


@overload
def threshold_clusters(
    embeddings: EmbeddingsLike,
    threshold: float,
    *,
    min_size: int = ...,
    batch_size: int = ...,
    show_progress_bar: bool = ...,
    as_labels: Literal[False] = ...,
) -> list[list[int]]: ...


@overload
def threshold_clusters(
    embeddings: EmbeddingsLike,
    threshold: float,
    *,
    min_size: int = ...,
    batch_size: int = ...,
    show_progress_bar: bool = ...,
    as_labels: Literal[True],
) -> Array: ...


def threshold_clusters(
    embeddings: EmbeddingsLike,
    threshold: float,
    *,
    min_size: int = 1,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
    as_labels: bool = False,
) -> list[list[int]] | Array:
    """The connected components of "cosine >= threshold": rows are together if a chain of such pairs links them.

    That is single-linkage clustering, cut at the threshold; the right thing for near-duplicates. The result depends
    neither on the order of the rows (but for the order of what is returned) nor on ``batch_size``, but for cosines that
    equal the threshold but for rounding. Memory is in proportion to the rows, time to their square.

    Args:
        embeddings: (n, D), dense or sparse; need not have unit length.
        threshold: least cosine of a linked pair, -1..1.
        min_size: smaller clusters are left out, >= 1.
        batch_size: at most so many times n cosines are held at once, >= 1.
        show_progress_bar: show one.
        as_labels: return the number of the cluster of each row instead.

    Returns: clusters of ascending row indices, largest first, of equal ones that with the lowest row; or (n,) int64,
        the place of each row's cluster in that list, -1 for rows of none.
    Raises: as ``community_detection``.
    """
    smallest, at_once = positive("min_size", min_size), positive("batch_size", batch_size)
    least, rows = _number("threshold", threshold), embedding_matrix(embeddings)
    forest = _Forest(len(rows))
    if len(rows):
        with torch.no_grad():
            pairs = RowPairs.of(rows, cos_sim, (at_once, len(rows)))
            for left, right, _ in pairs.at_least(least, show_progress_bar):
                forest.link(left, right)
    labels, sizes = _by_size(forest.roots(np.arange(len(rows))))
    labels[sizes[labels] < smallest] = -1
    if as_labels:
        return labels
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
    ends = np.cumsum(sizes[sizes >= smallest])
    return [part.tolist() for part in np.split(order, ends)[:-1]]


def _sizes(pairs: RowPairs, threshold: float, show_progress_bar: bool) -> Array:
    """How many rows are near each one, itself among them: (n,) int64."""
    own = pairwise_dot_score(pairs.values, pairs.values).cpu().numpy().round()
    sizes = (own >= threshold).astype(np.int64)
    for left, right, _ in pairs.at_least(threshold, show_progress_bar):
        np.add.at(sizes, left, 1)
        np.add.at(sizes, right, 1)
    return sizes


def _communities(pairs: RowPairs, threshold: float, sizes: Array, smallest: int) -> list[list[int]]:
    waiting = np.argsort(-sizes, kind="stable")
    waiting = waiting[sizes[waiting] >= smallest]
    is_free = np.ones(len(sizes), dtype=bool)
    found = []
    while len(waiting):
        ends = np.cumsum(sizes[waiting[: min(CENTRES, pairs.plan.rows)]])
        at_once = max(1, int(np.count_nonzero(ends <= CENTRE_PAIRS)))
        centres, waiting = waiting[:at_once], waiting[at_once:]
        for centre, near in zip(centres, _neighbours(pairs, centres, threshold), strict=True):
            members = near[is_free[near]]
            if is_free[centre] and len(members) >= smallest:
                is_free[members] = False
                found.append(members.tolist())
        waiting = waiting[is_free[waiting]]
    return sorted(found, key=len, reverse=True)


def _neighbours(pairs: RowPairs, centres: Array, threshold: float) -> list[Array]:
    """For each of (c,) rows itself and the rows near it, highest cosine first, of equal ones the lower first."""
    places, ids, scores = pairs.near(centres, threshold)
    order = np.lexsort((ids, -scores, places))
    return np.split(ids[order], np.cumsum(np.bincount(places, minlength=len(centres)))[:-1])


class _Forest:
    """Disjoint sets of the rows 0..n - 1; the root of each is its lowest row.

    Tarjan and van Leeuwen 1984, https://doi.org/10.1145/62.2160 (path halving), with all rows going up at once.
    """

    def __init__(self, count: int) -> None:
        self.parents = np.arange(count)

    def roots(self, rows: Array) -> Array:
        """The roots (p,) of rows (p,)."""
        at = self.parents[rows]
        while True:
            above = self.parents[self.parents[at]]
            if np.array_equal(above, at):
                break
            self.parents[at] = above
            at = above
        self.parents[rows] = at
        return at

    def link(self, left: Array, right: Array) -> None:
        """Unite the sets of each pair (p,), (p,)."""
        left, right = _apart(self.parents[left], self.parents[right])  # most are together already
        while len(left):
            left, right = _apart(self.roots(left), self.roots(right))
            # a root with several lower ones goes to the lowest; the next round sees to the others
            np.minimum.at(self.parents, np.maximum(left, right), np.minimum(left, right))


def _apart(left: Array, right: Array) -> tuple[Array, Array]:
    is_apart = left != right
    return left[is_apart], right[is_apart]


def _by_size(roots: Array) -> tuple[Array, Array]:
    """Labels (n,) from the roots (n,), and the size of each label: 0 for the largest set, of equal ones the lower root
    first."""
    _, places, counts = np.unique(roots, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    labels = np.empty_like(order)
    labels[order] = np.arange(len(order))
    return labels[places.reshape(-1)], counts[order]


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)
