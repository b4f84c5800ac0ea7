"""Training of ``SentenceTransformer``."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ..cards.data import SentenceTransformerModelCardData
from ..encoders.dense import SentenceTransformer
from ..losses.pairs import CoSENTLoss
from .arguments import BaseTrainingArguments, SentenceTransformerTrainingArguments
from .card_callback import BaseModelCardCallback
from .collator import BaseDataCollator, SentenceTransformerDataCollator
from .trainer import BaseTrainer


class SentenceTransformerTrainer(BaseTrainer):
    """Trains a ``SentenceTransformer``; see ``BaseTrainer``. The default loss is ``CoSENTLoss``: pairs and a score."""

    model_class: ClassVar[type[Any]] = SentenceTransformer
    model_card_data_class: ClassVar[type[Any]] = SentenceTransformerModelCardData
    model_card_callback_class: ClassVar[type[Any]] = BaseModelCardCallback
    data_collator_class: ClassVar[type[BaseDataCollator]] = SentenceTransformerDataCollator
    training_args_class: ClassVar[type[BaseTrainingArguments]] = SentenceTransformerTrainingArguments

    def default_loss(self, model: Any) -> nn.Module:
        """``CoSENTLoss``."""
        return CoSENTLoss(model)
