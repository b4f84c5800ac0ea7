"""InformationRetrievalEvaluator."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation.retrieval import (
    InformationRetrievalEvaluator,
    Observer,
    are_among,
    known_function,
)
from sentence_transformers.ops.maxsim import maxsim
from sentence_transformers.ops.similarity import cos_sim, dot_score
from tests.unit.evaluation.ranking_models import Comparing

QUERIES = {"q1": "east", "q2": "north", "q3": "nowhere"}
CORPUS = {"b": "east", "a": "northeast", "c": "north", "d": "west"}
RELEVANT = {"q1": {"a", "d"}, "q2": {"c"}}
VECTORS = {"east": [2.0, 0.0], "northeast": [3.0, 3.0], "north": [0.0, 1.0], "west": [-1.0, 0.0], "nowhere": [0.0, 0.0]}
SMALL: dict[str, Any] = {
    "accuracy_at_k": [1],
    "precision_recall_at_k": [2],
    "mrr_at_k": [4],
    "ndcg_at_k": [4],
    "map_at_k": [4],
}


@pytest.fixture
def tiny_encoder(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    """One of its own, which may be changed."""
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


def evaluator(**options: Any) -> InformationRetrievalEvaluator:
    return InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, **{**SMALL, **options})


def test_metrics_equal_the_hand_values() -> None:
    # east: east 1, northeast 0.7, north 0, west -1; north: north 1, northeast 0.7, then east and west with 0
    gains = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert evaluator()(Comparing(VECTORS)) == {
        "cosine_accuracy@1": 1 / 2,
        "cosine_precision@2": (1 / 2 + 1 / 2) / 2,
        "cosine_recall@2": (1 / 2 + 1) / 2,
        "cosine_ndcg@4": pytest.approx((gains + 1) / 2),
        "cosine_mrr@4": (1 / 2 + 1) / 2,
        "cosine_map@4": pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 2),
    }


def test_the_name_comes_before_metrics_and_the_primary_metric() -> None:
    named = evaluator(name="dev")
    assert all(metric.startswith("dev_cosine_") for metric in named(Comparing(VECTORS)))
    assert named.primary_metric == "dev_cosine_ndcg@4"


def test_queries_without_relevant_documents_are_not_encoded() -> None:
    model = Comparing(VECTORS)
    evaluator()(model)
    assert model.calls[0][:2] == ("encode_query", ["east", "north"])


def test_the_corpus_is_encoded_in_chunks_in_its_order() -> None:
    model = Comparing(VECTORS)
    evaluator(corpus_chunk_size=3)(model)
    assert [call[:2] for call in model.calls[1:]] == [
        ("encode_document", ["east", "northeast", "north"]),
        ("encode_document", ["west"]),
    ]


def test_settings_reach_the_model() -> None:
    model = Comparing(VECTORS)
    evaluator(truncate_dim=1, batch_size=3, query_prompt="Q: ", corpus_prompt_name="passage")(model)
    query, document = (settings for _, _, settings in model.calls)
    assert query["prompt"] == "Q: "
    assert query["prompt_name"] is None
    assert document["prompt_name"] == "passage"
    assert document["prompt"] is None
    for settings in (query, document):
        assert settings["truncate_dim"] == 1
        assert settings["batch_size"] == 3
        assert settings["show_progress_bar"] is False


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_ties_are_ranked_by_the_ids_of_documents(size: int, tmp_path: Path) -> None:
    corpus = {"d9": "east", "d10": "east", "d1": "east", "d2": "west", "d11": "east"}
    tied = InformationRetrievalEvaluator(
        {"q": "east"}, corpus, {"q": {"d9"}}, size, **{**SMALL, "mrr_at_k": [3]}, write_predictions=True
    )
    tied(Comparing(VECTORS), str(tmp_path))
    (line,) = (tmp_path / "Information-Retrieval_evaluation_predictions_cosine.jsonl").read_text().splitlines()
    assert [result["corpus_id"] for result in json.loads(line)["results"]] == ["d1", "d10", "d11", "d9"]


def test_the_model_compares_by_default() -> None:
    assert list(evaluator()(Comparing(VECTORS, similarity_fn_name="dot")))[0] == "dot_accuracy@1"


def test_with_several_functions_the_best_counts_for_good() -> None:
    flipped = evaluator(score_functions={"plain": dot_score, "against": lambda a, b: -dot_score(a, b)})
    found = flipped(Comparing(VECTORS))
    assert found["plain_ndcg@4"] > found["against_ndcg@4"]
    assert flipped.primary_metric == "plain_ndcg@4"
    found = flipped(Comparing({text: [-x for x in vector] for text, vector in VECTORS.items()}, VECTORS))
    assert found["plain_ndcg@4"] < found["against_ndcg@4"]
    assert flipped.primary_metric == "plain_ndcg@4"


def test_of_equally_good_functions_the_first_name_counts() -> None:
    both = evaluator(score_functions={"b": cos_sim, "a": cos_sim})
    both(Comparing(VECTORS))
    assert both.primary_metric == "a_ndcg@4"


def test_the_main_function_counts() -> None:
    chosen = evaluator(
        score_functions={"dot": lambda a, b: -dot_score(a, b), "cosine": cos_sim}, main_score_function="dot"
    )
    chosen(Comparing(VECTORS))
    assert chosen.primary_metric == "dot_ndcg@4"


def test_another_similarity_of_the_model_is_measured_and_said(caplog: pytest.LogCaptureFixture) -> None:
    same = evaluator()
    same(Comparing(VECTORS))
    with caplog.at_level(logging.WARNING):
        found = same(Comparing(VECTORS, similarity_fn_name="dot"))
    assert same.primary_metric == "dot_ndcg@4"
    assert same.primary_metric in found
    assert "rows before are of others" in caplog.text


def test_rows_are_added_to_the_csv_file(tmp_path: Path) -> None:
    written = evaluator(name="dev", score_functions={"dot": dot_score, "cosine": cos_sim})
    first = written(Comparing(VECTORS), str(tmp_path / "new"), 1, 20)
    written(Comparing(VECTORS), str(tmp_path / "new"))
    with (tmp_path / "new" / "Information-Retrieval_evaluation_dev_results.csv").open() as file:
        header, row, second = csv.reader(file)
    kinds = ["Accuracy@1", "Precision@2", "Recall@2", "MRR@4", "NDCG@4", "MAP@4"]
    assert header == ["epoch", "steps", *(f"{name}-{kind}" for name in ("cosine", "dot") for kind in kinds)]
    assert row[:2] == ["1", "20"]
    assert second[:2] == ["-1", "-1"]
    assert float(row[header.index("dot-NDCG@4")]) == first["dev_dot_ndcg@4"]


def test_nothing_is_written_if_not_wanted(tmp_path: Path) -> None:
    evaluator(write_csv=False)(Comparing(VECTORS), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_written_anew_each_time(tmp_path: Path) -> None:
    predicting = evaluator(write_predictions=True, **{"map_at_k": [2], "ndcg_at_k": [2], "mrr_at_k": [2]})
    for _ in range(2):
        predicting(Comparing(VECTORS), str(tmp_path))
    path = tmp_path / "Information-Retrieval_evaluation_predictions_cosine.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["query_id"], line["query"]) for line in lines] == [("q1", "east"), ("q2", "north")]
    assert lines[0]["results"] == [
        {"corpus_id": "b", "score": 1.0},
        {"corpus_id": "a", "score": pytest.approx(math.sqrt(0.5))},
    ]


def test_the_card_is_told() -> None:
    model, told = Comparing(VECTORS), evaluator()
    metrics = told(model, None, 2, 30)
    assert model.model_card_data.told == [(told, metrics, 2, 30)]


def test_another_model_may_embed_the_corpus() -> None:
    model, other = Comparing(VECTORS), Comparing({text: [-x for x in row] for text, row in VECTORS.items()})
    found = evaluator()(model, corpus_model=other)
    assert [call[0] for call in model.calls] == ["encode_query"]
    assert [call[0] for call in other.calls] == ["encode_document"]
    assert found["cosine_accuracy@1"] == 1 / 2  # west is now first for east


def test_given_embeddings_of_the_corpus_are_not_computed() -> None:
    model = Comparing(VECTORS)
    embeddings = torch.tensor([VECTORS[text] for text in CORPUS.values()], dtype=torch.float64)
    for given in (embeddings, embeddings.numpy(), embeddings.to_sparse()):
        model.calls.clear()
        assert evaluator(corpus_chunk_size=3)(model, corpus_embeddings=given) == evaluator()(Comparing(VECTORS))
        assert [call[0] for call in model.calls] == ["encode_query"]


def test_embeddings_of_another_corpus_are_refused() -> None:
    with pytest.raises(ValueError, match="one for each of 4 documents, got 3"):
        evaluator()(Comparing(VECTORS), corpus_embeddings=torch.zeros(3, 2))


def test_without_a_relevant_document_nothing_can_be_measured() -> None:
    with pytest.raises(ValueError, match="No query has relevant documents"):
        InformationRetrievalEvaluator(QUERIES, CORPUS, {"other": {"a"}})(Comparing(VECTORS))


def test_an_empty_corpus_has_nothing_to_find() -> None:
    found = InformationRetrievalEvaluator(QUERIES, {}, RELEVANT)(Comparing(VECTORS))
    assert set(found.values()) == {0.0}


def test_missing_documents_count_as_not_found() -> None:
    relevant = {"q1": {"b", "gone", "lost"}}
    found = InformationRetrievalEvaluator(QUERIES, CORPUS, relevant, **SMALL)(Comparing(VECTORS))
    assert found["cosine_recall@2"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus_chunk_size": 0}, "corpus_chunk_size must be a positive integer"),
        ({"map_at_k": [0]}, "map_at_k must be a positive integer"),
        ({"ndcg_at_k": []}, "ndcg_at_k must not be empty"),
        ({"main_score_function": "near"}, "'near' is not a valid SimilarityFunction"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluator(**options)


def test_given_results_are_measured() -> None:
    measured = evaluator()
    results = [
        [{"corpus_id": "b", "score": 0.2}, {"corpus_id": "a", "score": 0.9}],
        [{"corpus_id": "d", "score": 0.5}, {"corpus_id": "c", "score": 0.5}],
    ]
    found = measured.compute_metrics(results)
    assert found["accuracy@k"] == {1: 0.5}
    assert found["mrr@k"] == {4: 0.75}
    assert found["map@k"] == {4: pytest.approx((1 / 2 + 1 / 2) / 2)}


def test_old_names_still_work() -> None:
    measured = evaluator()
    assert measured.compute_metrices(Comparing(VECTORS)) == measured.compute_all_metrics(Comparing(VECTORS))
    assert measured.compute_dcg_at_k([1, 0, 1, 1], 3) == 1.5
    assert measured.get_corpus_id_ranks().tolist() == [1, 0, 2, 3]


def test_the_config_has_what_is_not_default() -> None:
    assert evaluator().get_config_dict() == {}
    assert evaluator(truncate_dim=3, query_prompt="Q: ").get_config_dict() == {"truncate_dim": 3, "query_prompt": "Q: "}


def test_metrics_are_those_of_a_slow_ranking() -> None:
    random = np.random.default_rng(0)
    texts = [f"t{one}" for one in range(80)]
    vectors = {text: random.integers(-2, 3, 5).tolist() for text in texts}
    corpus = {f"d{one}": texts[one] for one in random.permutation(60)}
    queries = {f"q{one}": texts[60 + one] for one in range(20)}
    relevant = {query: {f"d{one}" for one in random.choice(60, 4, replace=False)} for query in queries}
    found = InformationRetrievalEvaluator(
        queries, corpus, relevant, corpus_chunk_size=17, score_functions={"dot": dot_score}
    )(Comparing(vectors))
    precisions = []
    for query, text in queries.items():
        scores = {one: float(np.dot(vectors[text], vectors[corpus[one]])) for one in corpus}
        ranked = sorted(corpus, key=lambda one: (-scores[one], one))  # noqa: B023
        hits = [rank for rank, one in enumerate(ranked, 1) if one in relevant[query]]
        precisions.append(sum(place / rank for place, rank in enumerate(hits, 1)) / 4)
    assert found["dot_map@100"] == pytest.approx(np.mean(precisions), abs=1e-12)


# --- what encoders of another kind change


class Counting(Observer):
    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def see(self, role: str, embeddings: Any) -> None:
        self.seen[role] = self.seen.get(role, 0) + len(embeddings)

    def statistics(self) -> dict[str, float]:
        return {f"{role}_count": float(count) for role, count in self.seen.items()}


class CountingEvaluator(InformationRetrievalEvaluator):
    def observer(self) -> Observer:
        return Counting()


def test_what_is_told_of_embeddings_is_a_metric_and_a_column(tmp_path: Path) -> None:
    counting = CountingEvaluator(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=3, name="dev", **SMALL)
    for _ in range(2):  # each evaluation counts anew
        found = counting(Comparing(VECTORS), str(tmp_path))
        assert list(found.items())[-2:] == [("dev_query_count", 2), ("dev_corpus_count", 4)]
    header = (tmp_path / counting.csv_file).read_text().splitlines()[0]
    assert header.endswith(",query_count,corpus_count")


class TokenModel(Comparing):
    """An embedding is a list of vectors."""

    def _rows(self, method: str, table: Any, texts: Any, settings: Any) -> Any:
        return [torch.tensor([table[text], [0.0, 0.5]]) for text in texts]


def test_embeddings_may_be_lists_of_vectors() -> None:
    model = TokenModel(VECTORS, similarity_fn_name="maxsim")
    found = evaluator(corpus_chunk_size=3)(model)
    scores = maxsim(model.encode_query(["east", "north"]), model.encode_document(list(CORPUS.values())))
    best = [[list(CORPUS)[place] for place in row.argsort(descending=True, stable=True)] for row in scores]
    assert found["maxsim_accuracy@1"] == np.mean([best[0][0] in RELEVANT["q1"], best[1][0] in RELEVANT["q2"]])


# --- parts


def test_places_are_relevant_for_their_own_query() -> None:
    relevant = np.array([0 * 5 + 2, 1 * 5 + 0, 1 * 5 + 4])
    places = np.array([[2, 0], [4, 2], [0, 1]])
    assert are_among(relevant, places, 5).tolist() == [[True, False], [True, False], [False, False]]
    assert are_among(relevant[:0], places, 5).tolist() == [[False, False]] * 3


def test_the_similarity_of_an_encoder_is_known(tiny_encoder: SentenceTransformer) -> None:
    assert known_function(tiny_encoder.similarity) is cos_sim
    tiny_encoder.similarity_fn_name = "dot"
    assert known_function(tiny_encoder.similarity) is dot_score


def test_any_other_function_stays_itself(tiny_encoder: SentenceTransformer) -> None:
    class Own(SentenceTransformer):
        def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
            return -super().similarity(embeddings1, embeddings2)

    own = Own(modules=list(tiny_encoder))
    assert known_function(own.similarity) == own.similarity
    assert known_function(cos_sim) is cos_sim
    assert known_function(tiny_encoder.similarity_pairwise) == tiny_encoder.similarity_pairwise


def test_a_real_model_is_measured(tiny_encoder: SentenceTransformer) -> None:
    texts = {f"d{one}": text for one, text in enumerate(["A cat sits.", "Rain falls.", "He sings a song."])}
    queries = {f"q{one}": text for one, text in enumerate(texts.values())}
    relevant = {f"q{one}": {f"d{one}"} for one in range(3)}
    exact = InformationRetrievalEvaluator(queries, texts, relevant, **SMALL)
    assert exact(tiny_encoder)["cosine_accuracy@1"] == 1
    assert exact.primary_metric == "cosine_ndcg@4"
