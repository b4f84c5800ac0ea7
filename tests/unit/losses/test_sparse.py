"""Losses of sparse encoders: parts against slow formulas, any way to run the columns, small models in training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
import torch
from losses_checking import assert_agrees, assert_same, trained
from losses_sparse_facts import TEXTS, Handed, Largest, column
from torch import Tensor, nn

from sentence_transformers import SparseEncoder
from sentence_transformers.losses.base import Loss
from sentence_transformers.losses.contrastive import (
    CachedMultipleNegativesRankingLoss,
)
from sentence_transformers.losses.regularisation import GlobalOrthogonalRegularizationLoss
from sentence_transformers.losses.sparse import (
    CachedSpladeLoss,
    CSRLoss,
    CSRReconstructionLoss,
    FlopsLoss,
    SparseMSELoss,
    SpladeLoss,
)
from sentence_transformers.losses.sparse_inner import SparseMarginMSELoss, SparseMultipleNegativesRankingLoss
from sentence_transformers.losses.wrappers import AdaptiveLayerLoss, MatryoshkaLoss

COLUMNS = [column(seed) for seed in range(3)]
FEATURES: list[dict[str, Any]] = [{"given": one} for one in COLUMNS]
MARGINS = torch.linspace(-1, 1, len(COLUMNS[0]), dtype=torch.float64)


class Layers(nn.Module):
    """Two layers on given numbers; the embeddings are sparse."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        layers = [nn.Linear(6, 9), nn.Tanh(), nn.Dropout(dropout), nn.Linear(9, 8), nn.ReLU()]
        self.layers = nn.Sequential(*layers).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": self.layers(features["given"])}


class Theirs(nn.Module):
    """A loss of somebody, which can only be computed from embeddings."""

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        return (embeddings[0] * embeddings[1]).sum().tanh() + 0 * torch.cat(embeddings).sum()


def splade(model: nn.Module, **arguments: Any) -> SpladeLoss:
    given = {"document_regularizer_weight": 0.3, "query_regularizer_weight": 0.7} | arguments
    return SpladeLoss(model, SparseMarginMSELoss(model), **given)


def slow_flops(*columns: Tensor) -> Tensor:
    return (sum(row for one in columns for row in one) / sum(len(one) for one in columns)).square().sum()


def slow_margins(query: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    errors = [(q @ p - q @ n - margin) ** 2 for q, p, n, margin in zip(query, positive, negative, MARGINS, strict=True)]
    return sum(errors) / len(errors)


# --- SPLADE ----------------------------------------------------------------------------------------------------------


def test_parts_are_the_loss_inside_and_the_costs_of_documents_and_queries() -> None:
    found = splade(Handed())(FEATURES, MARGINS)
    assert list(found) == ["base_loss", "document_regularizer_loss", "query_regularizer_loss"]
    expected = [slow_margins(*COLUMNS), 0.3 * slow_flops(*COLUMNS[1:]), 0.7 * slow_flops(COLUMNS[0])]
    torch.testing.assert_close(torch.stack(list(found.values())), torch.stack(expected))


def test_gradients_are_those_of_the_sum() -> None:
    def slow(*columns: Tensor) -> Tensor:
        return slow_margins(*columns) + 0.3 * slow_flops(*columns[1:]) + 0.7 * slow_flops(columns[0])

    assert_agrees(splade(Handed()), COLUMNS, MARGINS, slow)


def test_all_columns_may_be_documents() -> None:
    def slow(*columns: Tensor) -> Tensor:
        return slow_margins(*columns) + 0.3 * slow_flops(*columns)

    loss = splade(Handed(), query_regularizer_weight=None, use_document_regularizer_only=True)
    assert_agrees(loss, COLUMNS, MARGINS, slow)
    assert list(loss(FEATURES, MARGINS)) == ["base_loss", "document_regularizer_loss"]


def test_queries_cost_nothing_without_a_weight() -> None:
    loss = splade(Handed(), query_regularizer_weight=None)
    assert_agrees(loss, COLUMNS, MARGINS, lambda *some: slow_margins(*some) + 0.3 * slow_flops(*some[1:]))


def test_thresholds_are_those_of_each_side() -> None:
    loss = splade(Handed(), document_regularizer_threshold=4, query_regularizer_threshold=6)
    found = loss(FEATURES, MARGINS)
    many = [one * ((one != 0).sum(1, keepdim=True) > 4) for one in COLUMNS[1:]]
    torch.testing.assert_close(found["document_regularizer_loss"], 0.3 * slow_flops(*many))
    assert 0 < found["document_regularizer_loss"] < splade(Handed())(FEATURES, MARGINS)["document_regularizer_loss"]
    assert found["query_regularizer_loss"] == 0


def test_regularizers_of_others_get_all_documents_or_all_queries() -> None:
    found = splade(Handed(), document_regularizer=Largest(), query_regularizer=Largest())(FEATURES, MARGINS)
    torch.testing.assert_close(found["document_regularizer_loss"], 0.3 * torch.cat(COLUMNS[1:]).amax(1).mean())
    torch.testing.assert_close(found["query_regularizer_loss"], 0.7 * COLUMNS[0].amax(1).mean())


def test_weights_are_read_at_every_step() -> None:
    loss = splade(Handed())
    loss.document_regularizer_weight, loss.query_regularizer_weight = 0.0, 1.4
    changed = loss(FEATURES, MARGINS)
    assert changed["document_regularizer_loss"] == 0
    torch.testing.assert_close(changed["query_regularizer_loss"], 1.4 * slow_flops(COLUMNS[0]))


def test_parts_of_the_loss_inside_stay_parts() -> None:
    model = Handed()
    inner = GlobalOrthogonalRegularizationLoss(model)
    found = SpladeLoss(model, inner, 0.3, 0.7)(FEATURES)
    parts = inner.compute_loss_from_embeddings(COLUMNS)
    assert list(found) == ["gor_mean", "gor_second_moment", "document_regularizer_loss", "query_regularizer_loss"]
    assert {name: found[name] for name in parts} == parts


def test_the_loss_inside_may_have_several_widths() -> None:
    model = Handed()
    widths = MatryoshkaLoss(model, SparseMarginMSELoss(model), [6, 3])
    found = SpladeLoss(model, widths, 0.3, 0.7)(FEATURES, MARGINS)
    expected = splade(model)(FEATURES, MARGINS)
    torch.testing.assert_close(found["base_loss"], widths.compute_loss_from_embeddings(COLUMNS, MARGINS))
    assert found["document_regularizer_loss"] == expected["document_regularizer_loss"]


def test_a_loss_of_somebody_else_is_asked_for_embeddings_only() -> None:
    model = Layers()
    plain, cached = (kind(model, Theirs(), 0.3, 0.7) for kind in (SpladeLoss, CachedSpladeLoss))
    cached.mini_batch_size = 3
    assert_same(trained(cached, FEATURES, None), trained(plain, FEATURES, None))


@pytest.mark.parametrize("kind", [SpladeLoss, CachedSpladeLoss, CSRLoss])
@pytest.mark.parametrize("inner", [nn.Identity, lambda: Loss(Handed())], ids=["module", "loss"])
def test_losses_that_need_more_than_embeddings_are_refused(kind: type[Any], inner: Callable[[], nn.Module]) -> None:
    message = "The provided loss does not have a 'compute_loss_from_embeddings' method, which is required for "
    with pytest.raises(ValueError, match=message + kind.__name__):
        kind(Handed(), inner(), 0.3)


@pytest.mark.parametrize("side", ["document_regularizer", "query_regularizer"])
def test_regularizers_that_need_more_than_embeddings_are_refused(side: str) -> None:
    with pytest.raises(ValueError, match="The provided regularizer does not have a 'compute_loss_from_embeddings'"):
        splade(Handed(), **{side: nn.Identity()})


def test_a_query_without_documents_is_refused() -> None:
    model = Handed()
    one = GlobalOrthogonalRegularizationLoss(model)
    with pytest.raises(ValueError, match="SpladeLoss expects at least 2 columns .a query and a document., but got 1"):
        SpladeLoss(model, one, 0.3, 0.7)(FEATURES[:1])
    assert SpladeLoss(model, one, 0.3, use_document_regularizer_only=True)(FEATURES[:1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, None),
        ({"query_regularizer_weight": None}, "query_regularizer_weight is None"),
        ({"use_document_regularizer_only": True}, "query_regularizer_weight is ignored"),
        ({"use_document_regularizer_only": True, "query_regularizer_weight": None}, None),
    ],
)
def test_queries_that_may_get_dense_are_told(
    arguments: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        splade(Handed(), **arguments)
    assert [told in record.message for record in caplog.records] == [] if told is None else told in caplog.text


def test_configuration_names_what_was_given() -> None:
    assert splade(Handed(), query_regularizer_weight=0.0).get_config_dict() == {
        "loss": "SparseMarginMSELoss",
        "document_regularizer_weight": 0.3,
        "query_regularizer_weight": 0.0,
    }
    more = splade(
        Handed(),
        query_regularizer_weight=None,
        document_regularizer_threshold=0,
        query_regularizer=Largest(),
        query_regularizer_threshold=2,
        use_document_regularizer_only=True,
    )
    assert more.get_config_dict() == {
        "loss": "SparseMarginMSELoss",
        "document_regularizer_weight": 0.3,
        "query_regularizer": f"{Largest.__module__}.Largest",
        "document_regularizer_threshold": 0,
        "use_document_regularizer_only": True,
    }


def test_configuration_and_citation_of_the_cached_one() -> None:
    model = Handed()
    loss = CachedSpladeLoss(model, SparseMarginMSELoss(model), 0.3, 0.7, mini_batch_size=5)
    assert loss.get_config_dict() == {
        "loss": "SparseMarginMSELoss",
        "document_regularizer_weight": 0.3,
        "query_regularizer_weight": 0.7,
        "mini_batch_size": 5,
        "mini_batch_num_tokens": None,
        "show_progress_bar": False,
    }
    assert "Hard Negative Sampling" in splade(model).citation
    assert "Hard Negative Sampling" in loss.citation
    assert "Scaling Deep Contrastive" in loss.citation


# --- run in parts ----------------------------------------------------------------------------------------------------


def cached_outside(model: nn.Module, size: int) -> nn.Module:
    return CachedSpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7, mini_batch_size=size)


def cached_inside(model: nn.Module, size: int) -> nn.Module:
    return SpladeLoss(model, CachedMultipleNegativesRankingLoss(model, 1.0, dot, mini_batch_size=size), 0.3, 0.7)


def dot(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("make", [cached_outside, cached_inside])
def test_a_cache_changes_nothing(make: Callable[[nn.Module, int], nn.Module], size: int) -> None:
    model = Layers()
    plain = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7)
    assert_same(trained(make(model, size), FEATURES, None), trained(plain, FEATURES, None))


def test_a_cache_drops_the_same_numbers_twice() -> None:
    model = Layers(dropout=0.4).train()
    plain = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7)
    assert_same(trained(cached_outside(model, 100), FEATURES, None), trained(plain, FEATURES, None))


def test_the_cached_parts_have_the_values_of_the_plain_ones() -> None:
    model = Layers()
    plain = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7)
    found, expected = cached_outside(model, 3)(FEATURES), plain(FEATURES)
    assert list(found) == list(expected)
    torch.testing.assert_close({**found}, {**expected}, rtol=1e-12, atol=1e-12)


def test_only_the_cached_one_says_so() -> None:
    model = Layers()
    inner = SparseMultipleNegativesRankingLoss(model)
    assert CachedSpladeLoss(model, inner, 0.3, 0.7).uses_gradient_cache
    assert not SpladeLoss(model, inner, 0.3, 0.7).uses_gradient_cache
    assert SpladeLoss(model, CachedMultipleNegativesRankingLoss(model), 0.3, 0.7).uses_gradient_cache


def test_several_widths_may_be_around() -> None:
    model = Layers()
    losses = [MatryoshkaLoss(model, make, [8, 4]) for make in (splade(model), cached_splade(model))]
    expected, found = (trained(one, FEATURES, MARGINS) for one in losses)
    assert_same(found, expected)


def cached_splade(model: nn.Module) -> CachedSpladeLoss:
    return CachedSpladeLoss(model, SparseMarginMSELoss(model), 0.3, 0.7, mini_batch_size=3)


# --- regularisers and reconstruction alone ---------------------------------------------------------------------------


def test_flops_of_several_columns_are_those_of_all_rows() -> None:
    loss = FlopsLoss(Handed())
    torch.testing.assert_close(loss.compute_loss_from_embeddings(COLUMNS), slow_flops(*COLUMNS))
    assert loss.compute_loss_from_embeddings(torch.cat(COLUMNS)) == loss.compute_loss_from_embeddings(COLUMNS)


@pytest.mark.parametrize("kind", [FlopsLoss, CSRReconstructionLoss])
def test_parts_of_losses_do_not_train_alone(kind: type[Any]) -> None:
    with pytest.raises(NotImplementedError, match=f"{kind.__name__} is not intended to be used"):
        kind(Handed())(FEATURES)
    assert kind(Handed()).citation


# --- small models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SparseEncoder]:
    folder = tmp_path_factory.mktemp("sparse")
    built: dict[str, Path] = {
        "splade": tiny_heads.build_splade(folder / "splade", "max", "relu"),
        "csr": tiny_heads.build_csr(folder / "csr"),
    }
    found = {}
    for name, where in built.items():
        found[name] = SparseEncoder(str(where), device="cpu").double()
        for module in found[name].modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return found


def of_texts(model: SparseEncoder) -> list[dict[str, Any]]:
    return [model.preprocess(texts) for texts in TEXTS]


@pytest.mark.parametrize("name", ["splade", "csr"])
@pytest.mark.parametrize("training", [True, False])
def test_embeddings_in_training_are_dense_tensors_with_gradients(
    models: dict[str, SparseEncoder], name: str, training: bool
) -> None:
    model = models[name].train(training)
    found = model(of_texts(model)[0])["sentence_embedding"]
    assert found.layout is torch.strided
    assert found.shape == (len(TEXTS[0]), model.get_embedding_dimension())
    model.zero_grad()
    found.sum().backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert len(gradients) > 10
    assert any(one.any() for one in gradients)


@pytest.mark.parametrize("training", [True, False])
def test_a_small_splade_model_gets_the_gradients_of_the_plain_loss(
    models: dict[str, SparseEncoder], training: bool
) -> None:
    model = models["splade"].train(training)
    expected = trained(SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7), of_texts(model), None)
    assert_same(trained(cached_outside(model, 2), of_texts(model), None), expected, 1e-10)


def test_a_teacher_trains_a_small_model(models: dict[str, SparseEncoder]) -> None:
    model = models["csr"].eval()
    with torch.no_grad():
        teacher = model(of_texts(model)[0])["sentence_embedding"]
    assert SparseMSELoss(model)(of_texts(model)[:1], teacher).item() == pytest.approx(0, abs=1e-20)


def test_layers_of_a_small_model_may_be_around(models: dict[str, SparseEncoder]) -> None:
    model = models["csr"].eval()
    inner = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.3, 0.7)
    found = AdaptiveLayerLoss(model, inner, n_layers_per_step=-1, kl_div_weight=0)(of_texts(model))
    assert list(found) == ["base_loss", "document_regularizer_loss", "query_regularizer_loss"]
    assert found["document_regularizer_loss"] > inner(of_texts(model))["document_regularizer_loss"]
