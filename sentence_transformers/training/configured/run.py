"""Runs a training that was read from a file, and leaves a folder with all that came of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

import datasets
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from .. import curves
from ..table import use_table
from . import document
from .plan import Plan

FINAL = "final"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
PICTURE = "curves.png"
EVALUATIONS = "eval"
CHECKPOINTS = "checkpoint-*"
LOGS = 50
"""By default the loss is logged so many times."""


@dataclass(frozen=True)
class Result:
    """What came of a training.

    Attributes:
        model: the folder of the final model.
        steps: how many there were, those before a resumption too.
        loss: mean training loss of what was trained now.
        metrics: the last of each evaluation's losses and metrics.
        seconds: the time it took.
        is_main: whether this process is the one that writes and speaks.
    """

    model: Path
    steps: int
    loss: float
    metrics: dict[str, float]
    seconds: float
    is_main: bool


def run(
    plan: Plan, *, resume: bool = False, overwrite: bool = False, bar: bool = False, stream: TextIO | None = None
) -> Result:
    """Check, train, and write the model with its card, the metrics and their curves.

    Args:
        resume: go on from the last checkpoint in the output folder.
        overwrite: delete what an earlier run left in the output folder; nothing else in it is touched.
        bar: show a progress bar.
        stream: where the table of losses goes; None: standard error.

    Raises: ValueError for what the file says wrong, an output folder that is used, or none to resume from.
    """
    with quiet(bar):
        return _run(plan, resume, overwrite, bar, stream)


def _run(plan: Plan, resume: bool, overwrite: bool, bar: bool, stream: TextIO | None) -> Result:
    start = monotonic()
    plan.check()
    arguments = plan.training_arguments(**({} if "disable_tqdm" in plan.arguments else {"disable_tqdm": not bar}))
    is_main = arguments.process_index == 0
    checkpoint = _prepared(plan.output, resume, overwrite, is_main)
    trainer, evaluators = _trainer(plan, arguments)
    use_table(trainer, evaluators, stream)
    if is_main:
        plan.output.mkdir(parents=True, exist_ok=True)
        document.write(plan.settings, plan.output / CONFIG)
    try:
        output = trainer.train(resume_from_checkpoint=checkpoint)
        if _lacks_last_evaluation(trainer):
            trainer.evaluate()
    finally:  # an interrupted training has curves, too
        if is_main:
            write_curves(plan, trainer.state.log_history, evaluators)
    _save(plan, trainer)
    metrics = _last_metrics(trainer.state.log_history)
    steps, seconds = trainer.state.global_step, monotonic() - start
    return Result(plan.output / FINAL, steps, output.training_loss, metrics, seconds, is_main)


@contextmanager
def quiet(bar: bool) -> Iterator[None]:
    """Inside, no bars for files of models, which would stand between the lines of the table.

    Args:
        bar: leave the bars of downloads and datasets.
    """
    before = logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled(), are_progress_bars_disabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if bar and not before[2]:
        enable_progress_bars()
    if not bar:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if before[0]:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if not before[1]:
            datasets.enable_progress_bars()
        if before[2]:
            disable_progress_bars()


def _trainer(plan: Plan, arguments: Any) -> tuple[Any, list[Any]]:
    set_seed(arguments.seed)  # for what is random in new models and losses
    train, evaluated = plan.rows(plan.train), plan.rows(plan.eval)
    if not {"logging_steps", "logging_strategy"} & set(plan.arguments):
        arguments.logging_steps = math.ceil((plan.steps() or 1) / LOGS)
    evaluators = plan.open_evaluators()
    model = plan.model.open()
    trainer = plan.kind.named(plan.kind.trainer)(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluated,
        loss=plan.open_losses(model),
        evaluator=evaluators[0] if len(evaluators) == 1 else evaluators or None,
    )
    return trainer, evaluators


def _prepared(output: Path, resume: bool, overwrite: bool, is_main: bool) -> str | None:
    """The checkpoint to go on from, or None. Raises: ValueError where the folder is not as it must be."""
    if resume:
        found: str | None = get_last_checkpoint(str(output)) if output.is_dir() else None  # type: ignore[no-untyped-call]
        if found is None:
            raise ValueError(f"There is no checkpoint in {output} to resume from: leave out --resume to begin anew.")
        return found
    left = leftovers(output) if is_main else []
    if left and not overwrite:
        raise ValueError(
            f"{output} has {left[0].name} of an earlier run: pass --resume to go on, --overwrite to delete what it "
            "left, or another arguments.output_dir."
        )
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return None


def leftovers(output: Path) -> list[Path]:
    """What a run has left in a folder, checkpoints first."""
    names = (FINAL, METRICS, PICTURE, CONFIG, EVALUATIONS)
    return [*sorted(output.glob(CHECKPOINTS)), *(output / name for name in names if (output / name).exists())]


def write_curves(plan: Plan, log: Sequence[dict[str, Any]], evaluators: Sequence[Any]) -> None:
    """Write the metrics and their picture, as far as there are any."""
    found = curves.rows(log)
    if not found:
        return
    curves.write_csv(found, plan.output / METRICS)
    if plan.curves:
        primary = [f"eval_{one.primary_metric}" for one in evaluators if one.primary_metric is not None]
        curves.draw(found, plan.output / PICTURE, primary, plan.output.name)


def _lacks_last_evaluation(trainer: Any) -> bool:
    """Whether the final model is another than the last that was evaluated."""
    if trainer.args.eval_strategy == "no" or trainer.args.load_best_model_at_end:
        return False
    measured = [entry["step"] for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)]
    return not measured or measured[-1] != trainer.state.global_step


def _save(plan: Plan, trainer: Any) -> None:
    final = plan.output / FINAL
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        trainer.save_model(str(final))  # gathers the parts of the model
    elif trainer.is_world_process_zero():
        trainer.model.save_pretrained(str(final))
    if trainer.args.push_to_hub:
        trainer.push_to_hub()


def _last_metrics(log: Sequence[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in curves.rows(log):
        found |= {name: value for name, value in row.items() if name.startswith("eval_")}
    return found
