"""Attention of training against the formula, token by token; its gradients against small differences; and dropout."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sentence_transformers.backend.native.dropout import dropout, kept, scale
from sentence_transformers.backend.native.training_attention import LARGE, Blocks, attend, cut

LENGTHS = (1, 3, 3, 4, 9)
HEADS, WIDTH = 2, 3


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values (N, heads, head_width) and a bias (heads, T, T)."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(sum(LENGTHS), HEADS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(3)]
    bias = torch.randn(HEADS, 9, 9, generator=generator, dtype=torch.float64)
    return *(part.requires_grad_() for part in parts), bias.requires_grad_()  # type: ignore[return-value]


def blocks(causal: bool = False, visible: tuple[int, ...] | None = None) -> Blocks:
    return Blocks.of(LENGTHS, visible, HEADS, causal, torch.empty(0, dtype=torch.float64))


def slowly(
    parts: tuple[Tensor, ...], causal: bool, visible: tuple[int, ...] | None, window: int | None, bias: Tensor | None
) -> Tensor:
    """softmax(q k / sqrt(width) + bias) v, one query at a time."""
    rows = []
    for number, sequence in enumerate(zip(*(part.split(LENGTHS) for part in parts), strict=True)):
        q, k, v = sequence
        for at in range(len(q)):
            seen = [
                key
                for key in range(len(k) if visible is None else visible[number])
                if (window is None or abs(at - key) < window) and (not causal or key <= at)
            ]
            for head in range(HEADS):
                scores = k[seen, head] @ q[at, head] / math.sqrt(WIDTH)
                scores = scores if bias is None else scores + bias[head, at, seen]
                rows.append(scores.softmax(0) @ v[seen, head])
    return torch.stack(rows).view(sum(LENGTHS), HEADS * WIDTH)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("causal", "visible", "window"),
    [(False, None, None), (False, None, 2), (False, None, 5), (True, None, None), (True, None, 2),
     (False, (1, 2, 3, 1, 7), None), (True, (1, 2, 3, 1, 7), None)],
)  # fmt: skip
def test_values_and_gradients(
    causal: bool, visible: tuple[int, ...] | None, window: int | None, with_bias: bool
) -> None:
    *parts, bias = drawn(0)
    added = bias if with_bias else None
    given = [*parts, bias] if with_bias else parts
    found = attend(*parts, blocks(causal, visible), window, 0.0, added)
    wanted = slowly(tuple(parts), causal, visible, window, added)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=found.dtype)
    of_found, of_wanted = (torch.autograd.grad((x * weights).sum(), given) for x in (found, wanted))
    torch.testing.assert_close(of_found, of_wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [None, 2])
def test_gradients_with_dropout_are_those_of_the_values(window: int | None) -> None:
    *parts, bias = drawn(1)

    def values(*given: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attend(*given[:3], blocks(), window, 0.4, given[3])

    assert torch.autograd.gradcheck(values, (*parts, bias), atol=1e-7)


def test_padding_in_a_window_that_sees_no_token_does_no_harm() -> None:
    parts = drawn(2)[:3]
    tall = Blocks.of((3, 9), None, HEADS, False, parts[0])
    rows = [part[:12] for part in parts]
    found = attend(*rows, tall, 2, 0.3, None)  # type: ignore[call-arg, arg-type]
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(found.sum(), parts))


def test_no_gradients_are_made_for_what_is_frozen() -> None:
    q, k, v, _ = drawn(3)
    with torch.no_grad():
        assert not attend(q, k, v, blocks(), None, 0.1, None).requires_grad
    assert not attend(q.detach(), k.detach(), v.detach(), blocks(), None, 0.1, None).requires_grad


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_sequences_of_nearly_one_length_share_a_block() -> None:
    assert list(cut([10, 11, 11, 12, 200, 201], 12)) == [(0, 4), (4, 6)]


def test_long_sequences_are_alone_though_of_one_length() -> None:
    long = math.isqrt(LARGE // 12) + 1
    assert list(cut([long] * 3, 12)) == [(0, 1), (1, 2), (2, 3)]


def test_no_sequences_no_blocks() -> None:
    assert list(cut([], 12)) == []


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_the_rate_says_and_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(1_000_003), rate)
    share = (found == 0).double().mean()
    assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / 1e6)
    assert found.unique().numel() == 2
    assert found.max() == pytest.approx(1 / (1 - rate), rel=1e-4)
    assert found.mean() == pytest.approx(1, abs=0.01 / (1 - rate))


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_neighbours_are_dropped_independently(rate: float) -> None:
    torch.manual_seed(1)
    gone = kept((1_000_000,), rate, torch.float64) == 0
    for distance in (1, 2, 3, 4, 8):
        both = (gone[:-distance] & gone[distance:]).double().mean()
        assert both == pytest.approx(rate**2, abs=5 * rate / 1e3)


def test_the_scale_is_that_of_the_rate_as_it_is_drawn() -> None:
    assert scale(0.5) == 2
    assert scale(0.1) == 65536 / (65536 - 6554)


def test_no_dropout_and_all_dropped() -> None:
    x = torch.randn(5, requires_grad=True)
    assert dropout(x, 0.0) is x
    assert not dropout(x, 1.0).any()
    assert not attend(*drawn(4)[:3], blocks(), None, 1.0, None).any()


def test_the_seed_of_torch_decides() -> None:
    torch.manual_seed(7)
    first, second = kept((64,), 0.5, torch.float32), kept((64,), 0.5, torch.float32)
    torch.manual_seed(7)
    assert torch.equal(kept((64,), 0.5, torch.float32), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(100, dtype=dtype, requires_grad=True)
    found = dropout(x, 0.25)
    found.sum().backward()
    assert found.dtype is dtype
    assert torch.equal(x.grad, found.detach())
