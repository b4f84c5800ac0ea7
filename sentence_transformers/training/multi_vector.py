"""Training of ``MultiVectorEncoder``: the first column holds queries, the others documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..cards.data import MultiVectorEncoderModelCardData
from ..encoders.multi_vector import MultiVectorEncoder
from ..losses.multi_vector import MultiVectorMultipleNegativesRankingLoss
from .arguments import BaseTrainingArguments, MultiVectorEncoderTrainingArguments
from .card_callback import BaseModelCardCallback
from .collator import BaseDataCollator
from .trainer import BaseTrainer


@dataclass
class MultiVectorEncoderDataCollator(BaseDataCollator):
    """Batches for the losses of multi-vector encoders: features of each column; the task goes by the place."""

    def default_task(self, place: int) -> str:
        """Queries first."""
        return "document" if place else "query"


class MultiVectorEncoderTrainer(BaseTrainer):
    """Trains a ``MultiVectorEncoder``; see ``BaseTrainer``.

    The default loss is ``MultiVectorMultipleNegativesRankingLoss``: pairs, or triplets.
    """

    model_class: ClassVar[type[Any]] = MultiVectorEncoder
    model_card_data_class: ClassVar[type[Any]] = MultiVectorEncoderModelCardData
    model_card_callback_class: ClassVar[type[Any]] = BaseModelCardCallback
    data_collator_class: ClassVar[type[BaseDataCollator]] = MultiVectorEncoderDataCollator
    training_args_class: ClassVar[type[BaseTrainingArguments]] = MultiVectorEncoderTrainingArguments

    def default_loss(self, model: Any) -> nn.Module:
        """``MultiVectorMultipleNegativesRankingLoss``."""
        return MultiVectorMultipleNegativesRankingLoss(model)

    def collator_settings(self, args: Any, model: Any) -> dict[str, Any]:
        return {**super().collator_settings(args, model), "max_length": args.max_length}
