"""Does training teach a model as much as the reference's does, from the same data in the same number of steps?"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from benchmarks import corpora
from benchmarks.race import ROOT, progress, time_process
from benchmarks.report import Report
from benchmarks.run import Run

RECORDED = ROOT / "benchmarks" / "recorded" / "learning.json"
SCRIPT = "trainings.py"
STATIC = ("random", "average", "trained")


def measure(run: Run) -> Report:
    """Each side trains with the same script; two layers of MiniLM with several seeds, word vectors with one."""
    report = Report("Learning", ["", *run.names, ""], path=RECORDED)
    if not corpora.DATA.is_dir():
        report.notes.append(f"no data ({corpora.DATA})")
        return report
    seeds = range(1, 1 + (1 if run.options.quick else run.options.rounds))
    found = {name: [train(run, name, SCRIPT, "sts", seed) for seed in seeds] for name in run.names}
    _tell_sts(report, found)
    words = {name: train(run, name, SCRIPT, "static", 1) for name in run.names}
    _tell_static(report, words)
    report.numbers = {"sts": found, "static": words}
    return report


def train(run: Run, name: str, file: str, training: str, seed: int) -> dict[str, Any]:
    """What one training of one side gives; ``file``: ``trainings.py``, or one like it."""
    options, own = run.options, name == "ours"
    progress(f"learning: {name}, {training}, seed {seed}")
    python = str(options.own_python if own else options.reference_python)
    script = str(ROOT / "benchmarks" / file)
    quick = "quick" if options.quick else "whole"
    command = [python, "-W", "ignore", script, training, str(options.model), str(corpora.DATA), str(seed), quick]
    found: dict[str, Any] = time_process(command, own=own and options.ours_is_checkout, threads=options.threads)[1]
    return found


def _tell_sts(report: Report, found: dict[str, list[dict[str, Any]]]) -> None:
    gains = {name: [100 * (one["after"] - one["before"]) for one in runs] for name, runs in found.items()}
    report.rows.append(
        ["two layers of MiniLM, STS-B dev before", *(f"{100 * runs[0]['before']:.2f}" for runs in found.values()), ""]
    )
    means = {name: fmean(values) for name, values in gains.items()}
    difference = f"{means['ours'] - means['reference']:+.2f} points" if "reference" in means else ""
    report.rows.append(["gain, mean over seeds", *(f"{value:+.2f}" for value in means.values()), difference])
    report.rows.append(["gain by seed", *(" ".join(f"{one:+.2f}" for one in values) for values in gains.values()), ""])
    report.rows.append(
        ["seconds of training", *(f"{fmean(one['seconds'] for one in runs):.0f}" for runs in found.values()), ""]
    )
    steps = next(iter(found.values()))[0]["steps"]
    report.notes.append(
        f"the first two layers of MiniLM, {steps} steps of 16 on STS-B train (CoSENTLoss) and SNLI triplets "
        "(MultipleNegativesRankingLoss), learning rate 1e-4; Spearman x 100 on STS-B dev"
    )


def _tell_static(report: Report, found: dict[str, dict[str, Any]]) -> None:
    first = next(iter(found.values()))
    for measure in first["trained"]:
        for what in STATIC:
            values = [f"{100 * one[what][measure]:.2f}" for one in found.values()]
            report.rows.append([f"word vectors, {what}, {measure}", *values, ""])
    report.notes.append(
        f"StaticEmbedding of 256 dimensions from random numbers, {first['steps']} steps of 256 on SNLI triplets, "
        "MedQuAD, Stack Overflow titles of one tag; average: the mean of MiniLM's own 384-dimensional word embeddings; "
        "MedQuAD: 1,000 questions that were not trained on, among all answers"
    )
