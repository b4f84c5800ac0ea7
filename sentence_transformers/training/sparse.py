"""Training of ``SparseEncoder``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..cards.data import SparseEncoderModelCardData
from ..encoders.sparse import SparseEncoder
from ..losses.sparse import SpladeLoss
from ..losses.sparse_inner import SparseMultipleNegativesRankingLoss
from . import objectives
from .arguments import BaseTrainingArguments, SparseEncoderTrainingArguments
from .card_callback import BaseModelCardCallback
from .collator import BaseDataCollator
from .regularizer_weights import SpladeRegularizerWeightSchedulerCallback as _Scheduler
from .trainer import BaseTrainer

logger = logging.getLogger(__name__)

QUERY_WEIGHT, DOCUMENT_WEIGHT = 5e-5, 3e-5
"""How much the number of active dimensions counts, where no loss is given."""


@dataclass
class SparseEncoderDataCollator(BaseDataCollator):
    """Batches for the losses of sparse encoders: features of each column, as ``query_input_ids``."""


class SparseEncoderTrainer(BaseTrainer):
    """Trains a ``SparseEncoder``; see ``BaseTrainer``.

    The default loss is ``SpladeLoss`` around ``SparseMultipleNegativesRankingLoss``: pairs, or triplets. The weights of
    a ``SpladeLoss`` rise in the first third of the steps, unless a callback of yours sets them.
    """

    model_class: ClassVar[type[Any]] = SparseEncoder
    model_card_data_class: ClassVar[type[Any]] = SparseEncoderModelCardData
    model_card_callback_class: ClassVar[type[Any]] = BaseModelCardCallback
    data_collator_class: ClassVar[type[BaseDataCollator]] = SparseEncoderDataCollator
    training_args_class: ClassVar[type[BaseTrainingArguments]] = SparseEncoderTrainingArguments

    def default_loss(self, model: Any) -> nn.Module:
        """``SpladeLoss``."""
        inner = SparseMultipleNegativesRankingLoss(model)
        return SpladeLoss(
            model, inner, query_regularizer_weight=QUERY_WEIGHT, document_regularizer_weight=DOCUMENT_WEIGHT
        )

    def make_loss(self, model: Any) -> None:
        """Every ``SpladeLoss`` has a callback that sets its weights."""
        super().make_loss(model)
        losses = [one for one in objectives.each(self.loss) if isinstance(one, SpladeLoss)]
        callbacks = [one for one in self.callback_handler.callbacks if isinstance(one, _Scheduler)]
        for callback in callbacks:
            if callback.loss not in losses:  # of a model that was made before
                self.remove_callback(callback)
        for loss in losses:
            if not any(callback.loss is loss for callback in callbacks):
                logger.warning(
                    "The regularizer weights of %s will rise in the first third of the steps: a "
                    "SpladeRegularizerWeightSchedulerCallback was added. Pass one of yours to change how.",
                    type(loss).__name__,
                )
                self.add_callback(_Scheduler(loss))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; with the weights of regularisers, which the history of the training would not have otherwise."""
        if "loss" in logs:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, _Scheduler):
                    callback.on_log(self.args, self.state, self.control, logs=logs)
        super().log(logs, start_time)
