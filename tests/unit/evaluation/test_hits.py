"""The best rows of a corpus in chunks: as a slow sort, for every kind of embeddings, with a fixed order of ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers.evaluation.cosines import nearest_cosines, rounded_units
from sentence_transformers.evaluation.hits import BestHits, as_rows, nearest_rows, rows_between, take_rows
from sentence_transformers.ops.maxsim import maxsim
from sentence_transformers.ops.similarity import cos_sim, dot_score, euclidean_sim


def random_rows(count: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coarse_rows(count: int, width: int = 4, seed: int = 0) -> Tensor:
    """Whole numbers: many equal products, exact in any order of sums."""
    return torch.randint(-1, 2, (count, width), generator=torch.Generator().manual_seed(seed)).float()


def slow_best(scores: Any, ranks: Any, limit: int) -> list[list[int]]:
    """Places by score, then rank."""
    return [
        sorted(range(len(row)), key=lambda place: (-row[place], ranks[place]))[:limit]  # noqa: B023
        for row in np.asarray(scores).tolist()
    ]


def found_in_chunks(
    queries: Any, corpus: Any, function: Callable[..., Tensor], limit: int, ranks: Any, size: int
) -> BestHits:
    hits = BestHits(as_rows(queries), function, limit, lambda: np.asarray(ranks))
    corpus = as_rows(corpus)
    for first in range(0, len(corpus), size):
        hits.add(rows_between(corpus, first, min(first + size, len(corpus))), first)
    return hits


@pytest.mark.parametrize("size", [3, 10, 16, 40])
@pytest.mark.parametrize("limit", [1, 5, 12, 100])
@pytest.mark.parametrize("function", [dot_score, euclidean_sim, lambda a, b: dot_score(a, b)])
def test_ties_are_ordered_by_rank_whatever_the_chunks(function: Callable[..., Tensor], limit: int, size: int) -> None:
    queries, corpus = coarse_rows(9), coarse_rows(40, seed=1)
    ranks = np.random.default_rng(2).permutation(40)
    hits = found_in_chunks(queries, corpus, function, limit, ranks, size)
    assert hits.places.tolist() == slow_best(function(queries, corpus), ranks, limit)
    assert np.array_equal(hits.scores, np.take_along_axis(function(queries, corpus).numpy(), hits.places, 1))


@pytest.mark.parametrize("size", [7, 64])
def test_ties_of_cosines_are_ordered_by_rank(size: int) -> None:
    directions = torch.nn.functional.normalize(random_rows(6, 16).float(), dim=1)
    places = torch.randint(0, 6, (64,), generator=torch.Generator().manual_seed(3))
    ranks = np.random.default_rng(2).permutation(64)
    queries = random_rows(5, 16, seed=4).float()
    hits = found_in_chunks(queries, directions[places], cos_sim, 10, ranks, size)
    best = cos_sim(queries, directions).argmax(dim=1)
    for row, direction in zip(hits.places, best.tolist(), strict=True):
        alike = [place for place in range(64) if places[place] == direction]
        expected = sorted(alike, key=lambda place: ranks[place])[:10]
        assert row[: len(expected)].tolist() == expected


def test_ranks_are_not_asked_for_without_ties() -> None:
    def ranks() -> Any:
        raise AssertionError("nothing is tied")

    hits = BestHits(random_rows(4), dot_score, 3, ranks)
    for first in (0, 20):
        hits.add(random_rows(20, seed=first + 1), first)
    assert hits.places.shape == (4, 3)


def test_a_corpus_without_rows_gives_no_hits() -> None:
    hits = BestHits(random_rows(4), dot_score, 3, lambda: np.arange(0))
    assert hits.places.shape == hits.scores.shape == (4, 0)


@pytest.mark.parametrize("function", [cos_sim, dot_score, euclidean_sim])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_rows_of_any_kind_are_ranked_as_their_scores(
    function: Callable[..., Tensor], dtype: torch.dtype, layout: str
) -> None:
    if layout == "sparse" and dtype == torch.bfloat16:
        pytest.skip("sparse embeddings come in float32")
    queries, corpus = random_rows(6).to(dtype), random_rows(50, seed=1).to(dtype)
    scores = function(queries, corpus)
    if layout == "sparse":
        queries, corpus = queries.to_sparse(), corpus.to_sparse()
    hits = found_in_chunks(queries, corpus, function, 7, np.arange(50), 20)
    assert hits.places.tolist() == slow_best(scores, np.arange(50), 7)
    np.testing.assert_allclose(hits.scores, scores.sort(descending=True).values[:, :7], rtol=1e-5)


def test_arrays_are_taken_too() -> None:
    queries, corpus = random_rows(3), random_rows(9, seed=1)
    hits = found_in_chunks(queries.numpy(), corpus.numpy(), cos_sim, 4, np.arange(9), 9)
    assert hits.places.tolist() == slow_best(cos_sim(queries, corpus), np.arange(9), 4)


def test_lists_of_token_vectors_are_ranked_by_a_function_of_lists() -> None:
    queries = [random_rows(2 + place, seed=place).float() for place in range(3)]
    corpus = [random_rows(1 + place % 4, seed=9 + place).float() for place in range(11)]
    corpus[7] = corpus[2]
    ranks = np.arange(11)[::-1].copy()
    hits = found_in_chunks(queries, corpus, maxsim, 5, ranks, 4)
    scores = maxsim(queries, corpus)
    scores[:, 7] = scores[:, 2]  # of the very same vectors
    assert hits.places.tolist() == slow_best(scores, ranks, 5)


def test_nan_scores_are_refused() -> None:
    corpus = random_rows(9, seed=1).float()
    corpus[4, 2] = torch.nan
    for function in (cos_sim, dot_score, euclidean_sim):
        with pytest.raises(ValueError, match="NaN"):
            nearest_rows(random_rows(3).float(), corpus, function, 2)


def test_scores_of_another_shape_are_refused() -> None:
    for queries, corpus in (
        (random_rows(3), random_rows(4)),
        (list(random_rows(3)), list(random_rows(4))),
    ):
        with pytest.raises(ValueError, match=r"got shape \(4, 3\)"):
            nearest_rows(queries, corpus, lambda a, b: torch.zeros(len(b), len(a)), 2)


def test_embeddings_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got shapes \(3, 8\) and \(4, 5\)"):
        nearest_rows(random_rows(3).float(), random_rows(4, 5).float(), cos_sim, 2)


def test_rows_are_taken_from_every_kind() -> None:
    dense = random_rows(6)
    for rows in (dense, as_rows(dense.to_sparse()), list(dense)):
        some = take_rows(rows, np.array([4, 0, 4]))
        part = rows_between(rows, 2, 5)
        found = [torch.stack(list(one)) if isinstance(one, list) else one.to_dense() for one in (some, part)]
        assert torch.equal(found[0], dense[[4, 0, 4]])
        assert torch.equal(found[1], dense[2:5])


# --- cosines of a corpus that is not at unit length


@pytest.mark.parametrize("is_screened", [False, True])
def test_cosines_are_the_exact_ones(is_screened: bool) -> None:
    queries, corpus = random_rows(150, 32).float(), random_rows(3000, 32, seed=1).float()
    corpus *= torch.rand(3000, 1, generator=torch.Generator().manual_seed(2)) * 9 + 0.1
    scores, places = nearest_cosines(queries, corpus, 20, is_screened)
    exact = torch.nn.functional.normalize(queries.double()) @ torch.nn.functional.normalize(corpus.double()).T
    expected = exact.sort(dim=1, descending=True)
    assert torch.equal(places, expected.indices[:, :20])
    torch.testing.assert_close(scores.double(), expected.values[:, :20], rtol=0, atol=1e-6)


def test_screened_cosines_of_equal_rows_come_in_their_order() -> None:
    corpus = random_rows(300, 16, seed=1).float().repeat(10, 1)  # each row ten times
    queries = random_rows(130, 16).float()
    scores, places = nearest_cosines(queries, corpus, 20, True)
    best = cos_sim(queries, corpus[:300]).topk(2).indices
    copies = torch.arange(0, 3000, 300)
    assert torch.equal(places, torch.cat([best[:, :1] + copies, best[:, 1:] + copies], dim=1))
    assert bool((scores[:, :1] == scores[:, :10]).all())


def test_screened_cosines_where_few_are_positive_are_exact() -> None:
    queries, corpus = (
        random_rows(130, 16).float(),
        -random_rows(1, 16).float().abs() - random_rows(3000, 16, 5).float().abs(),
    )
    queries[:4] = queries[:4].abs()  # negative products with all rows: nothing can be told in half precision
    _, places = nearest_cosines(queries, corpus, 5, True)
    exact = torch.nn.functional.normalize(queries.double()) @ torch.nn.functional.normalize(corpus.double()).T
    assert torch.equal(places, exact.topk(5).indices)


def test_zero_rows_have_cosine_zero() -> None:
    corpus = torch.zeros(2500, 8)
    corpus[7] = 1
    queries = torch.ones(130, 8)
    scores, places = nearest_cosines(queries, corpus, 3, True)
    assert places[0].tolist() == [7, 0, 1]
    torch.testing.assert_close(scores[0], torch.tensor([1.0, 0.0, 0.0]))


def test_rounded_units_say_what_rounding_took() -> None:
    rows = random_rows(1500, 16).float() * 5
    rounded, lengths = rounded_units(rows)
    units = torch.nn.functional.normalize(rows)
    torch.testing.assert_close(lengths, rows.norm(dim=1))
    torch.testing.assert_close(rounded.values.float(), units, rtol=2**-8, atol=0)
    torch.testing.assert_close(rounded.losses, (units - rounded.values.float()).norm(dim=1), rtol=1e-3, atol=1e-6)
    assert bool((rounded.lengths >= units.norm(dim=1) - 1e-6).all())
