"""The loss that spreads embeddings out, against loops written from the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from losses_checking import assert_agrees, cosine, relu, zero
from losses_pairs_facts import Given, column
from torch import Tensor

from sentence_transformers.losses.regularisation import GlobalOrthogonalRegularizationLoss
from sentence_transformers.ops.similarity import dot_score

A, B = (column(seed, rows=5) for seed in range(2))


def slow_moments(rows: Tensor, similarity: Any = cosine) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the similarities of different rows."""
    found = [similarity(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    return sum(found) / len(found), sum(one**2 for one in found) / len(found)


def slow(columns: tuple[Tensor, ...], weights: tuple[float, float], similarity: Any = cosine) -> Tensor:
    """The sum of the columns."""
    total = zero(columns[0])
    for rows in columns:
        mean, square = slow_moments(rows, similarity)
        total = total + weights[0] * mean**2 + weights[1] * relu(square - 1 / rows.shape[1])
    return total


@pytest.mark.parametrize("columns", [[A], [A, B]])
def test_mean_and_second_moment_are_those_of_chance(columns: list[Tensor]) -> None:
    loss = GlobalOrthogonalRegularizationLoss(Given())
    assert_agrees(loss, columns, None, lambda *some: slow(some, (1, 1)) / len(some))


def test_columns_may_be_summed_and_weighted() -> None:
    loss = GlobalOrthogonalRegularizationLoss(Given(), dot_score, 0.3, 2.0, "sum")
    assert_agrees(loss, [A, B], None, lambda *some: slow(some, (0.3, 2.0), torch.dot))


@pytest.mark.parametrize("nothing", [0, None])
def test_a_part_can_be_left_out(nothing: Any) -> None:
    mean = GlobalOrthogonalRegularizationLoss(Given(), second_moment_weight=nothing)([{"given": A}])
    second = GlobalOrthogonalRegularizationLoss(Given(), mean_weight=nothing)([{"given": A}])
    both = GlobalOrthogonalRegularizationLoss(Given())([{"given": A}])
    assert both == {**mean, **second}
    assert list(both) == ["gor_mean", "gor_second_moment"]


@pytest.mark.parametrize("nothing", [0, None])
def test_leaving_out_both_is_refused(nothing: Any) -> None:
    with pytest.raises(ValueError, match="At least one of mean_weight or second_moment_weight must be non-zero"):
        GlobalOrthogonalRegularizationLoss(Given(), mean_weight=nothing, second_moment_weight=nothing)


def test_orthogonal_rows_cost_nothing() -> None:
    found = GlobalOrthogonalRegularizationLoss(Given())([{"given": torch.eye(6, dtype=torch.float64)}])
    assert found == {"gor_mean": 0, "gor_second_moment": 0}


def test_one_row_costs_nothing() -> None:
    assert GlobalOrthogonalRegularizationLoss(Given())([{"given": A[:1]}]) == {"gor_mean": 0, "gor_second_moment": 0}


def test_one_column_has_both_parts_without_weights() -> None:
    mean, second = GlobalOrthogonalRegularizationLoss(Given(), mean_weight=7.0).compute_gor(A)
    expected_mean, expected_square = slow_moments(A)
    assert mean == pytest.approx(expected_mean.item() ** 2)
    assert second == pytest.approx(expected_square.item() - 1 / 6)


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="aggregation must be 'mean' or 'sum', got 'max'"):
        GlobalOrthogonalRegularizationLoss(Given(), aggregation="max")


def test_without_columns_there_is_a_message() -> None:
    with pytest.raises(ValueError, match="expects at least 1 columns"):
        GlobalOrthogonalRegularizationLoss(Given())([])


def test_configuration_and_citation() -> None:
    loss = GlobalOrthogonalRegularizationLoss(Given(), mean_weight=None)
    assert loss.get_config_dict() == {
        "similarity_fct": "cos_sim",
        "mean_weight": None,
        "second_moment_weight": 1.0,
        "aggregation": "mean",
    }
    assert "Spread-out" in loss.citation
