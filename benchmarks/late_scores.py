"""How fast are queries scored with documents token by token (``util.maxsim``)?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.race import progress, ratio, seconds, take_turns
from benchmarks.report import Report, steadiness
from benchmarks.run import Run

QUERIES, QUERY_TOKENS, WIDTH = 32, 32, 128
SHORTEST, LONGEST = 20, 300
"""Tokens of a document, drawn evenly."""


def measure(run: Run) -> Report:
    """One call with all queries and all documents, as lists of float32 tensors."""
    count = 100 if run.options.quick else 2_000
    chance = random.Random(0)
    lengths = {
        "queries": [QUERY_TOKENS] * QUERIES,
        "documents": [chance.randint(SHORTEST, LONGEST) for _ in range(count)],
    }
    sides = run.sides()
    for seed, (name, sizes) in enumerate(lengths.items()):
        _give(run, name, sizes, seed)
    arguments: dict[str, Any] = {"names": list(lengths)}
    agreement = run.agreement("maxsim", **arguments)
    rounds = run.options.rounds * (1 if run.options.quick else 3)
    progress(f"maxsim: {rounds} rounds")
    taken = seconds(take_turns(sides, rounds, "maxsim", **arguments))
    middle = {name: median(found) for name, found in taken.items()}
    tokens = sum(lengths["documents"])
    work = 2 * sum(lengths["queries"]) * tokens * WIDTH / 1e9
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
    report = Report("Late interaction scores", ["", *run.names, "ratio of medians by pair"])
    report.rows = [
        ["one call, ms", *(f"{value * 1000:.0f}" for value in middle.values()), speedup],
        ["GFLOP/s", *(f"{work / value:.0f}" for value in middle.values()), speedup],
    ]
    report.notes += [
        f"{QUERIES} queries of {QUERY_TOKENS} tokens, {count:,} documents of {SHORTEST} to {LONGEST} "
        f"({tokens:,} tokens), drawn unit vectors of {WIDTH} numbers; {rounds} rounds",
        steadiness(taken, "ms"),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": taken, "gflop": work, "documents": count, "tokens": tokens}
    return report


def _give(run: Run, name: str, lengths: Sequence[int], seed: int) -> None:
    """Hand all sides the same drawn unit vectors, split into items."""
    import numpy as np

    vectors = np.random.default_rng(seed).standard_normal((sum(lengths), WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = run.folder / f"{name}.npy"
    np.save(path, vectors)
    for side in run.sides():
        side.ask("keep_tokens", name=name, path=str(path), lengths=list(lengths))
