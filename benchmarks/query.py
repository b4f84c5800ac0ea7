"""How long does one short query take?"""

from __future__ import annotations

from statistics import median

from benchmarks.corpora import QUERIES
from benchmarks.race import progress, ratio, take_turns
from benchmarks.report import Report, describe_tokens, percentile, steadiness, token_counts
from benchmarks.run import Run


def measure(run: Run) -> Report:
    """Single ``encode(str)`` calls; a round is every query once on each side."""
    sides = run.sides()
    run.give("queries", QUERIES)
    agreement = run.agreement("encode", name="queries")
    take_turns(sides, 1, "latency", name="queries")  # the first single calls of a process are slower
    rounds = run.options.rounds * (1 if run.options.quick else 3)
    progress(f"query: {rounds} rounds of {len(QUERIES)} queries")
    turns = take_turns(sides, rounds, "latency", name="queries")
    taken: dict[str, list[list[float]]] = {name: [reply["seconds"] for reply in found] for name, found in turns.items()}
    calls = {name: [one for turn in found for one in turn] for name, found in taken.items()}
    report = Report("One short query", ["", *run.names, "ratio of medians by pair"])
    for title, percent in (("median, ms", 50), ("95th percentile, ms", 95)):
        by_round = {name: [percentile(turn, percent) for turn in found] for name, found in taken.items()}
        compared = f"{ratio(by_round['ours'], by_round['reference']):.2f}" if "reference" in by_round else ""
        values = (median(found) if percent == 50 else percentile(found, percent) for found in calls.values())
        report.rows.append([title, *(f"{value * 1000:.2f}" for value in values), compared])
    report.notes += [
        f"{rounds} rounds; {describe_tokens(token_counts(run.options.model, QUERIES))}",
        steadiness({name: [median(turn) for turn in found] for name, found in taken.items()}, "ms"),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": taken}
    return report
