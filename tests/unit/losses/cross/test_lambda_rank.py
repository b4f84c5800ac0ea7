"""Losses on pairs of documents: every scheme against slow loops, schemes of users, settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from losses_listwise_facts import HOLE, LISTS, RAGGED, SCHEMES, Handed, batch, scores
from torch import Tensor

from sentence_transformers.losses.cross import lambda_rank
from sentence_transformers.losses.cross.lambda_rank import (
    BaseWeightingScheme,
    LambdaLoss,
    LambdaRankScheme,
    NDCGLoss1Scheme,
    NDCGLoss2PPScheme,
    NDCGLoss2Scheme,
    NoWeightingScheme,
    RankNetLoss,
)

Lists = list[list[float]]
SHAPES: dict[str, Lists] = {**LISTS, "hole": HOLE, "single": [[2.0]], "equal labels": [[1.0, 1.0], [0.0] * 3]}


def value_and_gradient(labels: Lists, values: Tensor, kind: Any = LambdaLoss, **settings: Any) -> tuple[Tensor, Tensor]:
    model = Handed(values)
    value = kind(model, **settings)(*batch(labels))
    (gradient,) = torch.autograd.grad(value, [model.values])
    return value.detach(), gradient


def discount(rank: int) -> float:
    return math.log2(1 + rank)


def slow_weight(scheme: str, gains: list[float], i: int, j: int, mu: float = 10.0) -> float:
    """Of the documents at rank i + 1 and j + 1."""
    apart = abs(gains[i] - gains[j])
    if scheme == "NoWeightingScheme":
        return 1.0
    if scheme == "NDCGLoss1Scheme":
        return gains[i] / discount(i + 1)
    if scheme == "NDCGLoss2Scheme":
        distance = abs(i - j)
        return abs(1 / discount(distance) - 1 / discount(distance + 1)) * apart if distance else 0.0
    if scheme == "LambdaRankScheme":
        return abs(1 / discount(i + 1) - 1 / discount(j + 1)) * apart
    return mu * slow_weight("NDCGLoss2Scheme", gains, i, j) + slow_weight("LambdaRankScheme", gains, i, j)


def slow_lambda(
    lists: list[Tensor], labels: Lists, scheme: str, k: int | None = None, sigma: float = 1.0, base: float = 2.0
) -> Tensor:
    total, count = torch.cat(lists).sum() * 0, 0
    for some, wanted in zip(lists, labels, strict=True):
        order = sorted(range(len(some)), key=lambda place: -some[place].item())
        reach = len(some) if k is None else k
        best = sorted((2 ** max(label, 0) - 1 for label in wanted), reverse=True)
        ideal = sum(gain / discount(rank) for rank, gain in enumerate(best[:reach], start=1))
        gains = [(2 ** max(wanted[place], 0) - 1) / max(ideal, 1e-10) for place in order]
        for i, upper in enumerate(order):
            for j, lower in enumerate(order):
                counts = scheme == "NDCGLoss1Scheme" or wanted[upper] > wanted[lower]
                if counts and min(i, j) < reach:
                    chance = 1 / (1 + (-sigma * (some[upper] - some[lower])).exp())
                    total = total - slow_weight(scheme, gains, i, j) * chance.log() / math.log(base)
                    count += 1
    return total / max(count, 1)


def assert_agrees(labels: Lists, scheme: str, settings: dict[str, Any], kind: Any = LambdaLoss, **slow: Any) -> None:
    values = scores(sum(map(len, labels)))
    leaf = values.clone().requires_grad_()
    expected = slow_lambda(list(leaf.split([len(some) for some in labels])), labels, scheme, **slow)
    (golden,) = torch.autograd.grad(expected, [leaf])
    value, gradient = value_and_gradient(labels, values, kind, **settings)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, golden, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("k", [None, 1, 2, 3, 20])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("which", SHAPES)
def test_pairs_are_weighed_by_the_scheme(which: str, scheme: str, k: int | None) -> None:
    settings = {"weighting_scheme": getattr(lambda_rank, scheme)(), "k": k}
    assert_agrees(SHAPES[which], scheme, settings, k=k)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("log", "base"), [("binary", 2.0), ("natural", math.e)])
def test_logarithms_are_to_the_base_asked_for(scheme: str, log: str, base: float) -> None:
    settings = {"weighting_scheme": getattr(lambda_rank, scheme)(), "reduction_log": log, "sigma": 2.5}
    assert_agrees(RAGGED, scheme, settings, sigma=2.5, base=base)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("which", SHAPES)
def test_ranknet_weighs_all_pairs_alike(which: str, k: int | None) -> None:
    settings = {"k": k, "reduction_log": "natural"}
    assert_agrees(SHAPES[which], "NoWeightingScheme", settings, RankNetLoss, k=k, base=math.e)


def test_hand_computed_values() -> None:
    values = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64)  # the worse document is first: chances 1/4, 3/4
    assert float(value_and_gradient([[1.0, 0.0]], values, RankNetLoss)[0]) == pytest.approx(2.0)  # -log2(1/4)
    # gains 0 and 1, at ranks 1 and 2: LambdaRank and NDCGLoss2 weigh 1 - 1 / log2(3)
    weight = 1 - 1 / math.log2(3)
    for scheme, factor in ((LambdaRankScheme, 1), (NDCGLoss2Scheme, 1), (NDCGLoss2PPScheme, 11)):
        found = value_and_gradient([[1.0, 0.0]], values, weighting_scheme=scheme())[0]
        assert float(found) == pytest.approx(2 * weight * factor)


def test_the_default_scheme_is_both_with_ten_times_the_bound() -> None:
    assert_agrees(RAGGED, "NDCGLoss2PPScheme", {})


def test_no_scheme_weighs_all_pairs_alike() -> None:
    assert_agrees(RAGGED, "NoWeightingScheme", {"weighting_scheme": None})


def test_a_scheme_may_be_given_as_a_class() -> None:
    assert_agrees(RAGGED, "LambdaRankScheme", {"weighting_scheme": LambdaRankScheme})


def test_mu_weighs_the_bound_and_can_be_changed() -> None:
    gain = torch.tensor([[0.5, 0.25, 0.0]], dtype=torch.float64)
    discounts = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64).log2()
    scheme = NDCGLoss2PPScheme(mu=3.0)
    bound, change = NDCGLoss2Scheme()(gain, discounts, gain), LambdaRankScheme()(gain, discounts, gain)
    torch.testing.assert_close(scheme(gain, discounts, gain), 3 * bound + change)
    scheme.mu = 0.0
    torch.testing.assert_close(scheme(gain, discounts, gain), change)


class Remembering(BaseWeightingScheme):
    """Keeps what it was called with."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        self.seen = (gain, discount, true_sorted)
        return gain.new_ones(())


def test_a_scheme_sees_the_documents_in_the_order_of_their_scores() -> None:
    scheme = Remembering()
    labels, values = [[1.0, 5.0, -1.0, 1.0], [3.0, 4.0]], torch.tensor([0.3, -1.2, 2.0, 0.7, 0.1, -0.4])
    value_and_gradient(labels, values, weighting_scheme=scheme, k=1)
    gain, discounts, true = scheme.seen
    torch.testing.assert_close(gain, torch.tensor([[0, 1 / 31, 1 / 31, 1], [7 / 15, 1, 0, 0]]))
    torch.testing.assert_close(discounts, torch.tensor([[2.0, 3.0, 4.0, 5.0]]).log2())
    assert true.tolist() == [[0, 1, 1, 5], [3, 4, 0, 0]]
    assert not gain.requires_grad


def test_gains_are_divided_by_the_best_of_all_ranks_without_k() -> None:
    scheme = Remembering()
    value_and_gradient([[0.0, 1.0, 1.0]], torch.tensor([2.0, 1.0, 0.0]), weighting_scheme=scheme)
    best = 1 + 1 / math.log2(3)
    torch.testing.assert_close(scheme.seen[0], torch.tensor([[0, 1 / best, 1 / best]]))


def test_eps_is_the_least_that_gains_are_divided_by() -> None:
    scheme = Remembering()
    value_and_gradient([[0.0, 1.0]], torch.tensor([2.0, 1.0]), weighting_scheme=scheme, eps=10.0)
    torch.testing.assert_close(scheme.seen[0], torch.tensor([[0.0, 0.1]]))


@pytest.mark.parametrize("top", [130.0, 1e4])
def test_gains_of_high_labels_are_finite(top: float) -> None:
    scheme = Remembering()
    values = torch.tensor([2.0, 1.0, 0.0])
    value_and_gradient([[top, 0.0, top - 1]], values, weighting_scheme=scheme)
    best = 1 + 0.5 / math.log2(3)
    torch.testing.assert_close(scheme.seen[0], torch.tensor([[1 / best, 0, 0.5 / best]]))


class Rows(BaseWeightingScheme):
    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        return (true_sorted + 1)[:, :, None]


class Unlimited(BaseWeightingScheme):
    """Not a number where labels are equal, which only pairs that do not count have."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        apart = true_sorted[:, :, None] - true_sorted[:, None, :]
        return apart / apart


def alike(gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
    return torch.ones(())


def test_a_scheme_of_the_user_weighs_rows() -> None:
    values = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64)
    found = value_and_gradient([[1.0, 0.0]], values, weighting_scheme=Rows())[0]
    assert float(found) == pytest.approx(2 * 2.0)


@pytest.mark.parametrize("scheme", [alike, Unlimited()])
def test_a_scheme_may_be_any_function_and_only_pairs_that_count_matter(scheme: Any) -> None:
    assert_agrees(RAGGED, "NoWeightingScheme", {"weighting_scheme": scheme})


def test_only_the_first_scheme_and_those_below_it_count_all_pairs() -> None:
    class Below(NDCGLoss1Scheme):
        pass

    class Likewise(BaseWeightingScheme):
        def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
            return (gain / discount)[:, :, None]

    assert_agrees(RAGGED, "NDCGLoss1Scheme", {"weighting_scheme": Below()})
    values = scores(12)
    all_pairs = value_and_gradient(RAGGED, values, weighting_scheme=NDCGLoss1Scheme())[0]
    assert value_and_gradient(RAGGED, values, weighting_scheme=Likewise())[0] != all_pairs


def test_a_scheme_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="BaseWeightingScheme does not say how it weighs pairs"):
        value_and_gradient([[1.0, 0.0]], scores(2), weighting_scheme=BaseWeightingScheme())


def test_a_scheme_that_learns_gets_gradients() -> None:
    class Learning(BaseWeightingScheme):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
            return self.factor.expand(gain.shape[0], 1, 1)

    loss = LambdaLoss(Handed(scores(12)), Learning())
    value = loss(*batch(RAGGED))
    value.backward()
    (factor,) = loss.weighting_scheme.parameters()
    torch.testing.assert_close(2 * factor.grad, value.detach())


def test_steep_mistakes_keep_their_gradient() -> None:
    value, gradient = value_and_gradient([[1.0, 0.0]], torch.tensor([0.0, 1e4]), RankNetLoss, reduction_log="natural")
    assert value == 1e4
    assert gradient.tolist() == [-1, 1]


@pytest.mark.parametrize("kind", [LambdaLoss, RankNetLoss])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be a positive integer, got 0."),
        ({"k": -1}, "k must be a positive integer, got -1."),
        ({"sigma": 0.0}, "sigma must be a positive finite number, got 0.0."),
        ({"reduction_log": "ten"}, "reduction_log must be one of 'binary', 'natural'; got 'ten'."),
    ],
)
def test_settings_out_of_range_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        kind(Handed(scores(1)), **settings)
    assert str(error.value) == message


def test_configurations_say_what_the_constructors_got() -> None:
    model = Handed(scores(1))
    shared = {
        "k": 3,
        "sigma": 1.0,
        "eps": 1e-10,
        "reduction_log": "binary",
        "activation_fn": "torch.nn.modules.linear.Identity",
        "mini_batch_size": None,
    }
    config = LambdaLoss(model, k=3).get_config_dict()
    assert config.pop("weighting_scheme").endswith("NDCGLoss2PPScheme")
    assert config == shared
    assert RankNetLoss(model, k=3).get_config_dict() == shared
    assert isinstance(RankNetLoss(model).weighting_scheme, NoWeightingScheme)


@pytest.mark.parametrize(
    ("kind", "title"),
    [(LambdaLoss, "Ranking Metric Optimization"), (RankNetLoss, "Learning to Rank using Gradient Descent")],
)
def test_losses_cite_their_papers(kind: Any, title: str) -> None:
    citation = kind(Handed(scores(1))).citation
    assert title in citation
    assert citation.count("@") == 1
