"""How many steps of training does a second have, and in how much memory, on texts of mixed length?"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import corpora
from benchmarks.memory import MEGABYTE
from benchmarks.race import WorkerError, progress, ratio, seconds, take_turns
from benchmarks.report import Report, row, steadiness
from benchmarks.run import Run

BATCHES = (16, 32)
LOSSES = ("MultipleNegativesRankingLoss", "CoSENTLoss")
STEPS = 3
"""Steps of one turn."""
CHECKED = 6
"""Steps without dropout after which both sides must still have the same loss."""
TOLERANCE = 1e-4


def measure(run: Run) -> Report:
    """Steps of the same batches in turns, for each loss and size; memory in a fresh process for each side."""
    rounds = run.options.rounds
    longest = max(BATCHES) * max(CHECKED, STEPS * (rounds + 1))
    pairs, source = corpora.mixed_pairs(longest)
    path = run.folder / "mixed.json"
    path.write_text(json.dumps(pairs), encoding="utf-8")
    report = Report("Training", ["", *run.names, "ratio"])
    for loss in LOSSES:
        report.notes.append(f"{loss}: {_agreement(run, loss)}")
        for batch in BATCHES[:1] if run.options.quick else BATCHES:
            _race(run, report, loss, batch)
    report.notes += [
        f"{source}, in mixed order; the scores are drawn",
        "a step: tokens of both columns, loss, gradients, their norm cut at 1, AdamW (fused, as in the Trainer); "
        f"dropout as the model has it; a turn is {STEPS} steps",
        f"memory: highest resident set of a fresh process that loads package and model and makes {STEPS} steps",
    ]
    return report


def _race(run: Run, report: Report, loss: str, batch: int) -> None:
    title = f"{loss}, {batch} pairs"
    progress(f"training: {title}, {run.options.rounds} rounds")
    sides = run.sides()
    _begin(run, sides, loss, drops=True)
    taken: dict[str, list[float]] = {name: [] for name in run.names}
    for number in range(run.options.rounds + 1):
        found = seconds(take_turns(sides, 1, "train", name="mixed", batch=batch, first=number * STEPS, steps=STEPS))
        for name, values in found.items():
            taken[name] += values if number else []  # the first turn warms up
    peaks = {name: _memory(run, name, loss, batch) / MEGABYTE for name in run.names}
    speeds = [f"{STEPS / median(found):.2f}" for found in taken.values()]
    faster = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
    report.rows += [
        [f"{title}: steps per second", *speeds, faster],
        row(f"{title}: peak memory, MB", peaks, "{:,.0f}"),
    ]
    report.notes.append(f"{title}: {steadiness(taken)}")
    report.numbers[title] = {"seconds": taken, "peak": peaks}


def _begin(run: Run, sides: Any, loss: str, drops: bool) -> None:
    """Give each side the pairs and a model as it was saved."""
    for side in sides:
        side.ask("keep", name="mixed", path=str(run.folder / "mixed.json"))
        side.ask("load", model=str(run.options.model))
        side.ask("begin_training", loss=loss, drops=drops)


def _agreement(run: Run, loss: str) -> str:
    """Without dropout both sides compute the same, from the same weights, step by step. Raises: WorkerError if not."""
    progress(f"training: {loss}, {CHECKED} steps without dropout")
    sides = run.sides()
    _begin(run, sides, loss, drops=False)
    found = [side.ask("train", name="mixed", batch=BATCHES[0], first=0, steps=CHECKED)["losses"] for side in sides]
    if len(found) < 2:
        return "nothing to compare with"
    worst = max(abs(mine - theirs) for mine, theirs in zip(*found, strict=True))
    if not worst <= TOLERANCE:  # nor if there is no number
        raise WorkerError(f"{loss}: the losses of {CHECKED} steps differ by up to {worst:.1e}.")
    return (
        f"without dropout, the losses of {CHECKED} steps differ by at most {worst:.1e}; the last is {found[0][-1]:.4f}"
    )


def _memory(run: Run, name: str, loss: str, batch: int) -> int:
    with run.start(name) as side:
        _begin(run, [side], loss, drops=True)
        side.ask("train", name="mixed", batch=batch, first=0, steps=STEPS)
        peak: int = side.ask("peak")["peak"]
    return peak
