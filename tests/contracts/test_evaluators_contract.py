"""What every evaluator keeps, whatever it measures."""

from __future__ import annotations

import csv
import importlib
import json
import math
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from sentence_transformers import evaluation
from sentence_transformers._public import NAMES
from sentence_transformers.evaluation.base import BaseEvaluator, SequentialEvaluator
from sentence_transformers.evaluation.cross.predicting import LabelledPairsEvaluator, PredictingEvaluator
from sentence_transformers.evaluation.embedding import EmbeddingEvaluator, SimilarityEvaluator
from sentence_transformers.evaluation.nano_beir import NanoEvaluator
from sentence_transformers.evaluation.reporting import ReportingEvaluator
from tests.contracts.evaluator_cases import CASES, CROSS, LATE, SPARSE, WITHOUT_MODEL, Case
from tests.contracts.loss_cases import MODELS

pytestmark = pytest.mark.filterwarnings("ignore:.*CE.*Evaluator:DeprecationWarning")

SHARED = {
    *(ReportingEvaluator, EmbeddingEvaluator, SimilarityEvaluator, NanoEvaluator),
    *(PredictingEvaluator, LabelledPairsEvaluator),
}
"""What others are made of; they measure nothing."""
PROMPTS = {"query": "find: ", "document": "text: "}
TABLE = {
    target: name if namespace == "evaluation" else f"{namespace}.{name}"
    for namespace in ("evaluation", CROSS, SPARSE, LATE)
    for name, target in NAMES[namespace].items()
}
"""Where a public evaluator is -> the name of its case."""


def all_evaluators() -> set[str]:
    """Every public class below ``BaseEvaluator`` in the files of ``evaluation``: the name of its case, or its place."""
    for file in pkgutil.walk_packages(evaluation.__path__, f"{evaluation.__name__}."):
        importlib.import_module(file.name)
    found, waiting = set(), [BaseEvaluator]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith(evaluation.__name__) and not kind.__name__.startswith("_"):
                found.add(kind)
    places = [f"{kind.__module__.partition('.')[2]}:{kind.__name__}" for kind in found - SHARED]
    return {TABLE.get(place, place) for place in places}


@pytest.mark.parametrize("name", sorted(all_evaluators() - WITHOUT_MODEL | set(CASES)))
def test_an_evaluator_has_a_case_and_a_row_in_the_table(name: str) -> None:
    assert ":" not in name, f"{name} is no row of a table of evaluators in _public_training.py"
    assert name in CASES, f"{name} has no case in tests/contracts/evaluator_cases.py"
    assert name in TABLE.values()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The files of a small model of each kind."""
    root = tmp_path_factory.mktemp("of-evaluators")

    @cache
    def made(name: str) -> Path:
        MODELS[name][1](root / name)
        return root / name

    return made


@pytest.fixture
def model(case: Case, folders: Callable[[str], Path]) -> Any:
    """One that may be changed, with prompts, in training mode: dropout would change what it measures."""
    width = {case.shortened: 24} if case.shortened else {}
    return MODELS[case.model][0](str(folders(case.model)), device="cpu", prompts=PROMPTS, **width).train()


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    """Of each evaluator in turn."""
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def settings(model: Any) -> dict[str, Any]:
    """What a measurement must leave as it is."""
    return {
        "training": [part.training for part in model.modules()],
        "gradients": [parameter.requires_grad for parameter in model.parameters()],
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt_name,
        "truncate_dim": getattr(model, "truncate_dim", None),
        "similarity_fn_name": getattr(model, "similarity_fn_name", None),
        "max_seq_length": model.max_seq_length,
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
    }


def test_metrics_are_finite_floats_and_the_primary_one_is_among_them(name: str, case: Case, model: Any) -> None:
    evaluator = case.build(name, model)
    found = evaluator(model)
    assert found
    assert all(type(metric) is str and type(value) is float and math.isfinite(value) for metric, value in found.items())
    assert evaluator.primary_metric in found


def test_the_name_comes_before_every_metric_once(name: str, case: Case, model: Any) -> None:
    if not case.named:
        pytest.skip("takes no name")
    plain, named = case.build(name, model), case.build(name, model, name="dev")
    expected = {f"dev_{metric}": value for metric, value in plain(model).items()}
    for _ in range(2):
        assert named(model) == expected
        assert named.primary_metric == f"dev_{plain.primary_metric}"


@pytest.mark.parametrize("data", ["", "dev"])
def test_a_call_adds_a_row_to_its_csv_files(name: str, case: Case, data: str, model: Any, tmp_path: Path) -> None:
    if data and not case.named and name != "SequentialEvaluator":
        pytest.skip("takes no name")
    evaluator = case.build(name, model, **({"name": data} if data else {}))
    folder = tmp_path / "not" / "there"
    evaluator(model, str(folder), 1, 20)
    evaluator(model, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted(case.files(data))
    for path in folder.iterdir():
        header, first, second = rows_of(path)
        assert header[:2] == ["epoch", "steps"]
        assert (first[:2], second[:2]) == (["1", "20"], ["-1", "-1"])
        assert first[2:] == second[2:]
        assert len(header) == len(first) == len(set(header)) > 2
        assert all(math.isfinite(float(cell)) for cell in first)


def test_the_csv_file_is_the_one_it_names_with_the_columns_it_names(
    name: str, case: Case, model: Any, tmp_path: Path
) -> None:
    evaluator = case.build(name, model)
    if isinstance(evaluator, SequentialEvaluator):
        pytest.skip("has no file of its own")
    evaluator(model, str(tmp_path))
    assert evaluator.csv_file in case.files("")
    assert rows_of(tmp_path / evaluator.csv_file)[0] == evaluator.csv_headers


def test_nothing_is_written_if_it_is_not_wanted(
    name: str, case: Case, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = case.build(name, model)(model)
    assert case.build(name, model, write_csv=False)(model, str(tmp_path)) == written
    assert list(tmp_path.iterdir()) == []


def test_the_model_stays_as_it_is(name: str, case: Case, model: Any) -> None:
    before = settings(model)
    case.build(name, model)(model)
    after = settings(model)
    weights = [found.pop("weights") for found in (before, after)]
    assert after == before
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_measures_the_same_again_and_of_a_model_in_use(name: str, case: Case, model: Any) -> None:
    evaluator = case.build(name, model)
    found = evaluator(model)
    assert evaluator(model) == found
    model.eval()
    assert evaluator(model) == found
    assert not any(part.training for part in model.modules())


def test_its_settings_are_those_of_the_data_and_may_be_shown(name: str, case: Case, model: Any) -> None:
    evaluator = case.build(name, model)
    before = json.dumps(evaluator.get_config_dict())
    assert isinstance(json.loads(before), dict)
    evaluator(model)
    assert json.dumps(evaluator.get_config_dict()) == before
    assert evaluator.description
    assert not evaluator.description.endswith("Evaluator")


def test_the_width_of_embeddings_is_a_setting(name: str, case: Case, model: Any) -> None:
    if not case.shortened:
        pytest.skip("shortens nothing")
    short = case.build(name, model, **{case.shortened: 6})
    found = short(model)
    setattr(model, case.shortened, 6)
    expected = case.build(name, model)(model)
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-6)
    if not isinstance(short, SequentialEvaluator):
        assert short.get_config_dict().get("truncate_dim", 6) == 6


def test_the_card_is_told_of_every_measurement_once(name: str, case: Case, model: Any) -> None:
    evaluator = case.build(name, model)
    tell = model.model_card_data.set_evaluation_metrics
    with patch.object(type(model.model_card_data), "set_evaluation_metrics", side_effect=tell) as told:
        found = evaluator(model, None, 2, 30)
    assert told.call_count == case.told
    for call in told.call_args_list:
        source, metrics = call.args
        assert call.kwargs == {"epoch": 2, "step": 30}
        assert source.primary_metric in metrics
        assert metrics.items() <= found.items()
    if case.told == 1:
        assert told.call_args.args == (evaluator, found)


def test_it_may_be_one_of_several(name: str, case: Case, model: Any) -> None:
    alone, together = case.build(name, model), SequentialEvaluator([case.build(name, model)])
    found = alone(model)
    assert together(model) == {**found, "sequential_score": found[alone.primary_metric]}
