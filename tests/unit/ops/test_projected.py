"""A product that is put off gives what the product itself gives, however it is cut into blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops import projected
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import Packed

LENGTHS = (2, 2, 0, 5, 1)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def put_off(bias: bool = True, lengths: tuple[int, ...] = LENGTHS, width: int = 700) -> Projected:
    return Projected(Packed(random(sum(lengths), 3), lengths), random(width, 3), random(width) if bias else None)


def slow_product(given: Projected) -> list[list[float]]:
    """(N, V), number by number."""
    bias = [0.0] * given.width if given.bias is None else given.bias.tolist()
    return [
        [
            sum(x * w for x, w in zip(token, row, strict=True)) + b
            for row, b in zip(given.weight.tolist(), bias, strict=True)
        ]
        for token in given.tokens.values.tolist()
    ]


def test_hand_computed_product_and_maximum() -> None:
    tokens = Packed(torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]), (2, 1))
    given = Projected(tokens, torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.tensor([10.0, 0.0]))
    assert given.whole().values.tolist() == [[13.0, 4.0], [12.0, -2.0], [11.0, 2.0]]
    assert given.max().tolist() == [[13.0, 4.0], [11.0, 2.0]]


@pytest.mark.parametrize("bias", [True, False])
def test_the_whole_is_the_product(bias: bool) -> None:
    given = put_off(bias)
    assert given.whole().lengths == LENGTHS
    assert_close(given.whole().values, torch.tensor(slow_product(given), dtype=torch.float64))


def test_width_and_lengths() -> None:
    assert (put_off().width, put_off().lengths) == (700, LENGTHS)


@pytest.mark.parametrize("columns", [1, 7, 256, 700, 9999])
def test_blocks_cover_every_column_once(columns: int) -> None:
    given = put_off()
    blocks = list(given.blocks(columns))
    assert [place for at, _ in blocks for place in range(at.start, at.stop)] == list(range(700))
    assert all(block.lengths == LENGTHS for _, block in blocks)
    assert_close(torch.cat([block.values for _, block in blocks], dim=1), given.whole().values)


def test_no_block_is_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected, "BLOCK_ELEMENTS", 3000)
    sizes = [block.values.numel() for _, block in put_off().blocks()]
    assert max(sizes) <= 3000
    assert len(sizes) == 3  # 10 tokens: 300 + 300 + 100 columns


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("elements", [1, 3000, 2**20])
def test_the_maximum_is_that_of_the_whole_product(bias: bool, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected, "BLOCK_ELEMENTS", elements)
    given = put_off(bias)
    assert_close(given.max(), given.whole().max())


def test_a_sequence_without_tokens_has_no_maximum() -> None:
    assert (put_off().max()[2] == -torch.inf).all()


def test_no_sequences() -> None:
    assert put_off(lengths=()).max().shape == (0, 700)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_type_stays(dtype: torch.dtype) -> None:
    given = put_off()
    assert given.bias is not None
    half = Projected(given.tokens.replace(given.tokens.values.to(dtype)), given.weight.to(dtype), given.bias.to(dtype))
    assert half.max().dtype == half.whole().values.dtype == dtype
    real = [0, 1, 3, 4]
    assert_close(half.max()[real].double(), given.max()[real], rtol=0.05, atol=0.05)


def test_the_bias_itself_is_not_changed() -> None:
    given = put_off()
    assert given.bias is not None
    before = given.bias.clone()
    given.max()
    assert torch.equal(given.bias, before)
