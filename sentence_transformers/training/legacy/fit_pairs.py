"""Training of rerankers as before version 4: ``fit`` on a loader of ``InputExample``s, with a loss function of torch.

Functions whose first argument is the model; it has them as methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..._types import Features
from ...evaluation.base import BaseEvaluator
from ...losses.cross.base import Pair, PairLoss
from ...ops.tensors import batch_to_device
from ..collator import stacked
from ..cross import CrossEncoderTrainer
from . import fit_data, fitting, plain_loop
from .data import InputExample


def fit(
    model: Any,
    train_dataloader: fit_data.Loader,
    evaluator: BaseEvaluator | None = None,
    epochs: int = 1,
    loss_fct: Any = None,
    activation_fct: nn.Module | None = None,
    scheduler: str = "WarmupLinear",
    warmup_steps: int = 10000,
    optimizer_class: type[Optimizer] = AdamW,
    optimizer_params: Mapping[str, Any] = fitting.RATE,
    weight_decay: float = 0.01,
    evaluation_steps: int = 0,
    output_path: str | None = None,
    save_best_model: bool = True,
    max_grad_norm: float = 1,
    use_amp: bool = False,
    callback: Callable[[float, int, int], None] | None = None,
    show_progress_bar: bool = True,
) -> None:
    """Train a reranker on pairs with labels; ``CrossEncoderTrainer`` does the work.

    The loader is read once, at the beginning; its batches are then made up anew in each epoch.

    Args:
        model: a ``CrossEncoder``, trained in place.
        train_dataloader: gives ``InputExample``s of two texts and a label.
        evaluator: measures the model at the end of each epoch, and every ``evaluation_steps``.
        epochs: how often the examples are gone through.
        loss_fct: scores, (B,) for one label, else (B, labels), and labels (B,) -> the loss; None for binary cross
            entropy for one label, cross entropy for several.
        activation_fct: applied to the scores before; None for nothing.
        Others: see ``SentenceTransformer.fit``.

    Raises: ValueError for an unknown scheduler, and for examples that are no pairs.
    """
    settings = fitting.Settings(
        evaluator, epochs, None, scheduler, warmup_steps, optimizer_class, optimizer_params, weight_decay,
        evaluation_steps, output_path, save_best_model, max_grad_norm, use_amp, callback, show_progress_bar,
    )  # fmt: skip
    material = fit_data.read(train_dataloader, with_labels=True)
    fitting.train(CrossEncoderTrainer, model, [material], [Fitted(model, loss_fct, activation_fct)], settings)


def old_fit(
    model: Any,
    train_dataloader: fit_data.Loader,
    evaluator: BaseEvaluator | None = None,
    epochs: int = 1,
    loss_fct: Any = None,
    activation_fct: nn.Module | None = None,
    scheduler: str = "WarmupLinear",
    warmup_steps: int = 10000,
    optimizer_class: type[Optimizer] = AdamW,
    optimizer_params: Mapping[str, Any] = fitting.RATE,
    weight_decay: float = 0.01,
    evaluation_steps: int = 0,
    output_path: str | None = None,
    save_best_model: bool = True,
    max_grad_norm: float = 1,
    use_amp: bool = False,
    callback: Callable[[float, int, int], None] | None = None,
    show_progress_bar: bool = True,
) -> None:
    """Train a reranker without a trainer: batches are those that the loader makes, in their order.

    Epochs are counted from 0; the callback and the evaluator are told the step within the epoch, and -1 at its end.

    Args: see ``fit``. Raises: ValueError for an unknown scheduler, and for a loader without batches.
    """
    settings = fitting.Settings(
        evaluator, epochs, None, scheduler, warmup_steps, optimizer_class, optimizer_params, weight_decay,
        evaluation_steps, output_path, save_best_model, max_grad_norm, use_amp, callback, show_progress_bar,
    )  # fmt: skip
    train_dataloader.collate_fn = partial(smart_batching_collate, model)

    def loss_of(loss: nn.Module, batch: tuple[Features, Tensor]) -> Tensor:
        assert isinstance(loss, Fitted)
        features, labels = batch
        logits = loss.embed(batch_to_device(features, model.device))
        return loss.compute_loss_from_embeddings([logits], labels.to(model.device))

    plain_loop.train(model, [train_dataloader], [Fitted(model, loss_fct, activation_fct)], loss_of, settings)


def smart_batching_collate(model: Any, batch: Sequence[InputExample]) -> tuple[Features, Tensor]:
    """Examples as a model takes them: the features of B pairs, and their labels, (B,).

    Raises: ValueError for unequal numbers of texts, and for labels that make no tensor.
    """
    labels = stacked([example.label for example in batch], "label")
    pairs = list(zip(*fit_data.columns_of(batch), strict=True))
    return _features(model, pairs), labels.float() if model.num_labels == 1 else labels.long()


def smart_batching_collate_text_only(model: Any, batch: Sequence[Sequence[str]]) -> Features:
    """The features of B pairs of texts."""
    return _features(model, batch)


def _features(model: Any, pairs: Sequence[Sequence[str]]) -> Features:
    features: Features = model.preprocess([[text.strip() for text in pair] for pair in pairs])
    return batch_to_device(features, model.device)


class Fitted(PairLoss):
    """A loss function of torch on the scores of pairs.

    Args:
        model: the ``CrossEncoder`` to train.
        loss_fct, activation_fct: see ``fit``.
    """

    needs_one_label: ClassVar[bool] = False

    def __init__(self, model: Any, loss_fct: Any = None, activation_fct: nn.Module | None = None) -> None:
        super().__init__(model, activation_fct)
        self.has_one_label = model.num_labels == 1
        default = nn.BCEWithLogitsLoss() if self.has_one_label else nn.CrossEntropyLoss()
        self.loss_fct = default if loss_fct is None else loss_fct

    def pairs(self, columns: list[list[Any]], labels: Any) -> list[list[Pair]]:
        return [[tuple(text.strip() for text in texts) for texts in zip(*columns, strict=True)]]

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of logits (B, L)."""
        (logits,) = embeddings
        if labels is None:
            raise ValueError("fit expects examples with labels, but got none.")
        scores = logits.reshape(len(logits)) if self.has_one_label else logits
        targets = labels.to(scores.dtype) if self.has_one_label else labels.to(torch.int64)
        found: Tensor = self.loss_fct(self.activation_fn(scores), targets)
        return found
