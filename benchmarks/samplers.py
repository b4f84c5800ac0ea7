"""How fast, and in how much memory, are batches drawn without duplicates, or by label?"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.memory import MEGABYTE
from benchmarks.race import WorkerError, progress, ratio, seconds, take_turns
from benchmarks.report import Report, row, steadiness
from benchmarks.run import Run

SIZE = 64
"""Examples in a batch."""
REPEATED, LABELS = 0.1, 1000
FIRST = 5_000
"""Rows that are drawn before anything is measured."""
ROUNDS = 3
"""At most: the reference's take a minute each."""
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "no_duplicates": ("NoDuplicatesBatchSampler", {}),
    "no_duplicates_hashed": ("NoDuplicatesBatchSampler", {"precompute_hashes": True}),
    "group_by_label": ("GroupByLabelBatchSampler", {}),
}


def measure(run: Run) -> Report:
    """Seconds of an epoch in turns; memory once for each way in a fresh process of each side."""
    rows, rounds = 20_000 if run.options.quick else 1_000_000, min(run.options.rounds, ROUNDS)
    paths = {"first": str(run.folder / "first"), "examples": str(run.folder / "examples")}
    for (name, path), count in zip(paths.items(), (FIRST, rows), strict=True):
        run.sides()[0].ask("draw_table", path=path, rows=count, repeated=REPEATED, labels=LABELS)
        for side in run.sides():
            side.ask("open_table", name=name, path=path)
    report = Report("Batches drawn", ["", *run.names, "ratio"])
    for title, (sampler, options) in WAYS.items():
        asked: dict[str, Any] = {"name": "examples", "sampler": sampler, "size": SIZE, "options": options}
        progress(f"samplers: {title}, {rounds} rounds")
        take_turns(run.sides(), 1, "batches", **{**asked, "name": "first"})
        replies = take_turns(run.sides(), rounds, "batches", **asked)
        _check(title, replies)
        memory = {name: _memory(run, name, paths, asked) for name in run.names}
        _fill(report, title, replies, memory)
    report.notes += [
        f"{rows:,} rows of two columns of texts, {REPEATED:.0%} of each repeated, {LABELS:,} labels; batches of {SIZE} "
        "with drop_last; only numbers of rows are drawn, no examples are read",
        "first epoch: with making the sampler; both sides drew the same batches in both epochs"
        if len(run.names) > 1
        else "first epoch: with making the sampler",
        f"memory in a fresh process of each side, the data set in memory, after two epochs of {FIRST:,} rows: highest "
        "resident set while the sampler is made and two epochs are drawn, less the resident set before",
    ]
    report.numbers["rows"] = rows
    return report


def _check(title: str, replies: dict[str, list[Any]]) -> None:
    """Raises: WorkerError unless all rounds of all sides drew the same batches."""
    found = {(reply["batches"], reply["digest"]) for side in replies.values() for reply in side}
    if len(found) > 1:
        raise WorkerError(f"{title}: the batches differ: {sorted(found)}.")


def _memory(run: Run, name: str, paths: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """What the worker's ``watch`` finds."""
    with run.start(name) as side:
        for table, path in paths.items():
            side.ask("open_table", name=table, path=path)
        side.ask("batches", **{**asked, "name": "first"})
        found: dict[str, Any] = side.ask("watch", request="batches", arguments=asked)
    return found


def _fill(report: Report, title: str, replies: dict[str, list[Any]], memory: dict[str, dict[str, Any]]) -> None:
    first = seconds(replies)
    later = {name: [reply["later"] for reply in found] for name, found in replies.items()}
    for epoch, taken in (("first", first), ("a later", later)):
        speedup = f"{1 / ratio(taken['ours'], taken['reference']):.1f} x" if "reference" in taken else ""
        middle = [f"{median(found):,.2f}" for found in taken.values()]
        report.rows.append([f"{title}: {epoch} epoch, s", *middle, speedup])
    above = {name: (found["peak"] - found["before"]) / MEGABYTE for name, found in memory.items()}
    report.rows.append(row(f"{title}: peak memory above the start, MB", above, "{:,.1f}"))
    report.notes.append(f"{title}: {replies['ours'][0]['batches']:,} batches; {steadiness(first)}")
    report.numbers[title] = {"first": first, "later": later, "memory": memory}
