"""Evaluators of late interaction models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers import evaluation as dense
from sentence_transformers.evaluation import multi_vector
from sentence_transformers.evaluation.nano_beir import NanoData
from sentence_transformers.ops.late_scores import XTRKDScores, XTRScores, xtr_kd_scores, xtr_scores, xtr_scores_pairwise
from sentence_transformers.ops.maxsim import maxsim, mean_maxsim
from tests.unit.evaluation.ranking_models import Comparing

Retrieval = multi_vector.MultiVectorInformationRetrievalEvaluator
Reranking = multi_vector.MultiVectorRerankingEvaluator
Triplets = multi_vector.MultiVectorTripletEvaluator
Nano = multi_vector.MultiVectorNanoBEIREvaluator

TOKENS = {
    "a": [[1.0, 0.0], [0.0, 1.0]],
    "b": [[0.5, 0.5]],
    "c": [[1.0, 0.0], [0.2, 0.0], [0.0, 0.4]],
    "d": [[-1.0, 0.0], [0.0, -1.0]],
}


class Late(Comparing):
    """Gives lists of token vectors; remembers with which settings it compared them."""

    def __init__(self, tokens: dict[str, Any], similarity_fn_name: str = "maxsim") -> None:
        super().__init__(tokens, None, similarity_fn_name)
        self.compared: list[dict[str, Any]] = []

    def similarity(self, left: Any, right: Any, **settings: Any) -> Tensor:
        self.compared.append(settings)
        return (maxsim if self.similarity_fn_name == "maxsim" else mean_maxsim)(left, right, **settings)

    def _rows(self, method: str, table: Any, texts: Any, settings: dict[str, Any]) -> Any:
        self.calls.append((method, list(texts), settings))
        return [torch.tensor(table[text], dtype=torch.float64) for text in texts]


def one_token(count: int) -> dict[str, list[list[float]]]:
    """Texts of a single token: the sum over tokens of the largest product is the dot product."""
    return {f"t{row}": [some] for row, some in enumerate(np.random.default_rng(3).normal(size=(count, 6)).tolist())}


TEXTS = one_token(36)
FIRST, SECOND, THIRD = (list(TEXTS)[at : at + 12] for at in (0, 12, 24))
QUERIES = {f"q{row}": text for row, text in enumerate(FIRST)}
CORPUS = {f"d{row}": text for row, text in enumerate([*SECOND, *THIRD])}
RELEVANT = {f"q{row}": {f"d{row}", f"d{(5 * row) % 24}"} for row in range(12)}
SAMPLES = [
    {"query": one, "positive": [other], "negative": THIRD[: 1 + row % 4]}
    for row, (one, other) in enumerate(zip(FIRST, SECOND, strict=True))
]
SAME: list[tuple[str, dict[str, Any]]] = [
    ("InformationRetrievalEvaluator", {"queries": QUERIES, "corpus": CORPUS, "relevant_docs": RELEVANT}),
    ("TripletEvaluator", {"anchors": FIRST, "positives": SECOND, "negatives": THIRD}),
    ("RerankingEvaluator", {"samples": SAMPLES}),
]


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
@pytest.mark.parametrize(("name", "arguments"), SAME, ids=[name for name, _ in SAME])
def test_of_single_tokens_the_metrics_are_those_of_dot_products(
    name: str, arguments: dict[str, Any], similarity: str
) -> None:
    found = getattr(multi_vector, f"MultiVector{name}")(**arguments)(Late(TEXTS, similarity))
    if name == "RerankingEvaluator":
        arguments = {**arguments, "similarity_fct": None}
    vectors = {text: tokens[0] for text, tokens in TEXTS.items()}
    expected = getattr(dense, name)(**arguments)(Comparing(vectors, similarity_fn_name="dot"))
    assert found == pytest.approx({key.replace("dot_", f"{similarity}_"): value for key, value in expected.items()})


def test_triplets_equal_the_hand_values() -> None:
    # maxsim: a.b 1, a.c 1.4, b.a 0.5, b.c 0.5; divided by the tokens of the anchor: 0.5, 0.7, 0.5, 0.5
    triplets = ["a", "a", "b"], ["c", "b", "a"], ["b", "c", "c"]
    both = ["maxsim", "meanmaxsim"]
    found = Triplets(*triplets, similarity_fn_names=both, margin=0.3)(Late(TOKENS))
    third = pytest.approx(1 / 3)
    assert found == {"maxsim_accuracy": third, "meanmaxsim_accuracy": 0, "max_accuracy": third}
    assert Triplets(*triplets)(Late(TOKENS, "meanmaxsim")) == {"meanmaxsim_accuracy": third}


def test_a_search_equals_the_hand_values() -> None:
    # a: maxsim with b 1, c 1.4, d 0; b: a 0.5, c 0.5, d -0.5
    corpus = {"2": "b", "3": "c", "4": "d"}
    evaluator = Retrieval({"q": "a"}, corpus, {"q": {"2"}}, mrr_at_k=[3], accuracy_at_k=[1], precision_recall_at_k=[2])
    found = evaluator(Late(TOKENS))
    assert (found["maxsim_accuracy@1"], found["maxsim_mrr@3"], found["maxsim_recall@2"]) == (0, 0.5, 1)


@pytest.mark.parametrize("size", [1, 3, 7, 24])
def test_a_search_is_the_same_whatever_the_chunks(size: int) -> None:
    tokens = {text: np.random.default_rng(row).normal(size=(1 + row % 5, 4)).tolist() for row, text in enumerate(TEXTS)}
    expected = Retrieval(QUERIES, CORPUS, RELEVANT)(Late(tokens))
    model = Late(tokens)
    assert Retrieval(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=size)(model) == expected
    assert [len(texts) for method, texts, _ in model.calls if method == "encode_document"] == [
        min(size, 24 - at) for at in range(0, 24, size)
    ]


def test_equal_scores_are_ranked_by_the_ids_of_the_documents() -> None:
    corpus = {"z": "c", "b": "a", "a": "a"}  # query b: 0.5 with each
    assert Retrieval({"q": "b"}, corpus, {"q": {"a"}})(Late(TOKENS))["maxsim_accuracy@1"] == 1
    assert Retrieval({"q": "b"}, corpus, {"q": {"b"}}, corpus_chunk_size=1)(Late(TOKENS))["maxsim_mrr@10"] == 0.5


def test_chunk_elements_are_for_the_similarity_of_the_model() -> None:
    model = Late(TEXTS)
    expected = Retrieval(QUERIES, CORPUS, RELEVANT)(model)
    assert set(map(str, model.compared)) == {"{}"}
    model.compared.clear()
    assert Retrieval(QUERIES, CORPUS, RELEVANT, chunk_elements=5)(model) == expected
    assert model.compared and all(settings == {"chunk_elements": 5} for settings in model.compared)


def test_the_model_is_asked_for_token_vectors_as_they_are() -> None:
    model = Late(TEXTS)
    Retrieval(QUERIES, CORPUS, RELEVANT, query_prompt="Q: ", batch_size=4)(model)
    (_, _, settings), *_ = model.calls
    assert settings == {"batch_size": 4, "show_progress_bar": False, "prompt": "Q: ", "prompt_name": None}


def test_functions_get_lists_of_token_vectors() -> None:
    got = []

    def longest(queries: list[Tensor], documents: list[Tensor]) -> Tensor:
        got.append((queries, documents))
        return torch.tensor([[float(len(one)) for one in documents]] * len(queries))

    found = Retrieval({"q": "a"}, {"1": "b", "2": "c"}, {"q": {"2"}}, score_functions={"longest": longest})(
        Late(TOKENS)
    )
    assert found["longest_accuracy@1"] == 1
    assert all(isinstance(side, list) and side[0].dim() == 2 for call in got for side in call)


# --- what is refused


def refused(**options: Any) -> None:
    Retrieval(QUERIES, CORPUS, RELEVANT, **options)


@pytest.mark.parametrize(
    "build",
    [
        lambda width: Retrieval(QUERIES, CORPUS, RELEVANT, truncate_dim=width),
        lambda width: Triplets(FIRST, SECOND, THIRD, truncate_dim=width),
        lambda width: Nano(["nq"], truncate_dim=width),
    ],
)
def test_token_vectors_are_not_shortened(build: Callable[[int], Any]) -> None:
    with pytest.raises(ValueError, match="truncate_dim is not supported by evaluators of MultiVectorEncoder, got 8"):
        build(8)


def test_no_width_is_none() -> None:
    evaluator = Triplets(FIRST, SECOND, THIRD, truncate_dim=None)
    assert evaluator.truncate_dim is None
    assert evaluator.get_config_dict() == {}


@pytest.mark.parametrize(
    "function",
    [
        xtr_scores,
        xtr_kd_scores,
        xtr_scores_pairwise,
        XTRScores(),
        XTRKDScores(),
        partial(xtr_scores, top_k=3),
        partial(partial(XTRScores(), queries_mask=None)),
    ],
)
def test_xtr_is_refused_in_a_search(function: Any) -> None:
    with pytest.raises(ValueError, match=r"score_functions\['x'\] uses XTR scoring"):
        refused(score_functions={"maxsim": maxsim, "x": function})


def test_chunk_elements_without_effect_are_refused() -> None:
    with pytest.raises(ValueError, match=r"functools.partial\(maxsim, chunk_elements="):
        refused(score_functions={"maxsim": maxsim}, chunk_elements=9)
    with pytest.raises(ValueError, match="chunk_elements must be a positive integer"):
        refused(chunk_elements=0)


@pytest.mark.parametrize("options", [{"similarity_fn_names": ["cosine"]}, {"main_similarity_function": "dot"}])
def test_functions_of_whole_vectors_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected names in \['maxsim', 'meanmaxsim'\]"):
        Triplets(FIRST, SECOND, THIRD, **options)


# --- reranking


@pytest.mark.parametrize("most", [1, 4, 9, 5000])
def test_reranking_holds_few_texts_at_once_and_gives_the_same(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Reranking(SAMPLES, use_batched_encoding=False)(Late(TEXTS))
    monkeypatch.setattr(Reranking, "most_texts", most)
    model = Late(TEXTS)
    assert Reranking(SAMPLES)(model) == expected
    sizes = [len(texts) for method, texts, _ in model.calls if method == "encode_document"]
    largest = max(len(one["positive"]) + len(one["negative"]) for one in SAMPLES)
    assert max(sizes) <= max(most, largest)
    assert sum(sizes) == sum(1 + len(one["negative"]) for one in SAMPLES)


def test_reranking_may_compare_by_another_function_than_the_model() -> None:
    samples = [{"query": "b", "positive": ["d"], "negative": ["a"]}]  # -0.5 and 0.5
    assert Reranking(samples)(Late(TOKENS))["map"] == 0.5
    other = Reranking(samples, similarity_fct=lambda one, others: -maxsim(one, others))
    assert other(Late(TOKENS)) == {"map": 1, "mrr@10": 1, "ndcg@10": 1}


# --- NanoBEIR


def test_the_data_sets_of_nano_beir_are_searched_in_such_chunks() -> None:
    with patch.object(NanoData, "load", lambda dataset_id, split: NanoData(QUERIES, CORPUS, RELEVANT)):
        evaluator = Nano(["nq", "SciFact"], corpus_chunk_size=10, chunk_elements=7, aggregate_key="top")
    model = Late(TEXTS)
    found = evaluator(model)
    assert all(isinstance(one, Retrieval) and one.corpus_chunk_size == 10 for one in evaluator.evaluators)
    assert all(settings == {"chunk_elements": 7} for settings in model.compared)
    single = Retrieval(QUERIES, CORPUS, RELEVANT)(Late(TEXTS))
    assert {name.removeprefix("NanoBEIR_top_"): found[name] for name in found if "top" in name} == pytest.approx(single)
    assert evaluator.primary_metric == "NanoBEIR_top_maxsim_ndcg@10"


# --- arguments


def kinds(kind: type[Any]) -> dict[str, str]:
    return {one.name: one.kind.name for one in inspect.signature(kind).parameters.values()}


@pytest.mark.parametrize(("kind", "by_place"), [(Retrieval, 3), (Reranking, 1)])
def test_only_the_data_go_by_place(kind: type[Any], by_place: int) -> None:
    places = ["POSITIONAL_OR_KEYWORD"] * by_place
    found = list(kinds(kind).values())
    assert found == places + ["KEYWORD_ONLY"] * (len(found) - by_place)


def test_a_search_names_all_arguments_of_the_dense_one() -> None:
    own, base = inspect.signature(Retrieval).parameters, inspect.signature(dense.InformationRetrievalEvaluator)
    assert set(own) == {*base.parameters, "chunk_elements"}
    assert own["corpus_chunk_size"].default == 5000
    assert own["mrr_at_k"].default == base.parameters["mrr_at_k"].default


def test_nano_beir_takes_the_arguments_of_the_dense_one_by_place_and_two_by_name() -> None:
    own, base = kinds(Nano), kinds(dense.NanoBEIREvaluator)
    assert list(own) == [*base, "corpus_chunk_size", "chunk_elements"]
    assert [own["corpus_chunk_size"], own["chunk_elements"]] == ["KEYWORD_ONLY"] * 2
    assert own["dataset_names"] == "POSITIONAL_OR_KEYWORD"


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="bogus"):
        refused(bogus=1)
