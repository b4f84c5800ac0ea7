"""The evaluator of a distillation gives, writes and tells what the reference's does; that computes in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import distillation_facts as facts
import pytest

from sentence_transformers.evaluation.distillation import MultiVectorDistillationEvaluator
from sentence_transformers.ops import late_scores

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden_evaluators_distillation.json").read_text(encoding="ascii")
)


@pytest.mark.parametrize("name", facts.CASES)
def test_metrics_files_and_card_are_the_recorded_ones(name: str, tmp_path: Path) -> None:
    found, golden = facts.outcome(MultiVectorDistillationEvaluator, late_scores, name, tmp_path), GOLDEN[name]
    assert {**found, "metrics": None} == {**golden, "metrics": None}
    assert found["metrics"].keys() == golden["metrics"].keys()
    for metric, value in golden["metrics"].items():
        assert found["metrics"][metric] == (value if value == "nan" else pytest.approx(value, rel=1e-5, abs=1e-6))
