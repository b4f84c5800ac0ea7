"""Losses around a loss: widths against the loop over them, layers against one pass for each, both with a cache."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from losses_checking import assert_agrees, assert_same, trained
from losses_pairs_facts import TEXT_SCORES, TEXTS, Given, column
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.base import Loss
from sentence_transformers.losses.distillation import MarginMSELoss, MSELoss
from sentence_transformers.losses.gradcache import GradCache
from sentence_transformers.losses.pairs import CosineSimilarityLoss
from sentence_transformers.losses.regularisation import GlobalOrthogonalRegularizationLoss
from sentence_transformers.losses.wrappers import AdaptiveLayerLoss, Matryoshka2dLoss, MatryoshkaLoss
from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer import Transformer

A, B, C = (column(seed, rows=5) for seed in range(3))
MARGINS = torch.tensor([0.5, 0.25, 1.0, 0.0, -0.5], dtype=torch.float64)


def cut(rows: Tensor, width: int) -> Tensor:
    return F.normalize(rows[:, :width], dim=1)


class Cached(GradCache, CosineSimilarityLoss):
    """Any objective will do."""

    def __init__(self, model: nn.Module, mini_batch_size: int = 2) -> None:
        super().__init__(model)
        self.keep_parts(mini_batch_size, None, False)


class Classified(GradCache, MSELoss):
    """One with parameters of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, projection_dim=6)
        self.keep_parts(2, None, False)


class Tiny(nn.Module):
    """Two layers with dropout on given numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        layers = [nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.3), nn.Linear(9, 6)]
        self.layers = nn.Sequential(*layers).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def get_embedding_dimension(self) -> int:
        return 6

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": self.layers(features["given"])}


# --- widths ----------------------------------------------------------------------------------------------------------


def test_a_loss_is_summed_over_widths() -> None:
    model = Given()
    weights = {2: 1, 6: 10, 4: 100}
    loss = MatryoshkaLoss(model, MarginMSELoss(model), list(weights), list(weights.values()))

    def slow(*columns: Tensor) -> Tensor:
        return sum(
            weight * MarginMSELoss(model).compute_loss_from_embeddings([cut(one, width) for one in columns], MARGINS)
            for width, weight in weights.items()
        )

    assert_agrees(loss, [A, B, C], MARGINS, slow)


def test_labels_that_are_embeddings_are_cut_too() -> None:
    model = Given()
    teacher = torch.stack([column(7, rows=5), column(8, rows=5)], dim=1)

    def slow(a: Tensor, b: Tensor) -> Tensor:
        students = {width: torch.stack([cut(a, width), cut(b, width)], dim=1) for width in (6, 3)}
        return sum((found - teacher[..., :width]).square().mean() for width, found in students.items())

    assert_agrees(MatryoshkaLoss(model, MSELoss(model), [6, 3]), [A, B], teacher, slow)


def test_labels_for_each_row_are_not_cut() -> None:
    model = Given()
    six = torch.linspace(0, 1, 6, dtype=torch.float64)  # as many rows as the embeddings are wide
    rows = [column(seed, rows=6) for seed in range(2)]
    inner = CosineSimilarityLoss(model)
    expected = sum(inner.compute_loss_from_embeddings([cut(one, width) for one in rows], six) for width in (6, 3))
    found = MatryoshkaLoss(model, inner, [6, 3])([{"given": one} for one in rows], six)
    torch.testing.assert_close(found, expected)


def test_parts_of_a_loss_stay_parts() -> None:
    model = Given()
    inner = GlobalOrthogonalRegularizationLoss(model)
    found = MatryoshkaLoss(model, inner, [6, 2], [1, 3])([{"given": A}])
    wide, narrow = (inner.compute_loss_from_embeddings([cut(A, width)]) for width in (6, 2))
    assert isinstance(found, dict)
    assert list(found) == ["gor_mean", "gor_second_moment"]
    for name, value in found.items():
        torch.testing.assert_close(value, wide[name] + 3 * narrow[name])


def test_widths_are_sorted_with_their_weights() -> None:
    loss = MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [2, 6, 4], [1, 2, 3])
    assert (loss.matryoshka_dims, loss.matryoshka_weights) == ((6, 4, 2), (2, 3, 1))


def test_some_widths_are_drawn_for_every_batch() -> None:
    model = Given()
    inner = CosineSimilarityLoss(model)
    loss = MatryoshkaLoss(model, inner, [6, 4, 3, 2], [1, 10, 100, 1000], n_dims_per_step=2)
    by_width = {
        width: weight * inner.compute_loss_from_embeddings([cut(A, width), cut(B, width)], MARGINS).item()
        for width, weight in zip(loss.matryoshka_dims, loss.matryoshka_weights, strict=True)
    }
    drawn = set()
    for seed in range(8):
        random.seed(seed)
        chosen = [loss.matryoshka_dims[place] for place in random.sample(range(4), 2)]
        random.seed(seed)
        found = loss([{"given": A}, {"given": B}], MARGINS)
        assert found.item() == pytest.approx(sum(by_width[width] for width in chosen))
        drawn.add(frozenset(chosen))
    assert len(drawn) > 2


@pytest.mark.parametrize("count", [0, -1, 2, 9])
def test_all_widths_are_used_where_fewer_are_not_asked_for(count: int) -> None:
    loss = MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [6, 2], n_dims_per_step=count)
    every = MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [6, 2])
    features = [{"given": A}, {"given": B}]
    assert torch.equal(loss(features, MARGINS), every(features, MARGINS))


@pytest.mark.parametrize(
    ("widths", "weights", "message"),
    [
        ([], None, "You must provide at least one dimension in matryoshka_dims"),
        ([6, 0], None, "All dimensions passed to a matryoshka loss must be > 0"),
        ([6, -2], None, "All dimensions passed to a matryoshka loss must be > 0"),
        ([7, 6], None, "cannot exceed the model's embedding dimension of 6"),
        ([6, 2], [1.0], "matryoshka_weights must be the same length as matryoshka_dims"),
    ],
)
def test_widths_that_cannot_be_are_refused(widths: list[int], weights: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), widths, weights)


def test_embeddings_narrower_than_the_model_says_are_refused() -> None:
    loss = MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [6, 2])
    with pytest.raises(ValueError, match="Dimension 6 in matryoshka_dims cannot be greater .* dimension: 3"):
        loss.compute_loss_from_embeddings([A[:, :3], B[:, :3]], MARGINS)


def test_a_full_width_that_is_not_trained_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [6, 2])
        assert not caplog.records
        MatryoshkaLoss(Given(), CosineSimilarityLoss(Given()), [4, 2])
    assert "embedding dimension 6 is not in matryoshka_dims [4, 2]" in caplog.text


@pytest.mark.parametrize("widths", [[6, 4, 1], [6]])
@pytest.mark.parametrize("training", [True, False])
def test_a_cache_inside_changes_nothing(widths: list[int], training: bool) -> None:
    model = Tiny().train(training)
    features = [{"given": A}, {"given": B}]
    cached = MatryoshkaLoss(model, Cached(model, 5), widths)  # whole columns, so that dropout drops the same
    plain = MatryoshkaLoss(model, CosineSimilarityLoss(model), widths)
    assert_same(trained(cached, features, MARGINS), trained(plain, features, MARGINS))


def test_the_size_of_cached_parts_changes_nothing() -> None:
    model = Tiny().eval()
    features = [{"given": A}, {"given": B}]
    expected = trained(MatryoshkaLoss(model, CosineSimilarityLoss(model), [6, 3]), features, MARGINS)
    for size in (1, 2, 3, 9):
        assert_same(trained(MatryoshkaLoss(model, Cached(model, size), [6, 3]), features, MARGINS), expected)


def test_a_cached_loss_with_parameters_is_wrapped_too() -> None:
    model = Tiny().eval()
    cached, plain = Classified(model).double(), MSELoss(model, projection_dim=6).double()
    plain.load_state_dict(cached.state_dict())
    labels = column(7, rows=5)
    found, expected = (
        trained(MatryoshkaLoss(model, loss, [6]), [{"given": A}, {"given": B}], labels) for loss in (cached, plain)
    )
    assert "loss.projection.weight" in expected[1]
    assert_same(found, expected)


def test_the_inner_loss_runs_the_model_of_the_outer_one() -> None:
    loss = MatryoshkaLoss(Given(), MatryoshkaLoss(Given(), Cached(Given()), [6]), [6])
    swapped = Tiny().eval()
    loss.model = swapped
    expected = MatryoshkaLoss(swapped, CosineSimilarityLoss(swapped), [6])
    features = [{"given": A}, {"given": B}]
    torch.testing.assert_close(loss(features, MARGINS), expected(features, MARGINS))


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bert(tiny_folder: Callable[[str], Path]) -> Any:
    """Three layers, pooling, and a Dense to width 6; in float64, without dropout."""
    transformer = Transformer(str(tiny_folder("bert")))
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[transformer, Pooling(32), Dense(32, 6)], device="cpu")
    return model.double().eval()


def texts(model: Any) -> list[dict[str, Any]]:
    return [model.preprocess(list(some)) for some in TEXTS]


def behind(model: Any, features: dict[str, Any], layer: int) -> Tensor:
    """The embeddings of the model without the layers from ``layer`` on, by a pass of its own."""
    transformer, *later = model
    states = transformer.auto_model(
        **{name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids")},
        output_hidden_states=True,
    ).hidden_states
    below = {"token_embeddings": states[layer], "attention_mask": features["attention_mask"]}
    for module in later:
        below = module(below)
    return below["sentence_embedding"]


class Layered(Loss):
    """The slow formula: a pass for each layer and column."""

    def __init__(self, model: nn.Module, loss: Loss, layers: list[int], weights: dict[int, float], kl: Any) -> None:
        super().__init__(model)
        self.loss, self.layers, self.weights, self.kl = loss, layers, weights, kl

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> Tensor:
        def loss_at(layer: int) -> Any:
            columns = [behind(self.model, one, layer) for one in sentence_features]
            return columns, self.loss.compute_loss_from_embeddings(columns, labels)

        last, value = loss_at(3)
        value = self.weights[3] * value
        weight, temperature = self.kl
        for layer in self.layers:
            columns, one = loss_at(layer)
            value = value + self.weights[layer] * one / len(self.layers)
            for found, target in zip(columns, last, strict=True):
                for x, y in zip(found, target.detach(), strict=True):
                    p, q = (side.div(temperature).exp() / side.div(temperature).exp().sum() for side in (y, x))
                    value = value + weight * temperature * (p * (p / q).log()).sum() / (len(found) * len(columns))
        return value


def slow_layers(bert: Any, inner: Loss, layers: list[int], weights: Any = (1, 1, 1, 1), kl: Any = (1, 0.3)) -> Any:
    return trained(Layered(bert, inner, layers, dict(enumerate(weights)), kl), texts(bert), TEXT_SCORES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2])
def test_layers_are_drawn_and_learn_from_the_last(bert: Any, seed: int, count: int) -> None:
    random.seed(seed)
    layers = random.sample(range(3), count)
    inner = CosineSimilarityLoss(bert)
    loss = AdaptiveLayerLoss(bert, inner, n_layers_per_step=count)
    loss.zero_grad()
    random.seed(seed)
    value = loss(texts(bert), TEXT_SCORES)
    value.backward()  # type: ignore[union-attr]
    gradients = {name: one.grad.clone() for name, one in loss.named_parameters() if one.grad is not None}
    assert_same((value.detach(), gradients), slow_layers(bert, inner, layers), 1e-10)  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, -1, 3, 7])
def test_all_layers_learn_where_fewer_are_not_asked_for(bert: Any, count: int) -> None:
    inner = CosineSimilarityLoss(bert)
    found = trained(AdaptiveLayerLoss(bert, inner, n_layers_per_step=count), texts(bert), TEXT_SCORES)
    assert_same(found, slow_layers(bert, inner, [0, 1, 2]), 1e-10)


WEIGHTINGS: dict[str, Any] = {
    "uniform": [1, 1, 1],
    "log": [1, 1 / (1 + math.log(2)), 1 / (1 + math.log(3))],
    "linear": [1, 1 / 2, 1 / 3],
}


@pytest.mark.parametrize("weighting", [*WEIGHTINGS, lambda layer: 10.0**layer])
def test_layers_and_divergence_are_weighted(bert: Any, weighting: Any) -> None:
    of_layers = WEIGHTINGS[weighting] if isinstance(weighting, str) else [1, 10, 100]
    inner = CosineSimilarityLoss(bert)
    loss = AdaptiveLayerLoss(bert, inner, -1, 2.0, 0.5, 0.7, 0.9, weighting)
    weights = [*(0.5 * one for one in of_layers), 2.0]
    found = trained(loss, texts(bert), TEXT_SCORES)
    assert_same(found, slow_layers(bert, inner, [0, 1, 2], weights, (0.7, 0.9)), 1e-10)


@pytest.mark.parametrize("arguments", [{"kl_div_weight": 0}, {"kl_temperature": 0}])
def test_the_divergence_can_be_left_out(bert: Any, arguments: dict[str, float]) -> None:
    inner = CosineSimilarityLoss(bert)
    loss = AdaptiveLayerLoss(bert, inner, -1, **arguments)  # type: ignore[arg-type]
    assert_same(trained(loss, texts(bert), TEXT_SCORES), slow_layers(bert, inner, [0, 1, 2], kl=(0, 1)), 1e-10)


def test_the_divergence_does_not_move_the_last_layer(bert: Any) -> None:
    loss = AdaptiveLayerLoss(bert, CosineSimilarityLoss(bert), -1, last_layer_weight=0, prior_layers_weight=0)
    _, gradients = trained(loss, texts(bert), TEXT_SCORES)
    of_layer = {
        layer: sum(one.abs().sum() for name, one in gradients.items() if f"layer.{layer}." in name)
        for layer in range(3)
    }
    assert of_layer[2] == 0
    assert of_layer[1] > 0


def test_parts_of_a_loss_stay_parts_behind_layers(bert: Any) -> None:
    found = AdaptiveLayerLoss(bert, GlobalOrthogonalRegularizationLoss(bert))(texts(bert))
    assert list(found) == ["gor_mean", "gor_second_moment", "kl_div"]


@pytest.mark.parametrize("kind", [CosineSimilarityLoss, Cached])
def test_every_layer_comes_out_of_one_pass(bert: Any, kind: Any) -> None:
    passes = []
    bert[0].auto_model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    bert.train()
    loss = AdaptiveLayerLoss(bert, kind(bert), n_layers_per_step=-1)
    loss(texts(bert), TEXT_SCORES).backward()  # type: ignore[union-attr]
    assert passes.count(True) == (2 if kind is CosineSimilarityLoss else 4)  # a column, or two parts of it, at a time


def test_the_config_of_the_transformer_stays_as_it_was(bert: Any) -> None:
    loss = AdaptiveLayerLoss(bert, CosineSimilarityLoss(bert))
    loss(texts(bert), TEXT_SCORES)
    assert bert[0].config.output_hidden_states is False
    with pytest.raises(ValueError, match="input_ids"):
        loss([{"nothing": A}, {"nothing": B}], TEXT_SCORES)
    assert bert[0].config.output_hidden_states is False
    bert[0].config.output_hidden_states = True
    loss(texts(bert), TEXT_SCORES)
    assert bert[0].config.output_hidden_states is True


@pytest.mark.parametrize("draws", [{}, {"n_layers_per_step": -1, "n_dims_per_step": -1}])
def test_a_cache_inside_layers_and_widths_changes_nothing(bert: Any, draws: dict[str, int]) -> None:
    cached, plain = (
        trained(Matryoshka2dLoss(bert, kind(bert), [6, 3, 2], **draws), texts(bert), TEXT_SCORES)  # type: ignore[arg-type]
        for kind in (Cached, CosineSimilarityLoss)
    )
    # the first pass of the cache is without gradients: there the native engine computes, exact to its own rounding
    assert_same(cached, plain, 1e-10)


def test_two_steps_with_a_cache_may_be_open_at_once(bert: Any) -> None:
    loss = AdaptiveLayerLoss(bert, Cached(bert), n_layers_per_step=1)

    def gradients_of(seeds: list[int], at_once: bool) -> dict[str, Tensor]:
        loss.zero_grad()
        open_steps = []
        for seed in seeds:
            random.seed(seed)
            open_steps.append(loss(texts(bert), TEXT_SCORES))
            if not at_once:
                open_steps.pop().backward()
        for value in open_steps:
            value.backward()
        return {name: one.grad.clone() for name, one in bert.named_parameters() if one.grad is not None}

    # seeds 0 and 1 draw layers 1 and 0
    assert_same((0, gradients_of([0, 1], at_once=True)), (0, gradients_of([0, 1], at_once=False)), 1e-10)


def test_a_wrapped_encoder_is_found_within(bert: Any) -> None:
    class Parallel(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, features: dict[str, Any]) -> Any:
            return self.module(features)

    loss = AdaptiveLayerLoss(bert, CosineSimilarityLoss(bert), -1)
    expected = loss(texts(bert), TEXT_SCORES)
    loss.model = Parallel(bert)
    assert torch.equal(loss(texts(bert), TEXT_SCORES), expected)


def test_both_is_widths_within_layers(bert: Any) -> None:
    inner = CosineSimilarityLoss(bert)
    found = trained(Matryoshka2dLoss(bert, inner, [6, 3], [1, 5], -1, -1), texts(bert), TEXT_SCORES)
    assert_same(found, slow_layers(bert, MatryoshkaLoss(bert, inner, [6, 3], [1, 5]), [0, 1, 2]), 1e-10)


def test_layers_need_a_transformer(bert: Any) -> None:
    with pytest.raises(ValueError, match="needs an encoder whose first module is a Transformer; got Given"):
        AdaptiveLayerLoss(Given(), CosineSimilarityLoss(Given()))
    with pytest.raises(ValueError, match="needs an encoder whose first module is a Transformer; got Pooling"):
        pooled = SentenceTransformer(modules=[Pooling(32)], device="cpu")
        AdaptiveLayerLoss(pooled, CosineSimilarityLoss(pooled))


def test_layers_are_the_outermost_loss(bert: Any) -> None:
    loss = MatryoshkaLoss(bert, AdaptiveLayerLoss(bert, CosineSimilarityLoss(bert)), [6, 3])
    with pytest.raises(NotImplementedError, match="AdaptiveLayerLoss needs the layers .* make it the outermost"):
        loss(texts(bert), TEXT_SCORES)


def test_an_unknown_weighting_is_refused(bert: Any) -> None:
    with pytest.raises(ValueError, match='layer_weighting must be "uniform", "log", "linear", or a callable'):
        AdaptiveLayerLoss(bert, CosineSimilarityLoss(bert), layer_weighting="square")


def test_configurations_and_citations(bert: Any) -> None:
    layers = {
        "loss": "CosineSimilarityLoss",
        "n_layers_per_step": 1,
        "last_layer_weight": 1.0,
        "prior_layers_weight": 1.0,
        "kl_div_weight": 1.0,
        "kl_temperature": 0.3,
        "layer_weighting": "uniform",
    }
    widths = {"matryoshka_dims": [6, 3], "matryoshka_weights": [1, 1], "n_dims_per_step": 1}
    inner = CosineSimilarityLoss(bert)
    adaptive, both = AdaptiveLayerLoss(bert, inner), Matryoshka2dLoss(bert, inner, [3, 6])
    assert adaptive.get_config_dict() == layers
    assert both.get_config_dict() == {**layers, **widths}
    assert "2D" in adaptive.citation
    assert "Matryoshka Representation Learning" in MatryoshkaLoss(bert, inner, [6]).citation
