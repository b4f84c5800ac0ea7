"""Values and gradients of the losses with in-batch negatives are the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import losses_contrastive_facts as facts
import pytest
from losses_pairs_facts import namespace

from sentence_transformers.losses import contrastive, guided

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden_losses_contrastive.json").read_text(encoding="ascii")
)
LOSSES = namespace(contrastive, guided)


@pytest.mark.parametrize("name", facts.CASES)
def test_values_and_gradients_are_the_recorded_ones(name: str, tiny_model: Any) -> None:
    found, golden = facts.evaluated(LOSSES, name, tiny_model("bert").tokenizer), GOLDEN[name]
    assert found["loss"] == pytest.approx(golden["loss"], rel=1e-9)
    assert len(found["gradients"]) == len(golden["gradients"])
    for ours, theirs in zip(found["gradients"], golden["gradients"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)
