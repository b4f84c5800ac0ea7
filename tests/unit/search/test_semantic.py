"""Exact search: equal to sorting all scores, with ties, in any blocks; what it takes, calls and refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops.similarity import cos_sim, dot_score, euclidean_sim, manhattan_sim, pytorch_cos_sim
from sentence_transformers.search import semantic
from sentence_transformers.search.semantic import information_retrieval, semantic_search

Ids = list[list[int]]
Score = Callable[[Tensor, Tensor], Tensor]


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def small_integers(count: int, width: int, seed: int = 0, high: int = 3) -> Tensor:
    """Their dot products are exact, and mostly equal to others."""
    return torch.randint(0, high, (count, width), generator=torch.Generator().manual_seed(seed)).float()


def slow_search(queries: Tensor, corpus: Tensor, top_k: int, is_cosine: bool) -> tuple[np.ndarray, Ids]:
    """All scores in float64, sorted by score, then by position."""
    left, right = queries.to_dense().double().numpy(), corpus.to_dense().double().numpy()
    if is_cosine:
        left = left / np.linalg.norm(left, axis=1, keepdims=True)
        right = right / np.linalg.norm(right, axis=1, keepdims=True)
    scores = left @ right.T
    ids = [sorted(range(len(right)), key=lambda at, line=line: (-line[at], at))[:top_k] for line in scores]
    return np.take_along_axis(scores, np.array(ids, dtype=np.int64), 1), ids


def ids_of(found: list[list[Any]]) -> Ids:
    return [[hit["corpus_id"] for hit in hits] for hits in found]


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and groups so small that a small corpus takes every path."""
    monkeypatch.setattr(semantic, "GROUP", 4)
    monkeypatch.setattr(semantic, "FIRST_ROWS", 8)
    monkeypatch.setattr(semantic, "BLOCK_ROWS", 32)
    monkeypatch.setattr(semantic, "BLOCK_SCORES", 32 * 5)


def test_hits_are_worked_out_by_hand() -> None:
    corpus = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
    found = semantic_search(torch.tensor([[2.0, 0.0]]), corpus, top_k=2)
    assert found == [[{"corpus_id": 0, "score": 1.0}, {"corpus_id": 1, "score": pytest.approx(0.6)}]]


@pytest.mark.parametrize("score", [cos_sim, pytorch_cos_sim, dot_score])
@pytest.mark.parametrize("top_k", [1, 10, 300, 5000])
def test_equals_sorting_all_scores(score: Score, top_k: int) -> None:
    queries, corpus = rows(7, 16), rows(5000, 16, seed=1)
    scores, ids = semantic_search(queries, corpus, top_k=top_k, score_function=score, as_arrays=True)
    expected, _ = slow_search(queries, corpus, top_k, score is not dot_score)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    every_score = score(queries, corpus).numpy()
    np.testing.assert_allclose(np.take_along_axis(every_score, ids, 1), scores, atol=1e-5)
    assert all(len(set(line)) == top_k for line in ids.tolist())


@pytest.mark.parametrize("top_k", [1, 3, 10, 40, 150, 203])
@pytest.mark.parametrize("chunks", [(100, 500000), (3, 7), (1, 1), (4, 64)])
@pytest.mark.parametrize("score", [dot_score, lambda a, b: a @ b.T])
@pytest.mark.usefixtures("tiny_blocks")
def test_equal_scores_come_in_the_order_of_the_corpus(top_k: int, chunks: tuple[int, int], score: Score) -> None:
    queries, corpus = small_integers(11, 3), small_integers(203, 3, seed=1)
    found = semantic_search(queries, corpus, *chunks, top_k, score)
    assert ids_of(found) == slow_search(queries, corpus, top_k, is_cosine=False)[1]


@pytest.mark.parametrize("top_k", [5, 2000])
def test_equal_scores_keep_their_order_in_blocks_of_the_real_size(top_k: int) -> None:
    queries, corpus = small_integers(3, 4), small_integers(9000, 4, seed=1)
    found = semantic_search(queries, corpus, top_k=top_k, score_function=dot_score)
    assert ids_of(found) == slow_search(queries, corpus, top_k, is_cosine=False)[1]


@pytest.mark.parametrize("value", [0.0, -torch.inf])
@pytest.mark.usefixtures("tiny_blocks")
def test_scores_that_are_all_equal_give_the_first_rows(value: float) -> None:
    found = semantic_search(rows(2, 3), rows(100, 3), top_k=4, score_function=lambda a, b: (a @ b.T).fill_(value))
    assert found == [[{"corpus_id": at, "score": value} for at in range(4)]] * 2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.usefixtures("tiny_blocks")
def test_a_corpus_sorted_by_score_is_searched_to_the_end(sign: int) -> None:
    corpus = sign * torch.arange(500.0)[:, None]
    best = list(range(499, 489, -1)) if sign == 1 else list(range(10))
    assert ids_of(semantic_search(torch.ones(1, 1), corpus, score_function=dot_score)) == [best]


@pytest.mark.parametrize("place", [0, 9, 31, 32, 99, 127, 128, 202])
@pytest.mark.usefixtures("tiny_blocks")
def test_the_best_row_is_found_wherever_it_lies(place: int) -> None:
    corpus = rows(203, 4).abs()
    corpus[place] = 100.0
    assert semantic_search(torch.ones(1, 4), corpus, top_k=1, score_function=dot_score)[0][0]["corpus_id"] == place


@pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (5, 11), (100, 20)])
@pytest.mark.usefixtures("tiny_blocks")
def test_chunk_sizes_do_not_change_the_hits(chunks: tuple[int, int]) -> None:
    queries, corpus = rows(9, 8), rows(60, 8, seed=1)
    assert ids_of(semantic_search(queries, corpus, *chunks)) == ids_of(semantic_search(queries, corpus))


def test_rows_of_almost_unit_length_are_scaled_like_others() -> None:
    corpus = rows(50, 8)
    corpus = corpus / corpus.norm(dim=1, keepdim=True) * torch.linspace(0.999, 1.001, 50)[:, None]
    queries = corpus[:3] * 5
    scores, _ = semantic_search(queries, corpus, as_arrays=True)
    np.testing.assert_allclose(scores, slow_search(queries, corpus, 10, is_cosine=True)[0], atol=1e-6)


def test_a_zero_row_scores_zero() -> None:
    found = semantic_search(torch.zeros(1, 2), torch.eye(2))
    assert found == [[{"corpus_id": 0, "score": 0.0}, {"corpus_id": 1, "score": 0.0}]]


def test_hits_are_plain_python_numbers() -> None:
    hit = semantic_search(rows(1, 4), rows(3, 4))[0][0]
    assert (list(hit), type(hit["corpus_id"]), type(hit["score"])) == (["corpus_id", "score"], int, float)


def test_arrays_hold_what_the_dicts_hold() -> None:
    queries, corpus = rows(5, 8), rows(40, 8, seed=1)
    scores, ids = semantic_search(queries, corpus, top_k=7, as_arrays=True)
    assert (scores.dtype, ids.dtype, scores.shape, ids.shape) == (np.float32, np.int64, (5, 7), (5, 7))
    found = semantic_search(queries, corpus, top_k=7)
    assert ids.tolist() == ids_of(found)
    assert scores.tolist() == [[hit["score"] for hit in hits] for hits in found]


def test_information_retrieval_is_the_same_function() -> None:
    assert information_retrieval is semantic_search


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda tensor: tensor,
    "array": lambda tensor: tensor.numpy(),
    "read-only array": lambda tensor: np.broadcast_to(tensor.numpy(), tensor.shape),
    "lists": lambda tensor: tensor.tolist(),
    "list of tensors": lambda tensor: list(tensor),
    "list of arrays": lambda tensor: list(tensor.numpy()),
    "COO": lambda tensor: tensor.to_sparse(),
    "CSR": lambda tensor: tensor.to_sparse_csr(),
    "list of COO": lambda tensor: [row.to_sparse() for row in tensor],
    "float64": lambda tensor: tensor.double(),
    "gradient": lambda tensor: tensor.clone().requires_grad_(),
    "columns first": lambda tensor: tensor.t().contiguous().t(),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("score", [cos_sim, dot_score])
@pytest.mark.parametrize("query_form", FORMS)
@pytest.mark.parametrize("corpus_form", FORMS)
def test_every_form_of_embeddings_gives_the_same_hits(score: Score, query_form: str, corpus_form: str) -> None:
    queries, corpus = rows(4, 9), rows(50, 9, seed=1)
    corpus = corpus * (corpus.abs() > 0.5)
    found = semantic_search(FORMS[query_form](queries), FORMS[corpus_form](corpus), score_function=score)
    assert ids_of(found) == ids_of(semantic_search(queries, corpus, score_function=score))


@pytest.mark.parametrize("score", [cos_sim, dot_score])
@pytest.mark.parametrize("chunks", [(100, 500000), (3, 7)])
@pytest.mark.usefixtures("tiny_blocks")
def test_sparse_rows_without_values_and_ties_are_searched_by_block(score: Score, chunks: tuple[int, int]) -> None:
    queries, corpus = small_integers(6, 5, high=2), small_integers(150, 5, seed=1, high=2)
    corpus[40:80] = 0
    found = semantic_search(queries.to_sparse(), corpus.to_sparse(), *chunks, 100, score)
    dense = semantic_search(queries, corpus, *chunks, 100, score)
    assert [[round(hit["score"], 5) for hit in hits] for hits in found] == [
        [round(hit["score"], 5) for hit in hits] for hits in dense
    ]
    if score is dot_score:
        assert found == dense


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    queries, corpus = rows(3, 32).to(dtype), rows(200, 32, seed=1).to(dtype)
    scores, ids = semantic_search(queries, corpus, as_arrays=True)
    expected, expected_ids = slow_search(queries, corpus, 10, is_cosine=True)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert ids.tolist() == expected_ids


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("score", [cos_sim, dot_score])
def test_small_integers_do_not_overflow(dtype: Any, score: Score) -> None:
    queries = np.array([[100, 100], [1, 127]], dtype=dtype)
    corpus = np.array([[127, 1], [100, 100], [0, 90]], dtype=dtype)
    scores, ids = semantic_search(queries, corpus, score_function=score, as_arrays=True)
    expected, expected_ids = slow_search(torch.tensor(queries), torch.tensor(corpus), 3, score is cos_sim)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert ids.tolist() == expected_ids


def test_float64_scores_stay_float64_in_the_dicts() -> None:
    found = semantic_search(torch.eye(1).double(), torch.eye(1).double() / 3, score_function=dot_score)
    assert found[0][0]["score"] == 1 / 3


def test_one_query_row_gives_one_list() -> None:
    assert ids_of(semantic_search(torch.tensor([0.0, 1.0]), torch.eye(2))) == [[1, 0]]


def test_embeddings_are_not_changed() -> None:
    queries, corpus = rows(3, 4), rows(30, 4, seed=1)
    copies = queries.clone(), corpus.clone()
    semantic_search(queries, corpus)
    assert_close((queries, corpus), copies, rtol=0, atol=0)


@pytest.mark.parametrize("score", [euclidean_sim, manhattan_sim])
@pytest.mark.usefixtures("tiny_blocks")
def test_distances_find_the_nearest(score: Score) -> None:
    queries, corpus = rows(4, 6), rows(90, 6, seed=1)
    best = score(queries, corpus).topk(5)
    found = semantic_search(queries, corpus, 3, 40, top_k=5, score_function=score)
    assert ids_of(found) == best.indices.tolist()
    assert_close(torch.tensor([[hit["score"] for hit in hits] for hits in found]), best.values)


def test_other_functions_get_chunks_of_the_given_sizes_as_they_are() -> None:
    calls = []

    def score(queries: Tensor, corpus: Tensor) -> Tensor:
        calls.append((tuple(queries.shape), tuple(corpus.shape), queries.dtype))
        return queries.float() @ corpus.float().T

    found = semantic_search(rows(3, 2).half(), rows(5, 2).half(), 2, 4, score_function=score)
    shapes = {((2, 2), (4, 2)), ((2, 2), (1, 2)), ((1, 2), (4, 2)), ((1, 2), (1, 2))}
    assert {call[:2] for call in calls} == shapes
    assert len(calls) == 4
    assert {call[2] for call in calls} == {torch.float16}
    assert [len(hits) for hits in found] == [5, 5, 5]


@pytest.mark.parametrize("form", [Tensor.numpy, Tensor.tolist, Tensor.double, Tensor.to_sparse, Tensor.int])
def test_other_functions_may_give_scores_in_any_form(form: Callable[[Tensor], Any]) -> None:
    queries, corpus = small_integers(2, 3), small_integers(8, 3, seed=1)
    found = semantic_search(queries, corpus, score_function=lambda a, b: form(a @ b.T))
    assert found == semantic_search(queries, corpus, score_function=dot_score)


def test_top_k_beyond_the_corpus_gives_every_row() -> None:
    assert [len(hits) for hits in semantic_search(rows(2, 3), rows(4, 3), top_k=9)] == [4, 4]


@pytest.mark.parametrize("corpus", [torch.zeros(0, 3), [], np.zeros((0, 3))])
def test_an_empty_corpus_gives_an_empty_list_for_each_query(corpus: Any) -> None:
    assert semantic_search(rows(2, 3), corpus) == [[], []]
    scores, ids = semantic_search(rows(2, 3), corpus, as_arrays=True)
    assert scores.shape == ids.shape == (2, 0)


@pytest.mark.parametrize("queries", [torch.zeros(0, 3), [], np.zeros((0, 3))])
def test_no_queries_give_no_lists(queries: Any) -> None:
    assert semantic_search(queries, rows(2, 3)) == []
    scores, ids = semantic_search(queries, rows(2, 3), as_arrays=True)
    assert (scores.shape, ids.shape, ids.dtype) == ((0, 2), (0, 2), np.int64)


def test_top_k_zero_gives_empty_lists() -> None:
    assert semantic_search(rows(2, 3), rows(4, 3), top_k=0) == [[], []]


@pytest.mark.parametrize("name", ["top_k", "query_chunk_size", "corpus_chunk_size"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", None, True])
def test_sizes_must_be_positive_integers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value!r}"):
        semantic_search(rows(2, 3), rows(4, 3), **{name: value})


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size"])
def test_a_chunk_of_zero_rows_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
        semantic_search(rows(2, 3), rows(4, 3), **{name: 0})


@pytest.mark.parametrize("shapes", [((2, 3), (4, 5)), ((3,), (4, 5)), ((1, 2, 3), (1, 4, 3)), ((2, 3), (4, 3, 3))])
@pytest.mark.parametrize("score", [cos_sim, dot_score])
def test_shapes_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...], ...], score: Score) -> None:
    with pytest.raises(ValueError, match=r"must be \(rows, width\) with the same width"):
        semantic_search(torch.zeros(shapes[0]), torch.zeros(shapes[1]), score_function=score)


def test_one_number_is_no_embedding() -> None:
    with pytest.raises(ValueError, match="got one number: 3.0"):
        semantic_search(torch.tensor(3.0), rows(2, 3))


def test_text_is_no_embedding() -> None:
    with pytest.raises(TypeError, match="got text"):
        semantic_search("text", rows(2, 3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("score", [cos_sim, dot_score, euclidean_sim])
@pytest.mark.parametrize("form", [Tensor.to_dense, Tensor.to_sparse, Tensor.half])
@pytest.mark.parametrize("side", ["query_embeddings", "corpus_embeddings"])
@pytest.mark.usefixtures("tiny_blocks")
def test_a_row_that_is_not_finite_is_named(value: float, score: Score, form: Any, side: str) -> None:
    embeddings = {"query_embeddings": rows(60, 3), "corpus_embeddings": rows(60, 3, seed=1)}
    embeddings[side][43, 1] = value
    with pytest.raises(ValueError, match=f"{side} must be finite, but row 43 has"):
        semantic_search(*map(form, embeddings.values()), score_function=score)


def test_large_finite_values_are_allowed() -> None:
    corpus = torch.tensor([[3e38, 3e38], [1.0, 0.0]])
    assert ids_of(semantic_search(torch.tensor([[1.0, 0.0]]), corpus, score_function=dot_score)) == [[0, 1]]


@pytest.mark.parametrize("place", [0, 50, 99])
@pytest.mark.usefixtures("tiny_blocks")
def test_scores_that_are_no_numbers_are_refused(place: int) -> None:
    def score(queries: Tensor, corpus: Tensor) -> Tensor:
        scores = queries @ corpus.T
        scores[:, place] = torch.nan
        return scores

    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        semantic_search(rows(2, 3), rows(100, 3), score_function=score)


@pytest.mark.parametrize("score", [lambda a, b: b @ a.T, lambda a, b: (a @ b.T)[0], lambda a, b: (a @ b.T)[:, :2]])
def test_scores_of_another_shape_are_refused(score: Score) -> None:
    with pytest.raises(ValueError, match=r"must give \(queries, corpus rows\) = \(2, 5\) scores"):
        semantic_search(rows(2, 3), rows(5, 3), score_function=score)


def test_no_product_is_larger_than_the_chunks_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    add = semantic._Best.add

    def spy(self: Any, scores: Tensor, first_id: int) -> None:
        sizes.append(scores.numel())
        add(self, scores, first_id)

    monkeypatch.setattr(semantic._Best, "add", spy)
    semantic_search(rows(50, 3), rows(300, 3), query_chunk_size=4, corpus_chunk_size=20)
    assert max(sizes) <= 80
    assert sum(sizes) == 50 * 300


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("top_k", [10, 500])
def test_a_gpu_gives_the_hits_of_the_cpu(top_k: int) -> None:
    queries, corpus = small_integers(20, 6), small_integers(200_000, 6, seed=1)
    found = semantic_search(queries, corpus.cuda(), top_k=top_k, score_function=dot_score)
    assert found == semantic_search(queries, corpus, top_k=top_k, score_function=dot_score)
