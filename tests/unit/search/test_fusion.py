"""Rankings fused by reciprocal ranks: sums worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sentence_transformers.search.fusion import RRF_K, reciprocal_rank_fusion


def test_sums_of_reciprocal_ranks() -> None:
    found = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a", "d"]])
    expected = {
        "a": Fraction(1, 61) + Fraction(1, 62),
        "c": Fraction(1, 63) + Fraction(1, 61),
        "b": Fraction(1, 62),
        "d": Fraction(1, 63),
    }
    assert [item for item, _ in found] == ["a", "c", "b", "d"]
    assert dict(found) == pytest.approx({item: float(value) for item, value in expected.items()}, rel=1e-15)


def test_the_constant_is_that_of_the_paper() -> None:
    assert RRF_K == 60


def test_without_a_constant_the_first_rank_counts_twice_the_second() -> None:
    assert reciprocal_rank_fusion([["a", "b"], ["c"]], k=0) == [("a", 1.0), ("c", 1.0), ("b", 0.5)]


def test_of_equal_sums_the_one_that_came_first_is_first() -> None:
    assert [item for item, _ in reciprocal_rank_fusion([["b", "a"], ["a", "b"], ["z"]], k=1)] == ["b", "a", "z"]
    assert [item for item, _ in reciprocal_rank_fusion([["d"], ["c"], ["b"]])] == ["d", "c", "b"]


def test_items_that_more_rankings_have_win_over_higher_ranks() -> None:
    rankings = [["x", "both"], ["y", "both"]]
    assert reciprocal_rank_fusion(rankings)[0][0] == "both"
    assert reciprocal_rank_fusion(rankings, k=0)[0][0] == "x"


def test_one_ranking_keeps_its_order() -> None:
    items = [(number * 7) % 50 for number in range(50)]
    assert [item for item, _ in reciprocal_rank_fusion([items])] == items


@pytest.mark.parametrize("rankings", [[], [[]], [[], []]])
def test_nothing_to_rank(rankings: list[list[str]]) -> None:
    assert reciprocal_rank_fusion(rankings) == []


def test_rankings_may_come_one_by_one() -> None:
    assert reciprocal_rank_fusion(iter([("a",), ("a",)]), k=1) == [("a", 1.0)]


@pytest.mark.parametrize("k", [-1, -1e-9, float("nan")])
def test_a_negative_constant_is_refused(k: float) -> None:
    with pytest.raises(ValueError, match=f"^k must be at least 0, got {k!r}.$"):
        reciprocal_rank_fusion([["a"]], k=k)
