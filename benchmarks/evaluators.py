"""How fast do evaluators measure a model, the time of its embeddings apart?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.race import Side, WorkerError, progress, ratio, seconds, take_turns
from benchmarks.report import Report, steadiness
from benchmarks.run import Run

WIDTH = 384
SPREAD, NEAR = 1.0, 1.2
"""How far rows lie from their centre, and a partner from its row; the numbers of a centre have the deviation 1."""
MEMBERS = 80
"""Rows around a centre, in the mean."""
CANDIDATES, POSITIVES = 40, 4
"""Documents of a query to be ranked anew, and how many of them are right."""
RELEVANT = 5
"""Documents of a query in the corpus that are right."""
SAME, CLOSE = 1e-9, 1e-6
"""Metrics that differ by no more are the same; or they are but for two rows that float32 cannot tell apart."""


@dataclass(frozen=True)
class Case:
    """An evaluator.

    Attributes:
        kind: its class.
        size: in words.
        arguments: of the class, as JSON; a text is the number of a row.
    """

    kind: str
    size: str
    arguments: dict[str, Any]


def measure(run: Run) -> Report:
    """All evaluators, in turns; both sides look up the same drawn embeddings."""
    queries, documents = (50, 2_000) if run.options.quick else (500, 20_000)
    report = Report("Evaluators, embeddings apart", ["", *run.names, "ratio of medians by pair"])
    path = run.folder / "evaluations.npy"
    drawn = Drawn.write(queries, documents, path)
    with ExitStack() as stack:
        sides = [stack.enter_context(run.start(name, "evaluations.py")) for name in run.names]
        for side in sides:
            side.ask("load", model=str(run.options.model))
            side.ask("look_up_rows", path=str(path))
        for case in [*drawn.ranking(), *drawn.pairs(), *drawn.matching()]:
            _race(run, sides, case, report)
    report.notes.insert(
        0,
        f"drawn rows of {WIDTH} float32 numbers and of various lengths, about {MEMBERS} around each centre; both sides "
        "look the same rows up, in no time that is counted; seconds are those of a call",
    )
    return report


def _race(run: Run, sides: Sequence[Side], case: Case, report: Report) -> None:
    progress(f"evaluators: {case.kind}, {run.options.rounds} rounds")
    arguments = run.folder / f"{case.kind}.json"
    arguments.write_text(json.dumps(case.arguments), encoding="utf-8")
    metrics = {}
    for side in sides:
        side.ask("keep_evaluator", name=case.kind, kind=case.kind, path=str(arguments))
        found = run.folder / f"{case.kind}-{side.name}.json"
        side.ask("evaluate", name=case.kind, save=str(found))  # which also warms up
        metrics[side.name] = json.loads(found.read_text(encoding="utf-8"))
    same = f"; {compare(metrics['ours'], metrics['reference'])}" if "reference" in metrics else ""
    replies = take_turns(sides, run.options.rounds, "evaluate", name=case.kind)
    taken = seconds(replies)
    speedup = f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
    title = f"{case.kind}, {case.size}: ms"
    report.rows.append([title, *(f"{median(found) * 1000:,.0f}" for found in taken.values()), speedup])
    cores = {name: median(reply["cores"] for reply in found) * 1000 for name, found in replies.items()}
    report.notes.append(
        f"{case.kind}: {steadiness(taken, 'ms')}; seconds of all cores, with the look-up: "
        + ", ".join(f"{name} {value:,.0f} ms" for name, value in cores.items())
        + same
    )
    report.numbers[case.kind] = {"seconds": taken, "cores": cores, "size": case.size, "metrics": metrics["ours"]}


def compare(ours: dict[str, float], reference: dict[str, float]) -> str:
    """A sentence about two evaluations. Raises: WorkerError if the metrics differ by more than ``CLOSE``."""
    if list(ours) != list(reference):
        raise WorkerError(f"Ours has the metrics {list(ours)}, the reference {list(reference)}.")
    apart = {name: abs(value - reference[name]) for name, value in ours.items()}
    largest = max(apart, key=lambda name: apart[name])
    if not apart[largest] <= CLOSE:  # nor if one is no number
        raise WorkerError(f"{largest} is {ours[largest]}, and {reference[largest]} for the reference.")
    others = sum(value > SAME for value in apart.values())
    swapped = f", {others} of them but for rows whose scores float32 cannot tell apart" if others else ""
    return f"same {len(ours)} metrics{swapped}: largest difference {apart[largest]:.1e}"


@dataclass(frozen=True)
class Drawn:
    """What is asked of drawn rows; a text is the number of one.

    Attributes:
        corpus, queries: around the centres ``members`` has the documents of.
        second, third: for each document a row near it, and one anywhere.
        centres: (queries,), around which a query lies. members: for each centre, documents.
    """

    corpus: list[str]
    queries: list[str]
    second: list[str]
    third: list[str]
    centres: Any
    members: list[Any]
    chance: Any

    @classmethod
    def write(cls, queries: int, documents: int, path: Path) -> Drawn:
        """Draw so many, and write the rows."""
        import numpy as np

        chance = np.random.default_rng(0)
        middles = chance.standard_normal((max(1, documents // MEMBERS), WIDTH), dtype=np.float32)

        def noise(count: int) -> Any:
            return chance.standard_normal((count, WIDTH), dtype=np.float32)

        places = chance.integers(len(middles), size=documents + queries)
        rows = middles[places] + SPREAD * noise(documents + queries)
        partners = rows[:documents] + NEAR * noise(documents)
        others = middles[chance.integers(len(middles), size=documents)] + SPREAD * noise(documents)
        table = np.concatenate([rows, partners, others])
        np.save(path, table * chance.uniform(0.2, 2, size=(len(table), 1)).astype(np.float32))
        numbers = [str(number) for number in range(len(table))]
        return cls(
            corpus=numbers[:documents],
            queries=numbers[documents : documents + queries],
            second=numbers[documents + queries : -documents],
            third=numbers[-documents:],
            centres=places[documents:],
            members=[np.flatnonzero(places[:documents] == middle) for middle in range(len(middles))],
            chance=chance,
        )

    def near(self, query: int, count: int) -> list[str]:
        """So many documents of the query's centre, or fewer; any ones where it has none."""
        own = self.members[self.centres[query]]
        chosen = self.chance.choice(own if len(own) else len(self.corpus), size=count)
        return [self.corpus[place] for place in dict.fromkeys(chosen.tolist())]

    def ranking(self) -> list[Case]:
        """Evaluators of rankings."""
        samples = [
            {
                "query": text,
                "positive": self.near(place, POSITIVES),
                "negative": self.chance.choice(self.corpus, CANDIDATES - POSITIVES).tolist(),
            }
            for place, text in enumerate(self.queries)
        ]
        everything = {
            "queries": dict(zip(self.queries, self.queries, strict=True)),
            "corpus": dict(zip(self.corpus, self.corpus, strict=True)),
            "relevant_docs": {text: self.near(place, RELEVANT) for place, text in enumerate(self.queries)},
        }
        asked = f"{len(self.queries):,} queries x"
        return [
            Case("InformationRetrievalEvaluator", f"{asked} {len(self.corpus):,} documents", everything),
            Case("RerankingEvaluator", f"{asked} {CANDIDATES} documents", {"samples": samples}),
        ]

    def pairs(self) -> list[Case]:
        """Evaluators of pairs and triplets."""
        count = len(self.corpus)
        is_near = self.chance.random(count) < 0.5
        mixed = [one if near else other for one, other, near in zip(self.second, self.third, is_near, strict=True)]
        pairs = {"sentences1": self.corpus, "sentences2": mixed}
        scores = (0.4 * is_near + self.chance.uniform(0, 0.6, size=count)).tolist()
        labels = is_near.astype(int).tolist()
        triplets = {"anchors": self.corpus, "positives": self.second, "negatives": self.third}
        return [
            Case("EmbeddingSimilarityEvaluator", f"{count:,} pairs", {**pairs, "scores": scores}),
            Case("BinaryClassificationEvaluator", f"{count:,} pairs", {**pairs, "labels": labels}),
            Case("TripletEvaluator", f"{count:,} triplets", triplets),
        ]

    def matching(self) -> list[Case]:
        """Evaluators that look at all pairs."""
        count = len(self.corpus)
        part = count // 4
        texts = {"source_sentences": self.corpus[:part], "target_sentences": self.second[:part]}
        pairs = [
            [self.corpus[place] for place in self.chance.choice(own, 2, replace=False)]
            for own in self.members
            for _ in range(MEMBERS // 16)
            if len(own) > 1
        ]
        known = {"sentences_map": dict(zip(self.corpus, self.corpus, strict=True)), "duplicates_list": pairs}
        return [
            Case("TranslationEvaluator", f"{part:,} x {part:,}", texts),
            Case("ParaphraseMiningEvaluator", f"{count:,} sentences", known),
        ]
