"""Hits of FAISS and USearch against what ``record_vectors.py`` took from the reference implementation."""

from __future__ import annotations

import json
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import vectors_facts as facts

from sentence_transformers.ops.quantize import quantize_embeddings
from sentence_transformers.search.vectors import semantic_search_faiss, semantic_search_usearch

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_vectors.json").read_text(encoding="ascii"))
FUNCTIONS = {"faiss": semantic_search_faiss, "usearch": semantic_search_usearch}
TOLERANCE = 2e-6


def ties(hits: list[list[float]]) -> list[set[float]]:
    """The ids of equal scores together, best first."""
    return [{row for row, _ in group} for _, group in groupby(hits, key=lambda hit: hit[1])]


@pytest.mark.parametrize("name", facts.CALLS)
def test_finds_the_same_rows_with_the_same_scores(name: str) -> None:
    pytest.importorskip(name.split()[0], reason="needs the extra search")
    ours = facts.found(name, FUNCTIONS, partial(quantize_embeddings, packed=True))
    golden = GOLDEN["found"][name]
    assert [len(hits) for hits in ours] == [len(hits) for hits in golden]
    for mine, theirs in zip(ours, golden, strict=True):
        assert [score for _, score in mine] == pytest.approx([score for _, score in theirs], rel=TOLERANCE, abs=1e-5)
        wanted = ties(theirs)
        # of rows that differ in as many bits as the last one, which ones are taken is chance, unless all rows are hits
        is_whole = "binary" not in name or len(theirs) == facts.ROWS
        for place, ids in enumerate(wanted if is_whole else wanted[:-1]):
            first = sum(map(len, wanted[:place]))
            assert {row for row, _ in mine[first : first + len(ids)]} == ids


def test_calls_are_those_recorded() -> None:
    assert list(GOLDEN["found"]) == list(facts.CALLS)
    assert list(GOLDEN["refused"]) == list(facts.REFUSED)


@pytest.mark.parametrize("name", facts.REFUSED)
@pytest.mark.parametrize("library", FUNCTIONS)
def test_refuses_what_the_reference_refuses(library: str, name: str) -> None:
    pytest.importorskip(library, reason="needs the extra search")
    rows, _ = facts.embeddings("wide")
    found = facts.outcome(lambda: facts.REFUSED[name](FUNCTIONS[library], rows))
    assert found == GOLDEN["refused"][name][library] == "ValueError"
