"""The quick look in bfloat16 never hides a number above the bar, or among the best, and lets few others pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops import projected
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.screen import GROUP, ROUNDING, Rounded, Screen, Shortlister, bound, is_worthwhile
from sentence_transformers.ops.tokens import Packed

LENGTHS = (5, 0, 1, 12)


def drawn(seed: int, bias: float, rows: int = 4000, width: int = 96) -> Projected:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator) * 0.1
    tokens = Packed(torch.randn(sum(LENGTHS), width, generator=generator), LENGTHS)
    return Projected(tokens, weight, torch.full((rows,), bias), Screen.of(weight))


def test_rounding_to_bfloat16_is_off_by_at_most_the_bound() -> None:
    numbers = torch.rand(100_000, dtype=torch.float64) + 1
    relative = ((numbers.to(torch.bfloat16).double() - numbers) / numbers).abs().max()
    assert 0.9 * ROUNDING < relative <= ROUNDING


def test_rounding_losses_are_the_lengths_of_the_differences() -> None:
    rows = torch.tensor([[3.0, 4.0], [1 + 2.0**-9, 1 - 2.0**-10], [0.0, 0.0]])
    rounded = Rounded.of(rows)
    assert_close(rounded.lengths, torch.tensor([5.0, 2**0.5, 0.0]), rtol=1e-3, atol=0)
    assert_close(rounded.losses, torch.tensor([0.0, (2.0**-18 + 2.0**-20) ** 0.5, 0.0]), rtol=1e-6, atol=0)
    assert rounded.values.tolist() == [[3.0, 4.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("rows", [1, 4096, 4097])
def test_rounding_takes_every_row(rows: int) -> None:
    drawn_rows = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))
    rounded = Rounded.of(drawn_rows)
    assert torch.equal(rounded.values, drawn_rows.bfloat16())
    assert_close(rounded.lengths, drawn_rows.norm(dim=1))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("width", [7, 96, 768])
def test_products_of_rounded_vectors_are_off_by_at_most_the_bound(width: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(width)
    left = torch.randn(300, width, generator=generator) * scale
    right = torch.randn(200, width, generator=generator).abs()  # sums without cancellation too
    left[150:] = left[150:].abs()
    exact = left.double() @ right.double().t()
    x, y = Rounded.of(left), Rounded.of(right)
    off = (x.values.double() @ y.values.double().t() - exact).abs()
    most = bound((x.lengths[:, None], x.losses[:, None]), (y.lengths, y.losses), width).double()
    assert (off <= most).all()
    rough = (x.values @ y.values.t()).double()
    assert ((rough - exact).abs() <= most + (1 + 2 * ROUNDING) * ROUNDING * rough.abs()).all()


def test_the_bound_is_reached_but_for_what_sums_add() -> None:
    """All is lost in the direction of the other row: Cauchy-Schwarz is an equality."""
    left, right = torch.full((1, 64), 1 + 2.0**-9), torch.ones(1, 64)
    x, y = Rounded.of(left), Rounded.of(right)
    off = float((left @ right.t() - x.values.float() @ y.values.float().t()).abs())
    most = float(bound((x.lengths, x.losses), (y.lengths, y.losses), 64))
    assert off <= most < 1.02 * off


@pytest.mark.parametrize("bias", [-3.5, -2.0, 0.0])
def test_what_is_above_the_bar_is_what_computing_all_gives(bias: float) -> None:
    product = drawn(7, bias)
    expected, found = product.max(), product.max_above(0.0)
    assert torch.equal(found > 0, expected > 0)
    assert_close(found.relu(), expected.relu(), rtol=0, atol=1e-5)


def test_no_column_above_the_bar_is_missed_at_the_edge() -> None:
    """Products of exactly the bar's size and a hair above: the look cannot tell them apart, so both are computed."""
    weight = torch.full((2, 64), 1.0)
    weight[1, 0] += 1e-5
    tokens = Packed(torch.ones(1, 64), (1,))
    chosen = Screen.of(weight).may_exceed(tokens, torch.tensor([64.0, 64.0]), columns=1)
    assert chosen.tolist() == [[True, True]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_product_that_is_rounded_down_is_not_missed(sign: float) -> None:
    """All rows are exact in bfloat16; their product, 257 or -255.5, is not, and is rounded to 256 or -256."""
    weight = torch.tensor([[256.0, 1.0]]) if sign > 0 else torch.tensor([[-256.0, 0.5]])
    tokens = Packed(torch.ones(1, 2), (1,))
    bar = 256.5 if sign > 0 else -255.75
    assert Screen.of(weight).may_exceed(tokens, torch.tensor([bar]), columns=1).tolist() == [[True]]


def test_few_columns_pass_where_few_are_above(monkeypatch: pytest.MonkeyPatch) -> None:
    product = drawn(3, -3.0)
    assert product.screen is not None
    chosen = product.screen.may_exceed(product.tokens, torch.full((4000,), 3.0), columns=256)
    above = product.max() > 0
    assert (chosen | ~above).all()
    assert above.count_nonzero() <= chosen.count_nonzero() < 2 * above.count_nonzero() + 20
    monkeypatch.setattr(Projected, "max", lambda self: pytest.fail("all columns were computed"))
    product.max_above(0.0)


def test_where_many_pass_all_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected, "MOST_CHOSEN", 0.0)
    product = drawn(3, -2.0)
    assert torch.equal(product.max_above(0.0), product.max())


def test_a_sequence_without_tokens_is_at_the_bar() -> None:
    assert drawn(1, -3.0).max_above(0.0)[1].eq(0).all()


def test_a_screen_is_for_processors_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda answer=answer: {"amx_bf16": answer}, raising=False)
        is_worthwhile.cache_clear()
        assert is_worthwhile() is answer
    is_worthwhile.cache_clear()


# --- what may be among the best


def spread(rows: int, width: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def clustered(rows: int, width: int, seed: int) -> Tensor:
    """In ten close groups."""
    middles, noise = spread(10, width, seed), spread(rows, width, seed + 1)
    return torch.nn.functional.normalize(middles.repeat_interleave(-(-rows // 10), dim=0)[:rows] + 0.3 * noise)


def doubled(rows: int, width: int, seed: int) -> Tensor:
    """Every row three times, apart."""
    return spread(-(-rows // 3), width, seed).repeat(3, 1)[:rows]


def almost_equal(rows: int, width: int, seed: int) -> Tensor:
    """Rows in hundreds that float32 tells apart and bfloat16 does not."""
    middles, noise = spread(-(-rows // 100), width, seed), spread(rows, width, seed + 1)
    return torch.nn.functional.normalize(middles.repeat(100, 1)[:rows] + 1e-4 * noise)


KINDS: list[Callable[[int, int, int], Tensor]] = [spread, clustered, doubled, almost_equal]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(("count", "limit"), [(1600, 1), (1603, 7), (1615, 20), (1616, 101)])
def test_the_best_are_on_the_list_with_all_that_equal_them(
    make: Callable[[int, int, int], Tensor], count: int, limit: int
) -> None:
    queries, corpus = make(60, 64, 5), make(count, 64, 5)
    listed = Shortlister(Rounded.of(corpus), 60)(Rounded.of(queries), limit)
    scores = queries.double() @ corpus.double().t()
    last = scores.topk(limit).values[:, -1:]
    told = np.setdiff1d(np.arange(60), listed.open_rows)
    for row in told.tolist():
        columns = listed.columns[listed.rows == row]
        assert set((scores[row] >= last[row] - 1e-9).nonzero()[:, 0].tolist()) <= set(columns.tolist())
        assert (np.diff(columns) > 0).all()
    assert not np.isin(listed.rows, listed.open_rows).any()
    assert np.array_equal(np.repeat(np.arange(count), np.diff(listed.starts)), listed.columns)
    assert len(told) or make is not spread or limit > 20


def test_few_others_are_on_the_list() -> None:
    queries, corpus = spread(100, 384, 1), spread(8000, 384, 2)
    listed = Shortlister(Rounded.of(corpus), 100)(Rounded.of(queries), 5)
    assert len(listed.open_rows) == 0
    assert 500 <= len(listed.columns) < 1500


def test_space_is_used_again_for_fewer_rows() -> None:
    queries, corpus = spread(50, 64, 1), spread(1600, 64, 2)
    look = Shortlister(Rounded.of(corpus), 50)
    look(Rounded.of(queries), 3)
    again, alone = look(Rounded.of(queries[:7]), 3), Shortlister(Rounded.of(corpus), 7)(Rounded.of(queries[:7]), 3)
    assert np.array_equal(again.columns, alone.columns)
    assert np.array_equal(again.rows, alone.rows)


def test_nothing_is_told_of_rows_without_enough_positive_products() -> None:
    corpus = -torch.ones(1600, 8)
    corpus[::33] = 1
    queries = torch.stack([torch.ones(8), torch.zeros(8), -torch.ones(8), torch.full((8,), 1e-32)])
    listed = Shortlister(Rounded.of(corpus), 4)(Rounded.of(queries), 40)
    assert listed.open_rows.tolist() == [1, 2, 3]  # 2: all others are as good as the best, and very many
    assert listed.columns.tolist() == list(range(0, 1600, 33))
    assert listed.rows.tolist() == [0] * 49


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_nothing_is_told_of_rows_whose_products_overflow(value: float) -> None:
    queries, corpus = spread(3, 64, 1).abs(), spread(1600, 64, 2) + 1
    queries[1] = value
    assert Shortlister(Rounded.of(corpus), 3)(Rounded.of(queries), 3).open_rows.tolist() == [1]


def test_a_sixteenth_is_the_most_that_a_list_has() -> None:
    for equal, is_open in ((1600 // GROUP, False), (1600 // GROUP + 1, True)):
        corpus = torch.eye(2).repeat_interleave(torch.tensor([equal, 1600 - equal]), dim=0)
        listed = Shortlister(Rounded.of(corpus), 1)(Rounded.of(torch.tensor([[1.0, 0.0]])), 3)
        assert len(listed.open_rows) == is_open
        assert len(listed.columns) == (0 if is_open else equal)
