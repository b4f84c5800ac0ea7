"""Metrics of rankings: hand-computed values, slow formulas, ties, and scikit-learn's definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sentence_transformers.evaluation.ranking import (
    Cutoffs,
    ScoredLists,
    accuracy_at,
    average_precision_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
)

RELEVANCE = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
COUNTS = np.array([3, 1, 2])


def slow_metrics(row: list[bool], count: int, limit: int) -> dict[str, float]:
    hits, precisions, gain = 0, 0.0, 0.0
    first = 0.0
    for rank, is_relevant in enumerate(row[:limit], start=1):
        if is_relevant:
            hits += 1
            precisions += hits / rank
            gain += 1 / math.log2(rank + 1)
            first = first or 1 / rank
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(count, limit) + 1))
    return {
        "accuracy": float(hits > 0),
        "precision": hits / limit,
        "recall": hits / count,
        "mrr": first,
        "ndcg": gain / ideal,
        "map": precisions / min(count, limit),
    }


def fast_metrics(relevance: Any, counts: Any, limit: int) -> dict[str, Any]:
    return {
        "accuracy": accuracy_at(relevance, limit),
        "precision": precision_at(relevance, limit),
        "recall": recall_at(relevance, counts, limit),
        "mrr": reciprocal_rank_at(relevance, limit),
        "ndcg": ndcg_at(relevance, counts, limit),
        "map": average_precision_at(relevance, counts, limit),
    }


# --- retrieval


def test_accuracy_is_whether_there_is_a_hit() -> None:
    assert accuracy_at(RELEVANCE, 1).tolist() == [0, 1, 0]
    assert accuracy_at(RELEVANCE, 2).tolist() == [1, 1, 0]


def test_precision_is_a_share_of_the_limit() -> None:
    assert precision_at(RELEVANCE, 4).tolist() == [2 / 4, 1 / 4, 0]


def test_precision_of_a_smaller_corpus_is_a_share_of_the_limit_too() -> None:
    assert precision_at(RELEVANCE, 8).tolist() == [2 / 8, 1 / 8, 0]


def test_recall_is_a_share_of_all_that_are_relevant() -> None:
    assert recall_at(RELEVANCE, COUNTS, 2).tolist() == [1 / 3, 1, 0]


def test_reciprocal_rank_is_that_of_the_first_hit() -> None:
    assert reciprocal_rank_at(RELEVANCE, 4).tolist() == [1 / 2, 1, 0]


def test_reciprocal_rank_of_a_hit_beyond_the_limit_is_zero() -> None:
    assert reciprocal_rank_at(RELEVANCE, 1).tolist() == [0, 1, 0]


def test_ndcg_equals_the_hand_value() -> None:
    gain = 1 / math.log2(3) + 1 / math.log2(4)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)  # three are relevant
    assert ndcg_at(RELEVANCE, COUNTS, 4) == pytest.approx([gain / best, 1, 0], abs=1e-15)


def test_the_ideal_of_ndcg_is_cut_at_the_limit() -> None:
    gain, best = 1 / math.log2(3), 1 + 1 / math.log2(3)  # three are relevant, two are looked at
    assert ndcg_at(RELEVANCE, COUNTS, 2)[0] == pytest.approx(gain / best, abs=1e-15)


def test_average_precision_equals_the_hand_value() -> None:
    assert average_precision_at(RELEVANCE, COUNTS, 4) == pytest.approx([(1 / 2 + 2 / 3) / 3, 1, 0], abs=1e-15)


def test_average_precision_is_a_share_of_what_the_limit_allows() -> None:
    assert average_precision_at(RELEVANCE, COUNTS, 2)[0] == pytest.approx((1 / 2) / 2, abs=1e-15)


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 30])
def test_metrics_equal_the_slow_loop(limit: int) -> None:
    random = np.random.default_rng(limit)
    relevance = random.random((40, 12)) < 0.2
    counts = np.maximum(1, relevance.sum(axis=1) + random.integers(0, 5, 40))
    fast = fast_metrics(relevance, counts, limit)
    for at, (row, count) in enumerate(zip(relevance.tolist(), counts.tolist(), strict=True)):
        for name, value in slow_metrics(row, count, limit).items():
            assert fast[name][at] == pytest.approx(value, abs=1e-14), name


def test_nothing_found_is_zero_in_all_metrics() -> None:
    for name, values in fast_metrics(np.zeros((2, 0), dtype=bool), np.array([1, 2]), 10).items():
        assert values.tolist() == [0, 0], name


def test_cutoffs_give_means_by_metric_and_number() -> None:
    found = Cutoffs.of([1, 2], [2], [4], [4, 2], [4]).metrics(RELEVANCE, COUNTS)
    assert list(found) == ["accuracy@k", "precision@k", "recall@k", "ndcg@k", "mrr@k", "map@k"]
    assert found["accuracy@k"] == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}
    assert list(found["ndcg@k"]) == [4, 2]
    assert found["mrr@k"] == {4: pytest.approx(1 / 2)}


def test_columns_come_in_the_order_of_the_file() -> None:
    columns = Cutoffs.of([1], [2, 3], [4], [5], [6]).columns("dot")
    assert list(columns) == [
        *("dot-Accuracy@1", "dot-Precision@2", "dot-Recall@2", "dot-Precision@3", "dot-Recall@3"),
        *("dot-MRR@4", "dot-NDCG@5", "dot-MAP@6"),
    ]
    assert columns["dot-NDCG@5"] == "dot_ndcg@5"


@pytest.mark.parametrize("place", range(5))
def test_a_cutoff_below_one_is_refused(place: int) -> None:
    limits = [[1], [1], [1], [1], [1]]
    limits[place] = [3, 0]
    with pytest.raises(ValueError, match="_at_k must be a positive integer, got 0"):
        Cutoffs.of(*limits)


def test_without_a_cutoff_for_ndcg_there_is_no_primary_metric() -> None:
    with pytest.raises(ValueError, match="ndcg_at_k must not be empty"):
        Cutoffs.of([1], [1], [1], [], [1])


# --- reranking


def lists(scores: list[Any], relevance: list[Any], **options: Any) -> ScoredLists:
    return ScoredLists.of([np.array(some) for some in scores], relevance, **options)


def test_scored_lists_are_ranked_by_score() -> None:
    found = lists([[0.1, 0.9, 0.5]], [[1, 0, 1]])
    assert found.reciprocal_rank(3).tolist() == [1 / 2]
    assert found.average_precision() == pytest.approx([(1 / 2 + 2 / 3) / 2])
    best = 1 + 1 / math.log2(3)
    assert found.ndcg(3) == pytest.approx([(1 / math.log2(3) + 1 / math.log2(4)) / best])


def test_equal_scores_share_what_they_gain() -> None:
    # ranks 1 and 2 share 1 and 1 / log2(3)
    found = lists([[1.0, 1.0, 0.0]], [[1, 0, 0]])
    assert found.ndcg(3) == pytest.approx([(1 + 1 / math.log2(3)) / 2])
    assert found.average_precision() == pytest.approx([1 / 2])


def test_equal_scores_across_the_limit_share_what_is_before_it() -> None:
    assert lists([[1.0, 1.0, 1.0, 0.0]], [[0, 0, 1, 1]]).ndcg(1) == pytest.approx([1 / 3])


def test_of_equal_scores_the_earlier_is_first() -> None:
    assert lists([[1.0, 1.0, 1.0]], [[0, 1, 0]]).reciprocal_rank(3).tolist() == [1 / 2]
    assert lists([[1.0, 1.0, 1.0]], [[0, 0, 1]]).reciprocal_rank(3).tolist() == [1 / 3]


def test_of_equal_scores_the_later_is_first_if_told_so() -> None:
    assert lists([[1.0, 1.0, 1.0]], [[0, 0, 1]], later_first=True).reciprocal_rank(3).tolist() == [1]


def test_lists_without_relevant_candidates_count_nothing() -> None:
    found = lists([[1.0, 2.0], [3.0]], [[0, 0], [1]])
    assert found.ndcg(5).tolist() == found.average_precision().tolist() == found.reciprocal_rank(5).tolist() == [0, 1]


def test_empty_lists_count_nothing() -> None:
    found = lists([[], [3.0], []], [[], [1], []])
    assert (
        found.ndcg(5).tolist() == found.average_precision().tolist() == found.reciprocal_rank(5).tolist() == [0, 1, 0]
    )


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="got NaN"):
        lists([[1.0, math.nan]], [[1, 0]])


def test_other_numbers_of_scores_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        lists([[1.0, 2.0]], [[1]])


@pytest.mark.parametrize("is_coarse", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 10, 50])
def test_ndcg_and_average_precision_are_those_of_scikit_learn(is_coarse: bool, limit: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="compared with it")
    random = np.random.default_rng(limit)
    scores, relevance = [], []
    for _ in range(60):
        size = int(random.integers(2, 30))
        values = random.integers(0, 4, size) if is_coarse else random.normal(size=size)
        truth = random.random(size) < 0.3
        truth[random.integers(size)] = True
        scores.append(values.astype(np.float32))
        relevance.append(truth)
    found = ScoredLists.of(scores, relevance)
    ndcg = [sklearn.ndcg_score([truth], [some], k=limit) for truth, some in zip(relevance, scores, strict=True)]
    precision = [sklearn.average_precision_score(truth, some) for truth, some in zip(relevance, scores, strict=True)]
    assert found.ndcg(limit) == pytest.approx(ndcg, abs=1e-12)
    assert found.average_precision() == pytest.approx(precision, abs=1e-12)


def test_reciprocal_rank_equals_the_slow_loop() -> None:
    random = np.random.default_rng(3)
    scores = [random.integers(0, 6, int(random.integers(1, 12))).astype(float) for _ in range(50)]
    relevance = [random.random(len(some)) < 0.3 for some in scores]
    expected = []
    for some, truth in zip(scores, relevance, strict=True):
        order = sorted(range(len(some)), key=lambda at: (-some[at], at))
        expected.append(next((1 / rank for rank, at in enumerate(order[:4], 1) if truth[at]), 0.0))
    assert ScoredLists.of(scores, relevance).reciprocal_rank(4).tolist() == expected


def test_queries_without_any_candidates_count_zero() -> None:
    nothing = lists([[], []], [[], []])
    for found in (nothing.reciprocal_rank(3), nothing.ndcg(3), nothing.average_precision()):
        assert found.tolist() == [0.0, 0.0]
