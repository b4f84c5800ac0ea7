"""Scores to train late interaction with: recorded numbers, slow formulas in float64, gradients, memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops import late_scores as module
from sentence_transformers.ops.late_scores import (
    XTRKDScores,
    XTRScores,
    colbert_kd_scores,
    colbert_scores,
    colbert_scores_pairwise,
    mean_colbert_kd_scores,
    mean_colbert_scores,
    mean_colbert_scores_pairwise,
    xtr_kd_scores,
    xtr_scores,
    xtr_scores_pairwise,
)
from sentence_transformers.ops.maxsim import maxsim, maxsim_pairwise, warn_no_tokens

ALL = [colbert_scores, mean_colbert_scores, xtr_scores]
OWN = [colbert_kd_scores, mean_colbert_kd_scores, xtr_kd_scores]
PAIRS = [colbert_scores_pairwise, mean_colbert_scores_pairwise, xtr_scores_pairwise]
NOTHING = -1e9

QUERIES_MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
DOCUMENTS_MASK = torch.ones(2, 3, 5, dtype=torch.int64)
DOCUMENTS_MASK[0, 1, 3:] = 0
DOCUMENTS_MASK[1, 2] = 0


def wave(*shape: int, speed: float = 1.0) -> Tensor:
    return torch.sin(speed * torch.arange(1, math.prod(shape) + 1, dtype=torch.float32) ** 1.5).view(shape)


QUERIES, DOCUMENTS = wave(2, 3, 4), wave(2, 3, 5, 4, speed=0.7)


def random(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    queries, documents = torch.randn(3, 4, 8, generator=g), torch.randn(3, 2, 6, 8, generator=g)
    return queries, documents, torch.rand(3, 4, generator=g) < 0.8, torch.rand(3, 2, 6, generator=g) < 0.6


def products(query: Tensor, documents: Tensor) -> Any:
    return query.numpy().astype(np.float64) @ documents.numpy().astype(np.float64).T


def slow_colbert(queries: Tensor, documents: Tensor, queries_mask: Tensor, documents_mask: Tensor) -> Tensor:
    rows = []
    for query, real in zip(queries, queries_mask, strict=True):
        row = []
        for document, kept in zip(documents.flatten(0, 1), documents_mask.flatten(0, 1), strict=True):
            row.append(products(query[real], document[kept]).max(1).sum() if kept.any() else NOTHING)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


def slow_xtr(queries: Tensor, documents: Tensor, queries_mask: Tensor, documents_mask: Tensor, top_k: int) -> Tensor:
    flat, kept = documents.flatten(0, 1), documents_mask.flatten(0, 1)
    scores = torch.zeros(len(queries), len(flat))
    for i, query in enumerate(queries):
        found: list[list[float]] = [[] for _ in flat]  # for each document, its best product with every token
        for token in query[queries_mask[i]]:
            pool = [(p, at) for at in range(len(flat)) for p in products(token[None], flat[at][kept[at]])[0]]
            best: dict[int, float] = {}
            for product, at in sorted(pool, reverse=True)[:top_k]:
                best.setdefault(at, product)
            for at, product in best.items():
                found[at].append(product)
        for at, values in enumerate(found):
            scores[i, at] = sum(values) / max(1, len(values)) if kept[at].any() else NOTHING
    return scores


# --- numbers


def test_scores_equal_those_of_the_reference() -> None:
    given = QUERIES, DOCUMENTS, QUERIES_MASK, DOCUMENTS_MASK
    # recorded from reference 6.2.0
    recorded = [
        (
            colbert_scores(*given),
            [[3.48802, 1.17692, 4.43945, 4.67873, 3.59962, -1e9], [1.50458, 5.76868, 3.36748, 0.64269, 0.84214, -1e9]],
        ),
        (mean_colbert_kd_scores(*given), [[1.16267, 0.39231, 1.47982], [0.32134, 0.42107, -5e8]]),
        (
            xtr_scores(*given, top_k=6),
            [[1.16267, 0.76986, 1.93929, 1.55958, 1.19987, -1e9], [0.75229, 2.88434, 1.68374, 0.43819, 0.42107, -1e9]],
        ),
        (xtr_kd_scores(*given, top_k=4), [[1.16267, 0.0, 1.93929], [0.0, 0.0, -1e9]]),
        (xtr_scores_pairwise(QUERIES, DOCUMENTS[:, 0], top_k=3), [1.16267, 0.56517]),
        (
            colbert_scores_pairwise(QUERIES, DOCUMENTS[:, 0], QUERIES_MASK, DOCUMENTS_MASK[:, 0]),
            [3.48802, 0.64269],
        ),
    ]
    for scores, expected in recorded:
        assert_close(scores, torch.tensor(expected), atol=2e-5, rtol=0)


@pytest.mark.parametrize("chunk_elements", [None, 1, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_colbert_scores_equal_the_slow_formula(seed: int, chunk_elements: int | None) -> None:
    given = random(seed)
    result = colbert_scores(*given, chunk_elements=chunk_elements)
    assert result.shape == (3, 6)
    assert_close(result, slow_colbert(*given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk_elements", [None, 1, 200])
@pytest.mark.parametrize("top_k", [1, 3, 8, 256])
def test_xtr_scores_equal_the_slow_formula(top_k: int, chunk_elements: int | None) -> None:
    given = random(3)
    result = xtr_scores(*given, top_k=top_k, chunk_elements=chunk_elements)
    assert_close(result, slow_xtr(*given, top_k), atol=1e-5, rtol=1e-5)


def test_colbert_scores_equal_maxsim() -> None:
    queries, documents, _, _ = random(0)
    assert_close(colbert_scores(queries, documents), maxsim(queries, documents.flatten(0, 1)))
    pairs = documents[:, 0]
    assert_close(colbert_scores_pairwise(queries, pairs), maxsim_pairwise(queries, pairs))


@pytest.mark.parametrize("chunk_elements", [None, 1, 50])
@pytest.mark.parametrize(("every", "own"), list(zip(ALL, OWN, strict=True)))
def test_own_candidates_are_columns_of_all(
    every: Callable[..., Tensor], own: Callable[..., Tensor], chunk_elements: int | None
) -> None:
    given = random(4)
    columns = every(*given).view(3, 3, 2)
    assert_close(own(*given, chunk_elements=chunk_elements), columns[range(3), range(3)])


@pytest.mark.parametrize(("every", "pairs"), list(zip(ALL, PAIRS, strict=True)))
def test_pairs_are_the_diagonal(every: Callable[..., Tensor], pairs: Callable[..., Tensor]) -> None:
    queries, documents, queries_mask, documents_mask = random(5)
    expected = every(queries, documents[:, :1], queries_mask, documents_mask[:, :1]).diagonal()
    assert_close(pairs(queries, documents[:, 0], queries_mask, documents_mask[:, 0]), expected)


def test_the_mean_divides_by_the_query_tokens_that_count() -> None:
    given = random(6)
    tokens = given[2].sum(1, keepdim=True)
    assert_close(mean_colbert_scores(*given), colbert_scores(*given) / tokens)
    assert_close(colbert_scores(*given, length_normalize=True), mean_colbert_scores(*given))
    assert_close(mean_colbert_kd_scores(*given), colbert_kd_scores(*given) / tokens)


def test_xtr_leaves_what_no_token_retrieved_at_zero() -> None:
    query = torch.tensor([[[1.0, 0]]])
    documents = torch.tensor([[[[0.5, 0], [0.4, 0]], [[0.3, 0], [-0.2, 0]]]])
    assert_close(xtr_scores(query, documents, top_k=2), torch.tensor([[0.5, 0.0]]))
    assert_close(xtr_scores(query, documents, top_k=3), torch.tensor([[0.5, 0.3]]))


# --- masks


@pytest.mark.parametrize("score", ALL)
def test_rows_of_zeros_are_padding_where_there_is_no_mask(score: Callable[..., Tensor]) -> None:
    queries, documents = -QUERIES.abs(), DOCUMENTS.abs()  # a token of zeros would be the best of all
    padded = torch.cat([queries, queries * 0], 1), torch.cat([documents, documents * 0], 2)
    assert_close(score(*padded), score(queries, documents))


@pytest.mark.parametrize("score", ALL)
def test_queries_may_be_a_list_of_different_lengths(score: Callable[..., Tensor]) -> None:
    listed = score([QUERIES[0], QUERIES[1, :2].numpy()], DOCUMENTS)
    assert_close(listed, score(QUERIES, DOCUMENTS, queries_mask=QUERIES_MASK))


@pytest.mark.parametrize("score", ALL)
def test_one_query_may_be_a_matrix(score: Callable[..., Tensor]) -> None:
    assert_close(score(QUERIES[0], DOCUMENTS), score(QUERIES[:1], DOCUMENTS))


def test_documents_may_be_nested_lists() -> None:
    nested = [list(candidates.numpy()) for candidates in DOCUMENTS]
    assert_close(colbert_scores(QUERIES, nested), colbert_scores(QUERIES, DOCUMENTS))


@pytest.mark.parametrize("score", ALL)
def test_a_document_without_tokens_ranks_below_all(
    score: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    warn_no_tokens.cache_clear()
    with caplog.at_level(logging.WARNING):
        scores = score(QUERIES, DOCUMENTS, documents_mask=DOCUMENTS_MASK)
        score(QUERIES, DOCUMENTS, documents_mask=DOCUMENTS_MASK)
    assert bool((scores[:, 5] <= NOTHING / 3).all())
    assert bool((scores[:, :5] > -100).all())
    assert len(caplog.records) == 1  # once, not once a call


@pytest.mark.parametrize("score", ALL)
def test_no_tokens_and_no_items_give_no_error(score: Callable[..., Tensor]) -> None:
    assert bool((score(QUERIES, DOCUMENTS[:, :, :0]) <= NOTHING / 3).all())
    assert score(QUERIES[:0], DOCUMENTS).shape == (0, 6)
    assert score(QUERIES, DOCUMENTS[:0]).shape == (2, 0)


@pytest.mark.parametrize("score", ALL)
def test_a_query_without_tokens_scores_zero(score: Callable[..., Tensor]) -> None:
    assert score(QUERIES, DOCUMENTS, queries_mask=QUERIES_MASK * 0).tolist() == [[0.0] * 6] * 2


@pytest.mark.parametrize("score", ALL)
def test_a_query_mask_weights_tokens(score: Callable[..., Tensor]) -> None:
    halved = score(QUERIES, DOCUMENTS, queries_mask=QUERIES_MASK * 0.5)
    assert_close(halved, score(QUERIES, DOCUMENTS, queries_mask=QUERIES_MASK) / 2)


# --- gradients, types, memory


@pytest.mark.parametrize("score", [*ALL, *OWN])
def test_gradients_equal_finite_differences(score: Callable[..., Tensor]) -> None:
    queries, documents, queries_mask, documents_mask = random(7)
    documents_mask[..., 0] = True
    queries, documents = queries.double().requires_grad_(), documents.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, d: score(q, d, queries_mask, documents_mask, chunk_elements=200), (queries, documents)
    )


@pytest.mark.parametrize("score", ALL)
def test_gradients_are_finite_where_everything_is_masked(score: Callable[..., Tensor]) -> None:
    queries, documents = QUERIES.clone().requires_grad_(), DOCUMENTS.clone().requires_grad_()
    score(queries, documents, QUERIES_MASK * 0, DOCUMENTS_MASK * 0).sum().backward()
    assert bool((queries.grad == 0).all()) and bool((documents.grad == 0).all())


@pytest.mark.parametrize("score", ALL)
def test_half_precision_is_summed_in_float32(score: Callable[..., Tensor]) -> None:
    half = score(QUERIES.bfloat16(), DOCUMENTS.bfloat16())
    assert half.dtype == torch.float32
    assert_close(half, score(QUERIES, DOCUMENTS), atol=0.05, rtol=0.05)


def test_the_backward_pass_keeps_no_products() -> None:
    kept: list[int] = []

    def watched(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    queries, documents = torch.randn(8, 8, 2).requires_grad_(), torch.randn(8, 1, 64, 2).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(watched, lambda tensor: tensor):
        colbert_scores(queries, documents)
    assert kept and max(kept) < 8 * 8 * 8 * 64


@pytest.mark.parametrize("score", [*ALL, *OWN])
def test_memory_is_bounded_by_chunk_elements(score: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    fill = Tensor.masked_fill

    def watched(tensor: Tensor, *rest: Any) -> Tensor:
        sizes.append(tensor.numel())
        return fill(tensor, *rest)

    monkeypatch.setattr(Tensor, "masked_fill", watched)
    score(torch.ones(6, 4, 2), torch.ones(6, 2, 5, 2), chunk_elements=480)
    assert 100 < max(sizes) <= 480


# --- objects and errors


def test_the_objects_call_the_functions() -> None:
    given = random(8)
    assert_close(XTRScores(5)(*given), xtr_scores(*given, top_k=5))
    assert_close(XTRKDScores(5, chunk_elements=7)(*given), xtr_kd_scores(*given, top_k=5))
    assert XTRScores().get_config_dict() == {"top_k": 256, "chunk_elements": None}
    assert XTRKDScores(3, chunk_elements=5).get_config_dict() == {"top_k": 3, "chunk_elements": 5}


@pytest.mark.parametrize("make", [XTRScores, XTRKDScores, lambda k: xtr_scores(QUERIES, DOCUMENTS, top_k=k)])
def test_top_k_must_be_positive(make: Callable[[int], Any]) -> None:
    with pytest.raises(ValueError, match="top_k must be a positive integer, got 0"):
        make(0)


@pytest.mark.parametrize("score", [*OWN, *PAIRS])
def test_unequal_numbers_are_an_error(score: Callable[..., Tensor]) -> None:
    documents = DOCUMENTS if score in OWN else DOCUMENTS[:, 0]
    with pytest.raises(ValueError, match="same number of items to score as pairs, got 1 and 2"):
        score(QUERIES[:1], documents)


def test_a_wrong_number_of_dimensions_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"documents_embeddings must be \(queries, candidates, tokens, width\)"):
        colbert_scores(QUERIES, DOCUMENTS[:, 0])
    with pytest.raises(ValueError, match=r"documents_embeddings must be \(items, tokens, width\)"):
        colbert_scores_pairwise(QUERIES, DOCUMENTS)


def test_unequal_widths_are_an_error() -> None:
    with pytest.raises(ValueError, match="one width, got 3 and 4"):
        colbert_scores(QUERIES[..., :3], DOCUMENTS)


def test_a_mask_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"queries_mask must have the shape .*\(2, 3\); got \(1, 3\)"):
        colbert_scores(QUERIES, DOCUMENTS, queries_mask=QUERIES_MASK[:1])


def test_the_default_block_is_that_of_maxsim(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def budget(*given: Any) -> int:
        asked.append(given)
        return 10

    monkeypatch.setattr(module, "element_budget", budget)
    colbert_scores(QUERIES, DOCUMENTS)
    assert asked == [(None, torch.device("cpu"))]
