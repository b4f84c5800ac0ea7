"""The half of ``fit`` that all families of models share: its settings, its evaluations, and how the trainer is run.

A family says how its loaders become objectives, and how a batch becomes a loss.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import PrinterCallback, TrainerCallback

from ...errors import one_of, positive
from ...evaluation.base import BaseEvaluator
from . import fit_data

RATE: Mapping[str, Any] = MappingProxyType({"lr": 2e-5})

SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {
        "constantlr": "constant",
        "warmupconstant": "constant_with_warmup",
        "warmuplinear": "linear",
        "warmupcosine": "cosine",
        "warmupcosinewithhardrestarts": "cosine_with_restarts",
    }
)
"""What ``fit`` calls schedules of the learning rate, in small letters -> what transformers calls them."""


@dataclass
class Settings:
    """The arguments of ``fit`` but for what is trained on; see there."""

    evaluator: BaseEvaluator | None = None
    epochs: int = 1
    steps_per_epoch: int | None = None
    scheduler: str = "WarmupLinear"
    warmup_steps: int = 10000
    optimizer_class: type[Optimizer] = AdamW
    optimizer_params: Mapping[str, Any] = field(default_factory=lambda: RATE)
    weight_decay: float = 0.01
    evaluation_steps: int = 0
    output_path: str | None = None
    save_best_model: bool = True
    max_grad_norm: float = 1
    use_amp: bool = False
    callback: Callable[[float, int, int], None] | None = None
    show_progress_bar: bool = True
    checkpoint_path: str | None = None
    checkpoint_save_steps: int = 500
    checkpoint_save_total_limit: int = 0
    resume_from_checkpoint: bool | str = False

    def __post_init__(self) -> None:
        positive("epochs", self.epochs)
        self.schedule = schedule(self.scheduler)
        self.steps_per_epoch = self.steps_per_epoch or None
        if self.steps_per_epoch is not None:
            positive("steps_per_epoch", self.steps_per_epoch)
        if self.resume_from_checkpoint is True and not self.checkpoint_path:
            raise ValueError("resume_from_checkpoint=True needs checkpoint_path, the folder that has the checkpoints.")

    @property
    def is_evaluated_by_steps(self) -> bool:
        """Whether there are evaluations within epochs."""
        return self.evaluator is not None and bool(self.evaluation_steps) and self.evaluation_steps > 0


def schedule(name: str) -> str:
    """What transformers calls a schedule. Raises: ValueError for an unknown one."""
    found = SCHEDULERS.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        try:
            one_of("scheduler", name, list(SCHEDULERS))
        except ValueError as error:
            raise ValueError(f"Unknown scheduler {name}: {error}") from error
    return str(found)


class Watch(BaseEvaluator):
    """Runs the evaluator of a ``fit``, tells the callback, and saves the model whenever it is the best so far.

    Args:
        settings: of the ``fit``, with an evaluator.
        is_writer: whether this process writes files.

    Attributes:
        best: the best score so far, as it compares: higher is better.
    """

    def __init__(self, settings: Settings, is_writer: bool = True) -> None:
        assert settings.evaluator is not None
        self.evaluator = settings.evaluator
        self.settings = settings
        self.is_writer = is_writer
        self.best = -math.inf
        self.greater_is_better = self.evaluator.greater_is_better

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """What the evaluator finds; its files go into the folder "eval" of the output path of the ``fit``."""
        output_path = self.settings.output_path
        folder = None
        if output_path is not None and self.is_writer:
            folder = os.path.join(output_path, "eval")
            os.makedirs(folder, exist_ok=True)
        found = self.evaluator(model, folder, epoch, steps)  # type: ignore[arg-type]
        score = self._score(found)
        if self.settings.callback is not None:
            self.settings.callback(score, epoch, steps)  # type: ignore[arg-type]
        comparable = score if self.greater_is_better else -score
        if comparable > self.best:
            self.best = comparable
            if self.settings.save_best_model and output_path is not None and self.is_writer:
                model.save(output_path)
        return found if isinstance(found, dict) else {"evaluator": found}

    def _score(self, found: float | dict[str, float]) -> float:
        """The number that says how good the model is: the primary metric, or the first."""
        if not isinstance(found, dict):
            self.primary_metric = "evaluator"
            return found
        primary = self.evaluator.primary_metric  # which may have been named only now
        self.primary_metric = primary if primary is not None else next(iter(found))
        return found[self.primary_metric]

    @property
    def description(self) -> str:
        """That of the evaluator."""
        return self.evaluator.description

    def get_config_dict(self) -> dict[str, Any]:
        """That of the evaluator."""
        return self.evaluator.get_config_dict()


class EvaluatedAtEpochEnds(TrainerCallback):
    """Lets the trainer evaluate at the end of each epoch, besides what its settings say."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for it."""
        control.should_evaluate = True


# --- with the trainer -------------------------------------------------------------------------------------------------


def train(
    trainer_class: type[Any],
    model: Any,
    materials: Sequence[fit_data.Material],
    losses: Sequence[nn.Module],
    settings: Settings,
) -> None:
    """Train with the trainer of a family, on one or several materials in turn.

    Args:
        trainer_class: a ``BaseTrainer``.
        model: what is trained, in place.
        materials: what is trained on.
        losses: one for each.
    """
    names = [f"_dataset_{place}" for place in range(len(materials))]
    callbacks: list[TrainerCallback] = [] if settings.evaluator is None else [EvaluatedAtEpochEnds()]
    with _checkpoints(settings) as folder:
        args = trainer_class.training_args_class(
            output_dir=folder,
            multi_dataset_batch_sampler=fit_data.Turns(
                tuple(one.kind for one in materials),
                tuple(one.batch_size for one in materials),
                settings.steps_per_epoch,
            ),
            router_mapping={name: one.routes for name, one in zip(names, materials, strict=True) if one.routes},
            per_device_train_batch_size=max(one.batch_size for one in materials),
            **_arguments(settings),
            use_cpu=model.device.type == "cpu",
        )
        watch = None if settings.evaluator is None else Watch(settings, is_writer=args.process_index == 0)
        trainer = trainer_class(
            model=model,
            args=args,
            train_dataset={name: one.dataset for name, one in zip(names, materials, strict=True)},
            loss=dict(zip(names, losses, strict=True)),
            evaluator=watch,
            callbacks=callbacks,
            optimizer_cls_and_kwargs=(settings.optimizer_class, dict(settings.optimizer_params)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=settings.resume_from_checkpoint or None)
        if args.process_index == 0:
            save_last(model, settings)


def save_last(model: Any, settings: Settings) -> None:
    """Without an evaluator, no model is the best: save the last one."""
    if settings.evaluator is None and settings.output_path is not None:
        model.save(settings.output_path)


def _arguments(settings: Settings) -> dict[str, Any]:
    """The settings as a trainer has them."""
    is_saved = settings.checkpoint_path is not None and bool(settings.checkpoint_save_steps)
    return {
        "num_train_epochs": settings.epochs,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": int(settings.warmup_steps),
        "learning_rate": float(settings.optimizer_params.get("lr", RATE["lr"])),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "fp16": settings.use_amp,
        "eval_strategy": "steps" if settings.is_evaluated_by_steps else "no",
        "eval_steps": settings.evaluation_steps if settings.is_evaluated_by_steps else None,
        "save_strategy": "steps" if is_saved else "no",
        "save_steps": settings.checkpoint_save_steps if is_saved else 500,
        "save_total_limit": settings.checkpoint_save_total_limit or None,
        "disable_tqdm": not settings.show_progress_bar,
    }


@contextmanager
def _checkpoints(settings: Settings) -> Iterator[str]:
    """The folder that checkpoints go to; where none are wanted, one that goes away."""
    if settings.checkpoint_path is not None:
        yield settings.checkpoint_path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def wants_half(settings: Settings, device: torch.device) -> torch.dtype | None:
    """The type of numbers that ``use_amp`` means on a device."""
    if not settings.use_amp:
        return None
    return torch.float16 if device.type == "cuda" else torch.bfloat16
