"""Clusters of rows that are alike: around a row (communities), or linked by one pair after another.

Both look at all pairs, a block at a time, and hold no more than the pairs of a block or of a community. Knows nothing
of models, and nothing of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from ..errors import positive
from ..ops.similarity import cos_sim
from ..ops.tensors import is_sparse
from .semantic import GROUP, Block, Plan, embedding_matrix, plan_search, row_blocks, sparse_rows

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike

    Array: TypeAlias = np.ndarray[Any, Any]

CENTRES = 256
"""For so many rows at once it is found out who is near; some are taken by an earlier one meanwhile, in vain."""
CENTRE_SCORES = 2**26
"""At most so many cosines of them."""


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
    already is skipped; the others take those of their rows that are still free, if they are enough.

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
        pairs = _Pairs.of(rows, least, at_once)
        sizes = pairs.sizes(show_progress_bar)
        return _communities(pairs, sizes, smallest)


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
    neither on the order of the rows (but for the order of what is returned) nor on ``batch_size``.

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
            for left, right, _ in _Pairs.of(rows, least, at_once).blocks(show_progress_bar):
                forest.link(left, right)
    labels, sizes = _by_size(forest.roots(np.arange(len(rows))))
    labels[sizes[labels] < smallest] = -1
    if as_labels:
        return labels
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
    ends = np.cumsum(sizes[sizes >= smallest])
    return [part.tolist() for part in np.split(order, ends)[:-1]]


@dataclass(frozen=True)
class _Pairs:
    """The pairs of rows with a cosine >= ``threshold``.

    unit: (n, D) at unit length, dense or coalesced COO. plan: how to score it with itself.
    """

    unit: Tensor
    plan: Plan
    threshold: float

    @classmethod
    def of(cls, rows: Tensor, threshold: float, batch_size: int) -> _Pairs:
        plan = plan_search(rows, rows, cos_sim, (batch_size, len(rows)), 1)
        return cls(plan.prepare(Block("embeddings", 0, rows)), plan, threshold)

    def blocks(self, show_progress_bar: bool) -> Iterator[tuple[Array, Array, int]]:
        """All pairs, some more than once.

        Yields: rows and columns, (p,) each, and where the rows of this block end: a pair with a column before that
            comes both ways round, among the pairs of these rows; the others come once.
        """
        count, step = len(self.unit), self.plan.rows
        for start in _with_progress(range(0, count, step), show_progress_bar):
            stop = min(start + step, count)
            some = _part(self.unit, start, stop)
            for first in range(start, count, self.plan.width):
                scores = self.plan.score(some, _part(self.unit, first, min(first + self.plan.width, count)))
                rows, columns = _at_least(scores, self.threshold)
                yield rows.cpu().numpy() + start, columns.cpu().numpy() + first, stop

    def sizes(self, show_progress_bar: bool) -> Array:
        """How many rows are near each one, itself among them: (n,) int64."""
        count = len(self.unit)
        sizes = np.zeros(count, dtype=np.int64)
        for rows, columns, stop in self.blocks(show_progress_bar):
            sizes += np.bincount(rows, minlength=count)
            sizes += np.bincount(columns[columns >= stop], minlength=count)
        return sizes

    def near(self, centres: Array) -> list[Array]:
        """For each row of (c,) the rows near it, highest cosine first, of equal ones the lower first.

        c must be at most ``plan.rows``.
        """
        some = self.unit.index_select(0, torch.from_numpy(centres).to(self.unit.device))
        found = []
        for block in row_blocks("embeddings", self.unit, self.plan.width):
            scores = self.plan.score(some, block.values)
            rows, columns = _at_least(scores, self.threshold)
            found.append([part.cpu().numpy() for part in (columns + block.first, -scores[rows, columns], rows)])
        ids, distances, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((ids, distances, places))
        ends = np.cumsum(np.bincount(places, minlength=len(centres)))
        return np.split(ids[order], ends[:-1])


def _communities(pairs: _Pairs, sizes: Array, smallest: int) -> list[list[int]]:
    at_once = max(1, min(CENTRES, pairs.plan.rows, CENTRE_SCORES // len(sizes)))
    waiting = np.argsort(-sizes, kind="stable")
    waiting = waiting[sizes[waiting] >= smallest]
    is_free = np.ones(len(sizes), dtype=bool)
    found = []
    while len(waiting):
        for near in pairs.near(waiting[:at_once]):
            # the first is the centre, or a row that equals it
            members = near[is_free[near]] if len(near) and is_free[near[0]] else near[:0]
            if len(members) >= smallest:
                is_free[members] = False
                found.append(members.tolist())
        waiting = waiting[at_once:]
        waiting = waiting[is_free[waiting]]
    return sorted(found, key=len, reverse=True)


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
        left, right = self.roots(left), self.roots(right)
        while True:
            is_apart = left != right
            if not is_apart.any():
                return
            low, high = np.minimum(left, right)[is_apart], np.maximum(left, right)[is_apart]
            self.parents[high] = (
                low  # a root with several lower ones goes to one of them; the next round sees to the rest
            )
            left, right = self.roots(low), self.roots(high)


def _by_size(roots: Array) -> tuple[Array, Array]:
    """Labels (n,) from the roots (n,), and the size of each label: 0 for the largest set, of equal ones the lower root
    first."""
    _, places, counts = np.unique(roots, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    labels = np.empty_like(order)
    labels[order] = np.arange(len(order))
    return labels[places.reshape(-1)], counts[order]


def _at_least(scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Rows and columns, (p,) each, of the scores (q, c) >= threshold. First at the maxima of groups: few pass."""
    flat = scores.reshape(-1)
    whole = len(flat) - len(flat) % GROUP
    groups = flat[:whole].view(-1, GROUP)
    near = (groups.amax(1) >= threshold).nonzero()[:, 0]
    hits, offsets = (groups[near] >= threshold).nonzero(as_tuple=True)
    rest = (flat[whole:] >= threshold).nonzero()[:, 0]
    places = torch.cat([near[hits] * GROUP + offsets, rest + whole])
    return places // scores.shape[1], places % scores.shape[1]


def _part(rows: Tensor, start: int, stop: int) -> Tensor:
    return sparse_rows(rows, start, stop) if is_sparse(rows) else rows[start:stop]


def _with_progress(starts: range, show_progress_bar: bool) -> Iterable[int]:
    if not show_progress_bar:
        return starts
    from tqdm.auto import tqdm  # its import costs more than a few thousand rows

    bar: Iterable[int] = tqdm(starts, desc="Finding clusters", unit="block")
    return bar


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)
