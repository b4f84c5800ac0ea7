"""Evaluators of sparse encoders: the dense ones' metrics, without dense embeddings, and how sparse these are."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers import evaluation as dense
from sentence_transformers.evaluation import sparse
from sentence_transformers.evaluation.nano_beir import NanoData
from sentence_transformers.evaluation.sparse import SearchCostObserver, SparsityObserver
from tests.unit.evaluation.ranking_models import Comparing

Table = Mapping[str, Sequence[float]]

# active dimensions: 2, 1, 3, 4, 0
VECTORS = {
    "a": [1.0, 2.0, 0.0, 0.0],
    "b": [0.0, 0.0, 3.0, 0.0],
    "c": [1.0, 4.0, 0.0, 2.0],
    "d": [1.0, 1.0, 1.0, 1.0],
    "e": [0.0, 0.0, 0.0, 0.0],
}
FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]
STATISTICS = ("active_dims", "sparsity_ratio", "avg_flops")


class Sparse(Comparing):
    """Gives the vectors of a table as a sparse tensor."""

    def __init__(self, vectors: Table, queries: Table | None = None, similarity_fn_name: str = "dot") -> None:
        super().__init__(vectors, queries, similarity_fn_name)

    def _rows(self, method: str, table: Table, texts: Any, settings: dict[str, Any]) -> Any:
        self.calls.append((method, list(texts), settings))
        rows = torch.tensor([list(table[text]) for text in texts], dtype=torch.float32).reshape(len(texts), -1)
        if settings["max_active_dims"] is not None:
            places = rows.topk(settings["max_active_dims"], dim=1).indices
            rows = torch.zeros_like(rows).scatter(1, places, rows.gather(1, places))
        assert settings["convert_to_tensor"]
        return rows.to_sparse() if settings["convert_to_sparse_tensor"] else rows


def random_texts(count: int, width: int = 40) -> dict[str, list[float]]:
    """Vectors with a quarter of their values above 0."""
    values = np.random.default_rng(count).normal(size=(count, width))
    return {f"t{row}": np.where(some > 0.67, some, 0).astype(np.float32).tolist() for row, some in enumerate(values)}


TEXTS = random_texts(36)
FIRST, SECOND, THIRD = (list(TEXTS)[at : at + 12] for at in (0, 12, 24))
QUERIES = {f"q{row}": text for row, text in enumerate(FIRST)}
CORPUS = {f"d{row}": text for row, text in enumerate([*SECOND, *THIRD])}
RELEVANT = {f"q{row}": {f"d{row}", f"d{(5 * row) % 24}"} for row in range(12)}
SAMPLES = [
    {"query": one, "positive": [other], "negative": THIRD[: 1 + row % 4]}
    for row, (one, other) in enumerate(zip(FIRST, SECOND, strict=True))
]
# the same of both kinds: name without "Sparse", arguments
SAME: list[tuple[str, dict[str, Any]]] = [
    (
        "EmbeddingSimilarityEvaluator",
        {"sentences1": FIRST, "sentences2": SECOND, "scores": range(12), "similarity_fn_names": FUNCTIONS},
    ),
    (
        "BinaryClassificationEvaluator",
        {"sentences1": FIRST, "sentences2": SECOND, "labels": [0, 1] * 6, "similarity_fn_names": FUNCTIONS},
    ),
    (
        "TripletEvaluator",
        {"anchors": FIRST, "positives": SECOND, "negatives": THIRD, "similarity_fn_names": FUNCTIONS, "margin": 0.1},
    ),
    ("TranslationEvaluator", {"source_sentences": [*FIRST, FIRST[0]], "target_sentences": [*SECOND, FIRST[0]]}),
    (
        "InformationRetrievalEvaluator",
        {"queries": QUERIES, "corpus": CORPUS, "relevant_docs": RELEVANT, "corpus_chunk_size": 7},
    ),
    ("RerankingEvaluator", {"samples": SAMPLES}),
]


@pytest.mark.parametrize(("name", "arguments"), SAME, ids=[name for name, _ in SAME])
def test_metrics_are_those_of_the_dense_evaluator_on_dense_embeddings(name: str, arguments: dict[str, Any]) -> None:
    expected = getattr(dense, name)(**arguments)(Comparing(TEXTS, similarity_fn_name="dot"))
    evaluator = getattr(sparse, f"Sparse{name}")(**arguments)
    found = evaluator(Sparse(TEXTS))
    assert {key: value for key, value in found.items() if not key.endswith(STATISTICS)} == pytest.approx(expected)
    assert any(key.endswith("active_dims") for key in found)
    assert evaluator.primary_metric in expected


@pytest.mark.parametrize(("name", "arguments"), SAME, ids=[name for name, _ in SAME])
def test_no_embeddings_are_made_dense(name: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, widths = Sparse(TEXTS), []
    made = {text: row.to_sparse() for text, row in zip(TEXTS, torch.tensor(list(TEXTS.values())), strict=True)}
    monkeypatch.setattr(model, "_rows", lambda method, table, texts, settings: torch.stack([made[t] for t in texts]))
    to_dense = Tensor.to_dense

    def watched(tensor: Tensor, *options: Any, **more: Any) -> Tensor:
        widths.append(tensor.shape[-1])
        return to_dense(tensor, *options, **more)

    monkeypatch.setattr(Tensor, "to_dense", watched)
    getattr(sparse, f"Sparse{name}")(**arguments)(model)
    assert 40 not in widths


def test_the_difference_of_sparse_student_and_teacher_is_the_mean_over_all_values() -> None:
    teacher = {"x": [0.0, 2.0, 0.0, 0.0], "y": [0.0, 0.0, 0.0, 0.0]}
    evaluator = sparse.SparseMSEEvaluator(["x", "y"], ["a", "b"], Sparse(teacher))
    # differences 1, 0 and -3 of 8 values
    found = evaluator(Sparse(VECTORS))
    assert found == {"negative_mse": pytest.approx(-125), "active_dims": 1.5, "sparsity_ratio": 1 - 1.5 / 4}


# --- statistics


def test_pairs_tell_the_mean_of_all_texts_of_both_columns() -> None:
    arguments = (["a", "a", "c"], ["b", "d", "e"], [0.1, 0.2, 0.3])  # 2, 2, 3 and 1, 4, 0
    found = sparse.SparseEmbeddingSimilarityEvaluator(*arguments, name="dev")(Sparse(VECTORS))
    assert found["dev_active_dims"] == pytest.approx(2)
    assert found["dev_sparsity_ratio"] == pytest.approx(0.5)


def test_a_classification_tells_the_mean_of_distinct_texts() -> None:
    found = sparse.SparseBinaryClassificationEvaluator(["a", "a", "c"], ["b", "a", "c"], [0, 1, 1])(Sparse(VECTORS))
    assert found["active_dims"] == pytest.approx((2 + 1 + 3) / 3)
    assert found["sparsity_ratio"] == pytest.approx(0.5)


def test_a_translation_tells_the_mean_of_sources_and_targets() -> None:
    found = sparse.SparseTranslationEvaluator(["a", "a", "b"], ["c", "c", "d"])(Sparse(VECTORS))
    assert found["active_dims"] == pytest.approx((2 + 2 + 1 + 3 + 3 + 4) / 6)


def test_triplets_tell_the_means_of_each_column(tmp_path: Path) -> None:
    evaluator = sparse.SparseTripletEvaluator(["a", "b"], ["c", "c"], ["d", "e"])
    found = evaluator(Sparse(VECTORS), str(tmp_path))
    expected = {
        "anchor_active_dims": 1.5,
        "anchor_sparsity_ratio": 1 - 1.5 / 4,
        "positive_active_dims": 3,
        "positive_sparsity_ratio": 0.25,
        "negative_active_dims": 2,
        "negative_sparsity_ratio": 0.5,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    with (tmp_path / evaluator.csv_file).open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "steps", "accuracy_dot", *expected]
    assert [float(cell) for cell in rows[1][3:]] == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_search_tells_the_same_whatever_the_chunks(size: int) -> None:
    corpus = {"1": "a", "2": "c", "3": "e", "4": "b", "5": "a"}
    evaluator = sparse.SparseInformationRetrievalEvaluator(
        {"q": "c", "r": "b"}, corpus, {"q": {"1"}, "r": {"4"}}, corpus_chunk_size=size
    )
    found = evaluator(Sparse(VECTORS))
    # how often queries use the dimensions: 1/2, 1/2, 1/2, 1/2; documents: 3/5, 3/5, 1/5, 1/5
    expected = {
        "query_active_dims": 2,
        "query_sparsity_ratio": 0.5,
        "corpus_active_dims": 8 / 5,
        "corpus_sparsity_ratio": 1 - 8 / 20,
        "avg_flops": 0.5 * 8 / 5,
    }
    assert list(found)[-5:] == list(expected)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_avg_flops_is_the_mean_number_of_products_that_are_not_zero() -> None:
    observer = SearchCostObserver()
    sides = [torch.tensor(list(TEXTS.values()))[some] for some in (slice(10), slice(10, 36))]
    for role, rows in zip(("query", "corpus"), sides, strict=True):
        observer.see(role, rows.to_sparse())
    counts = [int(((one != 0) & (other != 0)).sum()) for one in sides[0] for other in sides[1]]
    assert observer.statistics()["avg_flops"] == pytest.approx(sum(counts) / len(counts))


def test_stored_zeros_do_not_count() -> None:
    observer = SparsityObserver()
    rows = torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [0, 2]]), torch.tensor([1.0, 0.0]), (1, 4), check_invariants=True
    )
    observer.see("query", rows.coalesce())
    assert observer.statistics()["query_active_dims"] == 1


def test_an_empty_corpus_has_no_active_dimensions() -> None:
    found = sparse.SparseInformationRetrievalEvaluator({"q": "a"}, {}, {"q": {"gone"}})(Sparse(VECTORS))
    assert (found["corpus_active_dims"], found["corpus_sparsity_ratio"], found["avg_flops"]) == (0, 1, 0)
    assert found["query_active_dims"] == 2


@pytest.mark.parametrize("is_batched", [True, False])
def test_reranking_tells_the_means_of_all_queries_and_candidates(is_batched: bool) -> None:
    samples = [
        {"query": "a", "positive": ["c"], "negative": ["e"]},
        {"query": "d", "positive": ["c"], "negative": ["b", "b", "e"]},
    ]
    evaluator = sparse.SparseRerankingEvaluator(samples, use_batched_encoding=is_batched)
    found = evaluator(Sparse(VECTORS))
    assert found["query_active_dims"] == pytest.approx(3)
    assert found["corpus_active_dims"] == pytest.approx((3 + 0 + 3 + 1 + 1 + 0) / 6)
    assert "avg_flops" not in found


def test_the_data_sets_of_nano_beir_are_told_of_as_one() -> None:
    data = {
        "NanoNQ": NanoData({"q": "a"}, {"1": "a", "2": "b", "3": "e"}, {"q": {"1"}}),
        "NanoSciFact": NanoData({"q": "b", "r": "d", "s": "b"}, {"1": "d"}, {"q": {"1"}, "r": {"1"}, "s": {"1"}}),
    }
    with patch.object(NanoData, "load", lambda dataset_id, split: data[split]):
        evaluator = sparse.SparseNanoBEIREvaluator(["nq", "scifact"], max_active_dims=3)
    found = evaluator(Sparse(VECTORS))
    assert found["NanoNQ_3_query_active_dims"] == 2
    assert found["NanoSciFact_3_query_active_dims"] == pytest.approx((1 + 3 + 1) / 3)
    assert found["NanoBEIR_mean_3_query_active_dims"] == pytest.approx((2 + 1 + 3 + 1) / 4)
    assert found["NanoBEIR_mean_3_corpus_active_dims"] == pytest.approx((2 + 1 + 0 + 3) / 4)
    assert evaluator.primary_metric == "NanoBEIR_mean_3_dot_ndcg@10"
    assert evaluator.get_config_dict()["max_active_dims"] == 3


# --- arguments

KINDS = [getattr(sparse, f"Sparse{name}") for name, _ in SAME] + [
    sparse.SparseMSEEvaluator,
    sparse.SparseNanoBEIREvaluator,
]


@pytest.mark.parametrize("kind", KINDS)
def test_max_active_dims_stands_in_the_place_of_truncate_dim(kind: type[Any]) -> None:
    own = inspect.signature(kind).parameters
    base = inspect.signature(getattr(dense, kind.__name__.removeprefix("Sparse"))).parameters
    names = ["max_active_dims" if name == "truncate_dim" else name for name in base if name != "precision"]
    assert list(own) == names
    assert [one.default for one in own.values()] == [one.default for name, one in base.items() if name != "precision"]


def test_arguments_go_by_place_as_well_as_by_name() -> None:
    given = (["a"], ["b"], [1.0], 8, "dot", ["cosine"], "dev", True, False, 3)
    evaluator = sparse.SparseEmbeddingSimilarityEvaluator(*given)
    assert (evaluator.batch_size, evaluator.name, evaluator.write_csv) == (8, "dev", False)
    assert (evaluator.max_active_dims, evaluator.truncate_dim, evaluator.precision) == (3, None, None)
    assert evaluator.similarity_fn_names == ["cosine", "dot"]


@pytest.mark.parametrize("name", ["truncate_dim", "precision"])
def test_what_only_dense_evaluators_take_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        sparse.SparseEmbeddingSimilarityEvaluator(["a"], ["b"], [1.0], **{name: None})


def test_a_missing_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'sentences2'"):
        sparse.SparseEmbeddingSimilarityEvaluator(["a"])


def test_no_active_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="max_active_dims must be a positive integer"):
        sparse.SparseTranslationEvaluator(["a"], ["b"], max_active_dims=0)


def test_the_model_is_asked_for_sparse_tensors_on_the_cpu_with_so_many_dimensions() -> None:
    model, teacher = Sparse(VECTORS), Sparse(VECTORS)
    found = sparse.SparseMSEEvaluator(["d"], ["c"], teacher, max_active_dims=2)(model)
    expected = {"convert_to_tensor": True, "convert_to_sparse_tensor": True, "save_to_cpu": True, "max_active_dims": 2}
    for one in (model, teacher):
        ((_, _, settings),) = one.calls
        assert settings.items() >= expected.items()
    assert found["active_dims"] == 2


@pytest.mark.parametrize(("name", "arguments"), SAME, ids=[name for name, _ in SAME])
def test_settings_show_the_active_dimensions(name: str, arguments: dict[str, Any]) -> None:
    build: Callable[..., Any] = getattr(sparse, f"Sparse{name}")
    shown = build(**arguments, max_active_dims=4).get_config_dict()
    assert json.loads(json.dumps(shown))["max_active_dims"] == 4
    assert "max_active_dims" not in build(**arguments).get_config_dict()


def test_examples_make_an_evaluator_with_active_dimensions() -> None:
    examples = [type("Example", (), {"texts": ["a", "b", "c"], "label": 1})]
    evaluator = sparse.SparseTripletEvaluator.from_input_examples(examples, max_active_dims=2)
    assert (evaluator.anchors, evaluator.max_active_dims) == (["a"], 2)
