"""An evaluation that two processes compute together gives what one gives, to the last bit, and never hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sentence_transformers import SentenceTransformer
from tests.integration.process_groups import WORLD, Group

pytest.importorskip("accelerate", reason="training needs accelerate")

from tests.integration import evaluation_processes as script  # noqa: E402  (a script, too: it is run by path)

ASKED = [*(f"dense, {name}" for name in script.ASKED), *script.OTHERS]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rank, or "alone" -> what that process got; and the folder."""
    folder = tmp_path_factory.mktemp("evaluations")
    script.build(folder)
    group = Group(folder)
    group.by_environment(Path(script.__file__), str(folder))
    group.start(str(script.__file__), str(folder))
    said = group.wait()
    names = ["alone", *map(str, range(WORLD))]
    if not all((folder / f"{name}.pt").is_file() for name in names):
        pytest.fail(said)
    return {name: torch.load(folder / f"{name}.pt", weights_only=False) for name in names} | {"folder": folder}


@pytest.mark.parametrize("name", ASKED)
def test_the_answer_of_a_model_is_that_of_one_process_to_the_bit(name: str, results: dict[str, Any]) -> None:
    alone, *several = (results[who]["asked"][name] for who in ("alone", "0", "1"))
    assert several == [alone] * WORLD


def test_other_processes_help_with_every_call_that_is_large_enough(results: dict[str, Any]) -> None:
    assert results["1"]["shared"] == len(ASKED) - len(script.NOT_SHARED)
    assert results["0"]["shared"] == results["alone"]["shared"] == 0


@pytest.mark.parametrize("name", [*script.evaluators(), *script.of_pairs(), "each by itself"])
def test_all_processes_get_the_metrics_of_one_exactly(name: str, results: dict[str, Any]) -> None:
    alone, *several = (results[who]["measured"][name] for who in ("alone", "0", "1"))
    assert several == [alone] * WORLD
    assert alone[0]


def test_other_processes_score_pairs_for_evaluators_of_rerankers(results: dict[str, Any]) -> None:
    assert results["1"]["shared evaluators"] == len(script.of_pairs())
    assert results["0"]["shared evaluators"] == results["alone"]["shared evaluators"] == 0


def test_only_the_first_process_writes_files_and_those_of_one(results: dict[str, Any]) -> None:
    folder: Path = results["folder"]
    assert not (folder / "output-1").exists()
    alone, first = (
        {path.name: path.read_bytes() for path in (folder / f"output-{who}").iterdir()} for who in ("alone", "0")
    )
    assert first == alone and len(first) == 6


@pytest.mark.parametrize("name", ["in the evaluator", "in process 0", "in process 1", "truncated"])
def test_an_error_anywhere_is_raised_everywhere(name: str, results: dict[str, Any]) -> None:
    first, second = (results[who]["failed"][name][:2] for who in ("0", "1"))
    assert first == second
    assert first[0] in ("KeyError", "ValueError")


def test_an_error_of_another_process_says_where_it_was(results: dict[str, Any]) -> None:
    assert results["1"]["failed"]["in the evaluator"][2] == "ElsewhereError"
    assert results["0"]["failed"]["in process 1"][1:] == ("process 1 cannot do this", "ElsewhereError")
    assert results["0"]["failed"]["in process 0"][1:] == ("process 0 cannot do this", "NoneType")


def test_an_error_that_cannot_be_sent_is_told_by_its_type_and_text(results: dict[str, Any]) -> None:
    assert results["0"]["failed"]["of a type of its own"][:2] == ("OwnError", "one and two")
    assert results["1"]["failed"]["of a type of its own"][:2] == ("RuntimeError", "OwnError: one and two")


@pytest.mark.parametrize("rank", range(WORLD))
def test_an_evaluator_may_go_on_after_an_error_of_the_model(rank: int, results: dict[str, Any]) -> None:
    found = [results[who]["failed"][f"in process {rank}, tolerated"] for who in ("0", "1")]
    assert found[0] == found[1]
    assert found[0] == pytest.approx(results["0"]["failed"]["afterwards"], rel=1e-5)  # of a model that uses one thread


def test_after_errors_evaluations_go_on(results: dict[str, Any]) -> None:
    assert results["0"]["failed"]["afterwards"] == results["1"]["failed"]["afterwards"]
    assert results["alone"]["failed"]["afterwards"] == results["0"]["failed"]["afterwards"]


def test_all_processes_log_the_same_evaluations_in_training(results: dict[str, Any]) -> None:
    first, second = (results[who]["training"]["log"] for who in ("0", "1"))
    assert first == second
    assert sum("eval_sts_spearman_cosine" in entry for entry in first) == 4
    assert sum("eval_two_loss" in entry for entry in first) == 4


def test_all_processes_end_with_the_best_model(results: dict[str, Any]) -> None:
    first, second = (results[who]["training"] for who in ("0", "1"))
    assert first["best"] == second["best"]
    assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())
    assert first["again"]["sts_spearman_cosine"] == first["best"][1]


def test_a_model_that_all_processes_save_is_whole(results: dict[str, Any]) -> None:
    saved = SentenceTransformer(str(results["folder"] / "training" / "final"), device="cpu")
    weights = results["0"]["training"]["weights"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in saved.state_dict().items())


@pytest.mark.parametrize("name", ["metrics", "empty"])
def test_evaluate_gives_all_processes_the_same(name: str, results: dict[str, Any]) -> None:
    first, second = (results[who]["training"][name] for who in ("0", "1"))
    assert first == second
    assert any(key.endswith("sts_spearman_cosine") for key in first)
