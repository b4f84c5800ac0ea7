"""Values and gradients of the losses on token vectors are the recorded ones, which were computed in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import losses_late_facts as facts
import pytest
import tiny_heads

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.losses import multi_vector
from sentence_transformers.ops import late_scores

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses_late.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("name", facts.CASES)
def test_values_and_gradients_are_the_recorded_ones(name: str) -> None:
    found, golden = facts.evaluated(multi_vector, late_scores, name), GOLDEN[name]
    assert found["loss"] == pytest.approx(golden["loss"], rel=1e-6)
    assert len(found["gradients"]) == len(golden["gradients"])
    for ours, theirs in zip(found["gradients"], golden["gradients"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", facts.TRAINED)
def test_a_small_model_gets_the_recorded_gradients(name: str, tmp_path: Path) -> None:
    model = MultiVectorEncoder(str(tiny_heads.build_late("bert", tmp_path, **facts.TRAINED[name][0])), device="cpu")
    found, golden = facts.trained(multi_vector, late_scores, name, model.double().eval()), GOLDEN[name]
    assert found["loss"] == pytest.approx(golden["loss"], rel=1e-6)
    assert found["gradients"].keys() == golden["gradients"].keys()
    assert len(golden["gradients"]) > 3
    for parameter, theirs in golden["gradients"].items():
        assert found["gradients"][parameter] == pytest.approx(theirs, rel=1e-4, abs=1e-5), parameter
