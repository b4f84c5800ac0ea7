"""Every input lands in exactly one batch, whatever the sizes; batches keep to their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers.inference.plan import BUDGET, SMALLEST, Plan, token_budget

SIZES = st.lists(st.integers(0, 300), max_size=80)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(1, 40), st.integers(1, 500))
def test_every_input_is_in_one_batch(sizes: list[int], batch_size: int, budget: int) -> None:
    plan = Plan.build(np.array(sizes, dtype=np.int64), batch_size, budget)
    batches = list(plan)
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(sizes)))
    assert len(plan) == len(batches)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(1, 40), st.integers(1, 500))
def test_batches_keep_to_their_bounds(sizes: list[int], batch_size: int, budget: int) -> None:
    for rows in Plan.build(np.array(sizes, dtype=np.int64), batch_size, budget):
        total = sum(sizes[row] for row in rows.tolist())
        assert 1 <= len(rows) <= batch_size
        assert total <= budget or len(rows) == 1


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(1, 40), st.integers(1, 500))
def test_the_longest_come_first(sizes: list[int], batch_size: int, budget: int) -> None:
    order = Plan.build(np.array(sizes, dtype=np.int64), batch_size, budget).order
    assert [sizes[row] for row in order] == sorted(sizes, reverse=True)


def test_no_batch_is_cut_before_it_is_full() -> None:
    plan = Plan.build(np.array([5, 5, 5, 5, 5]), batch_size=10, budget=10)
    assert [len(rows) for rows in plan] == [2, 2, 1]


def test_equal_sizes_keep_their_order() -> None:
    assert Plan.build(np.array([3, 7, 3, 7]), 10, 100).order.tolist() == [1, 3, 0, 2]


def test_a_giant_runs_alone() -> None:
    assert [rows.tolist() for rows in Plan.build(np.array([1, 1000, 1]), 10, 10)] == [[1], [0, 2]]


def test_nothing_makes_no_batch() -> None:
    plan = Plan.build(np.array([], dtype=np.int64), 32, 100)
    assert (len(plan), list(plan)) == (0, [])


def test_inputs_without_tokens_share_batches() -> None:
    assert [len(rows) for rows in Plan.build(np.zeros(70, dtype=np.int64), 32, 100)] == [32, 32, 6]


@pytest.mark.parametrize(
    ("total", "threads", "budget"),
    [(0, 2, SMALLEST), (300, 2, 150), (301, 2, 151), (10**6, 2, BUDGET), (10**6, 1, BUDGET), (100, 1, SMALLEST)],
)
def test_token_budget(total: int, threads: int, budget: int) -> None:
    assert token_budget(total, threads) == budget
