"""Several rankings made one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)

RRF_K = 60
"""The constant of the paper, with which it was the best over a wide range of collections."""


def reciprocal_rank_fusion(rankings: Iterable[Sequence[Item]], k: float = RRF_K) -> list[tuple[Item, float]]:
    """Rank items by the sum of ``1 / (k + rank)`` over the rankings that have them; ranks count from 1.

    Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114

    Args:
        rankings: each has its items best first, none of them twice.
        k: >= 0; the larger, the less the first ranks stand out.

    Returns: items and sums, highest first; of equal sums the item that came first, ranking after ranking.
    Raises: ValueError for a negative ``k``.
    """
    if not k >= 0:
        raise ValueError(f"k must be at least 0, got {k!r}.")
    sums: dict[Item, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + 1.0 / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])
