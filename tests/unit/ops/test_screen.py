"""The quick look in bfloat16 never hides a number above the bar, and lets few others pass."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from sentence_transformers.ops import projected
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.screen import ERROR, ROUNDING, Screen, is_worthwhile
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


@pytest.mark.parametrize("seed", range(4))
def test_products_of_rounded_vectors_are_off_by_at_most_the_bound(seed: int) -> None:
    product = drawn(seed, 0.0)
    exact = product.tokens.values.double() @ product.weight.double().t()
    rough = (product.tokens.values.bfloat16() @ product.weight.bfloat16().t()).double()
    lengths = product.tokens.values.double().norm(dim=1)[:, None] * product.weight.double().norm(dim=1)
    assert ((rough - exact).abs() <= ERROR * lengths).all()


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
    product = Projected(Packed(torch.ones(1, 64), (1,)), weight, torch.tensor([-64.0, -64.0]), Screen.of(weight))
    chosen = Screen.of(weight).may_exceed(product.tokens, torch.tensor([64.0, 64.0]), columns=1)
    assert chosen.tolist() == [[True, True]]


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
