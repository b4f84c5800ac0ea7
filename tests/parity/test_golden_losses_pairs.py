"""Values and gradients of pair, triplet, distillation, regularisation and wrapping losses are the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import losses_pairs_facts as facts
import pytest

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import distillation, pairs, regularisation, triplets, wrappers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses_pairs.json").read_text(encoding="ascii"))
LOSSES = facts.namespace(pairs, triplets, distillation, regularisation, wrappers)


def assert_same(found: Any, golden: Any, tolerance: float) -> None:
    if isinstance(golden, dict):
        assert found.keys() == golden.keys()
        for name in golden:
            assert_same(found[name], golden[name], tolerance)
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for left, right in zip(found, golden, strict=True):
            assert_same(left, right, tolerance)
    elif golden is None:
        assert found is None
    else:
        assert found == pytest.approx(golden, rel=tolerance, abs=tolerance)


@pytest.mark.filterwarnings("ignore:.*binary labels:UserWarning")
@pytest.mark.parametrize("name", facts.CASES)
def test_values_and_gradients_are_the_recorded_ones(name: str) -> None:
    assert_same(facts.evaluated(LOSSES, name), GOLDEN["cases"][name], 1e-9)


@pytest.mark.parametrize("name", facts.SOFTMAX)
def test_classification_is_the_recorded_one(name: str) -> None:
    assert_same(facts.classified(LOSSES, name), GOLDEN["softmax"][name], 1e-9)


@pytest.mark.parametrize("name", facts.LAYERED)
def test_losses_behind_layers_are_the_recorded_ones(name: str, tiny_folder: Callable[[str], Path]) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu").double().eval()
    assert_same(facts.layered(LOSSES, name, model), GOLDEN["layered"][name], 1e-7)
