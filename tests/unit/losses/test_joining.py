"""Columns that go through the model together: which do, and that it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from losses_checking import assert_same, trained
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import (
    AdaptiveLayerLoss,
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    TripletLoss,
)
from sentence_transformers.losses.base import Embed, Loss, Objective
from sentence_transformers.losses.joining import alike, join

COLUMNS = (
    ["a cat", "the dog sat on the mat", "hello"],
    ["one two three four five six seven eight nine ten eleven", "b", "world"],
    ["x y z", "the cat", "a b c d e f g"],
)


class Apart:
    """Each column by itself, whatever the others are. To be put before a loss."""

    def run(self, features: list[Any], labels: Tensor | None, objective: Objective, embed: Embed | None = None) -> Any:
        return objective([(embed or self.embed)(column) for column in features], labels)  # type: ignore[attr-defined]


class ApartRanking(Apart, MultipleNegativesRankingLoss):
    """One with negatives of the batch."""


class ApartTriplet(Apart, TripletLoss):
    """One without."""


LOSSES: dict[str, tuple[Callable[[Any], Loss], Callable[[Any], Loss]]] = {
    "ranking": (MultipleNegativesRankingLoss, ApartRanking),
    "triplet": (TripletLoss, ApartTriplet),
    "widths": (
        lambda model: MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [32, 8]),
        lambda model: MatryoshkaLoss(model, ApartRanking(model), [32, 8]),
    ),
    "layers": (
        lambda model: AdaptiveLayerLoss(model, MultipleNegativesRankingLoss(model)),
        lambda model: AdaptiveLayerLoss(model, ApartRanking(model)),
    ),
}


@pytest.fixture
def opened(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    """Family -> its model in float64, without dropout."""
    return lambda family: SentenceTransformer(
        str(tiny_folder(family)), device="cpu", model_kwargs={"dtype": "float64"}
    ).eval()


def prepared(model: Any, columns: Any = COLUMNS) -> list[dict[str, Any]]:
    return [model.preprocess(list(column)) for column in columns]


def calls_of(model: nn.Module) -> list[int]:
    """How many inputs each forward pass gets, from now on."""
    calls: list[int] = []
    model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0]["input_ids"])))
    return calls


@pytest.mark.parametrize(
    ("kind", "family"), [*product(sorted(LOSSES), ["bert", "mpnet", "roberta", "llama", "gpt2"]), ("ranking", "t5")]
)
def test_values_and_gradients_are_those_of_columns_apart(kind: str, family: str, opened: Any) -> None:
    model = opened(family)
    joined, apart = LOSSES[kind]
    features = prepared(model)
    assert_same(trained(joined(model), features, None), trained(apart(model), features, None))


@pytest.mark.parametrize("family", ["qwen3", "modernbert"])
def test_left_padding_and_windows(family: str, opened: Any) -> None:
    model = opened(family)
    features = prepared(model)
    found = trained(MultipleNegativesRankingLoss(model), features, None)
    assert_same(found, trained(ApartRanking(model), features, None), 1e-5)  # their norms are float32


def test_where_padding_costs_nothing_all_columns_go_together(opened: Any) -> None:
    model = opened("bert")
    features, calls = prepared(model), calls_of(model)
    MultipleNegativesRankingLoss(model)(features)
    assert calls == [9]


def test_for_a_padded_forward_only_columns_of_nearly_one_length_go_together(opened: Any) -> None:
    model = opened("gpt2")
    features = prepared(model, [["a", "b"], *COLUMNS[1:], COLUMNS[1]])
    calls = calls_of(model)
    MultipleNegativesRankingLoss(model).run(features, None, lambda embeddings, labels: torch.zeros(()))
    assert sorted(calls) == [2, 3, 6]


def test_rows_stay_with_their_columns(opened: Any) -> None:
    model = opened("bert")
    got: list[list[Tensor]] = []
    loss = MultipleNegativesRankingLoss(model)
    features = prepared(model)
    loss.run(features, None, lambda embeddings, labels: got.append(embeddings) or torch.zeros(()))  # type: ignore[func-returns-value]
    for column, found in zip(COLUMNS, got[0], strict=True):
        torch.testing.assert_close(found, model.encode(column, convert_to_tensor=True), rtol=1e-12, atol=1e-12)


def test_features_stay_as_they_were(opened: Any) -> None:
    model = opened("bert")
    features = prepared(model)
    before = [{name: (id(value), str(value)) for name, value in column.items()} for column in features]
    MultipleNegativesRankingLoss(model)(features)
    assert [{name: (id(value), str(value)) for name, value in column.items()} for column in features] == before


def test_a_gradient_cache_drops_the_same_twice(tiny_folder: Callable[[str], Path]) -> None:
    folder = str(tiny_folder("bert"))
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "float64"}).train()
    features = prepared(model)
    assert model[0].trains_without_padding
    cached = CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)  # a column each, so that both draw the same
    found = trained(cached, features, None)
    assert_same(found, trained(ApartRanking(model), features, None))
    with pytest.raises(AssertionError):
        assert_same(found, trained(MultipleNegativesRankingLoss(model.eval()), features, None), 1e-3)


# --- which columns are alike -----------------------------------------------------------------------------------------


def column(width: int, **more: Any) -> dict[str, Any]:
    ids = torch.full((2, width), 7)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "modality": "text", **more}


@pytest.mark.parametrize(
    "other",
    [
        column(5, task="query"),
        column(5, modality="image"),
        column(5, token_type_ids=torch.zeros(2, 5)),
        column(5, pixel_values=torch.zeros(2, 3)),
        column(5, notes=["x"]),
        {"input_ids": torch.arange(10), "attention_mask": torch.ones(10), "modality": "text"},
        {"input_ids": torch.arange(10), "offsets": torch.tensor([0, 5]), "modality": "text"},
        {"sentence_embedding": torch.zeros(2, 4)},
    ],
)
def test_columns_that_differ_in_more_than_their_texts_stay_apart(other: dict[str, Any]) -> None:
    assert alike([column(5), other], padding_is_free=True) == [[0], [1]]
    assert alike([other, other] if "input_ids" not in other else [other, column(5)], padding_is_free=True)[0] == [0]


def test_columns_of_two_kinds_make_two_groups_in_order() -> None:
    columns = [column(3, task="query"), column(9), column(4, task="query"), column(8)]
    assert alike(columns, padding_is_free=True) == [[0, 2], [1, 3]]


def test_without_free_padding_a_short_column_stays_apart() -> None:
    columns = [column(3), column(40), column(39), column(38)]
    assert alike(columns, padding_is_free=False) == [[0], [1, 2, 3]]


def test_padding_goes_where_a_column_has_it() -> None:
    left, right = column(3), column(2)
    left["attention_mask"][0, 0] = 0
    joined = join([left, right, column(4)], padding_id=1)
    assert joined["input_ids"].tolist() == [[1, 7, 7, 7], [1, 7, 7, 7], [7, 7, 1, 1], [7, 7, 1, 1], [7] * 4, [7] * 4]
    assert joined["attention_mask"].tolist() == [
        [0, 0, 1, 1],
        [0, 1, 1, 1],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1] * 4,
        [1] * 4,
    ]
    assert joined["modality"] == "text"
