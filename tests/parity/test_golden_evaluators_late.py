"""Evaluators of late interaction models give, write and tell what the reference's do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluators_late_facts as facts
import pytest
from evaluators_checking import assert_same, use_folder

from sentence_transformers.evaluation import multi_vector
from sentence_transformers.ops import late_scores

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_evaluators_late.json").read_text("ascii"))


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano-late")
    facts.write_nano(folder)
    return folder


@pytest.mark.parametrize("name", facts.CASES)
def test_an_evaluation_is_the_recorded_one(name: str, nano_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("nano"):
        use_folder(nano_folder, monkeypatch)
    assert_same(facts.outcome(multi_vector, late_scores, name), GOLDEN["cases"][name])


@pytest.mark.parametrize("name", facts.REFUSED)
def test_what_was_refused_is(name: str) -> None:
    assert facts.refusal(multi_vector, late_scores, name) == GOLDEN["refused"][name]
