"""The loop of ``old_fit``: one step for each objective in turn, each with an optimizer of its own. No trainer.

Knows nothing of families: what a batch is, and its loss, is said by two functions.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm, trange
from transformers import get_scheduler

from .. import objectives
from .fit_data import Loader
from .fitting import Settings, Watch, save_last, wants_half

logger = logging.getLogger(__name__)

NOT_DECAYED = ("bias", "LayerNorm.weight")
"""Parameters with such names have no weight decay."""


class Turn:
    """One objective: batches without end, a loss, and what takes the steps.

    Args:
        loader: what makes the batches.
        module: what is trained; parameters of judges in it are not.
        loss: a batch -> its loss, ().
        steps: how many steps the whole training has.
        settings: of the ``fit``.
        half: the type that is computed in where it can be; None for that of the parameters.
        device: where it is computed.
    """

    def __init__(
        self,
        loader: Loader,
        module: nn.Module,
        loss: Callable[[Any], Tensor],
        steps: int,
        settings: Settings,
        half: torch.dtype | None,
        device: torch.device,
    ) -> None:
        self.batches = _without_end(loader)
        self.module = module
        self.loss = loss
        self.parameters = _trained(module)
        self.optimizer = optimizer_of(self.parameters, settings)
        self.scheduler = get_scheduler(settings.schedule, self.optimizer, settings.warmup_steps, steps)
        self.max_grad_norm = settings.max_grad_norm
        self.half, self.device = half, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)

    def step(self) -> None:
        """Take one step, on the next batch."""
        batch = next(self.batches)
        with self._precision():
            value = self.loss(batch)
        torch.autograd.backward(self.scaler.scale(value))
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(list(self.parameters.values()), self.max_grad_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.scaler.get_scale() >= scale:  # else the gradients were too large, and no step was taken
            self.scheduler.step()

    def begin(self) -> None:
        """Training goes on, after whatever was done with the model."""
        self.module.zero_grad()
        self.module.train()
        for part in self.module.modules():
            for name in getattr(part, "judges", ()):
                getattr(part, name).eval()

    def _precision(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.half is None else torch.autocast(self.device.type, dtype=self.half)


def train(
    model: Any,
    loaders: Sequence[Loader],
    modules: Sequence[nn.Module],
    loss: Callable[[nn.Module, Any], Tensor],
    settings: Settings,
) -> None:
    """Train, and do all else that the settings say.

    Args:
        model: what is trained, evaluated and saved.
        loaders: batches as ``loss`` takes them.
        modules: of each objective what is trained, such as its loss around the model.
        loss: one of the modules, and a batch -> its loss, ().
    """
    epoch_steps = settings.steps_per_epoch or min(map(len, loaders))
    if not epoch_steps:
        raise ValueError("old_fit needs examples, but a loader has no batch.")
    half = wants_half(settings, model.device)
    turns = [
        Turn(loader, module, _for(loss, module), epoch_steps * settings.epochs, settings, half, model.device)
        for loader, module in zip(loaders, [module.to(model.device) for module in modules], strict=True)
    ]
    watch = None if settings.evaluator is None else Watch(settings)
    hidden = not settings.show_progress_bar
    for epoch in trange(settings.epochs, desc="Epoch", disable=hidden):
        _begin(turns)
        for step in tqdm(range(1, epoch_steps + 1), desc="Iteration", smoothing=0.05, disable=hidden):
            for turn in turns:
                turn.step()
            if watch is not None and settings.is_evaluated_by_steps and step % settings.evaluation_steps == 0:
                _evaluate(watch, model, epoch, step)
                _begin(turns)
            _save_checkpoint(model, settings, epoch * epoch_steps + step)
        if watch is not None:
            _evaluate(watch, model, epoch, -1)
    save_last(model, settings)
    _save_checkpoint(model, settings, epoch_steps * settings.epochs, is_last=True)


def optimizer_of(parameters: dict[str, nn.Parameter], settings: Settings) -> Optimizer:
    """The optimizer of some parameters, those with weight decay apart from those without."""
    plain = {name for name in parameters if any(ending in name for ending in NOT_DECAYED)}
    decayed = [one for name, one in parameters.items() if name not in plain]
    others = [one for name, one in parameters.items() if name in plain]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind: Callable[..., Optimizer] = settings.optimizer_class
    return kind(groups, **settings.optimizer_params)


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    others = objectives.judged(module)
    return {name: one for name, one in module.named_parameters() if one.requires_grad and id(one) not in others}


def _for(loss: Callable[[nn.Module, Any], Tensor], module: nn.Module) -> Callable[[Any], Tensor]:
    return lambda batch: loss(module, batch)


def _without_end(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader


def _begin(turns: Sequence[Turn]) -> None:
    for turn in turns:
        turn.begin()


def _evaluate(watch: Watch, model: Any, epoch: int, steps: int) -> None:
    model.eval()
    watch(model, None, epoch, steps)


def _save_checkpoint(model: Any, settings: Settings, step: int, is_last: bool = False) -> None:
    """Save the model in a folder with the number of the step as name, if it is time, and remove the oldest."""
    every = settings.checkpoint_save_steps
    if settings.checkpoint_path is None or not every or (step % every != 0 and not is_last):
        return
    folder = Path(settings.checkpoint_path)
    logger.info("Saving a checkpoint to %s.", folder / str(step))
    model.save(str(folder / str(step)))
    if settings.checkpoint_save_total_limit > 0:
        saved = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        for old in saved[: -settings.checkpoint_save_total_limit]:
            shutil.rmtree(folder / str(old))
