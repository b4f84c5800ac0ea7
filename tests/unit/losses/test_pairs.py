"""Losses on labelled pairs against loops written from the papers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from losses_checking import assert_agrees, cosine, relu, value_and_gradients, zero
from losses_pairs_facts import Given, column
from torch import Tensor, nn

from sentence_transformers.losses.pair_objectives import cosent
from sentence_transformers.losses.pairs import (
    AnglELoss,
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    OnlineContrastiveLoss,
    SiameseDistanceMetric,
    SoftmaxLoss,
)

A, B, C, D = (column(seed, rows=6) for seed in range(4))
SCORES = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.3, 0.9], dtype=torch.float64)
BINARY = torch.tensor([0, 1, 1, 0, 1, 0])
ON_PAIRS = [CoSENTLoss, AnglELoss, CosineSimilarityLoss, ContrastiveLoss, OnlineContrastiveLoss]


def slow_cosent(scores: list[Tensor], labels: Any, scale: float = 20.0) -> Tensor:
    """log(1 + sum of exp(scale (s_j - s_i)) where i is labelled above j)."""
    total = 1 + 0 * scores[0]
    for i, above in enumerate(labels):
        for j, below in enumerate(labels):
            if above > below:
                total = total + (scale * (scores[j] - scores[i])).exp()
    return total.log()


def slow_angle(x: Tensor, y: Tensor) -> Tensor:
    """|Re + Im| of the product of x with the conjugate of y, both at unit length, as complex numbers."""
    half = len(x) // 2
    u, v = x / (x @ x).sqrt(), y / (y @ y).sqrt()
    product = torch.complex(u[:half], u[half:]) * torch.complex(v[:half], v[half:]).conj()
    return (product.real + product.imag).sum().abs()


# --- CoSENT and AnglE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [SCORES, BINARY, torch.tensor([3, 1, 2, 6, 5, 4]), SCORES.float()[:, None]])
def test_cosent_is_the_loop_over_all_pairs(labels: Tensor) -> None:
    assert_agrees(
        CoSENTLoss(Given()),
        [A, B],
        labels,
        lambda a, b: slow_cosent([*map(cosine, a, b)], labels.flatten().tolist()),
    )


def test_cosent_takes_another_similarity_and_scale() -> None:
    loss = CoSENTLoss(Given(), scale=0.5, similarity_fct=lambda a, b: (a * b).sum(-1))
    assert_agrees(
        loss, [A, B], SCORES, lambda a, b: slow_cosent([x @ y for x, y in zip(a, b, strict=True)], SCORES, 0.5)
    )


def test_equal_labels_leave_nothing_to_order() -> None:
    value, gradients = value_and_gradients(
        lambda some: CoSENTLoss(Given()).compute_loss_from_embeddings(some, torch.ones(6)), [A, B]
    )
    assert value == 0
    assert all((one == 0).all() for one in gradients)


def test_cosent_by_hand() -> None:
    found = cosent(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 2.0, 1.0]))
    assert found.item() == pytest.approx(torch.tensor([-1.0, 1.0, -2.0]).exp().sum().add(1).log().item())


def test_a_label_that_is_no_number_orders_nothing() -> None:
    known = cosent(torch.tensor([0.1, 0.7, 0.4]), torch.tensor([0.0, 2.0, 1.0]))
    found = cosent(torch.tensor([0.1, 9.0, 0.7, 0.4]), torch.tensor([0.0, torch.nan, 2.0, 1.0]))
    assert torch.equal(found, known)


def test_cosent_takes_labels_of_every_type() -> None:
    scores = torch.tensor([0.1, 0.7, 0.4])
    for dtype in (torch.bool, torch.int32, torch.float64, torch.bfloat16):
        assert torch.equal(cosent(scores, torch.tensor([0, 1, 0]).to(dtype)), cosent(scores, torch.tensor([0.0, 1, 0])))


def test_cosent_does_not_overflow() -> None:
    scores = torch.tensor([1000.0, -1000.0], requires_grad=True)
    loss = cosent(scores, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == 2000
    assert scores.grad is not None
    assert scores.grad.tolist() == [1, -1]


def test_angle_is_cosent_on_angles() -> None:
    assert_agrees(AnglELoss(Given()), [A, B], SCORES, lambda a, b: slow_cosent([*map(slow_angle, a, b)], SCORES))


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 1, 0, 1, 0, 0]), SCORES])
def test_angle_makes_pairs_of_an_anchor_with_all_others(labels: Tensor | None) -> None:
    first = [1.0] * 6 if labels is None else labels.tolist()
    pairs = first + [1 - one for one in first] * 2

    def slow(a: Tensor, p: Tensor, m: Tensor, n: Tensor) -> Tensor:
        return slow_cosent([slow_angle(x, y) for others in (p, m, n) for x, y in zip(a, others, strict=True)], pairs)

    assert_agrees(AnglELoss(Given()), [A, B, C, D], labels, slow)


def test_angle_of_pairs_needs_labels() -> None:
    with pytest.raises(ValueError, match="AnglELoss requires labels for datasets with pairs"):
        AnglELoss(Given())([{"given": A}, {"given": B}], None)


# --- the cosine, and contrastive losses ------------------------------------------------------------------------------


def test_the_cosine_is_regressed_on_the_label() -> None:
    assert_agrees(
        CosineSimilarityLoss(Given()),
        [A, B],
        SCORES,
        lambda a, b: torch.stack([(cosine(x, y) - s) ** 2 for x, y, s in zip(a, b, SCORES, strict=True)]).mean(),
    )


def test_the_cosine_may_be_transformed_and_the_loss_another() -> None:
    loss = CosineSimilarityLoss(Given(), nn.L1Loss(reduction="sum"), nn.Sigmoid())
    assert_agrees(
        loss,
        [A, B],
        SCORES,
        lambda a, b: sum((cosine(x, y).sigmoid() - s).abs() for x, y, s in zip(a, b, SCORES, strict=True)),
    )


DISTANCES = {
    "EUCLIDEAN": lambda x, y: ((x - y + 1e-6) ** 2).sum().sqrt(),
    "MANHATTAN": lambda x, y: (x - y + 1e-6).abs().sum(),
    "COSINE_DISTANCE": lambda x, y: 1 - cosine(x, y),
}


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("size_average", [True, False])
def test_contrastive_is_half_the_squares_of_both_sides(metric: str, size_average: bool) -> None:
    def slow(a: Tensor, b: Tensor) -> Tensor:
        total = zero(a)
        for x, y, label in zip(a, b, BINARY.tolist(), strict=True):
            distance = DISTANCES[metric](x, y)
            total = total + (0.5 * distance**2 if label else 0.5 * relu(1.2 - distance) ** 2)
        return total / len(a) if size_average else total

    loss = ContrastiveLoss(Given(), getattr(SiameseDistanceMetric, metric), margin=1.2, size_average=size_average)
    assert_agrees(loss, [A, B], BINARY, slow)


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize(
    "labels", [[0, 1, 1, 0, 1, 0], [1] * 6, [0] * 6, [0, 0, 0, 1, 0, 0], [1, 0, 1, 1, 1, 1], [1, 0.5, 0, 0, 1, 2]]
)
@pytest.mark.filterwarnings("ignore:.*binary labels:UserWarning")
def test_online_contrastive_sums_the_hard_pairs(metric: str, labels: list[float]) -> None:
    def slow(a: Tensor, b: Tensor) -> Tensor:
        distances = [DISTANCES[metric](x, y) for x, y in zip(a, b, strict=True)]
        positives = [one for one, label in zip(distances, labels, strict=True) if label == 1]
        negatives = [one for one, label in zip(distances, labels, strict=True) if label == 0]
        farthest = max(positives) if positives else sum(negatives) / len(negatives)
        nearest = min(negatives) if negatives else sum(positives) / len(positives)
        total = zero(a)
        for one in positives:
            total = total + (one**2 if one > nearest else 0)
        for one in negatives:
            total = total + (relu(2.5 - one) ** 2 if one < farthest else 0)
        return total

    loss = OnlineContrastiveLoss(Given(), getattr(SiameseDistanceMetric, metric), margin=2.5)
    assert_agrees(loss, [A, B], torch.tensor(labels), slow)


def test_online_contrastive_of_labels_that_count_as_neither_is_zero() -> None:
    with pytest.warns(UserWarning, match="ignored"):
        assert OnlineContrastiveLoss(Given())([{"given": A}, {"given": B}], torch.full((6,), 0.5)) == 0


@pytest.mark.parametrize("kind", [ContrastiveLoss, OnlineContrastiveLoss])
def test_labels_that_are_not_binary_warn_once(kind: Any) -> None:
    loss = kind(Given())
    with pytest.warns(UserWarning, match=rf"{kind.__name__} expects binary labels \(0 or 1\)"):
        loss.compute_loss_from_embeddings([A, B], SCORES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.compute_loss_from_embeddings([A, B], SCORES)
        kind(Given()).compute_loss_from_embeddings([A, B], BINARY)


@pytest.mark.parametrize("metric", DISTANCES)
def test_equal_texts_have_a_finite_gradient(metric: str) -> None:
    loss = ContrastiveLoss(Given(), getattr(SiameseDistanceMetric, metric))
    _, gradients = value_and_gradients(lambda some: loss.compute_loss_from_embeddings(some, BINARY), [A, A])
    assert all(one.isfinite().all() for one in gradients)


# --- classification --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [(True, True, False), (True, False, False), (False, True, True), (True, True, True)])
def test_softmax_classifies_what_is_chosen(chosen: tuple[bool, bool, bool]) -> None:
    loss = SoftmaxLoss(Given(), 6, 3, *chosen).double()
    classes = torch.tensor([0, 1, 2, 2, 1, 0])

    def slow(a: Tensor, b: Tensor) -> Tensor:
        total = zero(a)
        for u, v, label in zip(a, b, classes.tolist(), strict=True):
            parts = [u, v] * chosen[0] + [(u - v).abs()] * chosen[1] + [u * v] * chosen[2]
            logits = loss.classifier.weight @ torch.cat(parts) + loss.classifier.bias
            total = total - (logits[label].exp() / logits.exp().sum()).log()
        return total / len(a)

    assert_agrees(loss, [A, B], classes, slow)


def test_softmax_without_labels_gives_embeddings_and_logits() -> None:
    loss = SoftmaxLoss(Given(), 6, 3).double()
    embeddings, logits = loss([{"given": A}, {"given": B}], None)  # type: ignore[misc]
    assert torch.equal(embeddings[1], B)
    assert torch.equal(logits, loss.classifier(torch.cat([A, B, (A - B).abs()], 1)))


def test_softmax_must_see_something() -> None:
    with pytest.raises(ValueError, match="At least one of concatenation_sent_rep"):
        SoftmaxLoss(Given(), 6, 3, False, False, False)


def test_softmax_takes_the_old_name_of_the_width() -> None:
    with pytest.warns(FutureWarning, match="embedding_dimension"):
        assert SoftmaxLoss(Given(), num_labels=3, sentence_embedding_dimension=6).classifier.in_features == 18


def test_softmax_takes_embeddings_of_a_half_type() -> None:
    found = SoftmaxLoss(Given(), 6, 3).compute_loss_from_embeddings([A.bfloat16(), B.bfloat16()], torch.zeros(6).long())
    assert found.dtype == torch.float32


# --- bad input, configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ON_PAIRS)
@pytest.mark.parametrize("labels", [SCORES[:3], torch.stack([SCORES, SCORES], 1)])
def test_every_pair_needs_one_label(kind: Any, labels: Tensor) -> None:
    message = rf"{kind.__name__} expects 6 labels \(one per example\), but got {labels.numel()} labels with shape"
    with pytest.raises(ValueError, match=message):
        kind(Given())([{"given": A}, {"given": B}], labels)


@pytest.mark.parametrize("kind", ON_PAIRS)
def test_one_column_is_no_pair(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} expects .*2 columns \(two texts.*\), but got 1"):
        kind(Given())([{"given": A}], SCORES)


def test_where_a_third_column_would_be_lost_it_is_refused() -> None:
    with pytest.raises(ValueError, match="ContrastiveLoss expects 2 columns"):
        ContrastiveLoss(Given())([{"given": A}, {"given": B}, {"given": C}], BINARY)
    with pytest.raises(ValueError, match="SoftmaxLoss expects 2 columns"):
        SoftmaxLoss(Given(), 6, 3)([{"given": A}, {"given": B}, {"given": C}], BINARY)


@pytest.mark.parametrize(
    ("loss", "config"),
    [
        (CoSENTLoss(Given(), 5.0), {"scale": 5.0, "similarity_fct": "pairwise_cos_sim"}),
        (AnglELoss(Given()), {"scale": 20.0}),
        (
            CosineSimilarityLoss(Given()),
            {
                "loss_fct": "torch.nn.modules.loss.MSELoss",
                "cos_score_transformation": "torch.nn.modules.linear.Identity",
            },
        ),
        (
            ContrastiveLoss(Given()),
            {"distance_metric": "SiameseDistanceMetric.COSINE_DISTANCE", "margin": 0.5, "size_average": True},
        ),
        (
            OnlineContrastiveLoss(Given(), SiameseDistanceMetric.EUCLIDEAN, 2.0),
            {"distance_metric": "SiameseDistanceMetric.EUCLIDEAN", "margin": 2.0},
        ),
        (
            SoftmaxLoss(Given(), 6, 3),
            {
                "embedding_dimension": 6,
                "num_labels": 3,
                "concatenation_sent_rep": True,
                "concatenation_sent_difference": True,
                "concatenation_sent_multiplication": False,
                "loss_fct": "torch.nn.modules.loss.CrossEntropyLoss",
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_configuration_can_be_written_down(loss: Any, config: dict[str, Any]) -> None:
    assert loss.get_config_dict() == config


def test_a_metric_of_ones_own_is_written_by_its_name() -> None:
    def far(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).sum(-1)

    assert ContrastiveLoss(Given(), far).get_config_dict()["distance_metric"] == "far"


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (CoSENTLoss, "huang2024cosent"),
        (AnglELoss, "li2024angle"),
        (ContrastiveLoss, "hadsell2006dimensionality"),
    ],
)
def test_papers_are_cited(kind: Any, key: str) -> None:
    assert kind(Given()).citation.partition("{")[2].startswith(key)
