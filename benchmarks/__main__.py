"""``python -m benchmarks [--quick] [question ...]``: ours and the reference, in turn, in one run.

Prints Markdown on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    backends,
    cold_start,
    evaluators,
    gpu,
    late_scores,
    learning,
    learning_families,
    mining,
    quality,
    query,
    report,
    rerank,
    resident,
    run,
    samplers,
    search,
    short_texts,
    splade,
    throughput,
    training,
)
from benchmarks.race import ROOT, WorkerError, is_python, progress

RESULTS = ROOT / "benchmarks" / "results"

QUESTIONS: dict[str, Callable[[run.Run], report.Report]] = {
    "throughput": throughput.measure,
    "short": short_texts.measure,
    "query": query.measure,
    "cold": cold_start.measure,
    "rerank": rerank.measure,
    "splade": splade.measure,
    "maxsim": late_scores.measure,
    "semantic_search": search.measure_search,
    "paraphrase": search.measure_paraphrases,
    "communities": search.measure_communities,
    "mining": mining.measure,
    "evaluators": evaluators.measure,
    "samplers": samplers.measure,
    "quality": quality.measure,
    "learning": learning.measure,
    "learning_families": learning_families.measure,
    "training": training.measure,
    "backends": backends.measure,
    "resident": resident.measure,
    "gpu": gpu.measure,
}


def main() -> int:
    """Run the questions asked for; 0 when all were answered."""
    asked = _arguments()
    model = Path(asked.model) if asked.model else run.find_model()
    if model is None or not (model / "model.safetensors").is_file():
        progress('no model. Install it: pip install "sentence-transformers[offline]"; or give --model FOLDER')
        return 2
    reference, who = run.reference_or_none(asked.reference_python)
    own = str(Path(asked.own_python).absolute()) if asked.own_python else sys.executable
    rounds = asked.rounds or (3 if asked.quick else 5)
    peers = str(Path(asked.peers_python).absolute()) if is_python(asked.peers_python) else None
    options = run.Options(own, reference, model, rounds, asked.threads, asked.quick, peers)
    progress(who)
    with run.Run(options) as running:
        try:
            about = run.check_sides(running)
            print(_heading(about, options, who))
            for name in asked.questions or list(QUESTIONS):
                found = QUESTIONS[name](running)
                print(found.markdown(), flush=True)
                if asked.save:
                    path = found.path or RESULTS / f"{name}.json"
                    _save(path, {"about": about, "machine": report.machine(), **found.numbers})
        except WorkerError as error:
            progress(str(error))
            return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="small inputs, three rounds: only to see that it works")
    parser.add_argument("--rounds", type=int, help="turns of each side (default 5)")
    parser.add_argument("--threads", type=int, default=report.cores(), help="threads of each side (default: all cores)")
    parser.add_argument("--reference-python", default=str(ROOT / ".venv-reference" / "bin" / "python"), metavar="PATH")
    parser.add_argument("--peers-python", default=str(ROOT / ".venv-peers" / "bin" / "python"), metavar="PATH")
    parser.add_argument("--own-python", metavar="PATH", help="measure the package of this interpreter as ours")
    parser.add_argument("--model", metavar="FOLDER", help="folder of all-MiniLM-L6-v2 (default: the installed package)")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/QUESTION.json")
    asked = parser.parse_args()
    if unknown := set(asked.questions) - set(QUESTIONS):
        parser.error(f"unknown question {sorted(unknown)}; there are {', '.join(QUESTIONS)}")
    return asked


def _heading(about: dict[str, Any], options: run.Options, who: str) -> str:
    facts = report.machine()
    quick = " (quick: numbers mean little)" if options.quick else ""
    names = list(next(iter(about.values()))["versions"])
    rows = [[name, *(str(found["versions"].get(name, "-")) for found in about.values())] for name in names]
    rows.append(["threads torch reports", *(str(found["threads"]) for found in about.values())])
    return "\n".join(
        [
            f"# Benchmarks, {time.strftime('%Y-%m-%d %H:%M')}{quick}",
            "",
            f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['flags'])}.",
            f"{facts['system']}, load {facts['load']} at the start.",
            f"Each side: {options.threads} threads, {options.rounds} rounds. Model: {options.model.parent.name}. {who}",
            "",
            report.table(["", *about], rows),
            "",
        ]
    )


def _save(path: Path, numbers: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
