"""Did both sides find the same? What only one of them found must have the scores of what only the other did: ties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.race import WorkerError

CLOSE = 1e-5
"""Scores that differ by no more are the same but for rounding."""


def compare(ours: Path, reference: Path, what: str) -> str:
    """Compare two lists of scored pairs, in any order.

    Args:
        ours, reference: .npy files of rows [left, right, score], (n, 3); no pair occurs twice.
        what: the name of the pairs.

    Returns: a sentence. Raises: WorkerError if their numbers differ, or a score; the pairs that only one side found are
        compared in the order of their scores.
    """
    import numpy as np

    sides = [{(left, right): score for left, right, score in np.load(path).tolist()} for path in (ours, reference)]
    count = len(sides[0])
    if count != len(sides[1]):
        raise WorkerError(f"Ours found {count:,} {what}, the reference {len(sides[1]):,}.")
    shared = sides[0].keys() & sides[1].keys()
    differences = [abs(sides[0][pair] - sides[1][pair]) for pair in shared]
    single = [sorted(score for pair, score in side.items() if pair not in shared) for side in sides]
    differences += [abs(one - other) for one, other in zip(*single, strict=True)]
    largest = max(differences, default=0.0)
    if not largest <= CLOSE:  # nor if there is no number
        raise WorkerError(f"The scores of the {what} differ by up to {largest:.1e}; {len(single[0]):,} are others.")
    ties = f"; {len(single[0]):,} others, with equal scores" if single[0] else ""
    return f"same {what}: {len(shared):,} of {count:,}{ties}; largest difference of a score {largest:.1e}"


def compare_groups(ours: Path, reference: Path, what: str) -> str:
    """Compare two lists of groups of rows, in JSON files; groups of equal size, or rows in one, may change places.

    Returns: a sentence. Raises: WorkerError if a group is not the same.
    """
    sides: list[list[list[int]]] = [json.loads(path.read_text(encoding="utf-8")) for path in (ours, reference)]
    sets: list[Any] = [{frozenset(group) for group in side} for side in sides]
    if sets[0] != sets[1]:
        raise WorkerError(f"Of {len(sides[0]):,} {what}, {len(sets[0] - sets[1]):,} are not in the reference.")
    moved = sum(one != other for one, other in zip(*sides, strict=True))
    order = f"{moved:,} of them in another order" if moved else "in the same order"
    return f"same {what}: all {len(sides[0]):,}, {order}"
