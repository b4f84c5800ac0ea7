"""How fast, and in how much memory, are hard negatives mined from embeddings that are in a cache?"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import corpora, ties
from benchmarks.memory import MEGABYTE
from benchmarks.race import Side, progress, ratio, seconds, take_turns
from benchmarks.report import Report, row, steadiness
from benchmarks.run import Run

LETTERS = 200
"""So much of a text is encoded: encoding is not what is measured."""
FIRST = 256
"""Pairs of the first call in a fresh process."""
WAYS: dict[str, dict[str, Any]] = {"defaults": {}, "relative_margin=0.05": {"relative_margin": 0.05}}


def measure(run: Run) -> Report:
    """Seconds in turns; memory once for each way in a fresh process of each side."""
    pairs, source = corpora.answers(600 if run.options.quick else 10_000)
    heads = list(dict.fromkeys(text[:LETTERS] for pair in pairs for text in pair))
    for name, content in {"pairs": pairs, "first": pairs[:FIRST], "heads": heads}.items():
        (run.folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    sides = run.sides()
    run.give("heads", heads, sides[:1])
    progress(f"mining: encoding {len(heads):,} texts")
    sides[0].ask("encode", name="heads", save=str(run.folder / "heads.npy"))
    for side in sides:
        _prepare(run, side)
    report = Report("Hard negatives, embeddings cached", ["", *run.names, "ratio"])
    for title, options in WAYS.items():
        report.notes += [f"{title}: {note}" for note in _agreement(run, options)]
        progress(f"mining: {title}, {run.options.rounds} rounds")
        taken = seconds(take_turns(sides, run.options.rounds, "mine", name="pairs", options=options))
        memory = {name: _memory(run, name, options) for name in run.names}
        _fill(report, title, taken, memory)
        report.numbers[title] = {"seconds": taken, "memory": memory}
    report.notes += [
        f"{source}, 3 negatives for each; both sides get the same embeddings, those of {run.options.model.parent.name} "
        f"for the first {LETTERS} letters of a text: a first call, not measured, writes them into the cache_folder",
        f"memory in a fresh process of each side: load package and model, mine {FIRST} pairs, then all {len(pairs):,}; "
        "highest resident set during the last call, less the resident set before both or before the last; the data set "
        "that is returned is part of it",
    ]
    report.numbers["pairs"] = len(pairs)
    return report


def _prepare(run: Run, side: Side) -> None:
    """Give the side its pairs, and the embeddings for what its model would encode."""
    side.ask("keep", name="heads", path=str(run.folder / "heads.json"))
    cache = str(run.folder / f"cache-{side.name}")
    side.ask("look_up", name="heads", path=str(run.folder / "heads.npy"), letters=LETTERS, cache=cache)
    for name in ("first", "pairs"):
        side.ask("keep_table", name=name, path=str(run.folder / f"{name}.json"))


def _agreement(run: Run, options: dict[str, Any]) -> list[str]:
    """A sentence if there are two sides. This first call of a side also fills its cache."""
    paths = {side.name: run.folder / f"mined-{side.name}.npy" for side in run.sides()}
    for side in run.sides():
        side.ask("mine", name="pairs", options={**options, "output_scores": True}, save=str(paths[side.name]))
    return [ties.compare(paths["ours"], paths["reference"], "negatives")] if "reference" in paths else []


def _memory(run: Run, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """What the worker's ``watch`` finds; also ``above_start`` and ``above_warm`` (bytes)."""
    progress(f"mining: memory of {name}, fresh process")
    with run.start(name) as side:
        side.ask("load", model=str(run.options.model))
        _prepare(run, side)
        start: int = side.ask("watch", request="mine", arguments={"name": "first", "options": options})["before"]
        found: dict[str, Any] = side.ask("watch", request="mine", arguments={"name": "pairs", "options": options})
    return found | {"above_start": found["peak"] - start, "above_warm": found["peak"] - found["before"]}


def _fill(report: Report, title: str, taken: dict[str, list[float]], memory: dict[str, dict[str, Any]]) -> None:
    middle = {name: median(found) for name, found in taken.items()}
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
    sizes = {
        "peak memory above the start, MB": {name: found["above_start"] for name, found in memory.items()},
        "peak memory above a warm process, MB": {name: found["above_warm"] for name, found in memory.items()},
        "of that the data set returned, MB": {name: found["bytes"] for name, found in memory.items()},
    }
    report.rows.append([f"{title}: one call, ms", *(f"{value * 1000:,.0f}" for value in middle.values()), speedup])
    report.rows += [
        row(f"{title}: {name}", {side: value / MEGABYTE for side, value in found.items()}, "{:,.1f}")
        for name, found in sizes.items()
    ]
    rows = ", ".join(f"{name} {found['rows']:,}" for name, found in memory.items())
    exact = "" if all(found["exact"] for found in memory.values()) else "; peaks are upper bounds on this system"
    report.notes.append(f"{title}: {steadiness(taken, 'ms')}; rows: {rows}{exact}")
