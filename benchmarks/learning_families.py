"""Do rerankers, sparse and late interaction models learn as much here as with the reference, in the same steps?"""

from __future__ import annotations

from typing import Any

from benchmarks import corpora
from benchmarks.learning import train
from benchmarks.race import ROOT
from benchmarks.report import Report
from benchmarks.run import Run

RECORDED = ROOT / "benchmarks" / "recorded" / "learning_families.json"
SCRIPT = "family_trainings.py"
SEED = 1


def measure(run: Run) -> Report:
    """Each side trains with the same script."""
    report = Report("Learning of the other families", ["", *run.names], path=RECORDED)
    if not corpora.DATA.is_dir():
        report.notes.append(f"no data ({corpora.DATA})")
        return report
    for training, title in (("rerank", "reranker"), ("splade", "SPLADE"), ("late", "late interaction")):
        found = {name: train(run, name, SCRIPT, training, SEED) for name in run.names}
        report.numbers[training] = found
        for path in _paths(next(iter(found.values()))):
            report.rows.append([f"{title}, {' '.join(path)}", *(_written(one, path) for one in found.values())])
    report.notes.append(
        "MedQuAD without the diseases of the 150 questions that are asked; nDCG@10 of finding their answers among all "
        "answers about these and 150 other diseases (the reranker: among the 20 best of BM25); pairs of 128 tokens"
    )
    return report


def _paths(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Where the numbers are."""
    paths: list[tuple[str, ...]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            paths += [(name, inner) for inner in value]
        elif not isinstance(value, list):
            paths.append((name,))
    return paths


def _written(found: Any, path: tuple[str, ...]) -> str:
    for name in path:
        found = found[name]
    return f"{found:,.4g}" if isinstance(found, float) else f"{found:,}"
