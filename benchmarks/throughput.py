"""How fast are passages of mixed length encoded, and how much of the processor is used?"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks import corpora
from benchmarks.race import IDLE, Side, progress, ratio, take_turns
from benchmarks.report import Report, describe_tokens, flops_per_token, steadiness, token_counts
from benchmarks.run import Run


def measure(run: Run) -> Report:
    """Whole ``encode`` calls over a sample of speed_corpus; before each round, the machine's matrix-product rate."""
    options = run.options
    texts = corpora.passages(60 if options.quick else 400)
    counts = token_counts(options.model, texts.items)
    work = sum(counts) * flops_per_token(options.model) / 1e9  # GFLOP on real tokens
    sides = run.sides()
    run.give("passages", texts.items)
    agreement = run.agreement("encode", name="passages")
    meter = run.meter()
    report = Report("Throughput, mixed lengths", ["", *run.names, "ratio of medians by pair"])
    seconds: dict[str, list[float]] = {name: [] for name in run.names}
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        progress(f"throughput: round {number + 1} of {options.rounds}")
        for name, rate in product_rates(meter, options.threads).items():
            rates.setdefault(name, []).append(rate)
        turn = take_turns(sides if number % 2 == 0 else sides[::-1], 1, "encode", name="passages")
        for name, replies in turn.items():
            seconds[name].append(replies[0]["seconds"])
    best = max(rates, key=lambda name: median(rates[name]))
    _fill(report, seconds, work, rates[best], len(texts.items), sum(counts))
    measured = ", ".join(f"{name} {median(found):.0f} GFLOP/s" for name, found in rates.items())
    report.notes += [
        f"{texts.source}; {describe_tokens(counts)}",
        f"float32 product 1024 x 384 x 1536 just before each round: {measured}; efficiency is against {best}",
        f"work: {flops_per_token(options.model) / 1e6:.1f} MFLOP for each real token (linear layers; no attention)",
        steadiness(seconds),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": seconds, "product_gflops": rates, "gflop": work, "tokens": sum(counts)}
    return report


def product_rates(meter: Side, threads: int) -> dict[str, float]:
    """GFLOP/s of one stream of all threads, and of one stream for each thread."""
    ways: dict[str, dict[str, Any]] = {f"1 stream of {threads} intra-op threads": {"streams": 1, "threads": threads}}
    if threads > 1:
        ways[f"{threads} streams of 1 intra-op thread"] = {"streams": threads, "threads": 1}
    found = {}
    for name, way in ways.items():
        time.sleep(IDLE)
        found[name] = meter.ask("product", seconds=0.5, **way)["gflops"]
    return found


def _fill(
    report: Report, seconds: dict[str, list[float]], work: float, rates: list[float], texts: int, tokens: int
) -> None:
    middle = {name: median(found) for name, found in seconds.items()}
    share = {
        name: median(work / taken / rate for taken, rate in zip(found, rates, strict=True))
        for name, found in seconds.items()
    }
    speedup = f"{1 / ratio(seconds['ours'], seconds['reference']):.2f} x" if "reference" in seconds else ""
    report.rows = [
        ["passages/s", *(f"{texts / value:.0f}" for value in middle.values()), speedup],
        ["tokens/s", *(f"{tokens / value:,.0f}" for value in middle.values()), speedup],
        ["GFLOP/s on real tokens", *(f"{work / value:.0f}" for value in middle.values()), speedup],
        ["of the product rate", *(f"{value:.0%}" for value in share.values()), ""],
    ]
