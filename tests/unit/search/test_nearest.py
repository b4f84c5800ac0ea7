"""The best rows of one corpus: scored as a whole, after a first look in bfloat16, or in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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


WAYS = pytest.mark.parametrize("is_screened", [False, True], ids=["float32", "screened"])


@WAYS
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_finds_what_float64_finds(limit: int, is_screened: bool) -> None:
    queries, corpus = unit(0, 150), unit(1, 6000)
    scores, ids = Nearest(corpus, is_screened)(queries, limit)
    expected = (queries.double() @ corpus.double().T).topk(limit)
    assert torch.equal(ids, expected.indices)
    torch.testing.assert_close(scores.double(), expected.values, rtol=0, atol=1e-6)


@WAYS
def test_of_equal_rows_the_first_are_found(is_screened: bool) -> None:
    queries, corpus = unit(5, 150), unit(6, 6000)
    corpus[[17, 950, 4000, 5999]] = queries[3]
    _, ids = Nearest(corpus, is_screened)(queries, 3)
    assert ids[3].tolist() == [17, 950, 4000]


def wide(seed: int, rows: int) -> Tensor:
    return unit(seed, rows, 64)


def clustered(seed: int, rows: int) -> Tensor:
    """In 40 close groups, one after the other."""
    middles = unit(seed, 40, 64).repeat_interleave(rows // 40, dim=0)
    return torch.nn.functional.normalize(middles + 0.2 * unit(seed + 1, rows // 40 * 40, 64))


def same_direction(seed: int, rows: int) -> Tensor:
    """All products above 0.9: steps of bfloat16 are wide there."""
    return torch.nn.functional.normalize(unit(seed, rows, 64) + 4 * unit(1, 1, 64))


def opposite(seed: int, rows: int) -> Tensor:
    """Half of the queries have only negative products."""
    made = same_direction(seed, rows)
    return made * (-1.0 if seed < 10 else 1.0) ** torch.arange(rows)[:, None]


def near_ties(seed: int, rows: int) -> Tensor:
    """Hundreds of rows that float32 tells apart, and bfloat16 does not."""
    return torch.nn.functional.normalize(unit(1, 24, 64).repeat(-(-rows // 24), 1)[:rows] + 1e-3 * unit(seed, rows, 64))


def whole_numbers(seed: int, rows: int) -> Tensor:
    """Many equal products, that are exact."""
    return torch.randint(-2, 3, (rows, 64), generator=torch.Generator().manual_seed(seed)).float()


KINDS = [wide, clustered, same_direction, opposite, near_ties, whole_numbers]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("limit", [1, 5, 33])
def test_after_a_first_look_the_same_rows_are_found(make: Any, limit: int) -> None:
    queries, corpus = (unit(2, 200, 64) if make is near_ties else make(3, 200)), make(13, 4000)
    corpus[3000:3400] = corpus[100:500]  # twice
    plain, screened = Nearest(corpus, False)(queries, limit), Nearest(corpus, True)(queries, limit)
    torch.testing.assert_close(screened[0], plain[0], rtol=0, atol=1e-6)
    exact = queries.double() @ corpus.double().T
    places = exact.sort(dim=1, descending=True, stable=True).indices[:, :limit]
    differ = screened[1] != places
    # float32 may swap two that differ by its rounding, nothing else; whole numbers have none
    swapped = (exact.gather(1, screened[1]) - exact.gather(1, places)).abs()[differ]
    assert (swapped < 2e-7).all()
    assert int(differ.count_nonzero()) <= (0 if make is whole_numbers else differ.numel() // 50)


@pytest.mark.parametrize("make", [wide, near_ties, whole_numbers])
def test_equal_rows_come_in_order_after_a_first_look(make: Any) -> None:
    queries, half = (unit(2, 150, 64) if make is near_ties else make(3, 150)), make(13, 2000)
    scores, ids = Nearest(torch.cat([half, half]), True)(queries, 10)
    assert make is not wide or torch.equal(ids[:, 1::2], ids[:, ::2] + 2000)
    is_tied = scores[:, 1:] == scores[:, :-1]
    assert is_tied.any()
    assert (ids[:, 1:] > ids[:, :-1])[is_tied].all()


def test_the_first_look_is_what_the_screened_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    real = nearest.chosen_products
    monkeypatch.setattr(
        nearest, "chosen_products", lambda *arguments: listed.append(len(arguments[3])) or real(*arguments)
    )
    monkeypatch.setattr(nearest, "BLOCK_QUERIES", 200)
    queries, corpus = unit(0, 200, 128), unit(1, 4000, 128)
    for is_screened, limit, expected in ((False, 5, 0), (True, 5, 1), (True, 4000 // 64 + 1, 0)):
        listed.clear()
        Nearest(corpus, is_screened)(queries, limit)
        assert len(listed) == expected
    Nearest(corpus, True)(queries, 5)
    assert 1000 <= listed[-1] < 4000  # of 800,000 products


@pytest.mark.parametrize("answer", [True, False])
def test_the_processor_decides_whether_there_is_a_first_look(answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "is_worthwhile", lambda: answer)
    assert Nearest(unit(1, 10)).is_screened is answer


@WAYS
@pytest.mark.parametrize("block", [1, 7 * 3000, 200 * 3000])
def test_the_size_of_a_block_changes_nothing(block: int, is_screened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, corpus = unit(3, 140), unit(4, 3000)
    whole = Nearest(corpus, is_screened)(queries, 4)
    monkeypatch.setattr(nearest, "BLOCK_SCORES", block)
    monkeypatch.setattr(nearest, "SCREENED_SCORES", block)
    monkeypatch.setattr(nearest, "BLOCK_QUERIES", 1 if block > 1 else 3)
    in_blocks = Nearest(corpus, is_screened)(queries, 4)
    assert torch.equal(whole[1], in_blocks[1])
    torch.testing.assert_close(whole[0], in_blocks[0], rtol=0, atol=1e-6)


def test_a_large_corpus_is_searched_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, corpus = unit(7, 30), unit(8, 3000)
    whole = Nearest(corpus)(queries, 5)
    monkeypatch.setattr(nearest, "MOST_ROWS", 2999)
    in_blocks = Nearest(corpus)(queries, 5)
    assert torch.equal(whole[1], in_blocks[1])
    torch.testing.assert_close(whole[0], in_blocks[0], rtol=0, atol=1e-6)


@pytest.fixture
def two_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_few_scores_are_held_at_once(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_SCORES", 40 * 3000)
    monkeypatch.setattr(nearest, "BLOCK_QUERIES", 7)
    sizes = []
    monkeypatch.setattr(nearest, "top", lambda scores, limit: sizes.append(scores.shape) or top(scores, limit))
    Nearest(unit(9, 3000), False)(unit(10, 131), 5)
    assert sorted(sizes) == [(12, 3000), *[(17, 3000)] * 7]  # as many for each core, none much smaller
    sizes.clear()
    Nearest(unit(9, 9000), False)(unit(10, 131), 5)
    assert max(sizes) == (7, 9000)


def test_few_products_are_held_at_once_after_a_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, queries = unit(9, 3000), unit(10, 131)
    whole = Nearest(corpus, True)(queries, 5)
    monkeypatch.setattr(nearest, "SCREENED_SCORES", 40 * 3000)
    spaces = []
    real = nearest.Shortlister
    monkeypatch.setattr(nearest, "Shortlister", lambda corpus, rows: spaces.append(rows) or real(corpus, rows))
    in_blocks = Nearest(corpus, True)(queries, 5)
    assert spaces == [40]  # of which the last are eleven
    assert torch.equal(whole[1], in_blocks[1])
    torch.testing.assert_close(whole[0], in_blocks[0], rtol=0, atol=1e-6)


@WAYS
def test_one_core_and_many_find_the_same(is_screened: bool, two_cores: None) -> None:
    queries, corpus = unit(3, 140), unit(4, 3000)
    corpus[2000:] = corpus[:1000]
    together = Nearest(corpus, is_screened)(queries, 4)
    torch.set_num_threads(1)
    alone = Nearest(corpus, is_screened)(queries, 4)
    assert torch.equal(together[1], alone[1])
    torch.testing.assert_close(together[0], alone[0], rtol=0, atol=1e-6)


@WAYS
def test_many_threads_may_search_one_corpus(is_screened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_SCORES", 1)
    monkeypatch.setattr(nearest, "SCREENED_SCORES", 1)
    near = Nearest(unit(4, 3000), is_screened)
    queries = [unit(seed, 140) for seed in range(6)]
    expected = [near(some, 4) for some in queries]
    with ThreadPoolExecutor(6) as pool:
        for found, one in zip(pool.map(lambda some: near(some, 4), queries), expected, strict=True):
            assert torch.equal(found[1], one[1])


def test_an_error_in_a_block_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_SCORES", 1)

    def fail(scores: Tensor, limit: int) -> None:
        raise RuntimeError("in a block")

    monkeypatch.setattr(nearest, "top", fail)
    with pytest.raises(RuntimeError, match="in a block"):
        Nearest(unit(4, 3000), False)(unit(3, 140), 4)
