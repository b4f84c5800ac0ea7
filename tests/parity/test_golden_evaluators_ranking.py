"""Evaluators of retrieval, reranking and paraphrases give, write and tell what the reference's do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranking_facts as facts
import torch

from sentence_transformers.evaluation.nano_beir import NanoBEIREvaluator
from sentence_transformers.evaluation.paraphrases import ParaphraseMiningEvaluator
from sentence_transformers.evaluation.reranking import RerankingEvaluator
from sentence_transformers.evaluation.retrieval import InformationRetrievalEvaluator
from sentence_transformers.ops.similarity import cos_sim, dot_score

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden_evaluators_ranking.json").read_text(encoding="ascii")
)
FUNCTIONS = {"cosine": cos_sim, "dot": dot_score}


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
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
            # scores are float32: the last digit depends on the order in which a product is summed
            assert_same(found[name], value, 1e-6 if name in ("score", "threshold") else tolerance)
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for left, right in zip(found, golden, strict=True):
            assert_same(left, right, tolerance)
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, rel=0, abs=tolerance)
    else:
        assert found == golden


def retrieved(name: str, folder: Path, **options: Any) -> dict[str, Any]:
    model, data, arguments = facts.RETRIEVAL[name]
    arguments = facts.with_functions(arguments, FUNCTIONS)
    evaluator = InformationRetrievalEvaluator(*facts.retrieval_data(**data), **arguments)
    return facts.outcome(evaluator, facts.Lookup(**model), folder, **options)


@pytest.mark.parametrize("name", facts.RETRIEVAL)
def test_retrieval_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    assert_same(retrieved(name, tmp_path), GOLDEN["retrieval"][name])


def test_retrieval_with_another_model_for_the_corpus_is_the_recorded_one(tmp_path: Path) -> None:
    found = retrieved("defaults", tmp_path, corpus_model=facts.Lookup(is_coarse=True))
    assert_same(found, GOLDEN["corpus_model"])


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_retrieval_with_given_embeddings_of_the_corpus_is_the_recorded_one(form: Any, tmp_path: Path) -> None:
    corpus = np.array([facts.vector(text, True) for text in facts.retrieval_data()[1].values()])
    found = retrieved("defaults", tmp_path, corpus_embeddings=form(corpus))
    assert_same(found, GOLDEN["corpus_embeddings"])


@pytest.mark.parametrize("name", facts.RERANKING)
def test_reranking_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    model, arguments = facts.RERANKING[name]
    evaluator = RerankingEvaluator(facts.SAMPLES, **facts.with_functions(arguments, FUNCTIONS))
    assert_same(facts.outcome(evaluator, facts.Lookup(**model), tmp_path), GOLDEN["reranking"][name])


@pytest.mark.parametrize("name", facts.PARAPHRASES)
def test_paraphrases_are_the_recorded_ones(name: str, tmp_path: Path) -> None:
    model, arguments = facts.PARAPHRASES[name]
    evaluator = ParaphraseMiningEvaluator(facts.SENTENCES, **arguments)
    # the threshold, a float32, is in the CSV file, too
    assert_same(facts.outcome(evaluator, facts.Lookup(**model), tmp_path), GOLDEN["paraphrases"][name], 1e-6)


@pytest.mark.usefixtures("nano_data")
@pytest.mark.parametrize("name", facts.NANO)
def test_nano_beir_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    evaluator = NanoBEIREvaluator(**facts.with_functions(facts.NANO[name], FUNCTIONS))
    assert_same(facts.outcome(evaluator, facts.Lookup(), tmp_path), GOLDEN["nano"][name])


@pytest.mark.usefixtures("nano_data")
@pytest.mark.parametrize("name", facts.NANO_REFUSED)
def test_nano_beir_refuses_what_was_recorded(name: str) -> None:
    assert facts.refusal(lambda: NanoBEIREvaluator(**facts.NANO_REFUSED[name])) == GOLDEN["nano_refused"][name]
