"""Training as before version 3: ``fit`` on loaders of ``InputExample``s, each with its loss, of a dense encoder.

Functions whose first argument is the model; it has them as methods. What is not special to dense encoders is in
``fitting``, ``fit_data`` and ``plain_loop``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..._types import Features
from ...evaluation.base import BaseEvaluator
from ...losses.base import total
from ...ops.tensors import batch_to_device
from ..collator import stacked
from ..dense import SentenceTransformerTrainer
from . import fit_data, fitting, plain_loop
from .data import InputExample


def fit(
    model: Any,
    train_objectives: Iterable[tuple[fit_data.Loader, nn.Module]],
    evaluator: BaseEvaluator | None = None,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
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
    checkpoint_path: str | None = None,
    checkpoint_save_steps: int = 500,
    checkpoint_save_total_limit: int = 0,
    resume_from_checkpoint: bool | str = False,
) -> None:
    """Train a model on several objectives in turn, a batch of each; ``SentenceTransformerTrainer`` does the work.

    Loaders are read once, at the beginning; their batches are then made up anew in each epoch. A loader of the class
    ``NoDuplicatesDataLoader``, and a ``SentenceLabelDataset``, say which examples may be in one batch.

    Args:
        model: a ``SentenceTransformer``, trained in place.
        train_objectives: loaders of ``InputExample``s, each with the loss that it is trained with. Labels count unless
            all of a loader are 0.
        evaluator: measures the model at the end of each epoch, and every ``evaluation_steps``.
        epochs: how often the examples are gone through.
        steps_per_epoch: how many steps an epoch has instead; 0 or None: until an objective has no more examples.
        scheduler: "constantlr", "warmupconstant", "warmuplinear", "warmupcosine" or "warmupcosinewithhardrestarts",
            in small or large letters.
        warmup_steps: steps in which the learning rate rises.
        optimizer_class, optimizer_params: the optimizer, and its arguments.
        weight_decay: of all parameters but biases and those of layer norms.
        evaluation_steps: 0 evaluates at the end of epochs only.
        output_path: a folder for the model and, below "eval", for what the evaluator writes; None saves nothing.
        save_best_model: save the model whenever it is the best so far; without an evaluator the last one is saved.
        max_grad_norm: longer gradients are cut to this length.
        use_amp: compute in 16 bits where it can be.
        callback: is told the score, the epoch and the step of each evaluation.
        show_progress_bar: whether there are progress bars.
        checkpoint_path: a folder for checkpoints; None makes none.
        checkpoint_save_steps: how many steps lie between them.
        checkpoint_save_total_limit: how many are kept; 0 for all.
        resume_from_checkpoint: go on from the last checkpoint in ``checkpoint_path``, or from the one in this folder.

    Raises: ValueError for an unknown scheduler, for no objectives, and for examples that fit no columns.
    """
    settings = fitting.Settings(
        evaluator, epochs, steps_per_epoch, scheduler, warmup_steps, optimizer_class, optimizer_params, weight_decay,
        evaluation_steps, output_path, save_best_model, max_grad_norm, use_amp, callback, show_progress_bar,
        checkpoint_path, checkpoint_save_steps, checkpoint_save_total_limit, resume_from_checkpoint,
    )  # fmt: skip
    loaders, losses = _objectives(train_objectives)
    fitting.train(SentenceTransformerTrainer, model, [fit_data.read(loader) for loader in loaders], losses, settings)


def old_fit(
    model: Any,
    train_objectives: Iterable[tuple[fit_data.Loader, nn.Module]],
    evaluator: BaseEvaluator | None = None,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
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
    checkpoint_path: str | None = None,
    checkpoint_save_steps: int = 500,
    checkpoint_save_total_limit: int = 0,
) -> None:
    """Train a model as before version 3, without a trainer: batches are those that the loaders make, in their order.

    Each objective has an optimizer of its own. A step is one of each objective; an objective without further batches
    begins anew. Epochs are counted from 0; the callback and the evaluator are told the step within the epoch, and -1 at
    its end. Checkpoints are models in folders named by steps.

    Args:
        model, train_objectives, ...: see ``fit``. All labels count.

    Raises: ValueError for an unknown scheduler, for no objectives, and for a loader without batches.
    """
    settings = fitting.Settings(
        evaluator, epochs, steps_per_epoch, scheduler, warmup_steps, optimizer_class, optimizer_params, weight_decay,
        evaluation_steps, output_path, save_best_model, max_grad_norm, use_amp, callback, show_progress_bar,
        checkpoint_path, checkpoint_save_steps, checkpoint_save_total_limit,
    )  # fmt: skip
    loaders, losses = _objectives(train_objectives)
    for loader in loaders:
        loader.collate_fn = partial(smart_batching_collate, model)

    def loss_of(loss: nn.Module, batch: tuple[list[Features], Tensor]) -> Tensor:
        features, labels = batch
        found = loss([batch_to_device(column, model.device) for column in features], labels.to(model.device))
        return total(found)

    plain_loop.train(model, loaders, losses, loss_of, settings)


def smart_batching_collate(model: Any, batch: Sequence[InputExample]) -> tuple[list[Features], Tensor]:
    """Examples as a loss takes them.

    Args:
        model: tokenises the texts.
        batch: B examples with equal numbers of texts.

    Returns: the features of each column of texts; and the labels, (B,) or (B, ...).
    Raises: ValueError for unequal numbers of texts, and for labels that make no tensor.
    """
    features = [model.preprocess(texts) for texts in fit_data.columns_of(batch)]
    return features, stacked([example.label for example in batch], "label")


def _objectives(
    train_objectives: Iterable[tuple[fit_data.Loader, nn.Module]],
) -> tuple[list[fit_data.Loader], list[nn.Module]]:
    found = list(train_objectives)
    if not found:
        raise ValueError("train_objectives must have at least one pair of a loader and a loss; it is empty.")
    return [loader for loader, _ in found], [loss for _, loss in found]
