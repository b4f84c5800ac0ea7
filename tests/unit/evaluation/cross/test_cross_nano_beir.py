"""CrossEncoderNanoBEIREvaluator, on local data."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.evaluation.cross import nano_beir
from sentence_transformers.evaluation.cross.nano_beir import CrossEncoderNanoBEIREvaluator, load_samples
from tests.unit.evaluation.cross.scoring import Scoring
from tests.unit.evaluation.nano_data import write_repository

datasets = pytest.importorskip("datasets", reason="the data is loaded with it")

CORPUS = {"d1": "1", "d2": "2", "d3": "3", "d4": "4", "d5": ""}
QUERIES = {"q1": "one", "q2": "two", "q3": "three"}
RELEVANT = {"q1": ["d3", "d1"], "q2": ["d4"]}
FOUND = {"q1": ["d2", "d1", "d5"], "q2": ["d1", "d4", "d2"], "q3": ["d1"]}


def rows(
    corpus: Mapping[str, str] = CORPUS,
    relevant: Mapping[str, list[str]] = RELEVANT,
    found: Mapping[str, list[str]] = FOUND,
) -> dict[str, Any]:
    """Of the four subsets."""
    return {
        "corpus": [{"_id": one, "text": text} for one, text in corpus.items()],
        "queries": [{"_id": one, "text": text} for one, text in QUERIES.items()],
        "qrels": [{"query-id": query, "corpus-id": one} for query, ids in relevant.items() for one in ids],
        "bm25": [{"query-id": query, "corpus-ids": ids} for query, ids in found.items()],
    }


def by_number(query: str, text: str) -> float:
    return float(text or 9)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that ``datasets`` reads like the repository; in the second data set nothing relevant is found."""
    other = rows(relevant={"q1": ["d3"]})
    return write_repository(tmp_path_factory.mktemp("nano"), {"NanoMSMARCO": rows(), "NanoNQ": other})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_samples_are_the_results_of_queries_of_which_something_is_relevant(folder: str) -> None:
    assert [
        {key: sample[key] for key in ("query-id", "query", "positive", "documents")}
        for sample in load_samples(folder, "NanoMSMARCO", 2)
    ] == [
        {"query-id": "q1", "query": "one", "positive": ["1", "3"], "documents": ["2", "1"]},
        {"query-id": "q2", "query": "two", "positive": ["4"], "documents": ["1", "4"]},
    ]


def test_metrics_are_those_of_each_data_set_and_their_means(folder: str) -> None:
    evaluator = CrossEncoderNanoBEIREvaluator(["MSMARCO", "nq"], folder)
    found = evaluator(Scoring(by_number))
    # "" 9, 3, 2, 1: ranks 2 and 4; 4, 2, 1: rank 1. Of NQ "" 9, 3, 2, 1: rank 2
    assert found["NanoMSMARCO_R100_map"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 2)
    assert found["NanoNQ_R100_map"] == 1 / 2
    assert found["NanoBEIR_R100_mean_map"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    # d2, d1, "", and d3 which was missed: ranks 2 and 4; d1, d4, d2: rank 2. Of NQ none
    assert found["NanoMSMARCO_R100_base_mrr@10"] == 1 / 2
    assert found["NanoBEIR_R100_mean_base_mrr@10"] == 1 / 4
    names = ["map", "mrr@10", "ndcg@10", "base_map", "base_mrr@10", "base_ndcg@10"]
    prefixes = ["NanoMSMARCO_R100", "NanoNQ_R100", "NanoBEIR_R100_mean"]
    assert list(found) == [f"{prefix}_{name}" for prefix in prefixes for name in names]
    assert evaluator.primary_metric == "NanoBEIR_R100_mean_ndcg@10"


def test_fewer_results_may_be_reranked(folder: str) -> None:
    model = Scoring(by_number)
    evaluator = CrossEncoderNanoBEIREvaluator(
        ["MSMARCO"], folder, rerank_k=2, at_k=1, always_rerank_positives=False, prompt_name="ask", batch_size=3
    )
    found = evaluator(model)
    settings = {"prompt_name": "ask", "batch_size": 3, "show_progress_bar": False, "convert_to_numpy": True}
    assert model.calls == [([("one", "2"), ("one", "1"), ("two", "1"), ("two", "4")], settings)]
    assert found["NanoMSMARCO_R2_mrr@1"] == 1 / 2
    assert found["NanoBEIR_R2_mean_mrr@1"] == 1 / 2


def test_the_aggregate_may_be_another(folder: str) -> None:
    evaluator = CrossEncoderNanoBEIREvaluator(["MSMARCO", "NQ"], folder, aggregate_fn=max, aggregate_key="best")
    assert evaluator(Scoring(by_number))["NanoBEIR_R100_best_map"] == 3 / 4
    assert evaluator.csv_file == "NanoBEIR_evaluation_best_results.csv"


def test_rows_are_added_to_all_csv_files(folder: str, tmp_path: Path) -> None:
    evaluator = CrossEncoderNanoBEIREvaluator(["NQ"], folder, at_k=3)
    found = evaluator(Scoring(by_number), str(tmp_path / "new"), 1, 20)
    with (tmp_path / "new" / "NanoBEIR_evaluation_mean_results.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "MAP", "MRR@3", "NDCG@3"] == evaluator.csv_headers
    expected = [found[f"NanoBEIR_R100_mean_{name}"] for name in ("map", "mrr@3", "ndcg@3")]
    assert [float(cell) for cell in row] == [1, 20, *expected]
    assert (tmp_path / "new" / "CrossEncoderRerankingEvaluator_NanoNQ_R100_results_@3.csv").exists()


@pytest.mark.parametrize(("names", "count"), [(["nq"], 1), (["nq", "msmarco"], 3)])
def test_the_card_is_told_aggregates_of_several_data_sets(folder: str, names: list[str], count: int) -> None:
    model = Scoring(by_number)
    CrossEncoderNanoBEIREvaluator(names, folder)(model)
    assert len(model.model_card_data.told) == count


def test_eleven_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(dataset_id: str, split: str, count: int) -> list[dict[str, Any]]:
        loaded.append((dataset_id, split, count))
        return [{"query": "q", "positive": ["1"], "documents": ["1", "2"]}]

    monkeypatch.setattr(nano_beir, "load_samples", load)
    evaluator = CrossEncoderNanoBEIREvaluator()
    names = ["ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval"]
    expected = [("sentence-transformers/NanoBEIR-en", f"Nano{name}", 100) for name in [*names, "SCIDOCS", "SciFact"]]
    assert loaded == expected
    assert evaluator.get_config_dict() == {
        "dataset_names": [name.lower() for name in [*names, "SCIDOCS", "SciFact"]],
        "dataset_id": "sentence-transformers/NanoBEIR-en",
        "rerank_k": 100,
        "at_k": 10,
        "always_rerank_positives": True,
    }
    assert evaluator.description == "Cross Encoder Nano BEIR"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_names": ["nq", "wikipedia"]}, r"\['wikipedia'\] are not valid NanoBEIR datasets"),
        ({"dataset_names": []}, "cannot be empty"),
        ({"dataset_names": ["FEVER"]}, "Could not load subset 'corpus' split 'NanoFEVER'"),
        ({"dataset_names": ["NQ"], "rerank_k": 0}, "rerank_k"),
        ({"dataset_names": ["NQ"], "at_k": 0}, "at_k"),
    ],
)
def test_bad_settings_are_refused(folder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderNanoBEIREvaluator(dataset_id=folder, **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({key: some for key, some in rows().items() if key != "bm25"}, "Could not load subset 'bm25'"),
        ({**rows(), "bm25": [{"query-id": "q1", "ids": ["d1"]}]}, r"missing required columns: \['corpus-ids'\]"),
        (rows(found={"q1": ["d1", "gone"]}), r"Subset 'corpus' .* lacks texts that other subsets name: \['gone'\]"),
        (rows(relevant={"q1": ["gone"]}), r"Subset 'corpus' .* lacks texts that other subsets name: \['gone'\]"),
        (
            rows(found={"no": ["d1"]}, relevant={"no": ["d1"]}),
            r"Subset 'queries' .* lacks texts that other subsets name: \['no'\]",
        ),
    ],
    ids=["no subset", "no column", "no document", "no positive", "no query"],
)
def test_data_that_lacks_something_is_refused(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    folder = write_repository(tmp_path / "data", {"NanoNQ": data})
    with pytest.raises(ValueError, match=message):
        CrossEncoderNanoBEIREvaluator(["nq"], folder)
