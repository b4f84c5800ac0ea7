"""The losses of a training as a table that grows, in place of the dictionaries that transformers prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, TextIO

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..evaluation.base import BaseEvaluator

WIDTH = 10
WIDEST = 24
NOTHING = "-"


class ProgressBar(ProgressCallback):
    """The bar of transformers, without what it prints of every log."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Leave it to the table."""


class LossTable(TrainerCallback):
    """A line for each step that was logged or evaluated: step, epoch, losses, primary metrics, time.

    Args:
        evaluators: whose primary metrics are shown, a column each.
        stream: where to; None: standard error. A progress bar on the same stream stays below the table.
    """

    def __init__(self, evaluators: Sequence[BaseEvaluator] = (), stream: TextIO | None = None) -> None:
        self.evaluators = list(evaluators)
        self.stream = sys.stderr if stream is None else stream
        self._start = 0.0
        self._row: dict[str, str] = {}
        self._has_head = False
        self._is_training = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The clock starts."""
        self._start, self._is_training = monotonic(), True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Take what is logged; an evaluation of the same step comes into the same line."""
        if not state.is_world_process_zero or logs is None:
            return
        found = self.cells(logs)
        if not found:
            return
        place = {"step": f"{state.global_step:,}", "epoch": f"{state.epoch or 0:.2f}"}
        if self._row and self._row["step"] != place["step"]:
            self._flush()
        self._row |= {**place, **found, "time": _clock(monotonic() - self._start)}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What belongs to the step before is complete."""
        self._flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last line of the training."""
        self._is_training = False
        self._flush()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation after the training has a line of its own."""
        if not self._is_training:
            self._flush()

    def cells(self, logs: Mapping[str, Any]) -> dict[str, str]:
        """Column -> text, of what is logged; empty where it is none of the columns'."""
        losses = [value for name, value in logs.items() if name.startswith("eval_") and name.endswith("_loss")]
        if losses:
            shown = {"loss": logs.get("loss"), "eval loss": sum(losses) / len(losses)}
        else:
            shown = {"loss": logs.get("loss")}
        for title, evaluator in zip(self._titles(), self.evaluators, strict=True):
            shown[title] = logs.get(f"eval_{evaluator.primary_metric}")
        return {name: f"{value:.4f}" for name, value in shown.items() if isinstance(value, (int, float))}

    def _titles(self) -> list[str]:
        titles: list[str] = []
        for evaluator in self.evaluators:
            title = str(getattr(evaluator, "name", "") or evaluator.description)  # not all evaluators have names
            titles.append(title if title not in titles else f"{title} ({evaluator.description})")
        return titles

    def _flush(self) -> None:
        if not self._row:
            return
        columns = ["step", "epoch", "loss", "eval loss", *self._titles(), "time"]
        if not self._has_head:
            self._has_head = True
            self._write({name: name for name in columns}, columns)
        self._write(self._row, columns)
        self._row = {}

    def _write(self, row: Mapping[str, str], columns: Sequence[str]) -> None:
        line = "  ".join(row.get(name, NOTHING)[:WIDEST].rjust(min(max(WIDTH, len(name)), WIDEST)) for name in columns)
        tqdm.write(line, file=self.stream)  # above a bar, if there is one


def use_table(trainer: Any, evaluators: Sequence[BaseEvaluator], stream: TextIO | None = None) -> None:
    """Give a trainer the table in place of what it prints; the progress bar stays where there is one."""
    trainer.remove_callback(PrinterCallback)
    has_bar = trainer.pop_callback(ProgressCallback) is not None
    trainer.add_callback(LossTable(evaluators, stream))
    if has_bar:  # behind the table, whose last line comes before the bar is closed
        trainer.add_callback(ProgressBar())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
