"""How fast, and how exact, are all the ways of computing a model: int8, ONNX, OpenVINO, and other programs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import corpora
from benchmarks.race import Side, WorkerError, progress, ratio, seconds, take_turns
from benchmarks.report import Report, describe_tokens, machine, steadiness, token_counts
from benchmarks.run import Run
from benchmarks.runtimes import BASE, INT8, WAYS, Forms, Way, level

EXACT = 0.99999
"""A way whose smallest cosine is above this does not round to 8 bits."""


@dataclass(frozen=True)
class Quality:
    """What the vectors of a way are like.

    Attributes:
        worst, mean: cosine to those of the first way.
        spearman: STS-B dev, 0..100; None without the data.
    """

    worst: float
    mean: float
    spearman: float | None


def measure(run: Run) -> Report:
    """Whole calls over a sample of speed_corpus, batches of 32, all ways strictly in turn."""
    rounds = run.options.rounds
    texts = corpora.passages(60 if run.options.quick else 160)
    pairs = corpora.scored_pairs()[: 300 if run.options.quick else None]
    forms, sides, qualities = Forms(run), list[Side](), dict[str, Quality]()
    with ExitStack() as stack:
        for way, side, quality in _opened(run, forms, texts.items, pairs):
            stack.enter_context(side)
            sides.append(side)
            qualities[way.title] = quality
        progress(f"backends: {rounds} rounds of {len(sides)} ways over {len(texts.items)} passages")
        load = machine()["load"]
        taken = seconds(take_turns(sides, rounds, "embed", name="passages"))
    report = _table(taken, qualities, len(texts.items))
    counts = token_counts(run.options.model, texts.items)
    versions = forms.versions()
    report.notes += [
        f"{texts.source}; {describe_tokens(counts)}; batches of 32 where not named otherwise, "
        f"{run.options.threads} threads, {rounds} rounds, "
        f"load {load} before and {machine()['load']} after",
        "ratios are medians of the rounds, pair by pair; cosines are of the passages, to the first row's vectors",
        f"STS-B dev: Spearman's correlation of cosines and people, {len(pairs):,} pairs" if pairs else "no STS-B here",
        f"8 bits: exported for {level()}; OpenVINO's calibrated with sentences of STS-B's training part and passages",
        *forms.notes(),
        *(f"{side}: {', '.join(f'{name} {number}' for name, number in of.items())}" for side, of in versions.items()),
        steadiness(taken),
    ]
    report.numbers = {"seconds": taken, "versions": versions, "left out": forms.missing, "tokens": sum(counts)}
    report.numbers["quality"] = {title: vars(found) for title, found in qualities.items()}
    return report


def _opened(
    run: Run, forms: Forms, passages: Sequence[str], pairs: Sequence[tuple[str, str, float]]
) -> Iterator[tuple[Way, Side, Quality]]:
    """Each way that is there, and what its vectors are like; making them also warms it up."""
    base: Any = None
    for way in WAYS:
        try:
            side = forms.open(way)
        except WorkerError as error:
            forms.skip(way, error)
            continue
        try:
            run.give("sentences", [text for one, other, _ in pairs for text in (one, other)], [side])
            run.give("passages", passages, [side])
            rows = _rows(run, side, "passages")
            base = rows if base is None else base
            spearman = _spearman(_rows(run, side, "sentences"), [score for *_, score in pairs]) if pairs else None
            quality = Quality(*_cosines(rows, base), spearman)
            if way.rounds and quality.worst > EXACT:
                raise WorkerError(f"it computes as float32 does: smallest cosine {quality.worst:.7f}")
        except WorkerError as error:
            side.close()
            forms.skip(way, error)
            continue
        yield way, side, quality


def _rows(run: Run, side: Side, name: str) -> Any:
    """(n, D) float64 unit rows of kept texts."""
    import numpy as np

    path = run.folder / f"{name}.npy"
    side.ask("embed", name=name, save=str(path))
    rows = np.load(path).astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _cosines(rows: Any, base: Any) -> tuple[float, float]:
    """The smallest and the mean."""
    found = (rows * base).sum(1)
    return float(found.min()), float(found.mean())


def _spearman(rows: Any, scores: Sequence[float]) -> float:
    """Rank correlation of scores and cosines, 0..100. rows: (2n, D), the two of a pair side by side."""
    import numpy as np

    def ranks(values: Any) -> Any:
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (counts.cumsum() - (counts - 1) / 2)[places]  # the same for all that are equal

    return float(100 * np.corrcoef(ranks((rows[0::2] * rows[1::2]).sum(1)), ranks(scores))[0, 1])


def _table(taken: Mapping[str, Sequence[float]], qualities: Mapping[str, Quality], passages: int) -> Report:
    """A row a way; without the reference, or without int8, what is compared with it stays empty."""
    against = {title: taken.get(title) for title in (BASE.title, INT8.title)}
    header = ["", "passages/s", f"times {BASE.title}", f"{INT8.title} is faster", "cosine, worst", "mean"]
    report = Report("Ways of computing a model", [*header, "STS-B dev", "lost, points"])
    best = next(iter(qualities.values())).spearman if qualities else None
    for title, found in taken.items():
        quality, base, int8 = qualities[title], against[BASE.title], against[INT8.title]
        scores = ("", "")
        if quality.spearman is not None and best is not None:
            scores = (f"{quality.spearman:.2f}", f"{best - quality.spearman:.2f}")
        report.rows.append(
            [
                title,
                f"{passages / median(found):.1f}",
                f"{ratio(base, found):.2f}" if base else "",
                f"{ratio(found, int8):.2f} x" if int8 else "",
                f"{quality.worst:.5f}",
                f"{quality.mean:.5f}",
                *scores,
            ]
        )
    return report
