"""How fast is a GPU used: three shapes of networks, against the reference with and without flash attention?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import corpora, models
from benchmarks.race import Side, WorkerError, progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, steadiness, token_counts
from benchmarks.run import Run
from benchmarks.runtimes import PROGRAM, Forms, Way

SHAPES: dict[str, Callable[[Path, Path], Path]] = {
    "MiniLM": lambda minilm, folder: minilm,
    "BERT-base shape": models.bert_base,
    "Qwen3-0.6B shape": models.qwen3,
}
QUERY = "what is the difference between a sparse and a dense embedding?"
PASSAGES = 1000
CALLS = 20
"""One text each: a turn of single queries."""


def _way(side: str, name: str, **how: Any) -> Way:
    return Way(side, name, settings={"device": "cuda", "model_kwargs": how})


BASE = _way("reference", "bfloat16, sdpa", dtype="bfloat16", attn_implementation="sdpa")
WAYS = (
    BASE,
    _way("reference", "bfloat16, flash attention 2", dtype="bfloat16", attn_implementation="flash_attention_2"),
    _way("reference", "float32", dtype="float32"),
    _way("ours", 'dtype="auto"', dtype="auto"),
    _way("ours", "float32", dtype="float32"),
)


def measure(run: Run) -> Report:
    """Passages of mixed length in batches of 32, and single queries; all ways of a shape strictly in turn."""
    report = Report("On a GPU", ["shape", "", "passages/s", "of the reference's", "a query, ms", "of the reference's"])
    with run.start("ours", PROGRAM) as side:
        name = side.ask("gpu")["name"]
    if name is None:
        report.notes.append("left out: the torch of our side sees no CUDA device")
        return report
    texts = corpora.passages(100 if run.options.quick else PASSAGES)
    counts = token_counts(run.options.model, texts.items)
    forms, taken = Forms(run), dict[str, dict[str, dict[str, list[float]]]]()
    for shape, make in SHAPES.items():
        taken[shape] = _race(run, forms, make(run.options.model, run.folder / shape.replace(" ", "-")), texts.items)
        report.rows += _rows(shape, taken[shape], len(texts.items))
    report.notes += [
        f"{name}; {texts.source}; {describe_tokens(counts)}; batches of 32; {run.options.rounds} rounds",
        f"ratios are medians of the rounds, pair by pair, to {BASE.title}",
        *forms.notes(),
        *(steadiness({f"{shape}, {way}": of["passages"] for way, of in ways.items()}) for shape, ways in taken.items()),
    ]
    report.numbers = {"seconds": taken, "gpu": name, "tokens": sum(counts), "left out": forms.missing}
    return report


def _race(run: Run, forms: Forms, folder: Path, passages: list[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds of each way that is there, by what was encoded."""
    sides: list[Side] = []
    with ExitStack() as stack:
        for way in WAYS:
            try:
                sides.append(stack.enter_context(_opened(run, way, folder)))
            except WorkerError as error:
                forms.skip(way, error)
        run.give("passages", passages, sides)
        run.give("query", [QUERY], sides)
        found: dict[str, Mapping[str, list[float]]] = {}
        for what in ("passages", "query"):
            for side in sides:
                side.ask("embed", name=what)  # warm
            progress(f"{folder.name}: {what}")
            rounds = run.options.rounds * (1 if what == "passages" else CALLS)
            found[what] = seconds(take_turns(sides, rounds, "embed", name=what))
    return {side.name: {what: of[side.name] for what, of in found.items()} for side in sides}


def _opened(run: Run, way: Way, folder: Path) -> Side:
    if run.python(way.side) is None:
        raise WorkerError(f"no interpreter was given: --{way.side}-python")
    side = run.start(way.side, PROGRAM, way.title)
    try:
        threads = run.options.threads
        side.ask("open", engine=way.engine, folder=str(folder), threads=threads, settings=dict(way.settings))
    except WorkerError:
        side.close()
        raise
    return side


def _rows(shape: str, taken: Mapping[str, Mapping[str, list[float]]], passages: int) -> list[list[str]]:
    base = taken.get(BASE.title)
    rows = []
    for title, of in taken.items():
        shares = [f"{1 / ratio(of[what], base[what]):.2f} x" if base else "" for what in ("passages", "query")]
        rows.append(
            [
                shape,
                title,
                f"{passages / median(of['passages']):,.0f}",
                shares[0],
                f"{median(of['query']) * 1e3:.2f}",
                shares[1],
            ]
        )
    return rows
