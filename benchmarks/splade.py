"""How fast, and in how much memory, does a SPLADE model in the shape of BERT-base encode passages?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import corpora, memory, models
from benchmarks.race import progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, flops_per_token, row, steadiness, token_counts
from benchmarks.run import Run
from benchmarks.throughput import product_rates

LIMIT = 256
"""Tokens of a passage, as published SPLADE models have it."""
BATCH = 32
"""The default batch size."""
LINEAR = (".layer", "transform.dense", "word_embeddings")
"""In the names of what is multiplied with: the layers, the head, and the vocabulary, which is the embedding again."""


def measure(run: Run) -> Report:
    """Speed in turns over part of the passages; memory over all of them, once, in a fresh process for each side."""
    options = run.options
    texts = corpora.passages(3 * BATCH if options.quick else 1_000)
    progress("splade: drawing a model")
    folder = models.splade(options.model, run.folder / "splade", LIMIT, texts.items[:12])
    counts = token_counts(folder, texts.items, LIMIT)
    chosen = _every(3 if options.quick else 5, counts)
    part, tokens = [texts.items[at] for at in chosen], sum(counts[at] for at in chosen)
    sides = run.load("SparseEncoder", folder)
    run.give("part", part)
    agreement = run.agreement("encode_sparse", name="part")
    rates = product_rates(run.meter(), options.threads)
    progress(f"splade: {len(part):,} passages in {options.rounds} rounds")
    taken = seconds(take_turns(sides, options.rounds, "encode_sparse", name="part"))
    asked = memory.Asked("SparseEncoder", folder, "encode_sparse", first=BATCH)
    whole = {name: memory.measure(run, name, texts.items, asked) for name in run.names}
    report = Report("SPLADE, shape of BERT-base", ["", *run.names, "ratio"])
    flops = flops_per_token(folder, LINEAR)
    _fill(report, taken, whole, (len(part), len(texts.items)), tokens * flops / 1e9)
    active, words = whole["ours"]["active"], whole["ours"]["shape"][1]
    report.notes += [
        f"{texts.source}; {describe_tokens(counts)}",
        f"a round takes {len(part):,} of them, {tokens:,} tokens: runs of {BATCH} neighbours in length, spread over "
        "all lengths: padding, for who pads, weighs as it does in all",
        f"drawn weights; {active:.0f} of {words:,} words have a weight in a passage",
        f"work: {flops / 1e6:.0f} MFLOP for each real token (linear layers and the product with the vocabulary)",
        "float32 product 1024 x 384 x 1536: " + ", ".join(f"{way} {rate:.0f} GFLOP/s" for way, rate in rates.items()),
        *memory.notes(whole, asked, len(texts.items)),
        steadiness(taken),
        *([agreement] if agreement else []),
    ]
    report.numbers = {"seconds": taken, "part": len(part), "tokens": tokens, "memory": whole}
    report.numbers |= {"passages": len(texts.items), "flops_per_token": flops, "product_gflops": rates}
    return report


def _every(step: int, counts: Sequence[int]) -> list[int]:
    """Numbers of the texts in every ``step``-th run of ``BATCH`` neighbours in length, in their old order."""
    order = sorted(range(len(counts)), key=counts.__getitem__)
    starts = range(step // 2 * BATCH, len(order), step * BATCH)
    return sorted(at for start in starts for at in order[start : start + BATCH])


def _fill(
    report: Report,
    taken: dict[str, list[float]],
    whole: dict[str, dict[str, Any]],
    passages: tuple[int, int],
    work: float,
) -> None:
    """passages: of a round, and all; work: GFLOP of a round."""
    part, count = passages
    middle = {name: median(found) for name, found in taken.items()}
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
    once = {name: count / found["seconds"] for name, found in whole.items()}
    report.rows = [
        [f"passages/s, {part:,} at a time", *(f"{part / value:.1f}" for value in middle.values()), speedup],
        ["GFLOP/s on real tokens", *(f"{work / value:.0f}" for value in middle.values()), speedup],
        row(f"passages/s, all {count:,} in one call", once, "{:.1f}"),
        *memory.rows(whole),
    ]
