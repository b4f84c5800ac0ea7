"""A model of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sentence_transformers import SentenceTransformer


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    """A BERT of this test's own."""
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")
