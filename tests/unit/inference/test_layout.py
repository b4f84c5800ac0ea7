"""Packed features become the padded ones that other people's modules expect; who wants which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.inference.layout import accepts_packed, padded, threads_safe, to_device
from sentence_transformers.modules.linear import Normalize
from sentence_transformers.ops.tokens import Packed, TokenIds

TEXTS = texts.TINY_TEXTS[:7]


class Spy(nn.Module):
    """Somebody's own module: notes what it gets, passes it on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(dict(features))
        return features


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


def test_packed_values_are_padded_on_the_right() -> None:
    values = torch.arange(1.0, 7.0).view(3, 2)
    out = padded({"token_embeddings": Packed(values, (2, 0, 1)), "prompt_length": 3})
    assert out["token_embeddings"].tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[5, 6], [0, 0]]]
    assert out["attention_mask"].tolist() == [[1, 1], [0, 0], [1, 0]]
    assert out["prompt_length"] == 3


def test_packed_ids_are_padded_on_the_right() -> None:
    out = padded({"tokens": TokenIds(torch.tensor([5, 6, 7]), (2, 1), torch.tensor([0, 1, 1]))})
    assert out["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert out["token_type_ids"].tolist() == [[0, 1], [1, 0]]
    assert out["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert "tokens" not in out


def test_every_layer_is_padded() -> None:
    layers = [Packed(torch.full((3, 2), float(i)), (2, 1)) for i in range(3)]
    out = padded({"all_layer_embeddings": layers})
    assert [layer.shape for layer in out["all_layer_embeddings"]] == [(2, 2, 2)] * 3


def test_padded_features_stay_as_they_are() -> None:
    features = {"token_embeddings": torch.ones(1, 2, 3), "attention_mask": torch.ones(1, 2), "names": ["a"]}
    assert padded(features) == features


def test_a_mask_that_somebody_set_is_kept() -> None:
    mask = torch.tensor([[0, 1]])
    assert padded({"attention_mask": mask, "x": Packed(torch.ones(2, 1), (2,))})["attention_mask"] is mask


def test_to_device_leaves_other_values_alone() -> None:
    features = {"ids": torch.ones(2), "tokens": TokenIds(torch.ones(1).long(), (1,)), "n": 3, "names": ["a"]}
    out = to_device(features, torch.device("cpu"))
    assert (out["n"], out["names"]) == (3, ["a"])
    assert out["tokens"].lengths == (1,)


def test_a_module_that_says_nothing_gets_padded_features_one_call_at_a_time() -> None:
    assert not accepts_packed(Spy())
    assert not threads_safe(Spy())


@pytest.mark.parametrize("where", [0, 1])
def test_a_hook_on_a_module_of_ours_sees_padded_tensors(where: int, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    seen: list[Any] = []
    handle = model[where].register_forward_hook(lambda module, given, output: seen.append(output["token_embeddings"]))
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)
    assert seen
    assert all(isinstance(item, torch.Tensor) and item.ndim == 3 for item in seen)
    handle.remove()
    count = len(seen)
    model.encode(TEXTS)
    assert len(seen) == count


def test_a_third_partys_module_gets_the_padded_features_dict(tiny_folder: Any, model: SentenceTransformer) -> None:
    spy = Spy()
    mixed = SentenceTransformer(modules=[model[0], spy, model[1], Normalize()], device="cpu")
    found = mixed.encode(TEXTS)
    wanted = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
    for features in spy.seen:
        batch, width = features["input_ids"].shape
        assert features["token_embeddings"].shape == (batch, width, 32)
        assert features["attention_mask"].shape == (batch, width)
        assert features["attention_mask"].dtype is torch.int64


def test_a_third_partys_module_after_pooling_sees_the_sentence(model: SentenceTransformer) -> None:
    spy = Spy()
    SentenceTransformer(modules=[*model, spy], device="cpu").encode(TEXTS)
    assert sum(len(features["sentence_embedding"]) for features in spy.seen) == len(TEXTS)


def test_a_third_partys_change_of_tokens_reaches_pooling(model: SentenceTransformer) -> None:
    class FirstTokenOnly(nn.Module):
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return {
                "token_embeddings": features["token_embeddings"][:, :1],
                "attention_mask": features["attention_mask"][:, :1],
            }

    cut = SentenceTransformer(modules=[model[0], FirstTokenOnly(), model[1]], device="cpu").encode(TEXTS)
    first = [tokens[0].numpy() for tokens in model.encode(TEXTS, output_value="token_embeddings")]
    np.testing.assert_allclose(cut, np.stack(first), rtol=0, atol=3e-6)
