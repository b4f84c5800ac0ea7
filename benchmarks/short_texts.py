"""How fast are many short sentences encoded, and how much memory does that take above the loaded model?"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import corpora
from benchmarks.race import progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, steadiness, token_counts
from benchmarks.run import Run

MEGABYTE = 1_000_000


def measure(run: Run) -> Report:
    """Speed in turns over part of the sentences; memory over all of them, once, in a fresh process for each side."""
    options = run.options
    texts = corpora.short_sentences(5_000 if options.quick else 100_000)
    part = texts.items[: 500 if options.quick else 4_000]
    sides = run.sides()
    run.give("short", part)
    agreement = run.agreement("short")
    progress(f"short: {len(part):,} sentences in {options.rounds} rounds")
    taken = seconds(take_turns(sides, options.rounds, "encode", name="short"))
    whole = {name: _memory(run, name, texts.items) for name in run.names}
    report = Report("Many short sentences", ["", *run.names, "ratio"])
    _fill(report, taken, whole, len(part), len(texts.items))
    exact = all(found["exact"] for found in whole.values())
    report.notes += [
        f"{texts.source}; {describe_tokens(token_counts(options.model, texts.items))}",
        f"memory in a fresh process of each side: load the model, encode 256, then all {len(texts.items):,}",
        "'above the model' is the highest resident set during the work less the resident set after loading"
        + ("" if exact else " (an upper bound: this system cannot forget the peak of loading)"),
        "'above the warm model' is the same, less the resident set after a first call with 256 sentences",
        steadiness(taken),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": taken, "part": len(part), "memory": whole, "sentences": len(texts.items)}
    return report


def _memory(run: Run, name: str, texts: list[str]) -> dict[str, Any]:
    progress(f"short: memory of {name} over {len(texts):,} sentences, fresh process")
    with run.start(name) as side:
        side.ask("load", model=str(run.options.model))
        run.give("all", texts, [side])  # the texts themselves are in memory before the count begins
        found: dict[str, Any] = side.ask("memory", name="all")
    return found | {
        "above_model": found["peak"] - found["loaded"],
        "above_warm": found["peak"] - found["warm"],
    }


def _fill(
    report: Report, taken: dict[str, list[float]], whole: dict[str, dict[str, Any]], part: int, count: int
) -> None:
    both = "reference" in taken
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if both else ""
    report.rows = [
        [f"sentences/s, {part:,} at a time", *(f"{part / median(found):,.0f}" for found in taken.values()), speedup],
        _row(f"sentences/s, all {count:,} in one call", {n: count / m["seconds"] for n, m in whole.items()}, "{:,.0f}"),
    ]
    sizes = {
        "memory above the model, MB": {n: m["above_model"] for n, m in whole.items()},
        "of that the result itself, MB": {n: m["bytes"] for n, m in whole.items()},
        "above the model, without the result, MB": {n: m["above_model"] - m["bytes"] for n, m in whole.items()},
        "above the warm model, without the result, MB": {n: m["above_warm"] - m["bytes"] for n, m in whole.items()},
        "resident after loading, MB": {n: m["loaded"] for n, m in whole.items()},
    }
    report.rows += [_row(t, {n: v / MEGABYTE for n, v in found.items()}, "{:,.0f}") for t, found in sizes.items()]


def _row(title: str, values: dict[str, float], form: str) -> list[str]:
    compared = f"{values['ours'] / values['reference']:.2f}" if values.get("reference") else ""
    return [title, *(form.format(value) for value in values.values()), compared]
