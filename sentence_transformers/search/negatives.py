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


def members(ids: Array, first_query: int, width: int, keys: Array) -> Array:
    """Which candidates are positives of their query.

    Args:
        ids: (q, c) int64, the candidates of the queries from ``first_query`` on, each below ``width``.
        keys: (P,) int64, ``query * width + positive`` of all pairs, ascending, at least one.

    Returns: (q, c) bool.
    """
    wanted = (np.arange(len(ids)) + first_query)[:, None] * width + ids
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    found: Array = keys[places] == wanted
    return found


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


def choose(candidates: tuple[Array, Array], kept: Array, places: range, wanted: int, sample: Sample | None) -> Chosen:
    """The negatives of every query: its best kept candidates, or a sample of them.

    Args:
        candidates: scores and ids, (q, c), in any order.
        kept: (q, c) bool.
        places: which of the kept ones, best first, may be taken.
        wanted: how many negatives a query gets at most.
        sample: called once for each query, also where there is nothing to choose (so that the draws for one query do
            not depend on the limits); None takes the best.

    Returns: scores descending, equal ones in the order of the candidates.
    """
    scores, ids = candidates
    order = np.argsort(-np.where(kept, scores, -np.inf), axis=1, kind="stable")
    counts = np.clip(kept.sum(1) - places.start, 0, len(places))
    order = order[:, places.start : places.stop]
    if sample is not None:
        # a row of places that do not exist is cut off by ``counts``
        drawn = [sorted(sample(range(max(count, wanted)), wanted)) for count in counts.tolist()]
        columns = np.array(drawn, dtype=np.int64).reshape(len(order), wanted)
        order = np.take_along_axis(order, columns.clip(max=max(order.shape[1] - 1, 0)), 1) if order.size else order
    order = order[:, :wanted]
    blank = np.zeros((len(ids), wanted), dtype=np.int64)
    found_ids, found_scores = blank, blank.astype(np.float32)
    found_ids[:, : order.shape[1]] = np.take_along_axis(ids, order, 1)
    found_scores[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    return Chosen(found_ids, found_scores, np.minimum(counts, wanted))
