"""torch.compile takes effect: the compiled network is what ``encode`` runs. Compilers of the test's own: they count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer

TEXTS = ["a dog", "two dogs in the sun", "rain"]


class Counting:
    """A backend of ``torch.compile`` that computes as it is, and counts."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


@pytest.mark.parametrize("way", ["model", "network in place", "network wrapped"])
def test_what_was_compiled_is_run(way: str, model: SentenceTransformer) -> None:
    exact, counting = model.encode(TEXTS), Counting()
    if way == "model":
        model.compile(backend=counting, dynamic=True)
    elif way == "network in place":
        model[0].auto_model.compile(backend=counting, dynamic=True)
    else:
        model[0].auto_model = torch.compile(model[0].auto_model, backend=counting, dynamic=True)
    np.testing.assert_allclose(model.encode(TEXTS), exact, atol=3e-6)
    before = counting.runs
    assert before > 0
    model.encode(TEXTS[:1])
    assert counting.runs > before


def test_without_it_the_native_engine_runs(model: SentenceTransformer) -> None:
    _ = model[0].auto_model
    assert type(model[0].network()).__name__ == "NativeNetwork"
    model.compile(backend=Counting())
    assert type(model[0].network()).__name__ == "TransformersNetwork"
