"""What evaluators of embeddings share: distinct inputs, pairs in blocks, functions, files, names and hooks."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.evaluation import embedding
from sentence_transformers.evaluation.base import SequentialEvaluator
from sentence_transformers.evaluation.embedding import Encoded, distinct, pair_scores
from sentence_transformers.evaluation.similarity import EmbeddingSimilarityEvaluator
from sentence_transformers.evaluation.triplet import TripletEvaluator
from sentence_transformers.ops.similarity import pairwise_dot_score
from tests.unit.evaluation.evaluating import Given

VECTORS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 2.0], "d": [-1.0, 0.5]}
PAIRS = (["a", "a", "b", "a"], ["b", "c", "c", "d"], [0.9, 0.2, 0.8, 0.1])


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


# --- distinct inputs -------------------------------------------------------------------------------------------------


def test_equal_texts_are_one_input() -> None:
    inputs, (first, second) = distinct(["x", "y", "x"], ["y", "z"])
    assert inputs == ["x", "y", "z"]
    assert first.tolist() == [0, 1, 0]
    assert second.tolist() == [1, 2]


def test_objects_that_are_no_texts_are_told_apart_by_identity() -> None:
    image, same_looking = {"image": "x.png"}, {"image": "x.png"}
    inputs, (places,) = distinct([image, same_looking, image])
    assert inputs == [image, same_looking]
    assert places.tolist() == [0, 1, 0]


def test_objects_made_while_iterating_are_not_mixed_up() -> None:
    class Column:
        def __iter__(self) -> Any:
            return ([number] for number in range(1000))

    inputs, (places,) = distinct(Column())  # type: ignore[arg-type]
    assert inputs == [[number] for number in range(1000)]
    assert places.tolist() == list(range(1000))


def test_embeddings_are_taken_by_place_whatever_they_are() -> None:
    table = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    places = np.array([2, 0, 2, 1])
    expected = table[places]
    np.testing.assert_array_equal(Encoded(table, places).take(), expected)
    np.testing.assert_array_equal(Encoded(torch.from_numpy(table), places).take(), expected)
    np.testing.assert_array_equal(Encoded(torch.from_numpy(table).to_sparse(), places).take().to_dense(), expected)
    np.testing.assert_array_equal(np.stack(Encoded(list(table), places).take(slice(1, 3))), expected[1:3])


@pytest.mark.parametrize("limit", [1, 4, 5, 2**24])
def test_pairs_in_blocks_score_as_pairs_at_once(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CACHED_ELEMENTS", limit)
    rng = np.random.default_rng(0)
    rows, left, right = rng.normal(size=(5, 2)), rng.integers(0, 5, 7), rng.integers(0, 5, 7)
    found = pair_scores(pairwise_dot_score, Encoded(rows, left), Encoded(rows, right))
    np.testing.assert_allclose(found, (rows[left] * rows[right]).sum(1), rtol=1e-12)


def test_only_one_block_of_pairs_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CACHED_ELEMENTS", 6)
    sizes = []

    def compare(left: Any, right: Any) -> torch.Tensor:
        sizes.append((len(left), len(right)))
        return torch.zeros(len(left))

    column = Encoded(np.zeros((2, 3)), np.array([0, 1, 1, 0, 1]))
    assert len(pair_scores(compare, column, column)) == 5
    assert sizes == [(2, 2), (2, 2), (1, 1)]


def test_no_pairs_have_no_scores() -> None:
    nothing = Encoded(np.empty(0), np.empty(0, dtype=np.int64))
    assert pair_scores(pairwise_dot_score, nothing, nothing).shape == (0,)


# --- which functions -------------------------------------------------------------------------------------------------


def test_by_default_the_function_is_that_of_the_model() -> None:
    evaluator = EmbeddingSimilarityEvaluator(*PAIRS)
    assert set(evaluator(Given(VECTORS, similarity_fn_name="dot"))) == {"pearson_dot", "spearman_dot"}


def test_a_model_with_a_function_that_is_not_of_this_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unexpected names \['maxsim'\], expected names in \['cosine', 'dot'"):
        EmbeddingSimilarityEvaluator(*PAIRS)(Given(VECTORS, similarity_fn_name="maxsim"))


def test_an_unknown_function_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"unexpected names \['cos'\]"):
        EmbeddingSimilarityEvaluator(*PAIRS, similarity_fn_names=["cos"])


def test_the_main_function_is_computed_even_if_it_is_not_named() -> None:
    evaluator = TripletEvaluator(["a"], ["b"], ["c"], main_similarity_function="dot", similarity_fn_names=["cosine"])
    assert set(evaluator(Given(VECTORS))) == {"cosine_accuracy", "dot_accuracy", "max_accuracy"}
    assert evaluator.primary_metric == "dot_accuracy"


# --- names, files, cards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "dev", "spearman", "spearman_max"])
def test_the_primary_metric_is_one_of_the_metrics(name: str) -> None:
    evaluator = EmbeddingSimilarityEvaluator(*PAIRS, name=name, similarity_fn_names=["cosine", "dot"])
    for _ in range(2):
        metrics = evaluator(Given(VECTORS))
        assert evaluator.primary_metric in metrics
    assert SequentialEvaluator([evaluator])(Given(VECTORS))["sequential_score"] == metrics[evaluator.primary_metric]


def test_a_second_evaluation_adds_a_row(tmp_path: Path) -> None:
    evaluator = EmbeddingSimilarityEvaluator(*PAIRS, name="dev")
    metrics = evaluator(Given(VECTORS), str(tmp_path / "new"), epoch=1, steps=7)
    evaluator(Given(VECTORS), str(tmp_path / "new"))
    header, first, second = rows_of(tmp_path / "new" / "similarity_evaluation_dev_results.csv")
    assert header == ["epoch", "steps", "cosine_pearson", "cosine_spearman"]
    assert first[:2] == ["1", "7"]
    assert second[:2] == ["-1", "-1"]
    assert float(first[2]) == metrics["dev_pearson_cosine"]


def test_nothing_is_written_if_not_asked(tmp_path: Path) -> None:
    EmbeddingSimilarityEvaluator(*PAIRS, write_csv=False)(Given(VECTORS), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_the_card_is_told() -> None:
    evaluator, model = EmbeddingSimilarityEvaluator(*PAIRS), Given(VECTORS)
    metrics = evaluator(model, None, 3, 4)
    assert model.model_card_data.told == [(evaluator, metrics, 3, 4)]


def test_the_log_says_what_came_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        EmbeddingSimilarityEvaluator(*PAIRS, name="dev")(Given(VECTORS), epoch=2)
    assert "EmbeddingSimilarityEvaluator: evaluating the model on the dev dataset after epoch 2" in caplog.text
    assert "spearman_cosine: " in caplog.text


# --- hooks -----------------------------------------------------------------------------------------------------------


class Counting(TripletEvaluator):
    """As an encoder of another kind would be evaluated."""

    def encode_settings(self) -> dict[str, Any]:
        return {"convert_to_tensor": True}

    def statistics(self, encoded: Mapping[str, Encoded]) -> dict[str, float]:
        return {f"{role}_size": float(column.take().abs().sum()) for role, column in encoded.items()}


def test_statistics_are_metrics_and_columns(tmp_path: Path) -> None:
    model = Given(VECTORS)
    metrics = Counting(["a", "a"], ["b", "c"], ["c", "d"], name="x")(model, str(tmp_path))
    assert metrics["x_anchor_size"] == 2
    assert metrics["x_positive_size"] == pytest.approx(1.4 + 2)
    header, row = rows_of(tmp_path / "triplet_evaluation_x_results.csv")
    assert header == ["epoch", "steps", "accuracy_cosine", "anchor_size", "positive_size", "negative_size"]
    assert float(row[-1]) == metrics["x_negative_size"]


def test_settings_for_encode_can_be_changed() -> None:
    model = Given(VECTORS)
    Counting(["a"], ["b"], ["c"], batch_size=5)(model)
    assert model.calls[0][2] == {"batch_size": 5, "show_progress_bar": False, "convert_to_tensor": True}


def test_inputs_can_be_embedded_in_another_way() -> None:
    class Own(EmbeddingSimilarityEvaluator):
        def embed_inputs(self, model: Any, sentences: Any, encode_fn_name: Any = None, **kwargs: Any) -> Any:
            return np.array([[ord(text), 1.0] for text in sentences])

    found = Own(["a", "b"], ["b", "d"], [2, 1], similarity_fn_names=["manhattan"])(Given({}))
    assert found == {"pearson_manhattan": pytest.approx(1), "spearman_manhattan": pytest.approx(1)}
