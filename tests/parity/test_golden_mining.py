"""Mined negatives and resolved ids against what ``record_mining.py`` took from the reference implementation."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import mining_facts as facts
import numpy as np
import pytest

from sentence_transformers.search.mining import mine_hard_negatives
from sentence_transformers.search.resolve import resolve_ids

datasets = pytest.importorskip("datasets", reason="needs the extra train")

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_mining.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("name", facts.CALLS)
def test_mines_the_same_rows_and_says_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = datasets.Dataset.from_dict({"question": facts.ANCHORS, "answer": facts.POSITIVES, "other": facts.ANCHORS})
    golden = GOLDEN["mined"][name]
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = facts.rows_of(mine_hard_negatives(dataset, facts.model_for(name), **facts.CALLS[name]))
    assert list(found) == list(golden["columns"])
    for column, values in golden["columns"].items():
        if column in ("score", "scores"):
            assert len(found[column]) == len(values)
            for ours, theirs in zip(found[column], values, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6)
        else:
            assert found[column] == values
    said = capsys.readouterr().out.splitlines()
    table = next(place for place, line in enumerate(said) if line.startswith("Metric"))
    if found[next(iter(found))]:  # of nothing the reference prints infinities
        # a positive is exactly as far from itself as nothing; there the reference has the rounding of two ways
        ours, theirs = (
            [line.replace("-0.0000", " 0.0000").rstrip() for line in lines]
            for lines in (
                said[table : table + 10],
                golden["table"],
            )
        )
        assert ours == theirs
    heads: tuple[str, ...] = ("Setting", "Found", "Could")
    if facts.says_otherwise(name):
        heads = heads[:2]
    assert [line for line in said if line.startswith(heads)] == [
        line for line in golden["said"] if line.startswith(heads)
    ]


def test_calls_are_those_recorded() -> None:
    assert list(GOLDEN["mined"]) == list(facts.CALLS)
    assert list(GOLDEN["resolved"]) == list(facts.RESOLVED)


@pytest.mark.parametrize("name", facts.REFUSED)
def test_refuses_what_the_reference_refuses(name: str) -> None:
    dataset = datasets.Dataset.from_dict({"question": facts.ANCHORS, "answer": facts.POSITIVES})
    found = facts.outcome(lambda: mine_hard_negatives(dataset, facts.Lookup(), **facts.REFUSED[name]))
    assert found == GOLDEN["refused"][name] == "ValueError"


@pytest.mark.parametrize("name", facts.RESOLVED)
def test_resolves_the_same(name: str) -> None:
    columns, lookups, arguments = facts.RESOLVED[name]
    tables = {at: datasets.Dataset.from_dict(table) for at, table in facts.TABLES.items()}
    dataset = datasets.Dataset.from_dict(columns)

    def call() -> Any:
        places = {column: (tables[table], *names) for column, (table, *names) in lookups.items()}
        given = {column: place if len(place) > 1 else place[0] for column, place in places.items()}
        return dict(dataset.with_transform(resolve_ids(given, **arguments))[:])

    found = facts.outcome(call)
    assert found == GOLDEN["resolved"][name]
    if isinstance(found, dict):
        assert list(found) == list(GOLDEN["resolved"][name])
