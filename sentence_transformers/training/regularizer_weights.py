"""Lets the weights of a ``SpladeLoss`` grow: a model whose embeddings are pressed to zero at once learns nothing."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any

from transformers import TrainerCallback

from ..losses.sparse import SpladeLoss

logger = logging.getLogger(__name__)

DEFAULT_RATIO = 1 / 3


class SchedulerType(Enum):
    """How the weights grow with the share r of the warmup that is over: as r, or as r * r."""

    LINEAR = "linear"
    QUADRATIC = "quadratic"


class SpladeRegularizerWeightSchedulerCallback(TrainerCallback):
    """The weights of a ``SpladeLoss`` grow from 0 to what they are now, and are logged.

    Args:
        loss: the loss that is trained with.
        scheduler_type: how they grow, or its name; "quadratic" for any other name, with a warning.
        warmup_ratio: over this share of the steps, above 0 and at most 1; a third for any other, with a warning.

    Raises: ValueError for another loss.
    Source: the quadratic growth: Paria et al. 2020, https://arxiv.org/abs/2004.05665
    """

    def __init__(
        self,
        loss: SpladeLoss,
        scheduler_type: str | SchedulerType = SchedulerType.QUADRATIC,
        warmup_ratio: float = DEFAULT_RATIO,
    ) -> None:
        if not isinstance(loss, SpladeLoss):
            raise ValueError(f"loss must be an instance of SpladeLoss, got {type(loss).__name__}.")
        self.loss = loss
        self.scheduler_type = _scheduler(scheduler_type)
        self.warmup_ratio = _ratio(warmup_ratio)
        self.max_document_regularizer_weight = loss.document_regularizer_weight
        self.max_query_regularizer_weight = loss.query_regularizer_weight
        self.total_steps: int | None = None
        self.warmup_steps: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin, or go on after a checkpoint, with the weights of that step."""
        if state.max_steps <= 0:
            logger.warning(
                "The training does not say how many steps it has, so the weights of the regularizers stay as they are."
            )
            return
        self.total_steps = state.max_steps
        self.warmup_steps = max(1, int(state.max_steps * self.warmup_ratio))
        self._set_weights(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The weights of this step."""
        self._set_weights(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Add the weights to what is logged."""
        if logs is None:
            return
        logs["document_regularizer_weight"] = self.loss.document_regularizer_weight
        if self.loss.query_regularizer_weight is not None:
            logs["query_regularizer_weight"] = self.loss.query_regularizer_weight

    def _set_weights(self, step: int) -> None:
        if self.warmup_steps is None:
            return
        share = min(1.0, step / self.warmup_steps)
        if self.scheduler_type is SchedulerType.QUADRATIC:
            share **= 2
        self.loss.document_regularizer_weight = share * self.max_document_regularizer_weight
        if self.max_query_regularizer_weight is not None:
            self.loss.query_regularizer_weight = share * self.max_query_regularizer_weight


def _scheduler(given: str | SchedulerType) -> SchedulerType:
    name = given.value if isinstance(given, SchedulerType) else given.lower()
    if name not in {one.value for one in SchedulerType}:
        logger.warning("scheduler_type must be 'linear' or 'quadratic', got %r: it is quadratic.", given)
        return SchedulerType.QUADRATIC
    return SchedulerType(name)


def _ratio(given: float) -> float:
    if not 0 < given <= 1:
        logger.warning("warmup_ratio must be above 0 and at most 1, got %s: it is a third.", given)
        return DEFAULT_RATIO
    return given
