"""CrossEncoderCorrelationEvaluator."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from sentence_transformers import InputExample
from sentence_transformers.evaluation.cross.correlation import CrossEncoderCorrelationEvaluator
from tests.unit.evaluation.cross.scoring import Scoring

PAIRS = [("a", "1"), ("b", "2"), ("c", "3")]
SCORES = dict(zip(PAIRS, [0.0, 2.0, 1.0], strict=True))
GOLD = [1.0, 2.0, 4.0]


def test_metrics_equal_the_hand_values() -> None:
    found = CrossEncoderCorrelationEvaluator(PAIRS, GOLD)(Scoring(SCORES))
    # centred: -4/3, -1/3, 5/3 and -1, 1, 0
    assert found == pytest.approx({"pearson": 1 / math.sqrt(42 / 9 * 2), "spearman": 0.5})


def test_equal_scores_have_no_correlation() -> None:
    found = CrossEncoderCorrelationEvaluator(PAIRS, GOLD)(Scoring(lambda first, second: 0.3))
    assert all(math.isnan(value) for value in found.values())


def test_examples_are_understood() -> None:
    examples = [InputExample(texts=list(pair), label=score) for pair, score in zip(PAIRS, GOLD, strict=True)]
    evaluator = CrossEncoderCorrelationEvaluator.from_input_examples(examples, name="sts", batch_size=2)
    model = Scoring(SCORES)
    assert evaluator(model)["sts_spearman"] == pytest.approx(0.5)
    assert model.calls[0][0] == PAIRS
    assert model.calls[0][1]["batch_size"] == 2


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence_pairs and scores must have the same length, got 3 and 2"):
        CrossEncoderCorrelationEvaluator(PAIRS, GOLD[:2])


def test_a_model_with_several_labels_is_refused() -> None:
    model = Scoring(lambda first, second: [0.1, 0.2], num_labels=2)
    with pytest.raises(ValueError, match=r"CrossEncoderCorrelationEvaluator needs one score .* shape \(3, 2\)"):
        CrossEncoderCorrelationEvaluator(PAIRS, GOLD)(model)


def test_one_pair_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two"):
        CrossEncoderCorrelationEvaluator(PAIRS[:1], GOLD[:1])(Scoring(SCORES))


def test_rows_are_added_to_the_csv_file(tmp_path: Path) -> None:
    evaluator = CrossEncoderCorrelationEvaluator(PAIRS, GOLD, "dev")
    found = evaluator(Scoring(SCORES), str(tmp_path), 1, 20)
    with (tmp_path / "CrossEncoderCorrelationEvaluator_dev_results.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "Pearson_Correlation", "Spearman_Correlation"] == evaluator.csv_headers
    assert [float(cell) for cell in row] == [1, 20, found["dev_pearson"], found["dev_spearman"]]
    assert evaluator.primary_metric == "dev_spearman"
    assert evaluator.description == "Cross Encoder Correlation"
