"""The ten best documents of the real MiniLM are as good as recorded, and the same through every way of searching."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import COLLECTIONS, RECORDED, Collection, ndcg, read
from benchmarks.ways import WAYS
from sentence_transformers import SentenceTransformer

NAME = "ndcg@10"


@dataclass(frozen=True)
class Encoded:
    name: str
    collection: Collection
    queries: Any
    corpus: Any


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))["collections"]
    return found


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in COLLECTIONS])
def encoded(request: pytest.FixtureRequest, minilm_folder: Path, data_folder: Path) -> Encoded:
    """A collection and its embeddings: encoded once for all tests."""
    folder = data_folder / request.param
    if not folder.is_dir():
        pytest.skip(f"no {request.param} beside the checkout: {folder}")
    collection = read(folder)
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    queries, corpus = (model.encode(texts) for texts in (collection.queries, collection.documents))
    return Encoded(request.param, collection, queries, corpus)


def search(way: str, encoded: Encoded) -> Any:
    """Ids (q, 10) of one of ``WAYS``."""
    if way in ("faiss", "usearch"):
        pytest.importorskip(way, reason=f"{way} is not installed")
    return WAYS[way](encoded.queries, encoded.corpus)


def scores(ids: Any, encoded: Encoded) -> Any:
    """Cosines (q, 10) of hits, in float64; rows are at unit length."""
    return np.einsum("qd,qkd->qk", encoded.queries.astype(np.float64), encoded.corpus[ids].astype(np.float64))


@pytest.mark.parametrize("way", WAYS)
def test_quality_is_as_recorded(encoded: Encoded, way: str, recorded: dict[str, Any]) -> None:
    found = ndcg(search(way, encoded), encoded.collection.judgements)
    assert found == pytest.approx(recorded[encoded.name][NAME]["ours"][way], abs=1e-4)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "exact"])
def test_hits_are_those_of_exact_search_but_for_ties(encoded: Encoded, way: str) -> None:
    exact, other = search("exact", encoded), search(way, encoded)
    assert exact.shape == other.shape == (len(encoded.queries), 10)
    differ = exact != other
    assert np.abs(scores(exact, encoded) - scores(other, encoded))[differ].max(initial=0) < 1e-6
    assert ndcg(exact, encoded.collection.judgements) == ndcg(other, encoded.collection.judgements)


def test_the_reference_has_the_same_quality(recorded: dict[str, Any]) -> None:
    assert set(recorded) == set(COLLECTIONS)
    for found in recorded.values():
        assert found[NAME]["ours"]["exact"] == pytest.approx(found[NAME]["reference"]["exact"], abs=1e-4)


def test_all_judged_documents_in_the_best_order_are_worth_1() -> None:
    assert ndcg([[4, 7, *range(100, 108)]], [{4: 3.0, 7: 1.0}]) == 1


def test_gains_are_linear_and_divided_by_the_logarithm_of_rank_plus_1() -> None:
    # judged 1 and 3; the 1 comes first, the 3 at rank 4
    expected = (1 / log2(2) + 3 / log2(5)) / (3 / log2(2) + 1 / log2(3))
    assert ndcg([[7, 0, 1, 4, *range(100, 106)]], [{4: 3.0, 7: 1.0}]) == pytest.approx(expected, abs=1e-12)


def test_what_comes_after_rank_10_is_worth_nothing() -> None:
    assert ndcg([[*range(100, 110), 4]], [{4: 3.0}]) == 0


def test_the_best_order_has_no_more_than_ten_either() -> None:
    assert ndcg([list(range(10))], [dict.fromkeys(range(15), 1.0)]) == 1


def test_queries_count_alike() -> None:
    first, second = {0: 1.0}, {5: 4.0}
    assert ndcg([[0, *range(100, 109)], list(range(100, 110))], [first, second]) == 0.5
