"""How fast is a search in embeddings: exact search, pairs of paraphrases, communities?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import corpora, ties
from benchmarks.race import Side, progress, ratio, seconds, take_turns
from benchmarks.report import Report, steadiness
from benchmarks.run import Run

WIDTH, TOP = 384, 10
BLOCKS = (4_096, 100_000)
"""Rows of the corpus in one bare product: as our search cuts them, and all at once."""
COMMUNITIES = {"threshold": 0.75, "min_community_size": 10}
CENTRES, SPREAD = 400, 0.6
"""Where there are no titles, rows are drawn around so many centres, at this distance in the mean."""


def measure_search(run: Run) -> Report:
    """``semantic_search`` and the bare product of the same matrices, in turn; a process of its own multiplies."""
    queries, corpus = (100, 20_000) if run.options.quick else (1_000, 100_000)
    sides, meter = run.sides(), run.meter()
    names = ["queries", "corpus"]
    for seed, (name, count) in enumerate(zip(names, (queries, corpus), strict=True)):
        _give(run, name, _drawn(count, seed), [*sides, meter])
    lists: dict[str, Any] = {"names": names, "options": {"top_k": TOP}}
    arrays: dict[str, Any] = {"names": names, "options": {"top_k": TOP, "as_arrays": True}}
    agreement = [ties.compare(*found, "hits") for found in _both(run, "search", **lists)]
    rounds = run.options.rounds * (1 if run.options.quick else 2)
    taken: dict[str, list[float]] = {name: [] for name in run.names}
    as_arrays: list[float] = []
    bare: dict[str, list[float]] = {}
    for number in range(rounds):
        progress(f"semantic_search: round {number + 1} of {rounds}")
        for width in BLOCKS:
            turn = take_turns([meter], 1, "matrix_product", names=names, width=width)
            bare.setdefault(f"{min(width, corpus):,} rows at a time", []).extend(seconds(turn)["meter"])
        turn = take_turns(sides if number % 2 == 0 else sides[::-1], 1, "search", **lists)
        for name, found in seconds(turn).items():
            taken[name] += found
        as_arrays += seconds(take_turns(sides[:1], 1, "search", **arrays))["ours"]
    best = min(bare, key=lambda way: median(bare[way]))
    report = Report("Semantic search", ["", *run.names, "ratio of medians by pair"])
    nothing = [""] * len(taken)  # of the other sides, and of the ratio
    report.rows = [
        ["lists of hits, ms", *(f"{median(found) * 1000:.0f}" for found in taken.values()), _speedup(taken)],
        ["as_arrays=True, ms", f"{median(as_arrays) * 1000:.0f}", *nothing],
        ["lists of hits / bare product", *(f"{ratio(found, bare[best]):.2f}" for found in taken.values()), ""],
        ["as_arrays=True / bare product", f"{ratio(as_arrays, bare[best]):.2f}", *nothing],
    ]
    measured = ", ".join(f"{way} {median(found) * 1000:.0f} ms" for way, found in bare.items())
    report.notes += [
        f"{queries:,} queries, {corpus:,} rows, drawn unit vectors of {WIDTH} float32 numbers, top {TOP}, cosine",
        f"bare float32 product just before each round: {measured}; compared with {best}",
        steadiness({**taken, "product": bare[best]}, "ms"),
        *agreement,
    ]
    report.numbers = {"seconds": taken, "as_arrays": as_arrays, "product": bare, "queries": queries, "corpus": corpus}
    return report


def measure_paraphrases(run: Run) -> Report:
    """``paraphrase_mining_embeddings`` with its defaults."""
    source = _titles(run)
    agreement = [ties.compare(*found, "pairs") for found in _both(run, "paraphrases", name="titles")]
    return _turns(run, "Paraphrase mining", "paraphrases", [source, *agreement], name="titles")


def measure_communities(run: Run) -> Report:
    """``community_detection`` of the same rows."""
    source = _titles(run)
    options = {**COMMUNITIES, "min_community_size": 3} if run.options.quick else COMMUNITIES  # few have neighbours
    arguments: dict[str, Any] = {"name": "titles", "options": options}
    agreement = [ties.compare_groups(*found, "communities") for found in _both(run, "communities", **arguments)]
    settings = ", ".join(f"{name} {value}" for name, value in options.items())
    return _turns(run, "Communities", "communities", [source, settings, *agreement], **arguments)


def _turns(run: Run, title: str, do: str, notes: Sequence[str], **arguments: Any) -> Report:
    """The same request of both sides in turn; its reply has ``seconds``, and how much was found."""
    progress(f"{do}: {run.options.rounds} rounds")
    replies = take_turns(run.sides(), run.options.rounds, do, **arguments)
    taken = seconds(replies)
    report = Report(title, ["", *run.names, "ratio of medians by pair"])
    report.rows = [["one call, ms", *(f"{median(found) * 1000:,.0f}" for found in taken.values()), _speedup(taken)]]
    found = {name: count for name, count in replies["ours"][0].items() if name != "seconds"}
    report.notes += [
        *notes,
        "found: " + ", ".join(f"{count:,} {name}" for name, count in found.items()),
        steadiness(taken, "ms"),
    ]
    report.numbers = {"seconds": taken, **found}
    return report


def _titles(run: Run) -> str:
    """Hand both sides the same embeddings of titles, made by one of them, once a run; a sentence about them."""
    count, path = 2_000 if run.options.quick else 20_000, run.folder / "titles.npy"
    texts = corpora.titles(count)
    if texts is None:
        source = f"{count:,} drawn unit rows around {CENTRES} centres (stackoverflow_titles is not here)"
    else:
        source = f"{texts.source}, embeddings of {run.options.model.parent.name} in float32, made by ours for both"
    if path.is_file():
        return source
    sides = run.sides()
    if texts is None:
        _give(run, "titles", _drawn(count, 0, CENTRES), sides)
        return source
    progress(f"encoding {len(texts.items):,} titles")
    run.give("titles", texts.items, sides[:1])
    sides[0].ask("encode", name="titles", save=str(path))
    for side in sides:
        side.ask("keep_rows", name="titles", path=str(path))
    return source


def _give(run: Run, name: str, rows: Any, sides: Sequence[Side]) -> None:
    """Hand some sides the same rows."""
    import numpy as np

    path = run.folder / f"{name}.npy"
    np.save(path, rows)
    for side in sides:
        side.ask("keep_rows", name=name, path=str(path))


def _drawn(count: int, seed: int, centres: int = 0) -> Any:
    """(count, WIDTH) float32 unit rows; if wanted around centres."""
    import numpy as np

    chance = np.random.default_rng(seed)
    rows = chance.standard_normal((count, WIDTH), dtype=np.float32)
    if centres:
        places = chance.integers(centres, size=count)
        rows = chance.standard_normal((centres, WIDTH), dtype=np.float32)[places] + SPREAD * rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _both(run: Run, do: str, **arguments: Any) -> list[tuple[Path, Path]]:
    """Do the same once on each side, which also warms both up: where ours and the reference put what they found.

    Returns: nothing with one side only.
    """
    paths = {side.name: run.folder / f"{do}-{side.name}.npy" for side in run.sides()}
    for side in run.sides():
        side.ask(do, save=str(paths[side.name]), **arguments)
    return [(paths["ours"], paths["reference"])] if "reference" in paths else []


def _speedup(taken: dict[str, list[float]]) -> str:
    return f"{1 / ratio(taken['ours'], taken['reference']):.2f} x" if "reference" in taken else ""
