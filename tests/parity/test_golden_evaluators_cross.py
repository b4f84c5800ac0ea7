"""Evaluators of rerankers give, write, ask and tell what the reference's do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evaluators_cross_facts as facts
import pytest
from ranking_facts import refusal

from sentence_transformers import InputExample
from sentence_transformers.evaluation.cross import classification, correlation, deprecated, reranking
from sentence_transformers.evaluation.cross.nano_beir import CrossEncoderNanoBEIREvaluator
from sentence_transformers.evaluation.cross.reranking import CrossEncoderRerankingEvaluator

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden_evaluators_cross.json").read_text(encoding="ascii")
)
EVALUATORS = SimpleNamespace(
    **{
        name: kind
        for file in (classification, correlation, reranking, deprecated)
        for name, kind in vars(file).items()
        if name.endswith("Evaluator")
    }
)


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano-cross")
    facts.write_nano(folder)
    return folder


@pytest.fixture
def nano_data(nano_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders stand for repositories of the same names, as they did for the reference."""
    datasets = pytest.importorskip("datasets", reason="NanoBEIR's data is loaded with it")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", nano_folder / "cache")
    monkeypatch.chdir(nano_folder)


def assert_same(found: Any, golden: Any, tolerance: float = 1e-9) -> None:
    if isinstance(golden, dict):
        assert list(found) == list(golden)
        for name, value in golden.items():
            # thresholds, which are float32, were written with fewer digits
            assert_same(found[name], value, 1e-7 if name == "files" else tolerance)
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for left, right in zip(found, golden, strict=True):
            assert_same(left, right, tolerance)
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, rel=0, abs=tolerance)
    else:
        assert found == golden


@pytest.mark.filterwarnings("ignore:CE.* is now:DeprecationWarning")
@pytest.mark.parametrize("name", facts.CASES)
def test_an_evaluator_gives_what_was_recorded(name: str, tmp_path: Path) -> None:
    model, *call = facts.CASES[name]
    evaluator = facts.build(EVALUATORS, InputExample, *call)
    assert_same(facts.outcome(evaluator, facts.Rule(**model), tmp_path), GOLDEN["cases"][name])


@pytest.mark.parametrize("name", facts.REFUSED)
def test_an_evaluator_refuses_what_was_recorded(name: str) -> None:
    kind, given = facts.REFUSED[name]
    found = refusal(lambda: getattr(EVALUATORS, kind)(*given))
    error, text = GOLDEN["refused"][name]
    assert found[0] == error
    assert found[1].startswith(text)


def test_metrics_of_a_query_are_the_recorded_ones() -> None:
    evaluator = CrossEncoderRerankingEvaluator(facts.NEGATIVE, at_k=3)
    found = [list(evaluator.compute_metrics(*given)) for given in facts.OF_A_QUERY]
    assert_same(found, GOLDEN["of_a_query"])


@pytest.mark.usefixtures("nano_data")
@pytest.mark.parametrize("name", facts.NANO)
def test_nano_beir_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    evaluator = CrossEncoderNanoBEIREvaluator(**facts.NANO[name])
    assert_same(facts.outcome(evaluator, facts.Rule(), tmp_path), GOLDEN["nano"][name])


@pytest.mark.usefixtures("nano_data")
@pytest.mark.parametrize("name", facts.NANO_REFUSED)
def test_nano_beir_refuses_what_was_recorded(name: str) -> None:
    arguments = facts.NANO_REFUSED[name]
    assert refusal(lambda: CrossEncoderNanoBEIREvaluator(**arguments)) == GOLDEN["nano_refused"][name]
