"""Paraphrase mining: equal to ranking all neighbours of all rows, with ties, in any blocks; what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops.similarity import cos_sim, dot_score, euclidean_sim, pytorch_cos_sim
from sentence_transformers.search import pairs as pairs_page
from sentence_transformers.search import paraphrase as page
from sentence_transformers.search.paraphrase import paraphrase_mining, paraphrase_mining_embeddings

Found = list[list[Any]]
Score = Callable[[Tensor, Tensor], Tensor]


def any_product(left: Tensor, right: Tensor) -> Tensor:
    """``dot_score``, unknown by name."""
    return left.to_dense().float() @ right.to_dense().float().T


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def small_integers(count: int, width: int, seed: int = 0) -> Tensor:
    """Their dot products are exact, and mostly equal to others."""
    return torch.randint(-1, 2, (count, width), generator=torch.Generator().manual_seed(seed)).float()


def slow_mining(scores: Any, top_k: int, max_pairs: int) -> Found:
    """From all scores (n, n): the neighbours of each row by score, then by position; then all pairs the same way."""
    scores = np.asarray(scores, dtype=np.float64)
    best: dict[tuple[int, int], float] = {}
    for i, line in enumerate(scores):
        others = [j for j in np.lexsort((np.arange(len(line)), -line)).tolist() if j != i]
        for j in others[:top_k]:
            at = (min(i, j), max(i, j))
            best[at] = max(line[j], best.get(at, -np.inf))
    ranked = sorted(best.items(), key=lambda found: (-found[1], found[0]))
    return [[score, *at] for at, score in ranked[:max_pairs]]


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar for few rows too."""
    monkeypatch.setattr(page, "SAMPLE", 16)
    monkeypatch.setattr(page, "SAMPLED_PAIRS", 4)


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pairs above a bar."""
    monkeypatch.setattr(page, "best_rows", None)


def test_pairs_are_worked_out_by_hand() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    found = paraphrase_mining_embeddings(embeddings)
    assert found == [[pytest.approx(0.8), 1, 2], [pytest.approx(0.6), 0, 2], [0.0, 0, 1]]


def test_only_the_neighbours_of_a_row_are_candidates() -> None:
    # 0 and 1 are nearest to each other, 3 is nearest to 2 and 2 to 1; so 0-2, better than 2-3, is left out
    found = paraphrase_mining_embeddings(
        torch.tensor([[0.0], [1.0], [3.0], [7.0]]), top_k=1, score_function=euclidean_sim
    )
    assert found == [[-1.0, 0, 1], [-2.0, 1, 2], [-4.0, 2, 3]]


def test_pairs_are_lists_of_plain_numbers() -> None:
    pair = paraphrase_mining_embeddings(rows(3, 4))[0]
    assert [type(value) for value in (pair, *pair)] == [list, float, int, int]


@pytest.mark.parametrize("score", [dot_score, any_product])
@pytest.mark.parametrize("max_pairs", [1, 7, 60, 300, 5000])
@pytest.mark.parametrize("top_k", [1, 2, 6, 40, 500])
@pytest.mark.usefixtures("small_sample")
def test_equals_ranking_all_scores_with_ties(score: Score, max_pairs: int, top_k: int) -> None:
    embeddings = small_integers(150, 5)
    found = paraphrase_mining_embeddings(embeddings, 30, 70, max_pairs, top_k, score)
    assert found == slow_mining(embeddings @ embeddings.T, top_k, max_pairs)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("small_sample")
def test_crowds_of_equal_rows_come_in_the_order_of_their_pairs(seed: int) -> None:
    make = np.random.default_rng(seed)
    embeddings = small_integers(8, 3, seed)[make.integers(0, 8, 120)]
    top_k, max_pairs = int(make.integers(1, 30)), int(make.integers(1, 400))
    found = paraphrase_mining_embeddings(embeddings, max_pairs=max_pairs, top_k=top_k, score_function=dot_score)
    assert found == slow_mining(embeddings @ embeddings.T, top_k, max_pairs)


@pytest.mark.parametrize("score", [cos_sim, pytorch_cos_sim, dot_score])
@pytest.mark.usefixtures("no_search")
def test_the_best_of_many_rows_are_found_above_a_bar(score: Score) -> None:
    embeddings = rows(2600, 16)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True) if score is not dot_score else embeddings
    expected = slow_mining(unit.double() @ unit.double().T, 20, 4000)
    found = paraphrase_mining_embeddings(embeddings, max_pairs=4000, top_k=20, score_function=score)
    np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=2e-5)
    both = {tuple(pair[1:]) for pair in found} & {tuple(pair[1:]) for pair in expected}
    assert len(both) >= 3998  # the last ones may be changed by rounding


@pytest.mark.usefixtures("small_sample", "no_search")
def test_of_a_crowd_above_the_bar_only_neighbours_are_taken() -> None:
    embeddings = rows(200, 8)
    embeddings[:40] = embeddings[0] + 0.01 * embeddings[:40]
    found = paraphrase_mining_embeddings(embeddings, max_pairs=150, top_k=3, score_function=dot_score)
    assert [pair[1:] for pair in found] == [
        pair[1:] for pair in slow_mining(embeddings.double() @ embeddings.double().T, 3, 150)
    ]


@pytest.mark.usefixtures("small_sample")
def test_a_bar_that_was_too_high_is_made_good() -> None:
    # every row of the sample has a twin, no other row has
    embeddings = 0.01 * rows(160, 64)
    embeddings[::10] = 100 * torch.eye(64)[:16]
    embeddings[1::10] = 100 * torch.eye(64)[:16]
    found = paraphrase_mining_embeddings(embeddings, max_pairs=40, top_k=12, score_function=dot_score)
    expected = slow_mining(embeddings.double() @ embeddings.double().T, 12, 40)
    assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]


@pytest.mark.usefixtures("small_sample")
def test_too_many_pairs_above_the_bar_are_left_to_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_among_nearest", None)
    found = paraphrase_mining_embeddings(torch.ones(160, 4), max_pairs=200, top_k=150, score_function=dot_score)
    assert found == [[4.0, 0, j] for j in range(1, 160)] + [[4.0, 1, j] for j in range(2, 43)]


def test_no_more_pairs_are_held_than_a_few_times_those_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    held, best_once = [], page._best_once

    def spy(scores: Any, keys: Any, most: int) -> Any:
        held.append(len(keys))
        return best_once(scores, keys, most)

    monkeypatch.setattr(page, "_best_once", spy)
    embeddings = small_integers(150, 5)
    found = paraphrase_mining_embeddings(embeddings, 10, 100, 60, 40, any_product)
    assert found == slow_mining(embeddings @ embeddings.T, 40, 60)
    assert max(held) <= page.ROOM * 60 + 10 * 40


@pytest.mark.parametrize("chunks", [(1, 1), (3, 7), (50, 11), (1000, 1000)])
@pytest.mark.parametrize("score", [dot_score, any_product])
@pytest.mark.usefixtures("small_sample")
def test_chunk_sizes_do_not_change_the_pairs(chunks: tuple[int, int], score: Score) -> None:
    embeddings = small_integers(70, 4)
    found = paraphrase_mining_embeddings(embeddings, *chunks, 60, 8, score)
    assert found == slow_mining(embeddings @ embeddings.T, 8, 60)


@pytest.mark.parametrize("chunks", [(2, 3), (5, 2), (100, 100)])
def test_other_functions_get_chunks_of_the_given_sizes(chunks: tuple[int, int]) -> None:
    calls = []

    def score(left: Tensor, right: Tensor) -> Tensor:
        calls.append((len(left), len(right)))
        return left @ right.T

    paraphrase_mining_embeddings(rows(7, 3), *chunks, score_function=score)
    assert sum(left * right for left, right in calls) == 49
    assert max(left for left, _ in calls) == min(chunks[0], 7)
    assert max(right for _, right in calls) == min(chunks[1], 7)


@pytest.mark.parametrize("max_pairs", [3, 1000])
def test_a_pair_with_two_scores_counts_with_the_higher(max_pairs: int) -> None:
    table = rows(20, 20)
    found = paraphrase_mining_embeddings(
        torch.eye(20), 4, 6, max_pairs, 5, score_function=lambda left, right: left @ table @ right.T
    )
    assert found == slow_mining(table, 5, max_pairs)


@pytest.mark.parametrize("score", [cos_sim, dot_score, euclidean_sim])
def test_pairs_are_unique_and_in_order(score: Score) -> None:
    found = paraphrase_mining_embeddings(rows(90, 6), score_function=score, top_k=7)
    assert all(i < j for _, i, j in found)
    assert len({(i, j) for _, i, j in found}) == len(found)
    assert [pair[0] for pair in found] == sorted((pair[0] for pair in found), reverse=True)


def test_a_zero_row_scores_zero() -> None:
    found = paraphrase_mining_embeddings(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    assert found == [[1.0, 0, 2], [0.0, 0, 1], [0.0, 1, 2]]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "array": lambda tensor: tensor.numpy(),
    "lists": lambda tensor: tensor.tolist(),
    "list of tensors": list,
    "COO": lambda tensor: tensor.to_sparse(),
    "CSR": lambda tensor: tensor.to_sparse_csr(),
    "list of COO": lambda tensor: [row.to_sparse() for row in tensor],
    "float64": lambda tensor: tensor.double(),
    "half": lambda tensor: tensor.half(),
    "int8": lambda tensor: tensor.to(torch.int8).numpy(),
    "gradient": lambda tensor: tensor.clone().requires_grad_(),
    "columns first": lambda tensor: tensor.t().contiguous().t(),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("max_pairs", [40, 5000])
@pytest.mark.usefixtures("small_sample")
def test_every_form_of_embeddings_gives_the_same_pairs(form: str, max_pairs: int) -> None:
    embeddings = small_integers(80, 6)
    found = paraphrase_mining_embeddings(FORMS[form](embeddings), max_pairs=max_pairs, score_function=dot_score)
    assert found == slow_mining(embeddings @ embeddings.T, 100, max_pairs)


def test_integers_do_not_overflow() -> None:
    embeddings = np.array([[127, 127], [126, 127], [-128, -128]], dtype=np.int8)
    found = paraphrase_mining_embeddings(embeddings, score_function=dot_score)
    assert found == [[127.0 * 253, 0, 1], [-128.0 * 253, 1, 2], [-128.0 * 254, 0, 2]]


def test_embeddings_are_not_changed() -> None:
    embeddings = rows(40, 4)
    copy = embeddings.clone()
    paraphrase_mining_embeddings(embeddings)
    assert_close(embeddings, copy, rtol=0, atol=0)


def test_float64_scores_stay_float64() -> None:
    third = torch.tensor([[1.0], [1 / 3]], dtype=torch.float64)
    assert paraphrase_mining_embeddings(third, score_function=dot_score) == [[1 / 3, 0, 1]]


@pytest.mark.parametrize("embeddings", [[], torch.zeros(0, 3), torch.ones(1, 3), torch.ones(3)])
def test_less_than_two_rows_have_no_pairs(embeddings: Any) -> None:
    assert paraphrase_mining_embeddings(embeddings) == []


@pytest.mark.parametrize("name", ["top_k", "max_pairs"])
def test_zero_neighbours_or_pairs_give_none(name: str) -> None:
    assert paraphrase_mining_embeddings(rows(5, 3), **{name: 0}) == []


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size", "max_pairs", "top_k"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", None, True])
def test_sizes_must_be_positive_integers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a positive integer, got {value!r}")):
        paraphrase_mining_embeddings(rows(5, 3), **{name: value})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("score", [cos_sim, dot_score, euclidean_sim])
@pytest.mark.parametrize("max_pairs", [10, 5000])
@pytest.mark.usefixtures("small_sample")
def test_a_row_that_is_not_finite_is_named(value: float, score: Score, max_pairs: int) -> None:
    embeddings = rows(80, 3)
    embeddings[43, 1] = value
    with pytest.raises(ValueError, match="embeddings must be finite, but row 43 has"):
        paraphrase_mining_embeddings(embeddings, max_pairs=max_pairs, score_function=score)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        paraphrase_mining_embeddings(rows(5, 3), score_function=lambda left, right: (left @ right.T) * torch.nan)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"must be (rows, width), got shape {shape}")):
        paraphrase_mining_embeddings(torch.zeros(shape))


def test_a_first_look_in_half_precision_changes_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = rows(2600, 32)
    exact = paraphrase_mining_embeddings(embeddings, max_pairs=300)
    monkeypatch.setattr(pairs_page, "SCREENED_ROWS", 64)
    monkeypatch.setattr(pairs_page, "MOST_SCREENED", 0.1)
    for worthwhile in (True, False):
        monkeypatch.setattr(pairs_page, "is_worthwhile", lambda worthwhile=worthwhile: worthwhile)
        found = paraphrase_mining_embeddings(embeddings, max_pairs=300)
        np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in exact], atol=1e-6)
        assert len({tuple(pair[1:]) for pair in found} & {tuple(pair[1:]) for pair in exact}) >= 299


class Model:
    """Stands for an encoder: texts are numbers on a line; ``calls`` has what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []

    def encode(self, sentences: list[str], **options: Any) -> Tensor:
        self.calls.append((sentences, options))
        return torch.tensor([[float(text)] for text in sentences])


def test_a_model_encodes_the_sentences_as_told() -> None:
    model: Any = Model()
    found = paraphrase_mining(
        model,
        ["0", "1", "3", "7"],
        show_progress_bar=True,
        batch_size=5,
        top_k=1,
        max_pairs=2,
        score_function=euclidean_sim,
        truncate_dim=8,
        prompt_name="same",
        prompt="as: ",
    )
    assert found == [[-1.0, 0, 1], [-2.0, 1, 2]]
    options = {"show_progress_bar": True, "batch_size": 5, "truncate_dim": 8, "prompt_name": "same", "prompt": "as: "}
    assert model.calls == [(["0", "1", "3", "7"], {**options, "convert_to_tensor": True})]


def test_a_model_without_a_choice_of_width_is_asked_for_none() -> None:
    model: Any = Model()
    paraphrase_mining(model, ["0", "1"])
    assert "truncate_dim" not in model.calls[0][1]


def test_no_sentences_give_no_pairs() -> None:
    assert paraphrase_mining(Model(), []) == []  # type: ignore[arg-type]
