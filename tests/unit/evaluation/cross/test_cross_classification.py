"""CrossEncoderClassificationEvaluator."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.evaluation.cross.classification import CrossEncoderClassificationEvaluator
from tests.unit.evaluation.cross.scoring import Scoring

PAIRS = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]
SCORES = dict(zip(PAIRS, [0.9, 0.7, 0.5, 0.3, 0.1], strict=True))
LABELS = [1, 0, 1, 0, 0]
# of three classes, the class with the highest score is 2, 0, 1, 1, 0
THREE = dict(zip(PAIRS, [[0, 1, 5], [3, 2, 1], [0, 1, 0], [-3, -1, -2], [9, 8, 7]], strict=True))
CLASSES = [2, 0, 1, 0, 1]


def test_metrics_of_two_classes_equal_the_hand_values() -> None:
    found = CrossEncoderClassificationEvaluator(PAIRS, LABELS)(Scoring(SCORES))
    assert found == pytest.approx(
        {
            "accuracy": 4 / 5,  # only the first is taken
            "accuracy_threshold": 0.8,
            "f1": 2 * (2 / 3) / (2 / 3 + 1),  # the first three
            "f1_threshold": 0.4,
            "precision": 2 / 3,
            "recall": 1,
            "average_precision": (1 + 2 / 3) / 2,
        }
    )


def test_metrics_of_several_classes_equal_the_hand_values() -> None:
    found = CrossEncoderClassificationEvaluator(PAIRS, CLASSES)(Scoring(THREE, 3))
    assert found == pytest.approx(
        {
            "f1_macro": (1 / 2 + 1 / 2 + 1) / 3,
            "f1_micro": 3 / 5,
            "f1_weighted": (2 * 1 / 2 + 2 * 1 / 2 + 1) / 5,
        }
    )


def test_equal_scores_are_one_group() -> None:
    found = CrossEncoderClassificationEvaluator(PAIRS, LABELS)(Scoring(lambda first, second: 0.5))
    assert found["average_precision"] == pytest.approx(2 / 5)
    assert found["accuracy"] == 3 / 5
    assert found["accuracy_threshold"] > 0.5


@pytest.mark.parametrize(
    "labels",
    [
        [True, False, True, False, False],
        [1.0, 0.0, 1.0, 0.0, 0.0],
        np.array(LABELS),
        torch.tensor(LABELS),
        torch.tensor(LABELS, dtype=torch.bfloat16),
        tuple(LABELS),
    ],
    ids=["bool", "float", "array", "tensor", "bfloat16", "tuple"],
)
def test_labels_may_have_any_form(labels: Any) -> None:
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, labels)
    assert evaluator.labels.tolist() == LABELS
    assert evaluator(Scoring(SCORES)) == CrossEncoderClassificationEvaluator(PAIRS, LABELS)(Scoring(SCORES))


@pytest.mark.parametrize("labels", [[0.3, 1, 0, 0, 1], list("abcde"), [1, 0, float("nan"), 0, 0], [[0, 1]] * 5])
def test_labels_that_are_no_classes_are_refused_at_once(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels must be whole numbers, the class of each pair, got "):
        CrossEncoderClassificationEvaluator(PAIRS, labels)


def test_the_refusal_of_scores_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"CrossEncoderCorrelationEvaluator; .* labels=\[int\(score >= 0\.5\)"):
        CrossEncoderClassificationEvaluator(PAIRS, [0.3, 0.7, 0.1, 0.2, 0.9])  # type: ignore[list-item]


def test_a_model_with_one_label_knows_two_classes() -> None:
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, got \[0, 1, 2\]"):
        CrossEncoderClassificationEvaluator(PAIRS, CLASSES)(Scoring(SCORES))


@pytest.mark.parametrize("labels", [1, 3])
def test_without_pairs_nothing_can_be_measured(labels: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        CrossEncoderClassificationEvaluator([], [])(Scoring(SCORES, labels))


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence_pairs and labels must have the same length, got 5 and 4"):
        CrossEncoderClassificationEvaluator(PAIRS, LABELS[:4])


def test_all_pairs_are_scored_in_one_call() -> None:
    model = Scoring(SCORES)
    CrossEncoderClassificationEvaluator(PAIRS, LABELS, prompt_name="ask", batch_size=2)(model)
    settings = {"prompt_name": "ask", "batch_size": 2, "show_progress_bar": None, "convert_to_numpy": True}
    assert model.calls == [(PAIRS, settings)]


@pytest.mark.parametrize(
    ("labels", "scores", "columns"),
    [
        (
            LABELS,
            Scoring(SCORES),
            ["Accuracy", "Accuracy_Threshold", "F1", "F1_Threshold", "Precision", "Recall", "Average_Precision"],
        ),
        (CLASSES, Scoring(THREE, 3), ["Macro_F1", "Micro_F1", "Weighted_F1"]),
    ],
)
def test_rows_are_added_to_the_csv_file(labels: list[int], scores: Scoring, columns: list[str], tmp_path: Path) -> None:
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, labels, name="dev")
    found = evaluator(scores, str(tmp_path), 1, 20)
    with (tmp_path / "CrossEncoderClassificationEvaluator_dev_results.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", *columns] == evaluator.csv_headers
    assert [float(cell) for cell in row] == [1, 20, *found.values()]
    assert all(metric.startswith("dev_") for metric in found)


@pytest.mark.parametrize(
    ("labels", "scores", "metric"),
    [(LABELS, Scoring(SCORES), "average_precision"), (CLASSES, Scoring(THREE, 3), "f1_macro")],
)
def test_the_primary_metric_is_that_of_the_model(labels: list[int], scores: Scoring, metric: str) -> None:
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, labels, name="dev")
    evaluator(scores)
    assert evaluator.primary_metric == f"dev_{metric}"


def test_unknown_arguments_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        CrossEncoderClassificationEvaluator(PAIRS, LABELS, threshold=0.5)
    assert "CrossEncoderClassificationEvaluator does not use these arguments: threshold" in caplog.text


def test_description_and_config() -> None:
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, LABELS)
    assert evaluator.description == "Cross Encoder Classification"
    assert evaluator.get_config_dict() == {}
