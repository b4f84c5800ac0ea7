"""How fast are many short sentences encoded, and how much memory does that take above the loaded model?"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import corpora, memory
from benchmarks.race import progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, row, steadiness, token_counts
from benchmarks.run import Run


def measure(run: Run) -> Report:
    """Speed in turns over part of the sentences; memory over all of them, once, in a fresh process for each side."""
    options = run.options
    texts = corpora.short_sentences(5_000 if options.quick else 100_000)
    part = texts.items[: 500 if options.quick else 4_000]
    sides = run.sides()
    run.give("short", part)
    agreement = run.agreement("encode", name="short")
    progress(f"short: {len(part):,} sentences in {options.rounds} rounds")
    taken = seconds(take_turns(sides, options.rounds, "encode", name="short"))
    asked = memory.Asked("SentenceTransformer", options.model, "encode", first=256)
    whole = {name: memory.measure(run, name, texts.items, asked) for name in run.names}
    report = Report("Many short sentences", ["", *run.names, "ratio"])
    _fill(report, taken, whole, len(part), len(texts.items))
    report.notes += [
        f"{texts.source}; {describe_tokens(token_counts(options.model, texts.items))}",
        *memory.notes(whole, asked, len(texts.items)),
        steadiness(taken),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": taken, "part": len(part), "memory": whole, "sentences": len(texts.items)}
    return report


def _fill(
    report: Report, taken: dict[str, list[float]], whole: dict[str, dict[str, Any]], part: int, count: int
) -> None:
    both = "reference" in taken
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if both else ""
    report.rows = [
        [f"sentences/s, {part:,} at a time", *(f"{part / median(found):,.0f}" for found in taken.values()), speedup],
        row(f"sentences/s, all {count:,} in one call", {n: count / m["seconds"] for n, m in whole.items()}, "{:,.0f}"),
        *memory.rows(whole),
    ]
