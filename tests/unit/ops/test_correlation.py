"""Correlations: values by hand, and what scipy says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sentence_transformers.ops.correlation import average_ranks, pearson, spearman


def test_a_line_correlates_perfectly() -> None:
    assert pearson([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_pearson_by_hand() -> None:
    # x - mean: -1, 0, 1; y - mean: -1, -1, 2; products: 3; lengths: sqrt(2) sqrt(6)
    assert pearson([1, 2, 3], [0, 0, 3]) == pytest.approx(3 / math.sqrt(12))


def test_a_correlation_is_never_beyond_one() -> None:
    columns = np.random.default_rng(0).integers(
        0, 99, (200, 3)
    )  # the unit vectors of some are longer than 1 by rounding
    assert all(abs(pearson(sign * column, column)) <= 1 for column in columns for sign in (1, -1))


def test_ranks_of_equal_numbers_are_their_mean() -> None:
    assert average_ranks([7.0, 1.0, 7.0, 3.0, 7.0]).tolist() == [4, 1, 4, 2, 4]


def test_spearman_sees_order_only() -> None:
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1e9]) == pytest.approx(1)


def test_spearman_by_hand_with_a_tie() -> None:
    # ranks 1, 2, 3 and 1.5, 1.5, 3
    assert spearman([5, 6, 7], [0, 0, 9]) == pytest.approx(1.5 / math.sqrt(2 * 1.5))


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_a_constant_correlates_with_nothing(correlation: object) -> None:
    constant = [0.1] * 3  # whose mean is not 0.1
    assert np.mean(constant) != 0.1
    assert math.isnan(correlation(constant, [1, 2, 3]))  # type: ignore[operator]


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_nan_makes_nan(correlation: object) -> None:
    assert math.isnan(correlation([1, math.nan, 3], [1, 2, 3]))  # type: ignore[operator]


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_one_pair_is_refused(correlation: object) -> None:
    with pytest.raises(ValueError, match="at least two pairs"):
        correlation([1], [2])  # type: ignore[operator]


def test_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x and y must be equally long lists, got shapes \(2,\) and \(3,\)"):
        pearson([1, 2], [1, 2, 3])


@pytest.mark.parametrize("seed", range(20))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, int(rng.integers(2, 40))) / 3
    others = scores.round() + np.random.default_rng(seed).integers(0, 3, len(scores))
    others[0] += 7
    scores[1] += 5
    assert pearson(scores, others) == pytest.approx(stats.pearsonr(scores, others)[0], abs=1e-12)
    assert spearman(scores, others) == pytest.approx(stats.spearmanr(scores, others)[0], abs=1e-12)
