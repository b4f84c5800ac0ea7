"""Late interaction scores: hand values, a slow formula, masks, padding, and memory blocks."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from sentence_transformers.ops import maxsim as module
from sentence_transformers.ops.maxsim import maxsim, maxsim_pairwise, mean_maxsim, mean_maxsim_pairwise

QUERIES = [torch.tensor([[1.0, 2], [3, -1]]), torch.tensor([[0.5, 0.5]])]
DOCUMENTS = [
    torch.tensor([[1.0, 1], [-1, 2]]),
    torch.tensor([[2.0, 0]]),
    torch.tensor([[0.0, -1], [1, 0.5], [-3, 1]]),
]


def items(lengths: list[int], seed: int, width: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, width, generator=generator) for length in lengths]


def slow(queries: list[Tensor], documents: list[Tensor]) -> Tensor:
    scores = np.zeros((len(queries), len(documents)))
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            products = query.numpy().astype(np.float64) @ document.numpy().astype(np.float64).T
            scores[i, j] = sum(row.max() for row in products)
    return torch.tensor(scores, dtype=torch.float32)


def test_maxsim_equals_the_recorded_scores() -> None:
    # recorded from reference 6.2.0
    assert_close(maxsim(QUERIES, DOCUMENTS), torch.tensor([[5.0, 8.0, 4.5], [1.0, 1.0, 0.75]]))
    assert_close(mean_maxsim(QUERIES, DOCUMENTS), torch.tensor([[2.5, 4.0, 2.25], [1.0, 1.0, 0.75]]))
    assert_close(maxsim_pairwise(QUERIES, DOCUMENTS[:2]), torch.tensor([5.0, 1.0]))
    assert_close(mean_maxsim_pairwise(QUERIES, DOCUMENTS[:2]), torch.tensor([2.5, 1.0]))


@pytest.mark.parametrize("chunk_elements", [None, 1, 17, 300])
def test_maxsim_equals_the_slow_formula_whatever_the_block(chunk_elements: int | None) -> None:
    queries, documents = items([3, 1, 7, 3, 2], 0), items([4, 9, 1, 4, 2, 30, 9], 1)
    result = maxsim(queries, documents, chunk_elements=chunk_elements)
    assert_close(result, slow(queries, documents), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk_elements", [None, 1, 17])
@pytest.mark.parametrize("lengths", [[4, 9, 1, 4, 2], [3, 3, 3, 3, 3]])
def test_pairwise_is_the_diagonal(chunk_elements: int | None, lengths: list[int]) -> None:
    queries, documents = items([3, 3, 2, 3, 3], 0), items(lengths, 1)
    expected = slow(queries, documents).diagonal()
    assert_close(maxsim_pairwise(queries, documents, chunk_elements=chunk_elements), expected, atol=1e-5, rtol=1e-5)
    tokens = torch.tensor([3, 3, 2, 3, 3])
    assert_close(mean_maxsim_pairwise(queries, documents), expected / tokens, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing() -> None:
    queries, documents = items([3, 1, 5], 0), items([4, 9, 1], 1)
    padded = pad_sequence(queries, batch_first=True), pad_sequence(documents, batch_first=True)
    assert_close(maxsim(*padded), maxsim(queries, documents))
    assert_close(mean_maxsim(*padded), mean_maxsim(queries, documents))
    assert_close(maxsim_pairwise(*padded), maxsim_pairwise(queries, documents))


def test_arrays_and_nested_lists_will_do() -> None:
    expected = maxsim(QUERIES, DOCUMENTS)
    assert_close(maxsim([q.numpy() for q in QUERIES], [d.tolist() for d in DOCUMENTS]), expected)
    documents = np.empty(3, dtype=object)
    documents[:] = [d.numpy() for d in DOCUMENTS]
    assert_close(maxsim(QUERIES, documents), expected)


def test_a_matrix_is_one_item() -> None:
    assert_close(maxsim(QUERIES[0], DOCUMENTS), maxsim(QUERIES, DOCUMENTS)[:1])
    assert maxsim_pairwise(QUERIES[0].numpy(), DOCUMENTS[0]).shape == (1,)


def test_masked_tokens_do_not_count() -> None:
    tokens = torch.stack(items([4, 4], 0))
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]])
    kept = [tokens[0, [0, 2]], tokens[1, 1:]]
    other = items([3, 2], 1)
    assert_close(maxsim(tokens, other, a_mask=mask), maxsim(kept, other))
    assert_close(maxsim(other, tokens, b_mask=mask.bool()), maxsim(other, kept))
    assert_close(mean_maxsim(tokens, other, a_mask=mask), mean_maxsim(kept, other))
    assert_close(maxsim_pairwise(other, list(tokens), b_mask=list(mask)), maxsim_pairwise(other, kept))


def test_a_mask_of_a_list_may_be_padded() -> None:
    mask = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 1]])
    kept = [DOCUMENTS[0][:1], DOCUMENTS[1], DOCUMENTS[2][1:]]
    assert_close(maxsim(QUERIES, DOCUMENTS, b_mask=mask), maxsim(QUERIES, kept))


def test_zero_rows_are_padding_in_a_padded_tensor_but_tokens_in_a_list() -> None:
    document, query = torch.tensor([[1.0, 1], [0, 0]]), [torch.tensor([[-1.0, -1]])]
    assert maxsim(query, document[None]).item() == -2.0
    assert maxsim(query, [document]).item() == 0.0
    assert maxsim(query, document[None], b_mask=torch.ones(1, 2)).item() == 0.0


def test_a_document_without_tokens_ranks_below_all(caplog: pytest.LogCaptureFixture) -> None:
    module.warn_no_tokens.cache_clear()
    documents = [DOCUMENTS[0], torch.zeros(0, 2)]
    with caplog.at_level(logging.WARNING):
        assert maxsim(QUERIES, documents)[:, 1].tolist() == [-1e9, -1e9]
        assert mean_maxsim(QUERIES, documents)[:, 1].tolist() == [-5e8, -1e9]
        assert mean_maxsim_pairwise(QUERIES, documents[::-1])[0].item() == -5e8
    assert len(caplog.records) == 1  # once, not once a call
    assert "without any scoreable token" in caplog.text


def test_a_query_without_tokens_scores_zero() -> None:
    queries = [torch.zeros(0, 2), QUERIES[0]]
    assert maxsim(queries, DOCUMENTS)[0].tolist() == [0.0, 0.0, 0.0]
    assert mean_maxsim(queries, DOCUMENTS)[0].tolist() == [0.0, 0.0, 0.0]
    assert maxsim_pairwise(queries, DOCUMENTS[:2])[0].item() == 0.0


def test_no_items_give_no_scores() -> None:
    assert maxsim([], DOCUMENTS).shape == (0, 3)
    assert maxsim(QUERIES, []).shape == (2, 0)
    assert maxsim([], []).shape == (0, 0)
    assert maxsim_pairwise([], []).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_on_the_cpu(dtype: torch.dtype) -> None:
    queries, documents = ([item.to(dtype) for item in items([3, 5], seed)] for seed in (0, 1))
    expected = maxsim([q.float() for q in queries], [d.float() for d in documents])
    assert_close(maxsim(queries, documents), expected)


def test_float64_stays_float64() -> None:
    doubles = [q.double() for q in QUERIES]
    assert maxsim(doubles, DOCUMENTS).dtype == torch.float64
    assert maxsim_pairwise(doubles, DOCUMENTS[:2]).dtype == torch.float64


def test_gradients_go_to_the_best_tokens() -> None:
    query = torch.tensor([[1.0, 0], [0, 1]])
    document = torch.tensor([[2.0, 0], [0, 3], [1, 1]], requires_grad=True)
    maxsim([query], [document]).sum().backward()
    assert_close(document.grad, torch.tensor([[1.0, 0], [0, 1], [0, 0]]))


def test_memory_is_bounded_by_chunk_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    best = module._best_products

    def watched(query: Tensor, documents: list[Tensor], *rest: object) -> Tensor:
        sizes.append(len(query) * sum(len(document) for document in documents))
        return best(query, documents, *rest)

    monkeypatch.setattr(module, "_best_products", watched)
    maxsim(items([4] * 20, 0), items([5] * 50, 1), chunk_elements=400)
    assert max(sizes) <= 400
    assert sum(sizes) == 80 * 250  # every product once


def test_unequal_numbers_of_pairs_are_an_error() -> None:
    with pytest.raises(ValueError, match="same number of items to score as pairs, got 2 and 3"):
        maxsim_pairwise(QUERIES, DOCUMENTS)


def test_unequal_widths_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"widths \[2, 5\]"):
        maxsim(QUERIES, [torch.ones(2, 5)])


def test_a_mask_that_does_not_fit_is_an_error() -> None:
    padded = pad_sequence(DOCUMENTS, batch_first=True)
    with pytest.raises(ValueError, match="`b_mask` covers 2 tokens, but the padded embeddings have 3"):
        maxsim(QUERIES, padded, b_mask=torch.ones(3, 2))
    with pytest.raises(ValueError, match="one row for each of the 3 items of `b`, got 2"):
        maxsim(QUERIES, padded, b_mask=torch.ones(2, 3))


def test_a_vector_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Item 0 of `a` must be \(tokens, width\), got shape \(2,\)"):
        maxsim(torch.ones(2), DOCUMENTS)
    with pytest.raises(ValueError, match="chunk_elements must be a positive integer, got 0"):
        maxsim(QUERIES, DOCUMENTS, chunk_elements=0)
