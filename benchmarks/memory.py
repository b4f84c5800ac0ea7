"""How much memory does a call take above the loaded model? A fresh process of each side answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.race import progress
from benchmarks.report import row
from benchmarks.run import Run

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Asked:
    """The work whose memory is asked for.

    Attributes:
        kind: class of the model; folder: where it is.
        request: what the worker is to do.
        first: how many texts a first call gets.
    """

    kind: str
    folder: Path
    request: str
    first: int


def measure(run: Run, name: str, texts: Sequence[str], asked: Asked) -> dict[str, Any]:
    """What the worker's ``memory`` finds for all texts in one call; also ``above_model`` and ``above_warm`` (bytes)."""
    progress(f"memory of {name} over {len(texts):,} texts, fresh process")
    with run.start(name) as side:
        side.ask("load", model=str(asked.folder), kind=asked.kind)
        run.give("all", texts, [side])  # the texts themselves are in memory before the count begins
        found: dict[str, Any] = side.ask("memory", name="all", request=asked.request, first=asked.first)
    return found | {
        "above_model": found["peak"] - found["loaded"],
        "above_warm": found["peak"] - found["warm"],
    }


def rows(whole: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a table, from what ``measure`` found for each side."""
    sizes = {
        "memory above the model, MB": {n: m["above_model"] for n, m in whole.items()},
        "of that the result itself, MB": {n: m["bytes"] for n, m in whole.items()},
        "above the model, without the result, MB": {n: m["above_model"] - m["bytes"] for n, m in whole.items()},
        "above the warm model, without the result, MB": {n: m["above_warm"] - m["bytes"] for n, m in whole.items()},
        "resident after loading, MB": {n: m["loaded"] for n, m in whole.items()},
        "highest resident set, everything counted, MB": {n: m["peak"] for n, m in whole.items()},
    }
    return [row(t, {n: v / MEGABYTE for n, v in found.items()}, "{:,.0f}") for t, found in sizes.items()]


def notes(whole: Mapping[str, Mapping[str, Any]], asked: Asked, count: int) -> list[str]:
    """What the rows mean."""
    exact = all(found["exact"] for found in whole.values())
    return [
        f"memory in a fresh process of each side: load the model, encode {asked.first:,}, then all {count:,}",
        "'above the model' is the highest resident set during the work less the resident set after loading"
        + ("" if exact else " (an upper bound: this system cannot forget the peak of loading)"),
        f"'above the warm model' is the same, less the resident set after a first call with {asked.first:,} texts",
    ]
