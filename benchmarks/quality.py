"""How good are the ten best documents of a query, and are they the same through every way of searching?"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import corpora
from benchmarks.race import ROOT, Side, progress, time_process
from benchmarks.report import Report
from benchmarks.run import Run
from benchmarks.ways import TOP, WAYS

COLLECTIONS = ("cranfield", "npl")
RECORDED = ROOT / "benchmarks" / "recorded" / "retrieval_quality.json"
MEASURE = f"nDCG@{TOP}, gain rel / log2(rank + 1) over that of the best order, mean over queries with a judgement"


@dataclass(frozen=True)
class Collection:
    """Documents, queries and what people judged.

    Attributes:
        documents: title and text, joined by a blank.
        queries: only those with a judgement above 0.
        judgements: of each query, document -> how well it answers, by places in the lists above.
    """

    documents: list[str]
    queries: list[str]
    judgements: list[dict[int, float]]


def read(folder: Path) -> Collection:
    """A folder in the layout of BEIR: corpus.jsonl.gz, queries.jsonl, qrels.tsv with a header."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    places = {row["_id"]: place for place, row in enumerate(rows)}
    judged: dict[str, dict[int, float]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        judged.setdefault(query, {})[places[document]] = float(score)
    asked = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [row for row in asked if any(score > 0 for score in judged.get(row["_id"], {}).values())]
    return Collection(
        [f"{row['title']} {row['text']}".strip() for row in rows],
        [row["text"] for row in asked],
        [judged[row["_id"]] for row in asked],
    )


def ndcg(ids: Sequence[Sequence[int]], judgements: Sequence[Mapping[int, float]]) -> float:
    """Normalised discounted cumulative gain of the first ``TOP`` ids, with linear gains as trec_eval and BEIR have it.

    Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418.

    Args:
        ids: (q, >= TOP), best first. judgements: (q,), each with a value above 0.

    Returns: the mean over queries, 0..1.
    """
    return fmean(
        _gain([judged.get(int(one), 0.0) for one in row]) / _gain(sorted(judged.values(), reverse=True))
        for row, judged in zip(ids, judgements, strict=True)
    )


def _gain(values: Sequence[float]) -> float:
    return math.fsum(value / math.log2(rank + 1) for rank, value in enumerate(values[:TOP], start=1))


def measure(run: Run) -> Report:
    """Each side encodes the collections once; ours searches in all ways, the reference exactly."""
    report = Report(f"Retrieval quality, nDCG@{TOP}", ["", *run.names, ""], path=RECORDED)
    found: dict[str, Any] = {}
    for name in COLLECTIONS[:1] if run.options.quick else COLLECTIONS:
        folder = corpora.DATA / name
        if not folder.is_dir():
            report.notes.append(f"{name} is not here ({folder})")
            continue
        collection = read(folder)
        values = {side.name: _values(run, side, name, collection) for side in run.sides()}
        for way in WAYS:
            cells = [f"{of[way]:.4f}" if way in of else "" for of in values.values()]
            report.rows.append([f"{name}, {way}", *cells, ""])
        sizes = {"documents": len(collection.documents), "queries": len(collection.queries)}
        report.notes.append(f"{name}: {sizes['documents']:,} documents, {sizes['queries']:,} queries with a judgement")
        found[name] = {**sizes, f"ndcg@{TOP}": values}
    report.notes += [MEASURE, f"model: {run.options.model.parent.name}, float32, title and text of a document"]
    report.numbers = {"measure": MEASURE, "model": "all-MiniLM-L6-v2", "collections": found}
    return report


def _values(run: Run, side: Side, name: str, collection: Collection) -> dict[str, float]:
    """Way -> nDCG."""
    files = {}
    for part, texts in {"queries": collection.queries, "corpus": collection.documents}.items():
        progress(f"quality: {side.name} encodes {len(texts):,} texts of {name}")
        run.give("part", texts, [side])
        files[part] = run.folder / f"{name}-{part}-{side.name}.npy"
        side.ask("encode", name="part", save=str(files[part]))
    options, own = run.options, side.name == "ours"
    python = options.own_python if own else options.reference_python
    found = {}
    for way in WAYS if own else ("exact",):
        script = str(ROOT / "benchmarks" / "ways.py")
        command = [str(python), script, way, str(files["queries"]), str(files["corpus"])]
        _, ids = time_process(command, own=own and options.ours_is_checkout, threads=options.threads)
        found[way] = ndcg(ids, collection.judgements)
    return found
