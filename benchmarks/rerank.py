"""How fast does a cross-encoder of six layers score pairs of a query and a passage?"""

from __future__ import annotations

from statistics import median

from benchmarks import corpora, models
from benchmarks.race import progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, flops_per_token, steadiness, token_counts
from benchmarks.run import Run

LIMIT = 512
"""Tokens of a pair, as the ms-marco cross-encoders have it."""


def measure(run: Run) -> Report:
    """The same pairs with the same model in two ways: one ``predict`` of all, and one ``rank`` for each query."""
    options = run.options
    questions, source = corpora.questions(*((3, 12) if options.quick else (20, 50)))
    pairs = [(query, passage) for query, passages in questions for passage in passages]
    folder = models.cross_encoder(options.model, run.folder / "cross-encoder", LIMIT)
    counts = token_counts(folder, pairs, LIMIT)
    sides = run.load("CrossEncoder", folder)
    run.give("pairs", pairs)
    run.give("questions", questions)
    ways = {"one predict": ("predict", "pairs"), f"{len(questions)} times rank": ("rank", "questions")}
    report = Report("Reranking, cross-encoder of 6 layers", ["", *run.names, "ratio of medians by pair"])
    report.notes += [
        f"{source}: {describe_tokens(counts)}",
        f"weights of {options.model.parent.name} under a drawn head of one number, at most {LIMIT} tokens a pair",
    ]
    for title, (do, name) in ways.items():
        agreement = run.agreement(do, name=name)
        progress(f"rerank: {title}, {len(pairs):,} pairs in {options.rounds} rounds")
        taken = seconds(take_turns(sides, options.rounds, do, name=name))
        middle = {side: median(found) for side, found in taken.items()}
        speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
        work = sum(counts) * flops_per_token(folder) / 1e9
        report.rows += [
            [f"pairs/s, {title}", *(f"{len(pairs) / value:.1f}" for value in middle.values()), speedup],
            [f"tokens/s, {title}", *(f"{sum(counts) / value:,.0f}" for value in middle.values()), speedup],
            [f"GFLOP/s on real tokens, {title}", *(f"{work / value:.0f}" for value in middle.values()), speedup],
        ]
        report.notes += [f"{title}: {steadiness(taken)}", *([f"{title}: {agreement}"] if agreement else [])]
        report.numbers[do] = taken
    report.numbers |= {"pairs": len(pairs), "tokens": sum(counts)}
    return report
