"""One small BERT for all tests of the encoders: width 32, window 64, mean pooling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import model_folder


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
