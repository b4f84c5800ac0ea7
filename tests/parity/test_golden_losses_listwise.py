"""Values and gradients of the list-wise losses of rerankers are the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import losses_listwise_facts as facts
import pytest
from losses_pairs_facts import namespace

from sentence_transformers.losses.cross import lambda_rank, listwise

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses_listwise.json").read_text(encoding="ascii"))
LOSSES = namespace(listwise, lambda_rank)


@pytest.mark.parametrize("name", facts.CASES)
def test_values_and_gradients_are_the_recorded_ones(name: str) -> None:
    found, golden = facts.evaluated(LOSSES, name), GOLDEN[name]
    assert found["loss"] == pytest.approx(golden["loss"], rel=2e-6, abs=2e-6)  # the reference computes in float32
    assert found["gradient"] == pytest.approx(golden["gradient"], rel=1e-5, abs=1e-5)
