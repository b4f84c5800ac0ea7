"""ReciprocalRankFusionEvaluator."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.evaluation.fusion import ReciprocalRankFusionEvaluator


def sample(documents: list[str], positive: Any = "x", number: str = "1") -> dict[str, Any]:
    return {"query_id": number, "query": f"query {number}", "positive": positive, "documents": documents}


DENSE = [sample(["y", "x", "z"]), sample(["p", "r", "q"], ["p", "q"], "2")]
SPARSE = [sample(["x", "w"]), sample(["u", "r"], ["p", "q"], "2")]
# merged: x 1/62 + 1/61, y 1/61, w 1/62, z 1/63; r 2/62, p 1/61, u 1/61, q 1/63


def test_metrics_equal_the_hand_values() -> None:
    found = ReciprocalRankFusionEvaluator(DENSE, SPARSE, at_k=3)()
    gain = [1 / math.log2(rank + 1) for rank in range(1, 4)]
    best = gain[0] + gain[1]
    assert found == pytest.approx(
        {
            "dense_map": (1 / 2 + (1 + 2 / 3) / 2) / 2,
            "dense_mrr@3": (1 / 2 + 1) / 2,
            "dense_ndcg@3": (gain[1] + (gain[0] + gain[2]) / best) / 2,
            "sparse_map": (1 + 0) / 2,
            "sparse_mrr@3": (1 + 0) / 2,
            "sparse_ndcg@3": (1 + 0) / 2,
            "map": (1 + (1 / 2 + 2 / 4) / 2) / 2,
            "mrr@3": (1 + 1 / 2) / 2,
            "ndcg@3": (1 + gain[1] / best) / 2,
        }
    )


def test_positives_that_a_search_missed_come_last() -> None:
    dense, sparse = [sample(["y", "x"], ["x", "gone"])], [sample(["x", "y"], ["x", "gone"])]
    found = ReciprocalRankFusionEvaluator(dense, sparse)()
    assert found["dense_map"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["sparse_map"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_search_without_any_positive_counts_zero() -> None:
    found = ReciprocalRankFusionEvaluator([sample(["y"])], [sample([])])()
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(("constant", "order"), [(0, ["a", "b", "c"]), (60, ["b", "c", "a"])])
def test_a_small_constant_favours_the_first_ranks(constant: int, order: list[str]) -> None:
    # a: 1/(k+1); b: 1/(k+2) + 1/(k+4), c: 1/(k+3) + 1/(k+5)
    dense, sparse = sample(["a", "b", "c"]), sample(["x", "y", "z", "b", "c"])
    merged = ReciprocalRankFusionEvaluator([dense], [sparse], rrf_k=constant).merged(dense, sparse)
    assert [one for one in merged if one in "abc"] == order


def test_of_equal_sums_the_dense_search_comes_first() -> None:
    dense, sparse = sample(["a", "b"]), sample(["c", "d"])
    assert ReciprocalRankFusionEvaluator([dense], [sparse]).merged(dense, sparse) == ["a", "c", "b", "d"]


def test_a_document_found_twice_by_one_search_counts_once() -> None:
    dense, sparse = sample(["a", "a", "b"]), sample(["b", "c"])
    assert ReciprocalRankFusionEvaluator([dense], [sparse]).merged(dense, sparse)[0] == "b"


def test_files_are_a_row_a_call_and_a_line_a_query(tmp_path: Path) -> None:
    evaluator = ReciprocalRankFusionEvaluator(DENSE, SPARSE, name="dev", write_predictions=True)
    assert evaluator.primary_metric == "ndcg@10"
    found = evaluator(str(tmp_path), epoch=1, steps=20)
    evaluator(str(tmp_path))
    assert evaluator.primary_metric == "dev_ndcg@10"
    with (tmp_path / "ReciprocalRankFusion_evaluation_dev_results.csv").open() as file:
        header, first, second = list(csv.reader(file))
    names = ["MAP", "MRR@10", "NDCG@10"]
    assert header == [
        "epoch",
        "steps",
        *(f"{kind}_{name}" for kind in ("Dense", "Sparse", "Fusion") for name in names),
    ]
    assert (first[:2], second[:2]) == (["1", "20"], ["-1", "-1"])
    assert [float(cell) for cell in first[2:]] == list(found.values())
    lines = (tmp_path / "ReciprocalRankFusion_evaluation_dev_predictions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"query_id": "1", "query": "query 1", "positive": ["x"], "documents": ["x", "y", "w", "z"]},
        {"query_id": "2", "query": "query 2", "positive": ["p", "q"], "documents": ["r", "p", "u", "q"]},
    ]


def test_nothing_is_written_if_it_is_not_wanted(tmp_path: Path) -> None:
    ReciprocalRankFusionEvaluator(DENSE, SPARSE, write_csv=False)(str(tmp_path))
    ReciprocalRankFusionEvaluator(DENSE, SPARSE, write_predictions=True)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dense", "sparse", "message"),
    [
        (DENSE, SPARSE[:1], r"Dense samples \(2\) and sparse samples \(1\) must have the same length"),
        (DENSE, SPARSE[::-1], "Query ID mismatch at index 0: 1 != 2"),
        (DENSE, [SPARSE[0], {"query_id": "2", "query": "b", "positive": []}], "index 1 missing 'documents' field"),
        ([{"query": "a"}], SPARSE[:1], "Sample at index 0 missing 'query_id' field"),
    ],
)
def test_samples_that_do_not_fit_are_refused(dense: Any, sparse: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReciprocalRankFusionEvaluator(dense, sparse)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rrf_k": -1}, "rrf_k must be at least 0, got -1"), ({"at_k": 0}, "at_k must be a positive integer")],
)
def test_numbers_without_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReciprocalRankFusionEvaluator(DENSE, SPARSE, **options)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="There are no samples"):
        ReciprocalRankFusionEvaluator([], [])()


def test_the_metrics_of_one_query() -> None:
    found = ReciprocalRankFusionEvaluator(DENSE, SPARSE).compute_metrics([0, 1, 0], [0.9, 0.5, 0.1])
    assert found == pytest.approx((1 / 2, 1 / math.log2(3), 1 / 2))
