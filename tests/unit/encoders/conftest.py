"""One small BERT for all tests of the encoders: width 32, window 64, mean pooling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import DENSE, POOLING, TRANSFORMER, WIDTH, entries, model_folder, write_json


@pytest.fixture(scope="session")
def bert_folder(tiny_folder: Callable[[str], Path]) -> Path:
    """A bare transformer; don't write."""
    return tiny_folder("bert")


@pytest.fixture(scope="session")
def bert(tiny_model: Callable[[str], Any]) -> SentenceTransformer:
    """Shared by all tests; don't change it."""
    model: SentenceTransformer = tiny_model("bert")
    return model


@pytest.fixture
def changeable(bert_folder: Path) -> SentenceTransformer:
    """A model of the test's own."""
    return SentenceTransformer(str(bert_folder), device="cpu")


@pytest.fixture
def make_folder(bert_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``folders.model_folder`` in a new place; takes its keyword arguments."""
    made: list[Path] = []

    def make(**parts: Any) -> Path:
        made.append(model_folder(bert_folder, tmp_path / f"model-{len(made)}", **parts))
        return made[-1]

    return make


@pytest.fixture
def dense_folder(make_folder: Callable[..., Path]) -> Path:
    """A Dense(32, 4) with tanh, as before version 5.4."""
    folder = make_folder(modules=entries(TRANSFORMER, POOLING, DENSE))
    config = {"in_features": WIDTH, "out_features": 4, "bias": True}
    write_json(
        folder / "2_Dense" / "config.json", {**config, "activation_function": "torch.nn.modules.activation.Tanh"}
    )
    weights = {"linear.weight": torch.linspace(-0.1, 0.1, 4 * WIDTH).view(4, WIDTH), "linear.bias": torch.ones(4) / 8}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder
