"""TripletEvaluator."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sentence_transformers.evaluation.triplet import TripletEvaluator
from tests.unit.evaluation.evaluating import Given

VECTORS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0], "d": [-1.0, 0.0]}
TRIPLETS = (["a", "a", "c"], ["b", "c", "a"], ["c", "b", "d"])  # cosines 0.6 > 0, 0 < 0.6, 0 = 0


def test_a_tie_is_not_right() -> None:
    assert TripletEvaluator(*TRIPLETS)(Given(VECTORS)) == {"cosine_accuracy": pytest.approx(1 / 3)}


def test_distances_are_closer_when_smaller() -> None:
    evaluator = TripletEvaluator(*TRIPLETS, similarity_fn_names=["euclidean", "manhattan"])
    found = evaluator(Given(VECTORS))
    assert found["euclidean_accuracy"] == found["manhattan_accuracy"] == found["max_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("margin", "right"), [(0.5, 1), (0.7, 0), (-0.1, 2), (-1, 3)])
def test_the_positive_must_be_closer_by_the_margin(margin: float, right: int) -> None:
    assert TripletEvaluator(*TRIPLETS, margin=margin)(Given(VECTORS))["cosine_accuracy"] == pytest.approx(right / 3)


def test_a_margin_may_be_for_one_function() -> None:
    evaluator = TripletEvaluator(*TRIPLETS, margin={"cosine": 0.7}, similarity_fn_names=["cosine", "dot"])
    found = evaluator(Given(VECTORS))
    assert found == {"cosine_accuracy": 0, "dot_accuracy": pytest.approx(1 / 3), "max_accuracy": pytest.approx(1 / 3)}
    assert evaluator.get_config_dict() == {"margin": {"cosine": 0.7, "dot": 0, "manhattan": 0, "euclidean": 0}}


def test_anchors_are_queries_and_the_others_documents() -> None:
    queries = {"a": [0.0, 1.0], "c": [0.0, 1.0]}
    model = Given(VECTORS, queries)
    # cosines as queries 0.8 < 1, 1 > 0.8, 0 = 0
    evaluator = TripletEvaluator(*TRIPLETS, truncate_dim=2)
    assert evaluator(model) == {"cosine_accuracy": pytest.approx(1 / 3)}
    assert TripletEvaluator(["a"], ["c"], ["b"])(model) == {"cosine_accuracy": 1}
    assert [call[:2] for call in model.calls[:2]] == [
        ("encode_query", ["a", "c"]),
        ("encode_document", ["b", "c", "a", "d"]),
    ]
    assert model.calls[0][2]["truncate_dim"] == 2


def test_the_old_name_of_the_main_function_warns() -> None:
    with pytest.warns(FutureWarning, match="main_distance_function is now main_similarity_function"):
        evaluator = TripletEvaluator(*TRIPLETS, main_distance_function="dot")
    assert evaluator.similarity_fn_names == ["dot"]


def test_no_triplets_are_never_right() -> None:
    assert TripletEvaluator([], [], [], similarity_fn_names=["dot"]).measure(Given({})).metrics == {"dot_accuracy": 0}


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"anchors \(1\) and positives \(2\) and negatives \(1\) must have the same"):
        TripletEvaluator(["a"], ["b", "c"], ["d"])


def test_input_examples_are_three_texts() -> None:
    evaluator = TripletEvaluator.from_input_examples([SimpleNamespace(texts=["a", "b", "c"], label=0)], margin=1)
    assert (evaluator.anchors, evaluator.positives, evaluator.negatives) == (["a"], ["b"], ["c"])
    assert evaluator.margin["dot"] == 1


def test_the_share_is_rounded_to_float32() -> None:
    # as the reference does: 2/3 is 0.6666666865348816
    vectors = {"a": [1.0, 0.0], "near": [1.0, 0.1], "far": [0.0, 1.0]}
    evaluator = TripletEvaluator(["a"] * 3, ["near", "near", "far"], ["far", "far", "near"])
    assert evaluator(Given(vectors))["cosine_accuracy"] == float(np.float32(2 / 3)) != 2 / 3
