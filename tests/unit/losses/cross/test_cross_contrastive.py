"""Ranking losses of rerankers against loops over candidates, and what is drawn from a batch."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import tiny_heads
import torch
from losses_checking import assert_same
from losses_cross_facts import TEXTS, spread
from torch import Tensor, nn

from sentence_transformers import CrossEncoder
from sentence_transformers.losses.cross.contrastive import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
    others,
)
from sentence_transformers.losses.gradcache import cut
from tests.unit.losses.cross.reading import ROWS, Reading, gradient, reading, texts

BOTH: list[Any] = [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss]


def slow_ranking(model: Reading, asked: list[list[tuple[str, str]]], scale: float, activation: Any) -> Tensor:
    """From the pairs that were read: the positives, then other candidates."""
    total = torch.zeros((), dtype=torch.float64)
    for row in range(ROWS):
        scores = [scale * activation(model.logits[int(column[row][0]), int(column[row][1]), 0]) for column in asked]
        total = total - torch.log(scores[0].exp() / sum(score.exp() for score in scores))
    return total / ROWS


# --- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("count", [None, 0, 1, 4, 6, 99])
def test_each_anchor_must_find_its_positive(columns: int, count: int | None) -> None:
    model = reading(columns)
    value: Any = MultipleNegativesRankingLoss(model, num_negatives=count)(texts(columns))
    expected = slow_ranking(model, model.asked, 10.0, torch.sigmoid)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(value, model), gradient(expected, model), rtol=1e-12, atol=1e-12)


def test_all_negatives_are_those_of_all_rows() -> None:
    model = reading(2)
    value: Any = MultipleNegativesRankingLoss(model, num_negatives=None)(texts(2))
    scores = 10 * torch.sigmoid(model.logits[:, :, 0])  # (rows, all texts): each row meets every text once
    torch.testing.assert_close(value, (scores.logsumexp(1) - scores.diagonal()).mean(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("activation", "applied"), [(None, lambda x: x), (nn.Tanh(), torch.tanh)])
def test_scale_and_activation_may_be_others(activation: Any, applied: Any) -> None:
    model = reading(2)
    value: Any = MultipleNegativesRankingLoss(model, scale=3.0, activation_fn=activation)(texts(2))
    torch.testing.assert_close(value, slow_ranking(model, model.asked, 3.0, applied), rtol=1e-12, atol=1e-12)


def test_settings_may_be_changed_later() -> None:
    model = reading(2)
    loss = MultipleNegativesRankingLoss(model)
    loss.num_negatives, loss.scale = 1, 2.0
    value: Any = loss(texts(2))
    assert len(model.asked) == 3
    torch.testing.assert_close(value, slow_ranking(model, model.asked, 2.0, torch.sigmoid), rtol=1e-12, atol=1e-12)


def test_labels_do_not_count() -> None:
    loss = MultipleNegativesRankingLoss(reading(2), num_negatives=None)
    assert torch.equal(loss(texts(2), torch.arange(ROWS)), loss(texts(2)))  # type: ignore[arg-type]


def test_one_row_has_its_own_negatives_alone() -> None:
    model = reading(2)
    value: Any = MultipleNegativesRankingLoss(model)([["0"], ["0"], ["5"]])
    scores = 10 * torch.sigmoid(model.logits[0, [0, 5], 0])
    torch.testing.assert_close(value, -scores.log_softmax(0)[0])


# --- what is read ----------------------------------------------------------------------------------------------------


def test_the_positive_is_read_first_and_the_own_negatives_last() -> None:
    model = reading(3)
    MultipleNegativesRankingLoss(model, num_negatives=2)(texts(3))
    anchors, positives, *negatives = texts(3)
    assert model.asked[0] == list(zip(anchors, positives, strict=True))
    assert model.asked[-2:] == [list(zip(anchors, column, strict=True)) for column in negatives]
    assert len(model.asked) == 1 + 2 + 2
    assert all(int(other) % ROWS != int(anchor) for column in model.asked[1:3] for anchor, other in column)


def test_all_others_are_read_in_order() -> None:
    model = reading(2)
    MultipleNegativesRankingLoss(model, num_negatives=None)(texts(2))
    found = [column[1][1] for column in model.asked[1:-1]]  # of the second row
    assert found == ["0", "2", "3", "4", "5", "7", "8", "9"]


@pytest.mark.parametrize("kind", BOTH)
def test_prompt_and_route_reach_every_pair(kind: Any) -> None:
    model = reading(2)
    kind(model, num_negatives=2)(texts(2), prompt="find: ", task="query")
    assert model.settings == [{"prompt": "find: ", "task": "query"}] * 4


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_drawn_for_a_row_differs_and_is_of_other_rows(columns: int, count: int) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        drawn = list(zip(*others(ROWS, columns, count), strict=True))
        assert len(drawn) == ROWS
        for row, places in enumerate(drawn):
            assert len(set(places)) == count
            assert all(0 <= place < ROWS * columns and place % ROWS != row for place in places)


def test_all_others_are_drawn_equally_often() -> None:
    torch.manual_seed(0)
    times = 600
    counts = Counter(place for _ in range(times) for (place, *_) in others(4, 2, 2))  # of the first row
    assert sorted(counts) == [1, 2, 3, 5, 6, 7]
    assert all(abs(count - times * 2 / 6) < 60 for count in counts.values())  # 4 standard deviations


@pytest.mark.parametrize("count", [None, 6, 99])
def test_nothing_is_drawn_where_all_are_taken(count: int | None) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = others(4, 2, count)
    assert torch.equal(torch.get_rng_state(), before)
    assert [list(one) for one in zip(*found, strict=True)][2] == [0, 1, 3, 4, 5, 7]


@pytest.mark.parametrize(("rows", "count"), [(1, 3), (1, None), (5, 0)])
def test_there_may_be_nothing_to_draw(rows: int, count: int | None) -> None:
    assert others(rows, 2, count) == []


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_anchors_alone_are_refused(kind: Any) -> None:
    message = rf"{kind.__name__} expects at least 2 columns \(an anchor and a positive\), but got 1"
    with pytest.raises(ValueError, match=message):
        kind(reading(1))(texts(1)[:1])


@pytest.mark.parametrize("kind", BOTH)
def test_a_model_with_several_labels_is_refused(kind: Any) -> None:
    message = f"{kind.__name__} expects a model with 1 output label, but got a model with 3 output labels"
    with pytest.raises(ValueError, match=message):
        kind(reading(1, 3))


@pytest.mark.parametrize("kind", BOTH)
def test_a_number_of_negatives_below_zero_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="num_negatives must be an integer from 0, or None for all; got -1"):
        kind(reading(1), num_negatives=-1)


def test_a_part_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="mini_batch_size must be a positive integer, got 0"):
        CachedMultipleNegativesRankingLoss(reading(1), mini_batch_size=0)


def test_columns_of_another_length_are_refused() -> None:
    anchors, positives, negatives = texts(2)
    with pytest.raises(ValueError, match="shorter"):
        MultipleNegativesRankingLoss(reading(2), num_negatives=0)([anchors, positives, negatives[:3]])


# --- what is written down --------------------------------------------------------------------------------------------


def test_arguments_can_be_written_down() -> None:
    written = {"num_negatives": 4, "scale": 10.0, "activation_fn": "torch.nn.modules.activation.Sigmoid"}
    assert MultipleNegativesRankingLoss(reading(1)).get_config_dict() == written
    cached = {"mini_batch_size": 32, "show_progress_bar": False}
    assert CachedMultipleNegativesRankingLoss(reading(1)).get_config_dict() == written | cached


def test_losses_cite_their_papers() -> None:
    plain, cached = (kind(reading(1)).citation for kind in BOTH)
    assert "Contrastive Predictive Coding" in plain
    assert "Memory Limited Setup" in cached


# --- the gradient cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def reranker(tiny_reranker: CrossEncoder) -> CrossEncoder:
    """A copy in float64, without dropout."""
    model: CrossEncoder = spread(copy.deepcopy(tiny_reranker))
    return model


@pytest.fixture(scope="module")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """Not to be changed."""
    return CrossEncoder(str(tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("reranker"))), device="cpu")


def trained(loss: Any, columns: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The value, and the gradients of all parameters."""
    loss.model.zero_grad()
    torch.manual_seed(0)
    value = loss(TEXTS[:columns])
    value.backward()
    return value.detach(), gradients_of(loss.model)


def gradients_of(model: CrossEncoder) -> dict[str, Tensor]:
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    assert len(found) == len(list(model.parameters()))
    return found


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 3, 32])
@pytest.mark.parametrize("count", [2, None])
def test_the_cache_changes_no_gradient(columns: int, size: int, count: int | None, reranker: CrossEncoder) -> None:
    plain = trained(MultipleNegativesRankingLoss(reranker, count), columns)
    assert plain[0] > 0.1
    assert_same(trained(CachedMultipleNegativesRankingLoss(reranker, count, mini_batch_size=size), columns), plain)


def test_gradients_with_dropout_are_those_of_one_graph(reranker: CrossEncoder) -> None:
    loss = CachedMultipleNegativesRankingLoss(reranker.train(), num_negatives=2, mini_batch_size=2)
    cached = trained(loss, 3)
    torch.manual_seed(1)
    loss(TEXTS[:3])
    assert loss(TEXTS[:3]) != cached[0]  # there is dropout
    reranker.zero_grad()
    torch.manual_seed(0)
    columns = loss.pairs([list(column) for column in TEXTS[:3]], None)
    features = [loss.preprocess(column, None, None) for column in columns]
    logits = [torch.cat([loss.embed(part) for _, part in cut(column, 2)]) for column in features]
    value = loss.compute_loss_from_embeddings(logits)
    value.backward()
    assert_same(cached, (value.detach(), gradients_of(reranker)))


def test_both_losses_draw_the_same() -> None:
    asked = []
    for kind in BOTH:
        model = reading(2)
        torch.manual_seed(3)
        kind(model, num_negatives=3)(texts(2))
        asked.append(model.asked)
    assert asked[0] == asked[1]


def test_no_more_pairs_than_asked_for_are_read_at_once(reranker: CrossEncoder) -> None:
    seen: list[int] = []
    reranker.register_forward_pre_hook(lambda module, given: seen.append(len(given[0]["input_ids"])))
    loss = CachedMultipleNegativesRankingLoss(reranker, num_negatives=2, mini_batch_size=2)
    loss(TEXTS[:3]).backward()  # type: ignore[union-attr]
    assert seen == [2, 2, 1] * 4 * 2
    seen.clear()
    loss.mini_batch_size = 4
    loss(TEXTS[:3]).backward()  # type: ignore[union-attr]
    assert seen == [4, 1] * 4 * 2


def test_without_the_cache_candidates_are_read_at_once(reranker: CrossEncoder) -> None:
    seen: list[int] = []
    reranker.register_forward_pre_hook(lambda module, given: seen.append(len(given[0]["input_ids"])))
    MultipleNegativesRankingLoss(reranker, num_negatives=2)([["a b c"] * 4, ["d e"] * 4, ["f g"] * 4])
    assert seen == [16]


@pytest.mark.parametrize("shown", [True, False])
def test_a_progress_bar_is_shown_for_the_second_run(shown: bool, capfd: pytest.CaptureFixture[str]) -> None:
    value: Any = CachedMultipleNegativesRankingLoss(reading(2), show_progress_bar=shown)(texts(2))
    assert capfd.readouterr().err == ""
    value.backward()
    assert ("Embed mini-batches" in capfd.readouterr().err) == shown


@pytest.mark.parametrize("kind", BOTH)
def test_a_few_steps_make_the_loss_smaller(kind: Any, tiny_reranker: CrossEncoder) -> None:
    model = copy.deepcopy(tiny_reranker).eval()
    loss, values = kind(model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(0)
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(TEXTS[:3])
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("kind", BOTH)
def test_a_wrapped_model_is_trained(kind: Any, reranker: CrossEncoder) -> None:
    expected = trained(kind(reranker, num_negatives=None), 3)
    loss = kind(reranker, num_negatives=None)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = reranker
            self.calls = 0

        def forward(self, features: dict[str, Any]) -> Any:
            self.calls += 1
            return self.module(features)

    loss.model = wrapped = Wrapped()
    wrapped.zero_grad()
    value = loss(TEXTS[:3])
    value.backward()
    assert wrapped.calls > 0
    assert_same((value.detach(), gradients_of(reranker)), expected)
