"""Metrics of scores: values by hand, loops over every threshold, and what scipy and sklearn say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sentence_transformers.evaluation.metrics import (
    BINARY_METRICS,
    Cuts,
    average_precision,
    best_accuracy,
    best_f1,
    binary_metrics,
    class_f1,
    matthews_correlation,
)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels, at least one of either kind."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 40))
    labels = (rng.random(count) < 0.4).astype(int)
    labels[:2] = 0, 1
    return rng.integers(0, 9, count) / 3, labels


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_cuts_by_hand() -> None:
    cuts = Cuts.of([0.2, 0.9, 0.2, 0.5], [1, 1, 0, 0])
    assert cuts.scores.tolist() == [0.9, 0.5, 0.2]
    assert cuts.taken.tolist() == [1, 2, 4]
    assert cuts.hits.tolist() == [1, 1, 2]
    assert cuts.positives == 2


def test_distances_are_taken_from_the_smallest() -> None:
    assert Cuts.of([0.2, 0.9, 0.5], [1, 0, 0], higher_is_closer=False).scores.tolist() == [0.2, 0.5, 0.9]


def test_a_threshold_is_halfway() -> None:
    assert best_accuracy(Cuts.of([0.9, 0.5, 0.1], [1, 1, 0])) == (1, pytest.approx(0.3))
    assert best_f1(Cuts.of([0.9, 0.5, 0.1], [1, 1, 0])) == (1, 1, 1, pytest.approx(0.3))


def test_a_threshold_of_neighbouring_numbers_still_parts_them() -> None:
    low = np.nextafter(1.0, 0.0)
    for scores, labels, higher in (([1.0, low], [1, 0], True), ([1.0, low], [0, 1], False)):
        _, threshold = best_accuracy(Cuts.of(scores, labels, higher))
        taken = np.array(scores) >= threshold if higher else np.array(scores) <= threshold
        assert taken.tolist() == [bool(label) for label in labels]


def test_a_threshold_of_huge_numbers_is_finite() -> None:
    assert best_accuracy(Cuts.of([1.7e308, 1.5e308], [1, 0]))[1] == pytest.approx(1.6e308)


def test_nothing_is_similar_if_that_is_best() -> None:
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    accuracy, threshold = best_accuracy(Cuts.of(scores, [0, 0, 1]))
    assert accuracy == pytest.approx(2 / 3)
    assert not (scores >= np.float32(threshold)).any()  # beyond the highest also when rounded to its type
    assert np.float32(threshold) == np.nextafter(np.float32(0.9), np.float32(2))


def test_of_equally_good_thresholds_the_strictest_is_told() -> None:
    assert best_accuracy(Cuts.of([4, 3, 2, 1], [1, 0, 1, 0]))[1] == 3.5


def test_without_positives_f1_is_zero() -> None:
    assert best_f1(Cuts.of([0.3, 0.1], [0, 0])) == (0, 0, 0, 0)


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better_than_the_best(seed: int, higher: bool) -> None:
    scores, labels = drawn(seed)
    accuracy, accuracy_threshold = best_accuracy(Cuts.of(scores, labels, higher))
    f1, precision, recall, f1_threshold = best_f1(Cuts.of(scores, labels, higher))

    def taken(threshold: float) -> np.ndarray:
        return scores >= threshold if higher else scores <= threshold

    def f1_of(threshold: float) -> float:
        return 2 * (taken(threshold) & (labels == 1)).sum() / (taken(threshold).sum() + labels.sum())

    every = np.concatenate([scores, [scores.min() - 1, scores.max() + 1]])
    assert accuracy == pytest.approx(max((taken(threshold) == labels).mean() for threshold in every))
    assert accuracy == pytest.approx((taken(accuracy_threshold) == labels).mean())
    assert f1 == pytest.approx(max(f1_of(threshold) for threshold in every))
    assert f1 == pytest.approx(f1_of(f1_threshold))
    assert precision == pytest.approx(labels[taken(f1_threshold)].mean())
    assert recall == pytest.approx(labels[taken(f1_threshold)].sum() / labels.sum())


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        ([], [], "at least one"),
        ([1, 2], [1], "as many scores as labels"),
        ([1, 2], [1, 2], "labels must be 0 or 1, got"),
        ([1, 2], [0.5, 1], "labels must be 0 or 1, got"),
    ],
)
def test_what_cannot_be_cut_is_refused(scores: list[float], labels: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Cuts.of(scores, labels)


# --- average precision and Matthews correlation ----------------------------------------------------------------------


def test_average_precision_by_hand() -> None:
    # positives at ranks 1 and 3 of 4
    assert average_precision(Cuts.of([4, 3, 2, 1], [1, 0, 1, 0])) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_equal_scores_are_found_together() -> None:
    # both of one group of three, where two of three are positive
    assert average_precision(Cuts.of([1, 1, 1, 0], [1, 0, 1, 0])) == pytest.approx(2 / 3)


def test_average_precision_of_nan_is_nan() -> None:
    assert math.isnan(average_precision(Cuts.of([1, math.nan], [1, 0])))


def test_matthews_by_hand() -> None:
    # 3 right of 4 predictions, 5 positives, 10 in all: tp 3, fp 1, fn 2, tn 4
    assert matthews_correlation(3, 4, 5, 10) == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))


def test_matthews_of_a_constant_is_zero() -> None:
    assert matthews_correlation(2, 4, 2, 4) == 0


def test_matthews_of_many_does_not_overflow() -> None:
    many = 10**9
    assert matthews_correlation(many, many, many, 2 * many) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_metrics_are_those_of_sklearn(seed: int) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = drawn(seed)
    for sign, higher in ((1, True), (-1, False)):
        found = binary_metrics(sign * scores, labels, higher)
        predicted = sign * sign * scores >= sign * found["f1_threshold"]
        expected = {
            "ap": sklearn_metrics.average_precision_score(labels, scores),
            "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
            "f1": sklearn_metrics.f1_score(labels, predicted),
            "precision": sklearn_metrics.precision_score(labels, predicted),
            "recall": sklearn_metrics.recall_score(labels, predicted),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_binary_metrics_have_their_names_in_order() -> None:
    assert tuple(binary_metrics([0.5, 0.1], [1, 0])) == BINARY_METRICS


def test_f1_of_classes_equals_the_hand_values() -> None:
    # of class 0 one of two is right and one more is taken; of 4 the one; 7 is never right, 9 never a label
    found = class_f1([0, 0, 4, 7, 7], [0, 9, 4, 0, 9])
    assert found == {
        "macro": pytest.approx((1 / 2 + 1 + 0 + 0) / 4),
        "micro": 2 / 5,
        "weighted": pytest.approx((2 * 1 / 2 + 1) / 5),
    }


@pytest.mark.parametrize("seed", range(10))
def test_f1_of_classes_is_that_of_sklearn(seed: int) -> None:
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 5, 30), rng.integers(0, 6, 30)
    found = class_f1(labels, predictions)
    assert found == pytest.approx(
        {mean: f1_score(labels, predictions, average=mean, zero_division=0) for mean in found}, abs=1e-12
    )


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([0, 1], [0]), ([[0]], [[0]])])
def test_f1_needs_a_prediction_for_each_label(labels: list[int], predictions: list[int]) -> None:
    with pytest.raises(ValueError, match="as many predictions as labels, at least one"):
        class_f1(labels, predictions)
