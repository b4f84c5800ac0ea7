"""Triplet losses against loops over triplets, written from the papers."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from losses_checking import assert_agrees, cosine, relu, value_and_gradients, zero
from losses_pairs_facts import Given, column
from torch import Tensor

from sentence_transformers.losses.triplets import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchHardTripletLossDistanceFunction,
    BatchSemiHardTripletLoss,
    TripletDistanceMetric,
    TripletLoss,
)

A, B, C = (column(seed, rows=7) for seed in range(3))
LABELS = {
    "mixed": [0, 1, 0, 1, 2, 0, 2],
    "one class": [3] * 7,
    "all different": list(range(7)),
    "one apart": [0, 0, 1, 0, 0, 0, 0],
}
OF_CLASSES = [BatchAllTripletLoss, BatchHardTripletLoss, BatchHardSoftMarginTripletLoss, BatchSemiHardTripletLoss]
FUNCTIONS = {
    "euclidean_distance": lambda x, y: ((x - y) ** 2).sum().sqrt(),
    "cosine_distance": lambda x, y: 1 - cosine(x, y),
}


def slow_distances(rows: Tensor, name: str) -> list[list[Tensor]]:
    """The distance of a row to itself is a 0 without gradient."""
    return [
        [rows.new_zeros(()) if i == j else FUNCTIONS[name](x, y) for j, y in enumerate(rows)]
        for i, x in enumerate(rows)
    ]


def slow_all(distances: Any, labels: list[int], margin: float) -> Tensor:
    total, count = sum(map(sum, distances)) * 0, 0
    for a, p, n in product(range(len(labels)), repeat=3):
        if a != p and labels[a] == labels[p] != labels[n]:
            loss = distances[a][p] - distances[a][n] + margin
            total, count = (total + loss, count + 1) if loss > 0 else (total, count)
    return total / max(count, 1)


def slow_hardest(distances: Any, labels: list[int]) -> list[tuple[Any, Any]]:
    """Farthest positive (or 0) and nearest negative (or the farthest of all) of each anchor."""
    found = []
    for a, label in enumerate(labels):
        positives = [distances[a][p] for p in range(len(labels)) if p != a and labels[p] == label]
        negatives = [distances[a][n] for n in range(len(labels)) if labels[n] != label]
        found.append((max(positives, default=distances[a][a]), min(negatives, default=max(distances[a]))))
    return found


def slow_semi_hard(distances: Any, labels: list[int], margin: float) -> Tensor:
    total, count = sum(map(sum, distances)) * 0, 0
    for a, p in product(range(len(labels)), repeat=2):
        if a != p and labels[a] == labels[p]:
            near = distances[a][p]
            negatives = [distances[a][n] for n in range(len(labels)) if labels[n] != labels[a]]
            farther = [one for one in negatives if one > near]
            total = total + relu(near - (min(farther) if farther else max(negatives, default=0)) + margin)
            count += 1
    return total / max(count, 1)


# --- given triplets --------------------------------------------------------------------------------------------------

METRICS = {
    "COSINE": FUNCTIONS["cosine_distance"],
    "EUCLIDEAN": FUNCTIONS["euclidean_distance"],
    "MANHATTAN": lambda x, y: (x - y).abs().sum(),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [0.3, 5])
def test_the_positive_is_nearer_by_a_margin(metric: str, margin: float) -> None:
    distance = METRICS[metric]

    def slow(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        rows = zip(a, p, n, strict=True)
        return torch.stack([relu(distance(x, y) - distance(x, z) + margin) for x, y, z in rows]).mean()

    assert_agrees(TripletLoss(Given(), getattr(TripletDistanceMetric, metric), margin), [A, B, C], None, slow)


def test_the_margin_is_5_in_euclidean_distance() -> None:
    far = A + torch.tensor([0, 0, 0, 0, 3.0, 4.0])
    assert TripletLoss(Given()).compute_loss_from_embeddings([A, A, far]) == 0
    assert TripletLoss(Given()).compute_loss_from_embeddings([A, far, A]) == pytest.approx(10)


def test_equal_texts_have_a_finite_gradient() -> None:
    for metric in METRICS:
        loss = TripletLoss(Given(), getattr(TripletDistanceMetric, metric))
        _, gradients = value_and_gradients(loss.compute_loss_from_embeddings, [A, A, A])
        assert all(one.isfinite().all() for one in gradients)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_triplet_is_three_columns(count: int) -> None:
    with pytest.raises(ValueError, match=rf"TripletLoss expects 3 columns .*, but got {count}"):
        TripletLoss(Given())([{"given": A}] * count)


# --- triplets by classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("margin", [0.2, 5])
def test_all_triplets_of_a_batch(name: str, case: str, margin: float) -> None:
    loss = BatchAllTripletLoss(Given(), getattr(BatchHardTripletLossDistanceFunction, name), margin)
    labels = LABELS[case]
    assert_agrees(loss, [A], torch.tensor(labels), lambda a: slow_all(slow_distances(a, name), labels, margin))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("margin", [0.2, 5])
def test_the_hardest_of_each_anchor(name: str, case: str, margin: float) -> None:
    loss = BatchHardTripletLoss(Given(), getattr(BatchHardTripletLossDistanceFunction, name), margin)
    labels = LABELS[case]

    def slow(a: Tensor) -> Tensor:
        hardest = slow_hardest(slow_distances(a, name), labels)
        return zero(a) + sum(relu(near - far + margin) for near, far in hardest) / len(a)

    assert_agrees(loss, [A], torch.tensor(labels), slow)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", LABELS)
def test_the_hardest_with_a_soft_margin(name: str, case: str) -> None:
    loss = BatchHardSoftMarginTripletLoss(Given(), getattr(BatchHardTripletLossDistanceFunction, name))
    labels = LABELS[case]

    def slow(a: Tensor) -> Tensor:
        hardest = slow_hardest(slow_distances(a, name), labels)
        return zero(a) + sum((1 + (near - far).exp()).log() for near, far in hardest) / len(a)

    assert_agrees(loss, [A], torch.tensor(labels), slow)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("margin", [0.2, 5])
def test_the_semi_hard_negative_of_each_pair(name: str, case: str, margin: float) -> None:
    loss = BatchSemiHardTripletLoss(Given(), getattr(BatchHardTripletLossDistanceFunction, name), margin)
    labels = LABELS[case]
    assert_agrees(loss, [A], torch.tensor(labels), lambda a: slow_semi_hard(slow_distances(a, name), labels, margin))


def test_semi_hard_by_hand() -> None:
    rows = torch.tensor([[0.0], [2.0], [1.0], [3.0]])  # classes: 0 0 1 2
    # from 0 to 2, the nearest farther one is 3 away: 2 - 3 + 0.5 < 0; from 2 to 0, both others are 1 away: 2 - 1 + 0.5
    found = BatchSemiHardTripletLoss(Given(), margin=0.5).batch_semi_hard_triplet_loss(torch.tensor([0, 0, 1, 2]), rows)
    assert found.item() == pytest.approx(1.5 / 2)


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_equal_texts_of_a_batch_have_a_finite_gradient(kind: Any) -> None:
    rows = torch.cat([A[:3], A[:3]])
    for labels in ([0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 2, 2]):
        value, (gradient,) = value_and_gradients(
            lambda some, labels=labels: kind(Given()).compute_loss_from_embeddings(some, torch.tensor(labels)), [rows]
        )
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_classes_may_be_numbers_of_any_type_and_shape(kind: Any) -> None:
    labels = torch.tensor(LABELS["mixed"])
    expected = kind(Given()).compute_loss_from_embeddings([A], labels)
    for other in (labels.float(), labels[:, None], labels.int()):
        assert torch.equal(kind(Given()).compute_loss_from_embeddings([A], other), expected)


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_every_text_needs_its_class(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} expects 7 labels .* but got 2 labels with shape \(2,\)"):
        kind(Given())([{"given": A}], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=rf"{kind.__name__} expects 7 labels .* but got none"):
        kind(Given())([{"given": A}], None)


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_without_columns_there_is_a_message(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} expects at least 1 columns"):
        kind(Given())([], torch.tensor([0, 1]))


# --- distances and masks ---------------------------------------------------------------------------------------------


def test_distances_are_those_of_all_rows() -> None:
    euclidean = BatchHardTripletLossDistanceFunction.euclidean_distance(A)
    for i, j in product(range(7), repeat=2):
        assert euclidean[i, j] == pytest.approx(math.dist(A[i].tolist(), A[j].tolist()), abs=1e-12)
    squared = BatchHardTripletLossDistanceFunction.euclidean_distance(A, squared=True)
    torch.testing.assert_close(squared, euclidean**2)
    assert torch.equal(BatchHardTripletLossDistanceFunction.eucledian_distance(A), euclidean)


def test_near_rows_keep_their_distance_in_float32() -> None:
    rows = torch.full((30, 8), 100.0)
    rows[1, 0] += 1e-3
    found = BatchHardTripletLossDistanceFunction.euclidean_distance(rows)
    assert found[0, 1] == pytest.approx((rows[1, 0] - rows[0, 0]).item())


def test_distances_of_half_types_are_computed() -> None:
    assert BatchHardTripletLossDistanceFunction.euclidean_distance(A.bfloat16()).dtype == torch.float32


def test_masks_name_pairs_and_triplets_by_class() -> None:
    labels = torch.tensor(LABELS["mixed"])
    same = BatchHardTripletLoss.get_anchor_positive_triplet_mask(labels)
    other = BatchHardTripletLoss.get_anchor_negative_triplet_mask(labels)
    triplets = BatchHardTripletLoss.get_triplet_mask(labels)
    for a, p in product(range(7), repeat=2):
        assert same[a, p] == (a != p and labels[a] == labels[p])
        assert other[a, p] == (labels[a] != labels[p])
        for n in range(7):
            assert triplets[a, p, n] == (a != p and labels[a] == labels[p] and labels[a] != labels[n])


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_the_configuration_of_a_batch_loss(kind: Any) -> None:
    expected = {"distance_metric": "euclidean_distance", "margin": 5}
    if kind is BatchHardSoftMarginTripletLoss:
        del expected["margin"]
    assert kind(Given()).get_config_dict() == expected


def test_the_configuration_of_a_triplet_loss() -> None:
    expected = {"distance_metric": "TripletDistanceMetric.EUCLIDEAN", "triplet_margin": 5}
    assert TripletLoss(Given()).get_config_dict() == expected


def test_the_margin_has_two_names() -> None:
    loss = BatchHardTripletLoss(Given(), margin=2)
    loss.triplet_margin = 3
    assert (loss.margin, loss.triplet_margin) == (3, 3)


@pytest.mark.parametrize("kind", [TripletLoss, *OF_CLASSES])
def test_the_paper_is_cited(kind: Any) -> None:
    assert "Hermans" in kind(Given()).citation
