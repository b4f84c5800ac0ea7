"""The weights of the regularisers grow over the first steps, and are logged."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from losses_sparse_facts import Handed
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from sentence_transformers.losses.sparse import CachedSpladeLoss, SpladeLoss
from sentence_transformers.losses.sparse_inner import SparseMultipleNegativesRankingLoss
from sentence_transformers.training.regularizer_weights import (
    SchedulerType,
    SpladeRegularizerWeightSchedulerCallback,
)


def splade(query_weight: float | None = 0.4, kind: type[SpladeLoss] = SpladeLoss) -> SpladeLoss:
    model = Handed()
    return kind(model, SparseMultipleNegativesRankingLoss(model), 0.2, query_weight)


def weights(loss: SpladeLoss) -> tuple[float, float | None]:
    return loss.document_regularizer_weight, loss.query_regularizer_weight


class Run:
    """A training without a model."""

    def __init__(self, callback: TrainerCallback, max_steps: int, begin: int = 0) -> None:
        self.callback, self.control = callback, TrainerControl()
        self.state = TrainerState(max_steps=max_steps, global_step=begin)
        self.tell("on_train_begin")

    def tell(self, event: str, **kwargs: Any) -> None:
        getattr(self.callback, event)(None, self.state, self.control, **kwargs)

    def step(self) -> None:
        self.tell("on_step_begin")
        self.state.global_step += 1
        self.tell("on_step_end")


def grown(loss: SpladeLoss, max_steps: int, **settings: Any) -> list[float]:
    """The weight of documents in each step, as a share of its maximum."""
    run = Run(SpladeRegularizerWeightSchedulerCallback(loss, **settings), max_steps)
    found = []
    for _ in range(max_steps):
        run.step()
        found.append(loss.document_regularizer_weight / 0.2)
    return found


def test_they_grow_linearly() -> None:
    assert grown(splade(), 6, scheduler_type="linear", warmup_ratio=0.5) == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])


def test_they_grow_with_the_square() -> None:
    found = grown(splade(), 6, scheduler_type=SchedulerType.QUADRATIC, warmup_ratio=0.5)
    assert found == pytest.approx([0, 1 / 9, 4 / 9, 1, 1, 1])


def test_over_a_third_of_the_steps_and_with_the_square_by_default() -> None:
    assert grown(splade(), 6) == pytest.approx([0, 0.25, 1, 1, 1, 1])


def test_whole_steps_of_the_warmup_count() -> None:
    assert grown(splade(), 5, scheduler_type="linear", warmup_ratio=0.5) == pytest.approx([0, 0.5, 1, 1, 1])
    assert grown(splade(), 3, scheduler_type="linear", warmup_ratio=0.1) == pytest.approx([0, 1, 1])


@pytest.mark.parametrize("kind", [SpladeLoss, CachedSpladeLoss])
def test_both_weights_begin_at_nothing_and_end_at_what_they_were(kind: type[SpladeLoss]) -> None:
    loss = splade(kind=kind)
    run = Run(SpladeRegularizerWeightSchedulerCallback(loss, "linear"), 6)
    assert weights(loss) == (0, 0)
    run.step()
    run.step()
    assert weights(loss) == pytest.approx((0.1, 0.2))
    for _ in range(4):
        run.step()
    assert weights(loss) == (0.2, 0.4)


def test_nothing_changes_before_the_training() -> None:
    loss = splade()
    SpladeRegularizerWeightSchedulerCallback(loss)
    assert weights(loss) == (0.2, 0.4)


def test_they_go_on_after_a_checkpoint() -> None:
    loss = splade()
    Run(SpladeRegularizerWeightSchedulerCallback(loss, "linear"), 30, begin=5)
    assert weights(loss) == pytest.approx((0.1, 0.2))


def test_a_loss_without_weight_of_queries_keeps_none() -> None:
    loss = splade(query_weight=None)
    run = Run(SpladeRegularizerWeightSchedulerCallback(loss, "linear"), 3)
    run.step()
    logs: dict[str, float] = {}
    run.tell("on_log", logs=logs)
    assert loss.query_regularizer_weight is None
    assert logs == {"document_regularizer_weight": 0.0}


def test_they_are_logged() -> None:
    loss = splade()
    run = Run(SpladeRegularizerWeightSchedulerCallback(loss, "linear", 1.0), 4, begin=1)
    logs = {"loss": 1.0}
    run.tell("on_log", logs=logs)
    assert logs == {"loss": 1.0, "document_regularizer_weight": 0.05, "query_regularizer_weight": 0.1}
    run.tell("on_log", logs=None)


def test_a_training_without_end_leaves_them(caplog: pytest.LogCaptureFixture) -> None:
    loss = splade()
    run = Run(SpladeRegularizerWeightSchedulerCallback(loss), 0)
    run.step()
    assert weights(loss) == (0.2, 0.4)
    assert "does not say how many steps" in caplog.text


@pytest.mark.parametrize("loss", [nn.Identity(), SparseMultipleNegativesRankingLoss(Handed())])
def test_other_losses_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match="loss must be an instance of SpladeLoss, got "):
        SpladeRegularizerWeightSchedulerCallback(loss)


@pytest.mark.parametrize("name", ["linear", "LINEAR", SchedulerType.LINEAR])
def test_a_schedule_may_be_named(name: Any, caplog: pytest.LogCaptureFixture) -> None:
    loss = splade()
    with caplog.at_level(logging.WARNING):
        assert SpladeRegularizerWeightSchedulerCallback(loss, name).scheduler_type is SchedulerType.LINEAR
    assert not caplog.records


def test_an_unknown_schedule_is_quadratic_and_told(caplog: pytest.LogCaptureFixture) -> None:
    assert SpladeRegularizerWeightSchedulerCallback(splade(), "cubic").scheduler_type is SchedulerType.QUADRATIC
    assert "must be 'linear' or 'quadratic', got 'cubic'" in caplog.text


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5])
def test_a_warmup_that_cannot_be_takes_a_third_and_is_told(ratio: float, caplog: pytest.LogCaptureFixture) -> None:
    assert SpladeRegularizerWeightSchedulerCallback(splade(), warmup_ratio=ratio).warmup_ratio == 1 / 3
    assert "warmup_ratio must be above 0 and at most 1" in caplog.text
