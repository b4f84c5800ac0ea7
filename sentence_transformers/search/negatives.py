"""Which candidates of a query are its negatives: limits on their scores, then a choice among those that are left.

Arrays of (queries, candidates) in and out; knows nothing of texts, models or how the scores were made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

Sample = Callable[[range, int], list[int]]
"""``random.sample``, of a generator or of the module."""
MOST_COMPARED = 2**20
"""So many candidates are compared with positives at once."""


@dataclass(frozen=True)
class Limits:
    """What a negative's score must satisfy; None is no limit.

    ``lowest`` below is the lowest score among the positives of the query. A margin keeps ``score + absolute_margin <=
    lowest`` and ``score <= lowest - relative_margin * |lowest|``.
    """

    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None

    def given(self) -> list[str]:
        """The names of the limits there are."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def ceiling_names(self) -> list[str]:
        """The names of those among them that a high score can break."""
        return [name for name in self.given() if name != "min_score"]

    def ceilings(self, lowest: Array) -> dict[str, Array]:
        """Limit -> the highest score (q,) that it lets pass; without ``min_score``, which has none."""
        found = {}
        if self.absolute_margin is not None:
            found["absolute_margin"] = lowest - self.absolute_margin
        if self.relative_margin is not None:
            found["relative_margin"] = lowest - np.abs(lowest) * self.relative_margin
        if self.max_score is not None:
            found["max_score"] = np.full_like(lowest, self.max_score)
        return found


@dataclass
class Dropped:
    """How many candidates each limit dropped, and of how many that were still there; added up over blocks."""

    counts: dict[str, tuple[int, int]]

    def add(self, name: str, dropped: int, present: int) -> None:
        """Add the counts of one block."""
        before = self.counts.get(name, (0, 0))
        self.counts[name] = (before[0] + dropped, before[1] + present)


@dataclass(frozen=True)
class Chosen:
    """The negatives of every query, best first.

    ids: (q, n) int64 and scores: (q, n) float32; of row i only the first ``counts[i]`` mean something.
    """

    ids: Array
    scores: Array
    counts: Array

    @classmethod
    def join(cls, blocks: list[Chosen]) -> Chosen:
        """The queries of all blocks, one after the other."""
        return cls(
            np.concatenate([block.ids for block in blocks]),
            np.concatenate([block.scores for block in blocks]),
            np.concatenate([block.counts for block in blocks]),
        )

    def is_there(self) -> Array:
        """(q, n) bool: which of the places hold a negative."""
        return np.arange(self.ids.shape[1]) < self.counts[:, None]


def members(ids: Array, rows: Array, positive_ids: Array) -> tuple[Array, Array]:
    """Where the positives of a query are among its candidates.

    Args:
        ids: (q, c) int64, the different candidates of some queries.
        rows, positive_ids: (p,) int64: the query, as a row of ``ids``, and the positive of each pair.

    Returns: (m,) which pairs are there, ascending, and (m,) in which column.
    """
    found = []
    step = max(1, MOST_COMPARED // ids.shape[1])
    for start in range(0, len(rows), step):
        at = slice(start, start + step)
        pairs, columns = (ids[rows[at]] == positive_ids[at, None]).nonzero()
        found.append((pairs + start, columns))
    pairs, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pairs, columns


def within(scores: Array, kept: Array, lowest: Array, limits: Limits, dropped: Dropped) -> Array:
    """Which of the kept candidates also satisfy the limits, each limit applied after the one before.

    Args:
        scores: (q, c). kept: (q, c) bool. lowest: (q,), see ``Limits``.
        dropped: what each limit drops is added here.

    Returns: (q, c) bool.
    """
    # in float64 a score that equals a limit would differ from it by the rounding of the limit alone
    ceilings = {name: bar.astype(scores.dtype)[:, None] for name, bar in limits.ceilings(lowest).items()}
    passes = {name: scores <= bar for name, bar in ceilings.items()}
    if limits.min_score is not None:
        passes["min_score"] = scores >= np.asarray(limits.min_score, scores.dtype)
    for name, is_within in passes.items():
        present = int(kept.sum())
        kept = kept & is_within
        dropped.add(name, present - int(kept.sum()), present)
    return kept


def ranked(scores: Array, ids: Array, kept: Array) -> tuple[Array, Array, Array]:
    """The candidates (q, c) of every query, best first, equal ones in the order they had."""
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, ids, kept = (np.take_along_axis(values, order, 1) for values in (scores, ids, kept))
    return scores, ids, kept


def choose(candidates: tuple[Array, Array], kept: Array, places: range, wanted: int, sample: Sample | None) -> Chosen:
    """The negatives of every query: its best kept candidates, or a sample of them.

    Args:
        candidates: scores and ids, (q, c), best first.
        kept: (q, c) bool.
        places: which of the kept ones, best first, may be taken.
        wanted: how many negatives a query gets at most.
        sample: called once for each query, also where there is nothing to choose (so that the draws for one query do
            not depend on the limits); None takes the best.

    Returns: best first.
    """
    scores, ids = candidates
    counts = np.clip(kept.sum(1) - places.start, 0, len(places))
    if sample is None:
        counts = np.minimum(counts, wanted)
    ranks = kept.cumsum(1, dtype=np.int32) - (1 + places.start)
    queries, columns = (kept & (ranks >= 0) & (ranks < counts[:, None])).nonzero()
    order = np.zeros((len(ids), max(wanted, int(counts.max(initial=0)))), dtype=np.int64)
    order[queries, ranks[queries, columns]] = columns
    if sample is not None:
        # places that do not exist are cut off by ``counts``
        drawn = [sorted(sample(range(max(count, wanted)), wanted)) for count in counts.tolist()]
        order = np.take_along_axis(order, np.array(drawn, dtype=np.int64).reshape(len(order), wanted), 1)
    found_ids, found_scores = (np.take_along_axis(values, order, 1) for values in (ids, scores))
    return Chosen(found_ids, found_scores, np.minimum(counts, wanted))
