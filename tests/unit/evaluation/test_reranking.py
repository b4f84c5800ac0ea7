"""RerankingEvaluator."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sentence_transformers.evaluation.reranking import RerankingEvaluator
from sentence_transformers.evaluation.retrieval import Observer
from sentence_transformers.ops.similarity import dot_score
from tests.unit.evaluation.ranking_models import Comparing

VECTORS = {"q": [1.0, 0.0], "r": [0.0, 1.0], "3": [3.0, 4.0], "2": [2.0, 1.0], "1": [1.0, 2.0], "0": [0.0, 3.0]}
SAMPLES = [
    {"query": "q", "positive": ["2", "0"], "negative": ["3", "1"]},  # cosines 0.89, 0 and 0.6, 0.45
    {"query": "r", "positive": "0", "negative": ["2"]},  # 1 and 0.45
]


@pytest.mark.parametrize("is_batched", [True, False])
def test_metrics_equal_the_hand_values(is_batched: bool) -> None:
    found = RerankingEvaluator(SAMPLES, use_batched_encoding=is_batched)(Comparing(VECTORS))
    gain = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert found == {
        "map": pytest.approx(((1 + 2 / 4) / 2 + 1) / 2),
        "mrr@10": 1,
        "ndcg@10": pytest.approx((gain + 1) / 2),
    }


def test_mrr_and_ndcg_look_at_k_candidates() -> None:
    samples = [{"query": "q", "positive": ["1"], "negative": ["3", "2"]}]  # third
    found = RerankingEvaluator(samples, at_k=2)(Comparing(VECTORS))
    assert found == {"map": pytest.approx(1 / 3), "mrr@2": 0, "ndcg@2": 0}


def test_the_similarity_may_be_another() -> None:
    samples = [{"query": "q", "positive": ["3"], "negative": ["2"]}]  # products 3 and 2
    assert RerankingEvaluator(samples, similarity_fct=dot_score)(Comparing(VECTORS))["map"] == 1
    assert RerankingEvaluator(samples)(Comparing(VECTORS))["map"] == 1 / 2


def test_equal_scores_are_not_ranked_in_favour_of_positives() -> None:
    samples = [{"query": "q", "positive": ["1"], "negative": ["1", "1", "0"]}]
    found = RerankingEvaluator(samples)(Comparing(VECTORS))
    assert found["map"] == pytest.approx(1 / 3)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 3)


@pytest.mark.parametrize("is_batched", [True, False])
def test_queries_and_candidates_are_encoded_as_such(is_batched: bool) -> None:
    model = Comparing(VECTORS)
    RerankingEvaluator(SAMPLES, use_batched_encoding=is_batched, truncate_dim=2, batch_size=5)(model)
    together = [("encode_query", ["q", "r"]), ("encode_document", ["2", "0", "3", "1", "0", "2"])]
    single = [("encode_query", ["q"]), ("encode_document", ["2", "0", "3", "1"])]
    assert [call[:2] for call in model.calls[:2]] == (together if is_batched else single)
    assert all(call[2]["truncate_dim"] == 2 and call[2]["batch_size"] == 5 for call in model.calls)


def test_samples_without_positives_or_negatives_are_left_out() -> None:
    more = [{"query": "q", "positive": [], "negative": ["1"]}, {"query": "q", "positive": "1", "negative": []}]
    assert RerankingEvaluator([*SAMPLES, *more]).samples == RerankingEvaluator(SAMPLES).samples


def test_samples_may_be_the_values_of_a_mapping() -> None:
    assert RerankingEvaluator(dict(enumerate(SAMPLES))).samples == RerankingEvaluator(SAMPLES).samples


def test_samples_are_not_changed() -> None:
    RerankingEvaluator(SAMPLES)
    assert SAMPLES[1]["positive"] == "0"


def test_without_samples_nothing_can_be_measured() -> None:
    with pytest.raises(ValueError, match="no samples to rank"):
        RerankingEvaluator([])(Comparing(VECTORS))


def test_rows_are_added_to_the_csv_file(tmp_path: Path) -> None:
    evaluator = RerankingEvaluator(SAMPLES, at_k=3, name="dev")
    found = evaluator(Comparing(VECTORS), str(tmp_path), 1, 20)
    with (tmp_path / "RerankingEvaluator_dev_results_@3.csv").open() as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "MAP", "MRR@3", "NDCG@3"] == evaluator.csv_headers
    assert [float(cell) for cell in row] == [1, 20, found["dev_map"], found["dev_mrr@3"], found["dev_ndcg@3"]]
    assert evaluator.primary_metric == "dev_ndcg@3"


def test_the_old_name_of_k_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert RerankingEvaluator(SAMPLES, mrr_at_k=4).at_k == 4
    assert "at_k=4" in caplog.text


def test_misspelled_names_still_work() -> None:
    evaluator, model = RerankingEvaluator(SAMPLES, at_k=3), Comparing(VECTORS)
    expected = {"map": pytest.approx(0.875), "mrr": 1, "ndcg": pytest.approx(0.8065735963827292)}
    methods = ("compute_metrices", "compute_metrices_batched", "compute_metrices_individual")
    for method in (*methods, "compute_metrics", "compute_metrics_batched", "compute_metrics_individual"):
        assert getattr(evaluator, method)(model) == expected, method


def test_the_config_says_k() -> None:
    assert RerankingEvaluator(SAMPLES).get_config_dict() == {"at_k": 10}
    assert RerankingEvaluator(SAMPLES, at_k=3, truncate_dim=1).get_config_dict() == {"at_k": 3, "truncate_dim": 1}


class Sizes(Observer):
    def __init__(self) -> None:
        self.counts = {"query": 0, "corpus": 0}

    def see(self, role: str, embeddings: Any) -> None:
        self.counts[role] += len(embeddings)

    def statistics(self) -> dict[str, float]:
        return {f"{role}_count": float(count) for role, count in self.counts.items()}


class TokenModel(Comparing):
    """An embedding is a list of vectors."""

    def _rows(self, method: str, table: Any, texts: Any, settings: Any) -> Any:
        return [torch.tensor([table[text], table[text]]) for text in texts]


class TokenEvaluator(RerankingEvaluator):
    def observer(self) -> Observer:
        return Sizes()

    def similarity(self, model: Any) -> Any:
        return model.similarity


@pytest.mark.parametrize("is_batched", [True, False])
def test_encoders_of_another_kind_change_what_is_compared_and_told(is_batched: bool) -> None:
    vectors = {text: torch.nn.functional.normalize(torch.tensor(row), dim=0).tolist() for text, row in VECTORS.items()}
    model = TokenModel(vectors, similarity_fn_name="maxsim")
    found = TokenEvaluator(SAMPLES, use_batched_encoding=is_batched)(model)
    dense = RerankingEvaluator(SAMPLES)(Comparing(VECTORS))
    assert found == {name: pytest.approx(value) for name, value in dense.items()} | {
        "query_count": 2,
        "corpus_count": 6,
    }


def test_sparse_embeddings_are_compared() -> None:
    class SparseModel(Comparing):
        def _rows(self, method: str, table: Any, texts: Any, settings: Any) -> Any:
            return super()._rows(method, table, texts, settings).to_sparse()

    assert RerankingEvaluator(SAMPLES)(SparseModel(VECTORS)) == RerankingEvaluator(SAMPLES)(Comparing(VECTORS))
