"""Objectives of sparse embeddings against loops written from the papers."""

from __future__ import annotations

import pytest
import torch
from losses_checking import value_and_gradients, zero
from losses_sparse_facts import column
from torch import Tensor

from sentence_transformers.losses.sparse_objectives import flops, normalized_mse

E = column(0)


def slow_flops(rows: Tensor, threshold: float | None = None) -> Tensor:
    total = zero(rows)
    for dimension in range(rows.shape[1]):
        activation = zero(rows)
        for row in rows:
            if threshold is None or sum(number != 0 for number in row.tolist()) > threshold:
                activation = activation + row[dimension]
        total = total + (activation / len(rows)) ** 2
    return total


@pytest.mark.parametrize("threshold", [None, 0, 3, 4, 4.5, 6])
def test_flops_are_the_squared_mean_activations(threshold: float | None) -> None:
    found = value_and_gradients(lambda some: flops(some[0], threshold), [E])
    torch.testing.assert_close(found, value_and_gradients(lambda some: slow_flops(some[0], threshold), [E]))


def test_the_rows_differ_in_how_many_numbers_they_have() -> None:
    counts = (E != 0).sum(1)
    assert counts.min() <= 3 < 4 < counts.max()  # so that the thresholds above choose some


def test_flops_of_hand_made_rows() -> None:
    rows = torch.tensor([[1.0, 0, 3], [3, 0, 0]])
    assert flops(rows).item() == 4 + 0 + 2.25
    assert flops(rows, threshold=1).item() == 0.25 + 2.25  # the second row has one number only
    assert flops(rows, threshold=2).item() == 0


def test_flops_count_a_row_with_as_many_numbers_as_the_threshold_as_sparse_enough() -> None:
    assert flops(torch.tensor([[2.0, 2, 0]]), threshold=2) == 0
    assert flops(torch.tensor([[2.0, 2, 0]]), threshold=1) == 8


def slow_normalized(found: Tensor, target: Tensor) -> Tensor:
    rows, width = target.shape
    error = variance = zero(target)
    for j in range(width):
        mean = sum(target[i, j] for i in range(rows)) / rows
        for i in range(rows):
            error = error + (found[i, j] - target[i, j]) ** 2
            variance = variance + (target[i, j] - mean) ** 2
    return error / variance


def test_the_error_is_divided_by_that_of_the_mean() -> None:
    given = [column(1), column(2)]
    found = value_and_gradients(lambda some: normalized_mse(*some), given)
    torch.testing.assert_close(found, value_and_gradients(lambda some: slow_normalized(*some), given))


def test_the_mean_of_the_rows_has_error_one() -> None:
    target = column(3)
    assert normalized_mse(target.mean(0).expand_as(target), target) == pytest.approx(1)


@pytest.mark.parametrize("target", [torch.tensor([[1.0, 2.0]]), torch.zeros(3, 2)])
def test_a_target_that_does_not_vary_does_not_divide(target: Tensor) -> None:
    found = torch.tensor([[2.0, 4.0]]).expand_as(target)
    value, gradients = value_and_gradients(lambda some: normalized_mse(*some), [found, target])
    assert value == (found - target).square().mean()
    assert all(one.isfinite().all() for one in gradients)
