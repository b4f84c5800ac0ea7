"""Training of ``CrossEncoder``: columns stay texts, for a loss says which of them are read together."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..cards.data import CrossEncoderModelCardData
from ..encoders.cross import CrossEncoder
from ..losses.cross.pointwise import BinaryCrossEntropyLoss, CrossEntropyLoss
from . import columns
from .arguments import BaseTrainingArguments, CrossEncoderTrainingArguments
from .card_callback import BaseModelCardCallback
from .collator import BaseDataCollator, Batch, stacked
from .datasets import is_streamed
from .trainer import BaseTrainer

logger = logging.getLogger(__name__)

PROMPT, TASK = "prompt", "task"


@dataclass
class CrossEncoderDataCollator(BaseDataCollator):
    """Batches for the losses of rerankers: each column as a list, and for all of them ``prompt`` and ``task``.

    Args:
        preprocess_fn: not used; losses tokenise the pairs they make.
        router_mapping: dataset -> task. prompts: what to put before every pair: one text, or by dataset.
        Others: see ``BaseDataCollator``.
    """

    def collate_labels(self, values: list[Any], column: str) -> Any:
        """(B,) labels; or where each example has several, a list of B tensors, whose lengths may differ."""
        if not all(isinstance(value, Sequence) and not isinstance(value, str) for value in values):
            return stacked(values, column)
        return [stacked(list(value), column) if len(value) else torch.empty(0) for value in values]

    def collate_inputs(self, inputs: dict[str, list[Any]], dataset: str | None) -> Batch:
        """The columns as they are, and what goes with them.

        Raises: ValueError for a prompt or a task by column, or one that has no place because a column is called so.
        """
        batch: Batch = dict(inputs)
        settings = {
            PROMPT: _of_dataset("prompts", self.prompts, dataset),
            TASK: _of_dataset("router_mapping", self.router_mapping, dataset),
        }
        for name, value in settings.items():
            if name not in inputs:
                batch[name] = value
            elif value is not None:
                raise ValueError(
                    f"The dataset has a column {name!r}, where the batch has its {name}, {value!r}. Rename the column: "
                    f"dataset.rename_column({name!r}, 'text')."
                )
        return batch


def _of_dataset(name: str, setting: columns.PerColumn, dataset: str | None) -> str | None:
    """What a setting says of one dataset; a pair is made of several columns, so it cannot go by them."""
    if setting is None or isinstance(setting, str):
        return setting
    if not setting:
        return None
    if dataset is None or any(isinstance(value, Mapping) for value in setting.values()):
        raise ValueError(
            f"A CrossEncoder reads columns together, so {name} cannot go by columns: expected one text, or dataset -> "
            f"text with datasets of these names, got {dict(setting)}{'' if dataset else ' and a dataset without name'}."
        )
    found = setting.get(dataset)
    return found if isinstance(found, str) else None


class CrossEncoderTrainer(BaseTrainer):
    """Trains a ``CrossEncoder``; see ``BaseTrainer``.

    The default loss is ``BinaryCrossEntropyLoss`` (pairs and a label of 0 to 1), or for a model with several labels
    ``CrossEntropyLoss`` (pairs and a class).

    Raises: ValueError for streamed datasets.
    """

    model_class: ClassVar[type[Any]] = CrossEncoder
    model_card_data_class: ClassVar[type[Any]] = CrossEncoderModelCardData
    model_card_callback_class: ClassVar[type[Any]] = BaseModelCardCallback
    data_collator_class: ClassVar[type[BaseDataCollator]] = CrossEncoderDataCollator
    training_args_class: ClassVar[type[BaseTrainingArguments]] = CrossEncoderTrainingArguments
    _has_warned = False

    def default_loss(self, model: Any) -> nn.Module:
        """By the number of labels."""
        return BinaryCrossEntropyLoss(model) if model.num_labels == 1 else CrossEntropyLoss(model)

    def check_dataset(self, dataset: Any, what: str) -> Any:
        dataset = super().check_dataset(dataset, what)
        if any(map(is_streamed, dataset.values() if isinstance(dataset, Mapping) else [dataset])):
            raise ValueError(
                f"CrossEncoderTrainer does not support an IterableDataset as {what} dataset. Load it without "
                "streaming=True."
            )
        return dataset

    def goes_by_datasets(self) -> bool:
        return super().goes_by_datasets() or bool(self.args.router_mapping)

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[list[Any], Any]:
        """The columns of a batch, lists of texts, and the labels."""
        found = [value for name, value in inputs.items() if name != "label" and isinstance(value, list)]
        return found, inputs.get("label")

    def loss_of_batch(self, loss: nn.Module, batch: dict[str, Any]) -> Any:
        """Call a loss with a batch, and with prompt and task if it takes them."""
        given = {name: batch.get(name) for name in (PROMPT, TASK) if not isinstance(batch.get(name), list)}
        accepted = inspect.signature(loss.forward).parameters
        takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in accepted.values())
        settings = {name: value for name, value in given.items() if takes_all or name in accepted}
        lost = [name for name, value in given.items() if value is not None and name not in settings]
        if lost and not self._has_warned:
            self._has_warned = True
            logger.warning("%s.forward takes no %s: it has no effect.", type(loss).__name__, " and no ".join(lost))
        return loss(*self.collect_features(batch), **settings)
