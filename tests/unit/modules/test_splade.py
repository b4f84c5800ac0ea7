"""SPLADE pooling: every layout of the logits gives what the formula gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.modules.splade import SpladePooling
from sentence_transformers.ops import projected
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import Packed

LENGTHS = (3, 1, 4)
CASES = [(strategy, activation) for strategy in ("max", "sum") for activation in ("relu", "log1p_relu")]


def random(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def put_off() -> Projected:
    """8 tokens, 600 words."""
    return Projected(Packed(random(8, 3), LENGTHS), random(600, 3), random(600))


def slow(logits: Packed, strategy: str, activation: str) -> Tensor:
    """Word by word, token by token."""

    def weight(logit: float) -> float:
        once = math.log1p(max(0.0, logit))
        return once if activation == "relu" else math.log1p(once)

    reduce = max if strategy == "max" else sum
    rows = [row.T.tolist() for row in logits.rows()]
    return torch.tensor([[reduce(map(weight, word)) for word in row] for row in rows], dtype=torch.float64)


def pool(module: SpladePooling, logits: Any, mask: Tensor | None = None) -> Tensor:
    features = {"token_embeddings": logits} if mask is None else {"token_embeddings": logits, "attention_mask": mask}
    pooled: Tensor = module(features)["sentence_embedding"]
    return pooled


def test_hand_computed_values() -> None:
    logits = torch.tensor([[[math.e - 1, -1.0], [0.0, -2.0]], [[0.0, 0.0], [math.e - 1, math.e**2 - 1]]])
    mask = torch.ones(2, 2)
    assert_close(pool(SpladePooling(), logits, mask), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    twice = torch.tensor([[math.log(2), 0.0], [math.log(2), math.log(3)]])
    assert_close(pool(SpladePooling(activation_function="log1p_relu"), logits, mask), twice)


def test_the_sum_counts_every_token() -> None:
    logits = torch.full((1, 3, 1), math.e - 1)
    assert_close(pool(SpladePooling("sum"), logits, torch.tensor([[1, 1, 0]])), torch.tensor([[2.0]]))


@pytest.mark.parametrize(("strategy", "activation"), CASES)
@pytest.mark.parametrize("layout", ["projected", "packed", "padded"])
def test_every_layout_gives_the_formula(
    strategy: str, activation: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected, "BLOCK_ELEMENTS", 2048)  # several blocks
    given, module = put_off(), SpladePooling(strategy, activation)
    whole = given.whole()
    padded = whole.pad()
    got = {
        "projected": lambda: pool(module, given),
        "packed": lambda: pool(module, whole),
        "padded": lambda: pool(module, padded.values, padded.mask),
    }[layout]()
    assert_close(got, slow(whole, strategy, activation))


@pytest.mark.parametrize(("strategy", "activation"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 99])
def test_chunks_change_nothing(strategy: str, activation: str, size: int) -> None:
    padded = put_off().whole().pad()
    whole = pool(SpladePooling(strategy, activation), padded.values, padded.mask)
    assert_close(pool(SpladePooling(strategy, activation, chunk_size=size), padded.values, padded.mask), whole)


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_whatever_stands_in_the_padding_does_not_count(strategy: str) -> None:
    logits, mask = random(2, 4, 5), torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])
    dirty = logits.masked_fill(mask[..., None] == 0, torch.nan)
    dirty[0, 0] = torch.inf
    assert_close(pool(SpladePooling(strategy), dirty, mask), pool(SpladePooling(strategy), logits, mask))


def test_padding_counts_as_zero_where_all_logits_are_negative() -> None:
    assert pool(SpladePooling(), -torch.ones(1, 2, 3), torch.tensor([[1, 0]])).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_an_input_without_tokens_is_zero(strategy: str) -> None:
    module = SpladePooling(strategy)
    assert not pool(module, torch.ones(1, 2, 3), torch.zeros(1, 2)).any()
    assert pool(module, torch.ones(2, 0, 3), torch.zeros(2, 0)).tolist() == [[0.0] * 3] * 2
    assert not pool(module, Packed(torch.ones(1, 3), (0, 1)))[0].any()
    assert not pool(module, Projected(Packed(torch.ones(1, 3), (0, 1)), torch.ones(4, 3)))[0].any()


def test_without_a_mask_every_token_counts() -> None:
    logits = random(2, 4, 5)
    assert_close(pool(SpladePooling(), logits), pool(SpladePooling(), logits, torch.ones(2, 4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("layout", ["projected", "packed", "padded"])
def test_half_types(dtype: torch.dtype, strategy: str, layout: str) -> None:
    exact = put_off()
    assert exact.bias is not None
    half = Projected(exact.tokens.replace(exact.tokens.values.to(dtype)), exact.weight.to(dtype), exact.bias.to(dtype))
    whole = half.whole()
    padded = whole.pad()
    module = SpladePooling(strategy)
    if layout == "padded":
        got = pool(module, padded.values, padded.mask)
    else:
        got = pool(module, half if layout == "projected" else whole)
    assert got.dtype == dtype
    wide = slow(whole.replace(whole.values.double()), strategy, "relu")
    assert_close(got.double(), wide, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("strategy", "activation"), CASES)
@pytest.mark.parametrize("size", [None, 2])
def test_gradients_of_padded_logits(strategy: str, activation: str, size: int | None) -> None:
    module = SpladePooling(strategy, activation, chunk_size=size)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    logits = random(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool(module, x, mask), (logits,))


def test_gradients_do_not_reach_the_padding() -> None:
    logits = torch.ones(1, 2, 3, requires_grad=True)
    pool(SpladePooling(), logits, torch.tensor([[1, 0]])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[[0.5] * 3, [0.0] * 3]]  # d log(1 + x) / dx at 1


def test_the_logits_are_not_changed() -> None:
    packed = Packed(random(8, 5), LENGTHS)
    before = packed.values.clone()
    for strategy, activation in CASES:
        pool(SpladePooling(strategy, activation), packed)
    assert torch.equal(packed.values, before)


def test_the_width_is_learned_from_the_first_batch() -> None:
    module = SpladePooling()
    assert module.get_embedding_dimension() is None
    pool(module, put_off())
    assert module.get_embedding_dimension() == 600


def test_a_given_width_stays() -> None:
    module = SpladePooling(embedding_dimension=5)
    pool(module, random(1, 2, 3))
    assert module.get_embedding_dimension() == 5


def test_the_old_name_of_the_width() -> None:
    with pytest.warns(FutureWarning, match="embedding_dimension"):
        assert SpladePooling(word_embedding_dimension=7).embedding_dimension == 7  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling_strategy": "mean"}, "pooling_strategy must be one of 'max', 'sum'"),
        ({"activation_function": "gelu"}, "activation_function must be one of 'relu', 'log1p_relu'"),
        ({"chunk_size": 0}, "chunk_size must be a positive integer, got 0"),
    ],
)
def test_refused_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpladePooling(**arguments)


def test_saved_and_loaded(tmp_path: Path) -> None:
    SpladePooling("sum", "log1p_relu", 12, chunk_size=3).save(str(tmp_path))
    config = {"pooling_strategy": "sum", "activation_function": "log1p_relu", "embedding_dimension": 12}
    assert json.loads((tmp_path / "config.json").read_text()) == config
    assert SpladePooling.load(str(tmp_path)).get_config_dict() == config


def test_the_old_config_key(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"pooling_strategy": "max", "word_embedding_dimension": null}')
    assert SpladePooling.load(str(tmp_path)).embedding_dimension is None
