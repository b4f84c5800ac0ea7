"""Attention over a whole batch at once, as GPUs get it: on the CPU here, with a slow stand-in for flash attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from sentence_transformers.backend.native import varlen
from sentence_transformers.backend.native.encoder import encode
from sentence_transformers.backend.native.families import FAMILIES
from sentence_transformers.ops.tokens import TokenIds

TinyModel = Callable[[str], Any]
LENGTHS = (7, 7, 6, 5, 3, 2, 1, 40, 9)
FAMILIES_HERE = sorted((set(tiny.FAMILIES) & set(FAMILIES)) - {"mpnet"})  # its bias takes the usual way


def slow_flash(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, _: Tensor, longest: int, __: int, *,
    window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """One query at a time, in float64: what the documentation of ``varlen_attn`` says it computes."""
    assert starts.dtype is torch.int32 and longest == int(starts.diff().max())
    assert enable_gqa == (key.shape[1] != query.shape[1])
    left, right = window_size
    out = torch.zeros(query.shape, dtype=torch.float64)
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        for i in range(begin, end):
            first = begin if left < 0 else max(begin, i - left)
            last = end if right < 0 else min(end, i + right + 1)
            for head in range(query.shape[1]):
                shared = head // (query.shape[1] // key.shape[1])
                keys, values = key[first:last, shared].double(), value[first:last, shared].double()
                weights = (keys @ query[i, head].double() / query.shape[2] ** 0.5).softmax(0)
                out[i, head] = weights @ values
    return out.to(query.dtype)


@pytest.fixture(params=["flash", "masked"])
def as_on_a_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(varlen, "DEVICES", ("cpu",))
    if request.param == "flash":
        monkeypatch.setattr(varlen, "HALF", (torch.float32,))
        monkeypatch.setattr(varlen, "_flash", lambda: slow_flash)
    yield request.param


def tokens() -> TokenIds:
    made = torch.Generator().manual_seed(0)
    return TokenIds(torch.randint(5, 60, (sum(LENGTHS),), generator=made), LENGTHS)


@pytest.mark.parametrize("only", [None, "first", "last"])
@pytest.mark.parametrize("family", FAMILIES_HERE)
def test_every_family_computes_the_same(family: str, only: Any, tiny_model: TinyModel, as_on_a_gpu: str) -> None:
    network = tiny_model(family)[0].network()
    if as_on_a_gpu == "flash" and network.spec.head_width % 8:
        pytest.skip("heads of this width are not for flash attention")
    with torch.inference_mode():
        at_once = encode(network.spec, network.weights, tokens(), only=only)[-1]
        varlen.DEVICES = ()  # put back by the fixture
        by_length = encode(network.spec, network.weights, tokens(), only=only)[-1]
    torch.testing.assert_close(at_once, by_length, rtol=0, atol=3e-6)


def chosen(family: str, tiny_model: TinyModel, batch: TokenIds) -> Any:
    network = tiny_model(family)[0].network()
    return varlen.whole_batch(network.spec, batch, torch.zeros(1, 1))


def test_which_way_is_taken(tiny_model: TinyModel, as_on_a_gpu: str) -> None:
    ids = torch.arange(8)
    kinds = {"flash": varlen.Flash, "masked": varlen.Masked}
    many = TokenIds(torch.arange(5, 20), (5, 4, 3, 2, 1))
    assert isinstance(chosen("bert", tiny_model, many), kinds[as_on_a_gpu])
    few = chosen("bert", tiny_model, TokenIds(ids, (4, 4)))
    assert isinstance(few, varlen.Flash) if as_on_a_gpu == "flash" else few is None
    assert chosen("mpnet", tiny_model, many) is None
    assert chosen("bert", tiny_model, TokenIds(ids, (8, 0))) is None
    assert chosen("bert", tiny_model, TokenIds(ids, (8,), None, (5,))) is None


def test_the_cpu_takes_a_call_for_each_length(tiny_model: TinyModel) -> None:
    assert chosen("bert", tiny_model, tokens()) is None


def test_flash_attention_is_that_of_torch() -> None:
    """The name and the arguments that are used are there in this torch; its kernels need a GPU."""
    import inspect

    function = varlen._flash()
    if function is None:
        pytest.skip("this torch has no variable-length attention")
    names = list(inspect.signature(function).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"window_size", "enable_gqa"} <= set(names)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_on_a_gpu(family: str, tiny_model: TinyModel) -> None:
    import copy

    exact = tiny_model(family)
    texts = ["a dog", "two dogs and a cat sleep in the sun", "rain", "a", "the train to the coast is late again"]
    wanted = exact.encode(texts, normalize_embeddings=True)
    for dtype, atol in ((torch.float32, 1e-4), (torch.bfloat16, 5e-2)):
        model = copy.deepcopy(exact).to("cuda", dtype)
        found = model.encode(texts, normalize_embeddings=True)
        assert abs(found - wanted).max() < atol
