"""Evaluators of sparse encoders take, give, write and tell what the reference's do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evaluators_sparse_facts as facts
import pytest
from evaluators_checking import assert_same, use_folder

from sentence_transformers.evaluation import fusion, sparse

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_evaluators_sparse.json").read_text("ascii"))
EVALUATORS = SimpleNamespace(**{name: value for module in (sparse, fusion) for name, value in vars(module).items()})


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano-sparse")
    facts.write_nano(folder)
    return folder


@pytest.mark.parametrize("name", GOLDEN["arguments"])
def test_arguments_have_the_recorded_names_order_and_defaults(name: str) -> None:
    assert facts.arguments(EVALUATORS)[name] == GOLDEN["arguments"][name]


@pytest.mark.parametrize("name", facts.CASES)
def test_an_evaluation_is_the_recorded_one(name: str, nano_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("nano"):
        use_folder(nano_folder, monkeypatch)
    found, golden = facts.outcome(EVALUATORS, name), GOLDEN["cases"][name]
    assert found["config"] == golden["config"]  # in another order
    # the reference tells its card of every evaluation twice, the first time without the statistics
    others = {"config": None, "told": None}
    assert_same({**found, **others}, {**golden, **others})


@pytest.mark.parametrize("name", facts.FUSIONS)
def test_a_fusion_is_the_recorded_one(name: str) -> None:
    assert_same(facts.fused(EVALUATORS, name), GOLDEN["fusions"][name], 1e-12)


@pytest.mark.parametrize("name", facts.FUSIONS_REFUSED)
def test_a_fusion_refuses_what_was_recorded(name: str) -> None:
    assert facts.fusion_refusal(EVALUATORS, name) == GOLDEN["fusions_refused"][name]
