"""The best rows of one corpus: scored as a whole or in blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sentence_transformers.search import nearest
from sentence_transformers.search.nearest import Nearest, top


def slow_top(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    order = scores.sort(dim=1, descending=True, stable=True)
    return order.values[:, :limit], order.indices[:, :limit]


def unit(seed: int, rows: int, width: int = 32) -> Tensor:
    made = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made)


@pytest.mark.parametrize("columns", [1, 5, 63, 64, 65, 1000, 1024])
@pytest.mark.parametrize("limit", [1, 4, 8])
@pytest.mark.parametrize("values", [2, 30, 10**6])
def test_top_is_a_stable_sort_cut_off(columns: int, limit: int, values: int) -> None:
    limit = min(limit, columns)
    generator = torch.Generator().manual_seed(columns)
    scores = torch.randint(-values, values, (40, columns), generator=generator).float()
    found, expected = top(scores, limit), slow_top(scores, limit)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_finds_what_float64_finds(limit: int) -> None:
    queries, corpus = unit(0, 50), unit(1, 6000)
    scores, ids = Nearest(corpus)(queries, limit)
    expected = (queries.double() @ corpus.double().T).topk(limit)
    assert torch.equal(ids, expected.indices)
    torch.testing.assert_close(scores.double(), expected.values, rtol=0, atol=1e-6)


def test_of_equal_rows_the_first_are_found() -> None:
    queries, corpus = unit(5, 30), unit(6, 6000)
    corpus[[17, 950, 4000, 5999]] = queries[3]
    _, ids = Nearest(corpus)(queries, 3)
    assert ids[3].tolist() == [17, 950, 4000]


def test_a_large_corpus_is_searched_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, corpus = unit(7, 30), unit(8, 3000)
    whole = Nearest(corpus)(queries, 5)
    monkeypatch.setattr(nearest, "MOST_ROWS", 2999)
    in_blocks = Nearest(corpus)(queries, 5)
    assert torch.equal(whole[1], in_blocks[1])
    torch.testing.assert_close(whole[0], in_blocks[0], rtol=0, atol=1e-6)


def test_few_scores_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_SCORES", 7000)
    sizes = []
    monkeypatch.setattr(nearest, "top", lambda scores, limit: sizes.append(scores.numel()) or top(scores, limit))
    Nearest(unit(9, 3000))(unit(10, 31), 5)
    assert max(sizes) <= 7000
    assert sum(sizes) == 31 * 3000
