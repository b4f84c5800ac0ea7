"""Metrics, names, files and refusals of the evaluators that compare pairs are the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evaluators_pairs_facts as facts
import pytest

from sentence_transformers.evaluation import classification, mse, similarity, translation, triplet

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_evaluators_pairs.json").read_text("ascii"))
EVALUATORS = SimpleNamespace(
    **{
        name: value
        for module in (classification, mse, similarity, translation, triplet)
        for name, value in vars(module).items()
    }
)


def assert_same(found: Any, golden: Any, tolerance: float) -> None:
    if isinstance(golden, dict):
        assert found.keys() == golden.keys()
        for name in golden:
            assert_same(found[name], golden[name], tolerance)
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for left, right in zip(found, golden, strict=True):
            assert_same(left, right, tolerance)
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert found == golden


@pytest.mark.parametrize("name", facts.CASES)
def test_an_evaluation_gives_the_recorded_numbers_names_and_file(name: str) -> None:
    tolerance = 1e-6 if name.endswith(("int8", "binary")) else 1e-9  # integers are compared in float32
    golden = GOLDEN["cases"][name]
    if name == "table, named":  # the reference does not tell the card
        golden = {**golden, "config": {"truncate_dim": 5}}
    found = facts.outcome(EVALUATORS, name)
    assert_same(found, golden, tolerance)
    assert list(found["metrics"]) == list(golden["metrics"])  # in that order, too


@pytest.mark.parametrize("name", facts.REFUSED)
def test_a_refusal_has_the_recorded_text(name: str) -> None:
    assert facts.refusal(EVALUATORS, name) == GOLDEN["refused"][name]


@pytest.mark.parametrize("name", facts.THRESHOLDS)
def test_thresholds_are_the_recorded_ones(name: str) -> None:
    assert_same(facts.thresholds(EVALUATORS, name), GOLDEN["thresholds"][name], 1e-15)
