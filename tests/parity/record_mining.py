"""Record what the reference implementation mines and resolves: ``REFERENCE/bin/python tests/parity/record_mining.py``.

Run by hand with an interpreter that has the reference and ``datasets`` installed, from another directory, never in CI.
Uses its public API only; the inputs are in ``mining_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import mining_facts as facts
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives, resolve_ids


def mined(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The columns, and the ten lines of statistics."""
    dataset = Dataset.from_dict({"question": facts.ANCHORS, "answer": facts.POSITIVES, "other": facts.ANCHORS})
    random.seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        found = mine_hard_negatives(dataset, facts.model_for(name), **arguments)
    lines = printed.getvalue().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Metric"))
    said = [line for line in lines if line.startswith(("Setting", "Found", "Could"))]
    return {
        "columns": facts.rows_of(found),
        "table": [line.rstrip() for line in lines[start : start + 10]],
        "said": said,
    }


def resolved(name: str) -> Any:
    """The whole data set with the transform."""
    columns, lookups, arguments = facts.RESOLVED[name]
    tables = {at: Dataset.from_dict(table) for at, table in facts.TABLES.items()}
    dataset = Dataset.from_dict(columns)

    def call() -> Any:
        places = {column: (tables[table], *names) for column, (table, *names) in lookups.items()}
        given = {column: place if len(place) > 1 else place[0] for column, place in places.items()}
        return dict(dataset.with_transform(resolve_ids(given, **arguments))[:])

    return facts.outcome(call)


def main(path: Path) -> None:
    dataset = Dataset.from_dict({"question": facts.ANCHORS, "answer": facts.POSITIVES})
    refused = {
        name: facts.outcome(lambda arguments=arguments: mine_hard_negatives(dataset, facts.Lookup(), **arguments))
        for name, arguments in facts.REFUSED.items()
    }
    golden = {
        "mined": {name: mined(name, arguments) for name, arguments in facts.CALLS.items()},
        "refused": refused,
        "resolved": {name: resolved(name) for name in facts.RESOLVED},
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_mining.json")
