"""Gradient checkpointing on encoders: the same gradients, less memory, and nothing else changed."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.modules.static import StaticEmbedding
from sentence_transformers.modules.transformer import Transformer
from tests.unit.encoders.folders import TEXTS


def gradients(model: Any, texts: list[str]) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients by name of a training step without dropout, and how many numbers were kept for it."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, nn.Parameter) or tensor.requires_grad and tensor.is_leaf else tensor.numel()
        return tensor

    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = model(model.preprocess(texts))["sentence_embedding"].square().sum()
    found = kept
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, found


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "qwen3", "electra"])
@pytest.mark.parametrize("name", ["gradient_checkpointing_enable", "activation_checkpointing_enable"])
def test_with_checkpointing_gradients_are_the_same_and_less_is_kept(
    name: str, family: str, tiny_folder: Callable[[str], Path]
) -> None:
    model = SentenceTransformer(str(tiny_folder(family)), device="cpu")
    expected, before = gradients(model, TEXTS)
    getattr(model, name)()
    found, after = gradients(model, TEXTS)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)
    assert after < 0.7 * before
    model.gradient_checkpointing_disable()
    assert gradients(model, TEXTS)[1] == before


def test_fewer_layers_forget_with_a_larger_step(changeable: SentenceTransformer) -> None:
    kept = []
    for step in (1, 2):
        changeable.gradient_checkpointing_enable({"use_reentrant": False}, every_n_layers=step)
        kept.append(gradients(changeable, TEXTS)[1])
    assert kept[0] < kept[1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_adapters_are_trained_with_checkpointing(reentrant: bool, changeable: SentenceTransformer) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    changeable.add_adapter(peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False))
    expected, before = gradients(changeable, TEXTS)
    changeable.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found, after = gradients(changeable, TEXTS)
    assert found.keys() == expected.keys() and after < 0.7 * before
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_checkpointing_leaves_inference_to_the_native_engine(changeable: SentenceTransformer) -> None:
    expected = changeable.encode(TEXTS)
    changeable.gradient_checkpointing_enable()
    gradients(changeable, TEXTS)
    np.testing.assert_allclose(changeable.encode(TEXTS), expected, atol=5e-6)
    assert isinstance(changeable[0].network(), NativeNetwork)


def test_a_checkpointed_model_can_be_sent_to_other_processes(changeable: SentenceTransformer) -> None:
    changeable.gradient_checkpointing_enable()
    other = pickle.loads(pickle.dumps(changeable))
    np.testing.assert_array_equal(other.encode(TEXTS), changeable.encode(TEXTS))


def test_all_routes_are_checkpointed(bert_folder: Path) -> None:
    parts = [Transformer(str(bert_folder)), Transformer(str(bert_folder))]
    model = SentenceTransformer(modules=[Router.for_query_document(parts[:1], parts[1:]), Pooling(32)], device="cpu")
    model.gradient_checkpointing_enable()
    assert all(part.auto_model.is_activation_checkpointing for part in parts)


def test_what_cannot_be_checkpointed_is_left_as_it_is_with_a_warning(
    bert: SentenceTransformer, tiny_folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    words = StaticEmbedding(bert.tokenizer.backend_tokenizer, embedding_dim=4)
    static = SentenceTransformer(modules=[words], device="cpu")
    model = SentenceTransformer(str(tiny_folder("mpnet")), device="cpu")
    with caplog.at_level(logging.WARNING):
        model.gradient_checkpointing_enable()
        static.gradient_checkpointing_enable()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sentence_transformers")] == [
        "MPNetModel has no gradient checkpointing: it is trained as usual."
    ]
    assert not model.transformers_model.is_activation_checkpointing


class Old(nn.Module):
    """A module that has checkpointing in the old form."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None) -> None:
        self.calls.append(gradient_checkpointing_kwargs)

    def gradient_checkpointing_disable(self) -> None:
        self.calls.append("off")

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features


def test_modules_of_third_parties_are_told(bert: SentenceTransformer) -> None:
    part = Old()
    model = SentenceTransformer(modules=[copy.deepcopy(bert[0]), Pooling(32), part], device="cpu")
    model.gradient_checkpointing_enable()
    model.gradient_checkpointing_disable()
    assert part.calls == [{"use_reentrant": False}, "off"]
