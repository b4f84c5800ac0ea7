"""ParaphraseMiningEvaluator."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentence_transformers.evaluation.paraphrases import ParaphraseMiningEvaluator, pair_metrics
from tests.unit.evaluation.ranking_models import Comparing


def angles(*values: float) -> tuple[dict[str, str], Comparing]:
    """Sentences in the plane, at these angles, and a model that has them."""
    vectors = {f"text {place}": [math.cos(value), math.sin(value)] for place, value in enumerate(values)}
    return {f"s{place}": text for place, text in enumerate(vectors)}, Comparing(vectors)


def test_metrics_equal_the_hand_values() -> None:
    sentences, model = angles(0, 0.1, 0.25)  # pairs: 01 at 0.1, 12 at 0.15, 02 at 0.25
    found = ParaphraseMiningEvaluator(sentences, [("s0", "s1"), ("s0", "s2")])(model)
    assert found == {
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "f1": pytest.approx(0.8),  # of all three
        "precision": pytest.approx(2 / 3),
        "recall": 1,
        "threshold": pytest.approx(math.cos(0.25)),
    }


def test_the_threshold_is_halfway_to_the_next_pair() -> None:
    sentences, model = angles(0, 0.1, 0.25)
    found = ParaphraseMiningEvaluator(sentences, [("s0", "s1")])(model)
    assert found["threshold"] == pytest.approx((math.cos(0.1) + math.cos(0.15)) / 2)
    assert found["f1"] == 1


def test_equal_scores_count_together() -> None:
    found = pair_metrics(np.array([0.9, 0.9, 0.9, 0.1]), np.array([True, False, False, True]), 2)
    assert found["average_precision"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["threshold"] == 0.1


def test_pairs_that_were_not_mined_count_as_missed() -> None:
    found = pair_metrics(np.array([0.9, 0.5]), np.array([True, False]), 4)
    assert found["recall"] == found["average_precision"] == 1 / 4


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_the_slow_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, truth = random.integers(0, 12, 40) / 16, random.random(40) < 0.3
    total = int(truth.sum()) + seed
    best, average = (0.0, 0.0, 0.0, 0.0), 0.0
    levels = sorted(set(scores.tolist()), reverse=True)
    for level, below in zip(levels, [*levels[1:], None], strict=True):
        taken = scores >= level
        hits = int((truth & taken).sum())
        precision, recall = hits / int(taken.sum()), hits / total
        average += precision * int((truth & (scores == level)).sum()) / total
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        if f1 > best[0]:
            best = (f1, precision, recall, level if below is None else (level + below) / 2)
    found = pair_metrics(scores, truth, total)
    assert found["average_precision"] == pytest.approx(average, abs=1e-12)
    assert [found[name] for name in ("f1", "precision", "recall", "threshold")] == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("values", [(), (0.0,), (0.0, 1.0)])
def test_nothing_to_find_is_zero(values: tuple[float, ...]) -> None:
    sentences, model = angles(*values)
    assert set(ParaphraseMiningEvaluator(sentences)(model).values()) == {0.0}


def test_pairs_count_in_either_direction_and_once() -> None:
    sentences, _ = angles(0, 1, 2)
    evaluator = ParaphraseMiningEvaluator(sentences, [("s0", "s1"), ("s1", "s0"), ("s2", "s0"), ("s0", "gone")])
    assert evaluator.total_num_duplicates == 2
    assert evaluator.duplicates == {"s0": {"s1": True, "s2": True}, "s1": {"s0": True}, "s2": {"s0": True}}


def test_one_direction_of_a_graph_is_enough() -> None:
    sentences, model = angles(0, 0.1, 0.25)
    graph = {"s2": {"s0": True, "s1": False}, "s9": {"s1": True}}
    evaluator = ParaphraseMiningEvaluator(sentences, duplicates_dict=graph)
    assert evaluator.total_num_duplicates == 1
    assert evaluator(model) == ParaphraseMiningEvaluator(sentences, [("s0", "s2")])(model)


def test_the_transitive_closure_connects_components() -> None:
    closed = ParaphraseMiningEvaluator.add_transitive_closure({"a": {"b": True}, "c": {"b": True}, "d": {"e": True}})
    assert {one: set(others) for one, others in closed.items()} == {
        "a": {"b", "c"},
        "b": {"a", "c"},
        "c": {"a", "b"},
        "d": {"e"},
        "e": {"d"},
    }


def test_closed_pairs_are_to_be_found() -> None:
    sentences, _ = angles(0, 1, 2, 3)
    pairs = [("s0", "s1"), ("s1", "s2"), ("s2", "s3")]
    assert ParaphraseMiningEvaluator(sentences, pairs).total_num_duplicates == 3
    assert ParaphraseMiningEvaluator(sentences, pairs, add_transitive_closure=True).total_num_duplicates == 6


def test_settings_reach_the_model_and_the_mining() -> None:
    sentences, model = angles(0, 0.1, 0.25, 0.5, 1)
    evaluator = ParaphraseMiningEvaluator(
        sentences, [("s0", "s4")], max_pairs=10, top_k=1, batch_size=3, truncate_dim=2
    )
    assert evaluator(model)["recall"] == 0  # neither is the nearest of the other
    ((method, texts, settings),) = model.calls
    assert (method, texts) == ("encode", list(sentences.values()))
    assert settings["truncate_dim"] == 2
    assert settings["batch_size"] == 3


def test_rows_are_added_to_the_csv_file(tmp_path: Path) -> None:
    sentences, model = angles(0, 0.1, 0.25)
    evaluator = ParaphraseMiningEvaluator(sentences, [("s0", "s2")], name="dev")
    found: dict[str, Any] = evaluator(model, str(tmp_path), 1, 20)
    with (tmp_path / "paraphrase_mining_evaluation_dev_results.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "precision", "recall", "f1", "threshold", "average_precision"]
    assert [float(cell) for cell in row[2:]] == [found[f"dev_{name}"] for name in header[2:]]
    assert evaluator.primary_metric == "dev_average_precision"


def test_the_config_says_how_pairs_are_mined() -> None:
    expected = {"add_transitive_closure": True, "max_pairs": 500000, "top_k": 7, "truncate_dim": 2}
    made = ParaphraseMiningEvaluator({"a": "x"}, add_transitive_closure=True, top_k=7, truncate_dim=2)
    assert made.get_config_dict() == expected
