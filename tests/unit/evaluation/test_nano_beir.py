"""NanoBEIREvaluator, on local data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.evaluation.nano_beir import SPLITS, NanoBEIREvaluator, NanoData, aggregated
from sentence_transformers.evaluation.retrieval import InformationRetrievalEvaluator
from sentence_transformers.ops.similarity import cos_sim, dot_score
from tests.unit.evaluation.nano_data import write_repository
from tests.unit.evaluation.ranking_models import Comparing

datasets = pytest.importorskip("datasets", reason="the data is loaded with it")

VECTORS = {"east": [2.0, 0.0], "northeast": [3.0, 3.0], "north": [0.0, 1.0], "west": [-1.0, 0.0]}
CORPUS = {"d1": "east", "d2": "", "d3": "northeast", "d4": "north", "d5": "west"}
QUERIES = {"q1": "east", "q2": "north", "q3": ""}
RELEVANT = {
    "NanoMSMARCO": [("q1", "d1"), ("q1", "d3"), ("q2", "d4"), ("q3", "d1")],
    "NanoNQ": [("q2", "d1"), ("q2", "d5")],
}
LIMITS: dict[str, Any] = {
    "accuracy_at_k": [1],
    "precision_recall_at_k": [1],
    "mrr_at_k": [4],
    "ndcg_at_k": [2],
    "map_at_k": [4],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that ``datasets`` reads like the repository."""
    return write_data(tmp_path_factory.mktemp("nano"), RELEVANT)


def write_data(root: Path, relevant: dict[str, list[tuple[str, Any]]]) -> str:
    """Three subsets, each with a split for a data set."""
    rows = {
        split: {
            "corpus": [{"_id": one, "text": text} for one, text in CORPUS.items()],
            "queries": [{"_id": one, "text": text} for one, text in QUERIES.items()],
            "qrels": [{"query-id": query, "corpus-id": found} for query, found in pairs],
        }
        for split, pairs in relevant.items()
    }
    return write_repository(root, rows)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_data_is_read_without_empty_texts(folder: str) -> None:
    data = NanoData.load(folder, "NanoMSMARCO")
    assert data.corpus == {"d1": "east", "d3": "northeast", "d4": "north", "d5": "west"}
    assert data.queries == {"q1": "east", "q2": "north"}
    assert data.relevant == {"q1": {"d1", "d3"}, "q2": {"d4"}, "q3": {"d1"}}


def test_relevant_documents_may_come_as_lists(tmp_path: Path) -> None:
    folder = write_data(tmp_path, {"NanoNQ": [("q2", ["d1", "d5"]), ("q1", ["d1"])]})
    assert NanoData.load(folder, "NanoNQ").relevant == {"q2": {"d1", "d5"}, "q1": {"d1"}}


def test_data_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = write_data(tmp_path, {"NanoNQ": [("q2", "d1")]})
    (tmp_path / "queries" / "NanoNQ.jsonl").write_text("not JSON\n")
    with pytest.raises(ValueError, match="Could not load subset 'queries' split 'NanoNQ'"):
        NanoData.load(folder, "NanoNQ")


def test_metrics_are_those_of_each_data_set_and_their_means(folder: str) -> None:
    evaluator = NanoBEIREvaluator(["MSMARCO", "nq"], folder, **LIMITS)
    found = evaluator(Comparing(VECTORS))
    assert found["NanoMSMARCO_cosine_accuracy@1"] == 1
    assert found["NanoNQ_cosine_accuracy@1"] == 0
    assert found["NanoBEIR_mean_cosine_accuracy@1"] == 1 / 2
    assert found["NanoBEIR_mean_cosine_map@4"] == pytest.approx(
        (found["NanoMSMARCO_cosine_map@4"] + found["NanoNQ_cosine_map@4"]) / 2
    )
    assert len(found) == 3 * 6
    assert evaluator.primary_metric == "NanoBEIR_mean_cosine_ndcg@2"


@pytest.mark.parametrize(
    ("names", "told"), [(["nq"], ["NanoNQ"]), (["nq", "msmarco"], ["NanoNQ", "NanoMSMARCO", "Nano"])]
)
def test_the_card_is_told_aggregates_of_several_data_sets(folder: str, names: list[str], told: list[str]) -> None:
    model = Comparing(VECTORS)
    found = NanoBEIREvaluator(names, folder, **LIMITS)(model, None, 2, 30)
    assert len(model.model_card_data.told) == len(told)
    for (_, metrics, epoch, step), name in zip(model.model_card_data.told, told, strict=True):
        assert (epoch, step) == (2, 30)
        assert all(metric.startswith(name) and found[metric] == value for metric, value in metrics.items())


def test_another_model_may_embed_the_documents(folder: str) -> None:
    model, other = Comparing(VECTORS), Comparing(VECTORS)
    NanoBEIREvaluator(["nq"], folder, **LIMITS)(model, corpus_model=other)
    assert [call[0] for call in model.calls] == ["encode_query"]
    assert [call[0] for call in other.calls] == ["encode_document"]


def test_the_width_is_part_of_all_names(folder: str) -> None:
    evaluator = NanoBEIREvaluator(["NQ"], folder, truncate_dim=1, **LIMITS)
    model = Comparing(VECTORS)
    found = evaluator(model)
    assert {metric.split("_cosine")[0] for metric in found} == {"NanoNQ_1", "NanoBEIR_mean_1"}
    assert evaluator.primary_metric == "NanoBEIR_mean_1_cosine_ndcg@2"
    assert model.calls[0][2]["truncate_dim"] == 1


def test_the_aggregate_may_be_another(folder: str, tmp_path: Path) -> None:
    evaluator = NanoBEIREvaluator(["msmarco", "nq"], folder, aggregate_fn=max, aggregate_key="best", **LIMITS)
    found = evaluator(Comparing(VECTORS), str(tmp_path))
    assert found["NanoBEIR_best_cosine_accuracy@1"] == 1
    assert (tmp_path / "NanoBEIR_evaluation_best_results.csv").exists()


def test_rows_are_added_to_all_csv_files(folder: str, tmp_path: Path) -> None:
    evaluator = NanoBEIREvaluator(["NQ"], folder, **LIMITS)
    found = evaluator(Comparing(VECTORS), str(tmp_path / "new"), 1, 20)
    with (tmp_path / "new" / "NanoBEIR_evaluation_mean_results.csv").open() as file:
        header, row = csv.reader(file)
    kinds = ["Accuracy@1", "Precision@1", "Recall@1", "MRR@4", "NDCG@2", "MAP@4"]
    assert header == ["epoch", "steps", *(f"cosine-{kind}" for kind in kinds)]
    assert row[:2] == ["1", "20"]
    assert float(row[-1]) == found["NanoBEIR_mean_cosine_map@4"]
    assert (tmp_path / "new" / "Information-Retrieval_evaluation_NanoNQ_results.csv").exists()


def test_the_best_of_several_functions_counts(folder: str) -> None:
    functions = {"against": lambda a, b: -dot_score(a, b), "plain": cos_sim}
    evaluator = NanoBEIREvaluator(["MSMARCO"], folder, score_functions=functions, **LIMITS)
    evaluator(Comparing(VECTORS))
    assert evaluator.primary_metric == "NanoBEIR_mean_plain_ndcg@2"


def test_prompts_may_be_one_for_all_or_one_for_each(folder: str) -> None:
    evaluator = NanoBEIREvaluator(
        ["MSMARCO", "NQ"], folder, query_prompts="Q: ", corpus_prompts={"MSMARCO": "M: ", "NQ": "N: "}, **LIMITS
    )
    assert [one.query_prompt for one in evaluator.evaluators] == ["Q: ", "Q: "]
    assert [one.corpus_prompt for one in evaluator.evaluators] == ["M: ", "N: "]
    assert evaluator.get_config_dict() == {
        "dataset_names": ["MSMARCO", "NQ"],
        "dataset_id": folder,
        "query_prompts": {"MSMARCO": "Q: ", "NQ": "Q: "},
        "corpus_prompts": {"MSMARCO": "M: ", "NQ": "N: "},
    }


def test_all_thirteen_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(dataset_id: str, split: str) -> NanoData:
        loaded.append((dataset_id, split))
        return NanoData({"q": "east"}, {"d": "east"}, {"q": {"d"}})

    monkeypatch.setattr(NanoData, "load", load)
    evaluator = NanoBEIREvaluator()
    assert loaded == [("sentence-transformers/NanoBEIR-en", split) for split in SPLITS.values()]
    assert evaluator.dataset_names == list(SPLITS)
    assert len(loaded) == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_names": ["nq", "wikipedia"]}, r"\['wikipedia'\] are not valid NanoBEIR datasets"),
        ({"dataset_names": []}, "cannot be empty"),
        ({"dataset_names": ["NQ"], "query_prompts": {"nq": "Q: "}}, r"missing query prompts: \['NQ'\]"),
        ({"dataset_names": ["NQ"], "corpus_prompts": {}}, r"missing corpus prompts: \['NQ'\]"),
        ({"dataset_names": ["FEVER"]}, "Could not load subset 'corpus' split 'NanoFEVER'"),
        ({"dataset_names": ["NQ"], "ndcg_at_k": []}, "ndcg_at_k must not be empty"),
    ],
)
def test_bad_settings_are_refused(folder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NanoBEIREvaluator(dataset_id=folder, **options)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Could not load subset 'corpus' split 'NanoNQ'"):
        NanoBEIREvaluator(["nq"], str(tmp_path / "gone"))


def test_missing_columns_are_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(dataset_id: str, subset: str, split: str) -> Any:
        return datasets.Dataset.from_dict({"_id": ["a"], "title": ["b"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"missing required columns: \['text'\]"):
        NanoBEIREvaluator(["nq"], folder)


def test_aggregates_are_of_metrics_without_the_name() -> None:
    found = {"A_x": {"A_x_map": 1.0, "A_x_dims": 3.0}, "B": {"B_map": 0.0, "B_dims": 5.0}}
    assert aggregated(found, lambda values: sum(values) / len(values)) == {"map": 0.5, "dims": 4.0}


def test_encoders_of_another_kind_have_evaluators_of_their_own(folder: str) -> None:
    class Narrow(InformationRetrievalEvaluator):
        def __init__(self, *data: Any, max_active_dims: int | None = None, **options: Any) -> None:
            super().__init__(*data, **options)
            self.max_active_dims = max_active_dims

    class NarrowNano(NanoBEIREvaluator):
        information_retrieval_class = Narrow

        def __init__(self, *args: Any, max_active_dims: int | None = None, **options: Any) -> None:
            self.max_active_dims = max_active_dims
            super().__init__(*args, **options)

        def width(self) -> dict[str, int | None]:
            return {"max_active_dims": self.max_active_dims}

    evaluator = NarrowNano(["NQ"], folder, max_active_dims=7, **LIMITS)
    assert [one.max_active_dims for one in evaluator.evaluators] == [7]
    assert evaluator.get_config_dict()["max_active_dims"] == 7
    assert "NanoBEIR_mean_7_cosine_ndcg@2" in evaluator(Comparing(VECTORS))
