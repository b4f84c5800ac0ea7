"""Pairs above a bar: equal to looking at all scores, with and without the first look in half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers.ops.similarity import cos_sim, dot_score
from sentence_transformers.search import pairs as page
from sentence_transformers.search.pairs import CosineScreen, RowPairs, reaching


def unit_rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Rows in groups that are near each other."""
    make = torch.Generator().manual_seed(seed)
    centres = torch.randn(count // 8 + 1, width, generator=make)
    rows = centres[torch.randint(0, len(centres), (count,), generator=make)]
    rows = rows + 0.5 * torch.randn(count, width, generator=make)
    return rows / rows.norm(dim=1, keepdim=True)


def small_integers(count: int, width: int, seed: int = 0) -> Tensor:
    """Their dot products are exact, and mostly equal to others."""
    return torch.randint(-2, 3, (count, width), generator=torch.Generator().manual_seed(seed)).float()


def found(pairs: RowPairs, bar: float) -> dict[tuple[int, int], float]:
    blocks = list(pairs.at_least(bar))
    left, right, scores = (
        (np.concatenate(parts).tolist() for parts in zip(*blocks, strict=True)) if blocks else ([],) * 3
    )
    assert len(set(zip(left, right, strict=True))) == len(left)
    return dict(zip(zip(left, right, strict=True), scores, strict=True))


def slow(scores: Tensor, bar: float) -> dict[tuple[int, int], float]:
    return {(i, j): scores[i, j].item() for i, j in torch.triu(scores >= bar, 1).nonzero().tolist()}


@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse, Tensor.double])
@pytest.mark.parametrize("chunks", [(1, 1), (3, 7), (40, 9), (1000, 1000)])
@pytest.mark.parametrize("bar", [-100.0, -1.0, 0.0, 2.0, 100.0])
def test_each_pair_comes_once_with_its_score(form: Any, chunks: tuple[int, int], bar: float) -> None:
    rows = small_integers(83, 3)
    assert found(RowPairs.of(form(rows), dot_score, chunks), bar) == slow(rows @ rows.T, bar)


def test_blocks_of_the_real_size_give_the_same_pairs() -> None:
    rows = small_integers(5000, 5)
    assert found(RowPairs.of(rows, dot_score, (5000, 5000)), 14.0) == slow(rows @ rows.T, 14.0)


@pytest.mark.parametrize("bar", [0.1, 0.3, 0.6, 0.8, 0.99, 1.5])
def test_the_first_look_misses_no_pair(bar: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_SCREENED", 1.0)
    rows = unit_rows(700, 48)
    screened = RowPairs(rows, RowPairs.of(rows, cos_sim, (700, 700)).plan, CosineScreen.of(rows, 700 * 700))
    ours, exact = found(screened, bar), slow(rows.double() @ rows.double().T, bar)
    rounding = slow(rows.double() @ rows.double().T, bar - 1e-6).keys() - slow(rows @ rows.T, bar + 1e-6).keys()
    assert ours.keys() ^ exact.keys() <= rounding
    shared = sorted(ours.keys() & exact.keys())
    np.testing.assert_allclose([ours[at] for at in shared], [exact[at] for at in shared], atol=1e-6)


def test_the_first_look_leaves_out_most_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_SCREENED", 0.1)
    rows = unit_rows(512, 64, seed=1)
    screen = CosineScreen.of(rows, 512 * 512)
    places = screen.may_reach(slice(0, 256), slice(256, 512), screen.bits(0.85) or 0)
    assert places is not None
    scores = rows[:256].double() @ rows[256:].double().T
    near, surely = ({tuple(at) for at in (scores >= bar).nonzero().tolist()} for bar in (0.83, 0.85))
    assert surely <= set(zip(*(part.tolist() for part in places), strict=True)) <= near
    assert surely


@pytest.mark.parametrize("width", [4, 384])
def test_no_product_in_half_precision_is_further_off_than_said(width: int) -> None:
    rows = unit_rows(300, width)
    screen = CosineScreen.of(rows, 512 * 512)
    off = (screen.rounded.double() @ screen.rounded.double().T - rows.double() @ rows.double().T).abs().max()
    assert off <= screen.error < 0.01


@pytest.mark.parametrize("bar", [0.01, 0.005, 0.0, -0.5])
def test_there_is_no_first_look_at_a_bar_near_zero(bar: float) -> None:
    assert CosineScreen(torch.zeros(1, 4), 0.011, torch.zeros(1)).bits(bar) is None


def test_bits_are_of_a_number_not_above_the_bar() -> None:
    screen = CosineScreen(torch.zeros(1, 4), 0.0, torch.zeros(1))
    for bar in np.linspace(0.001, 1.2, 97):
        number = torch.tensor(screen.bits(float(bar)), dtype=torch.int16).view(torch.bfloat16).item()
        assert 0.98 * bar < number <= bar


def test_a_crowded_block_is_computed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(256, 16)
    pairs = RowPairs(rows, RowPairs.of(rows, cos_sim, (256, 256)).plan, CosineScreen.of(rows, 700 * 700))
    monkeypatch.setattr(torch.linalg, "vecdot", None)  # nothing is computed pair by pair
    assert found(pairs, 0.5).keys() == slow(rows @ rows.T, 0.5).keys()


@pytest.mark.parametrize(
    ("rows", "score", "expected"),
    [
        (unit_rows(64, 8), cos_sim, True),
        (unit_rows(63, 8), cos_sim, False),
        (unit_rows(64, 8), dot_score, False),
        (unit_rows(64, 8).double(), cos_sim, False),
        (unit_rows(64, 8).to_sparse(), cos_sim, False),
        (unit_rows(64, 8).half(), cos_sim, True),
    ],
)
def test_only_cosines_of_many_rows_in_float32_are_screened(
    rows: Tensor, score: Any, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SCREENED_ROWS", 64)
    monkeypatch.setattr(page, "is_worthwhile", lambda: True)
    assert (RowPairs.of(rows, score, (99, 99)).screen is not None) is expected


def test_no_processor_without_units_for_it_looks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SCREENED_ROWS", 1)
    monkeypatch.setattr(page, "is_worthwhile", lambda: False)
    assert RowPairs.of(unit_rows(64, 8), cos_sim, (99, 99)).screen is None


@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse])
@pytest.mark.parametrize("chunks", [(3, 7), (1000, 1000)])
def test_rows_near_some_and_their_highest_scores(form: Any, chunks: tuple[int, int]) -> None:
    rows, chosen = small_integers(83, 3), np.array([80, 2, 41])
    pairs = RowPairs.of(form(rows), dot_score, chunks)
    scores = rows @ rows.T
    scores.fill_diagonal_(torch.inf)
    places, ids, values = pairs.near(chosen, 2.0)
    expected = [
        (place, j, scores[i, j].item()) for place, i in enumerate(chosen) for j in range(83) if scores[i, j] >= 2
    ]
    assert sorted(zip(places.tolist(), ids.tolist(), values.tolist(), strict=True)) == sorted(expected)
    scores.fill_diagonal_(-torch.inf)
    highest = scores[chosen].topk(5).values.flatten().tolist()
    assert sorted(pairs.highest(chosen, 5).tolist()) == sorted(highest)


@pytest.mark.parametrize("shape", [(1, 1), (1, 63), (3, 64), (5, 41), (64, 65)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_that_reach_a_bar_are_found_where_they_are(shape: tuple[int, int], dtype: torch.dtype) -> None:
    scores = torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows, columns, values = reaching(scores, 6)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        tuple(at) for at in (scores >= 6).nonzero().tolist()
    ]
    assert values.tolist() == scores[scores >= 6].tolist()


@pytest.mark.parametrize("place", [(0, 0), (2, 40), (4, 63)])
def test_nan_scores_are_refused(place: tuple[int, int]) -> None:
    scores = torch.zeros(5, 64)
    scores[place] = torch.nan
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        reaching(scores, 1.0)


def test_products_that_overflow_are_refused() -> None:
    rows = torch.tensor([[3e38, 3e38], [3e38, -3e38]])
    pairs = RowPairs.of(rows, dot_score, (9, 9))
    for call in (lambda: list(pairs.at_least(0.0)), lambda: pairs.highest(np.array([0]), 1)):
        with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
            call()
