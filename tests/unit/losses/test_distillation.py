"""Losses that copy a teacher, against loops written from the papers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from losses_checking import assert_agrees, cosine, zero
from losses_pairs_facts import Given, column
from torch import Tensor

from sentence_transformers.losses.distillation import DistillKLDivLoss, EmbedDistillLoss, MarginMSELoss, MSELoss

A, B, C, D = (column(seed, rows=5) for seed in range(4))
ONE = column(7, rows=5)
EACH = torch.stack([column(7, rows=5), column(8, rows=5)], dim=1)
SCORES = column(9, rows=5, width=3)
DISTANCES = {
    "mse": lambda x, y: ((x - y) ** 2).mean(),
    "l2": lambda x, y: ((x - y) ** 2).sum().sqrt(),
    "cosine": lambda x, y: 1 - cosine(x, y),
}


def features(*columns: Tensor) -> list[dict[str, Tensor]]:
    return [{"given": one} for one in columns]


# --- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("labels", [ONE, EACH], ids=["shared", "each"])
def test_embeddings_are_those_of_the_teacher(metric: str, labels: Tensor) -> None:
    def slow(*columns: Tensor) -> Tensor:
        total = zero(columns[0])
        for place, rows in enumerate(columns):
            targets = labels if labels.dim() == 2 else labels[:, place]
            total = total + sum(DISTANCES[metric](x, y) for x, y in zip(rows, targets, strict=True)) / len(rows)
        return total / len(columns)

    assert_agrees(EmbedDistillLoss(Given(), metric), [A, B], labels, slow)


def test_cosine_is_the_default_and_mse_its_own_class() -> None:
    def value(loss: Any) -> Any:
        return loss(features(A, B), ONE)

    assert value(EmbedDistillLoss(Given())) == value(EmbedDistillLoss(Given(), "cosine"))
    assert value(MSELoss(Given())) == value(EmbedDistillLoss(Given(), "mse"))


def test_a_projection_reaches_a_wider_teacher() -> None:
    loss = MSELoss(Given(), projection_dim=9).double()
    wide = column(7, rows=5, width=9)
    assert_agrees(
        loss,
        [A],
        wide,
        lambda a: sum(
            ((loss.projection.weight @ x + loss.projection.bias - y) ** 2).mean() / 5
            for x, y in zip(a, wide, strict=True)
        ),
    )


def test_a_projection_is_trained() -> None:
    loss = EmbedDistillLoss(Given(), projection_dim=4)
    loss(features(A), column(7, rows=5, width=4)).backward()  # type: ignore[union-attr]
    assert loss.projection is not None
    assert loss.projection.weight.grad is not None
    assert loss.projection.weight.grad.abs().sum() > 0


def test_a_projection_is_saved_and_loaded(tmp_path: Path) -> None:
    saved, loaded = (EmbedDistillLoss(Given(), projection_dim=4) for _ in range(2))
    saved.save_projection(tmp_path / "projection.safetensors")
    loaded.load_projection(str(tmp_path / "projection.safetensors"))
    assert saved.projection is not None
    assert loaded.projection is not None
    assert torch.equal(saved.projection.weight, loaded.projection.weight)
    assert torch.equal(saved.projection.bias, loaded.projection.bias)


def test_a_projection_of_another_shape_is_refused(tmp_path: Path) -> None:
    EmbedDistillLoss(Given(), projection_dim=4).save_projection(tmp_path / "it")
    with pytest.raises(ValueError, match=r"Saved projection shape \(6 -> 4\) does not match .* \(6 -> 3\)"):
        EmbedDistillLoss(Given(), projection_dim=3).load_projection(tmp_path / "it")
    with pytest.raises(ValueError, match="No projection layer to load"):
        EmbedDistillLoss(Given()).load_projection(tmp_path / "it")


def test_without_a_projection_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No projection layer to save"):
        EmbedDistillLoss(Given()).save_projection(tmp_path / "it")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "requires pre-computed teacher embeddings as labels"),
        (ONE[0], "Expected labels to be 2D .* got 1D"),
        (torch.stack([ONE] * 3, dim=1), r"Number of label columns \(3\) does not match .* columns \(2\)"),
        (ONE[:, :4], "pass projection_dim"),
        (ONE[:3], r"are \(3, 6\), the student's 5 rows of width 6"),
    ],
    ids=["none", "a row", "columns", "width", "rows"],
)
def test_embeddings_that_do_not_fit_are_refused(labels: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedDistillLoss(Given())(features(A, B), labels)


def test_an_unknown_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="distance_metric must be one of 'mse', 'l2', 'cosine', but got 'dot'"):
        EmbedDistillLoss(Given(), "dot")


# --- margins ---------------------------------------------------------------------------------------------------------


def slow_margins(columns: tuple[Tensor, ...], margins: Tensor) -> Tensor:
    query, positive, *negatives = columns
    total = zero(query)
    for row, of_row in enumerate(margins):
        for negative, margin in zip(negatives, of_row, strict=True):
            student = query[row] @ positive[row] - query[row] @ negative[row]
            total = total + (student - margin) ** 2
    return total / margins.numel()


@pytest.mark.parametrize("labels", [SCORES[:, 0], SCORES[:, :1]])
def test_one_margin_for_each_row(labels: Tensor) -> None:
    assert_agrees(MarginMSELoss(Given()), [A, B, C], labels, lambda *some: slow_margins(some, SCORES[:, :1]))


def test_a_margin_for_each_negative() -> None:
    assert_agrees(MarginMSELoss(Given()), [A, B, C, D], SCORES[:, :2], lambda *some: slow_margins(some, SCORES[:, :2]))


@pytest.mark.parametrize("negatives", [1, 2])
def test_scores_become_margins(negatives: int) -> None:
    labels = SCORES[:, : negatives + 1]
    margins = torch.stack([labels[:, 0] - labels[:, 1 + n] for n in range(negatives)], dim=1)
    columns = [A, B, C, D][: negatives + 2]
    assert_agrees(MarginMSELoss(Given()), columns, labels, lambda *some: slow_margins(some, margins))


def test_margins_take_another_similarity() -> None:
    loss = MarginMSELoss(Given(), lambda a, b: -(a - b).abs().sum(-1))
    expected = ((C - A).abs().sum(-1) - (B - A).abs().sum(-1)).square().mean()
    torch.testing.assert_close(loss(features(A, B, C), torch.zeros(5)), expected)


def test_whole_numbers_are_margins() -> None:
    labels = torch.arange(5)
    assert_agrees(MarginMSELoss(Given()), [A, B, C], labels, lambda *some: slow_margins(some, labels[:, None].double()))


@pytest.mark.parametrize("labels", [SCORES[:, 0], torch.cat([SCORES, SCORES], 1), SCORES[:3, :2]])
def test_margins_of_another_shape_are_refused(labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Labels shape .* does not match expected shape \(5, 2\)"):
        MarginMSELoss(Given())(features(A, B, C, D), labels)


def test_margins_need_a_negative_and_labels() -> None:
    with pytest.raises(ValueError, match="MarginMSELoss expects at least 3 columns"):
        MarginMSELoss(Given())(features(A, B), SCORES[:, 0])
    with pytest.raises(ValueError, match="MarginMSELoss expects the teacher's margins or scores as labels"):
        MarginMSELoss(Given())(features(A, B, C), None)


# --- rankings --------------------------------------------------------------------------------------------------------


def slow_kl(columns: tuple[Tensor, ...], scores: Tensor, student_t: float, teacher_t: float) -> Tensor:
    query, *candidates = columns
    total = zero(query)
    for row, of_row in enumerate(scores):
        powers = torch.stack([(query[row] @ one[row] / student_t).exp() for one in candidates])
        teacher = (of_row / teacher_t).exp()
        for p, q in zip(teacher / teacher.sum(), powers / powers.sum(), strict=True):
            total = total + (p * (p / q).log() if p > 0 else 0)
    return total / len(scores) * student_t**2


@pytest.mark.parametrize(
    ("arguments", "student", "teacher"),
    [
        ({}, 1.0, 1.0),
        ({"temperature": 2.0}, 2.0, 2.0),
        ({"temperature": 2.0, "student_temperature": 3.0}, 3.0, 2.0),
        ({"teacher_temperature": 0.5}, 1.0, 0.5),
    ],
)
def test_the_ranking_is_that_of_the_teacher(arguments: dict[str, float], student: float, teacher: float) -> None:
    loss = DistillKLDivLoss(Given(), **arguments)  # type: ignore[arg-type]
    assert_agrees(loss, [A, B, C, D], SCORES, lambda *some: slow_kl(some, SCORES, student, teacher))


def test_a_candidate_may_be_left_out() -> None:
    labels = SCORES.clone()
    labels[1, 2] = -torch.inf
    assert_agrees(DistillKLDivLoss(Given()), [A, B, C, D], labels, lambda *some: slow_kl(some, labels, 1, 1))


def test_a_perfect_student_has_nothing_to_learn() -> None:
    labels = torch.stack([(A * one).sum(-1) for one in (B, C, D)], dim=1)
    found = DistillKLDivLoss(Given(), temperature=1.5)(features(A, B, C, D), labels)
    assert found.item() == pytest.approx(0, abs=1e-12)  # type: ignore[union-attr]


@pytest.mark.parametrize("bad", [[torch.nan, 1, 1], [torch.inf, 1, 1], [-torch.inf] * 3])
def test_scores_that_make_no_distribution_are_refused(bad: list[float]) -> None:
    labels = torch.cat([SCORES[:4], torch.tensor([bad], dtype=torch.float64)])
    with pytest.raises(ValueError, match="the teacher scores contain NaN"):
        DistillKLDivLoss(Given())(features(A, B, C, D), labels)


@pytest.mark.parametrize("labels", [None, SCORES[:, :2], SCORES[:, 0], SCORES[:3]])
def test_every_candidate_needs_a_score(labels: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"expects teacher scores of shape \(batch_size, N\) = \(5, 3\)"):
        DistillKLDivLoss(Given())(features(A, B, C, D), labels)


def test_one_candidate_is_no_ranking() -> None:
    with pytest.raises(ValueError, match="expects at least 3 columns .* but got 2"):
        DistillKLDivLoss(Given())(features(A, B), SCORES[:, :1])


@pytest.mark.parametrize("name", ["temperature", "student_temperature", "teacher_temperature"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a positive finite number"):
        DistillKLDivLoss(Given(), **{name: value})  # type: ignore[arg-type]


def test_scores_lost_by_a_low_temperature_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    loss = DistillKLDivLoss(Given())
    labels = SCORES + torch.tensor([0, 0, -2000.0])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            loss(features(A, B, C, D), labels)
    assert [record.getMessage() for record in caplog.records] == [
        "DistillKLDivLoss: with teacher_temperature=1.0, 5 of 15 teacher scores are so far below the best of their "
        "query that their probability is 0: these candidates have no gradient. Raise teacher_temperature."
    ]


def test_a_candidate_left_out_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    DistillKLDivLoss(Given())(features(A, B, C, D), SCORES + torch.tensor([0, 0, -torch.inf]))
    assert not caplog.records


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "config", "author"),
    [
        (EmbedDistillLoss(Given(), "l2"), {"distance_metric": "l2", "projection_dim": None}, "Kim"),
        (MSELoss(Given(), 4), {"projection_dim": 4}, "Reimers"),
        (MarginMSELoss(Given()), {"similarity_fct": "pairwise_dot_score"}, "Hofst"),
        (
            DistillKLDivLoss(Given(), temperature=2.0, student_temperature=3.0),
            {
                "similarity_fct": "pairwise_dot_score",
                "temperature": 2.0,
                "student_temperature": 3.0,
                "teacher_temperature": 2.0,
            },
            "Lin",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_configuration_and_citation(loss: Any, config: dict[str, Any], author: str) -> None:
    assert loss.get_config_dict() == config
    assert author in loss.citation
