"""What a card says about the course of a training: its settings, its log, and how long it took."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from .markdown import bold, code, cut, escape, number, plain, table

Row: TypeAlias = dict[str, Any]
"""Column of the log -> value; always with "Epoch" and "Step"."""

FEW_ROWS = 100
"""A longer log is folded."""
BEFORE = -1
"""The step of what was measured outside of a training."""

UNIMPORTANT = frozenset(
    {
        "output_dir",
        "logging_dir",
        "logging_strategy",
        "logging_steps",
        "logging_first_step",
        "report_to",
        "run_name",
        "eval_strategy",
        "evaluation_strategy",
        "eval_steps",
        "eval_delay",
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "metric_for_best_model",
        "greater_is_better",
        "do_train",
        "do_eval",
    }
)
"""Settings that say when something is written, not how the model was trained."""


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that belong in a card; secrets do not."""
    return {
        name: _written(value)
        for name, value in given.items()
        if name not in UNIMPORTANT and not name.endswith("_token") and not name.startswith("_")
    }


def changed(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some settings that differ from their defaults; None, False and what is empty are the same."""
    plain_defaults = {name: _written(value) for name, value in defaults.items()}
    return {
        name: value
        for name, value in given.items()
        if name in defaults and value != plain_defaults[name] and (_says(value) or _says(plain_defaults[name]))
    }


def _says(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def list_of(given: Mapping[str, Any]) -> str:
    """Settings as a list in Markdown."""
    return "\n".join(f"- {code(name)}: {escape(cut(str(value)))}" for name, value in given.items())


def _written(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(_written(key)): _written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(item) for item in value]
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value


# --- the log ---------------------------------------------------------------------------------------------------------


def note(rows: list[Row], epoch: float, step: int, values: Mapping[str, Any]) -> None:
    """Add to a log; what was measured at the same step is one row."""
    last = rows[-1] if rows else {}
    is_same = last.get("Step") == step and (step != BEFORE or not last.keys() & values.keys())
    if not is_same:
        last = {"Epoch": epoch, "Step": step}
        rows.append(last)
    last.update({name: plain(value) for name, value in values.items()})


def log_table(rows: Sequence[Row], best: int | None) -> str:
    """A log as a table; the row of the best step in bold."""
    first = ("Epoch", "Step", "Training Loss", "Validation Loss")
    seen = dict.fromkeys(name for row in rows for name in row)
    losses = [name for name in seen if name not in first and name.endswith(" loss")]
    known = [name for name in first if name in seen] + losses
    names = known + [name for name in seen if name not in known]
    cells = [_cells(row, names, is_best=best is not None and row["Step"] == best) for row in rows]
    return table([escape(name) if name not in first else name for name in names], cells, ":-:")


def _cells(row: Row, names: Iterable[str], is_best: bool) -> list[str]:
    shown = [number(row[name]) if name in row else "-" for name in names]
    return [bold(one) for one in shown] if is_best else shown


def duration(seconds: float) -> str:
    """A duration in a unit that fits: "2.5 seconds", "3.2 minutes", "1.5 hours"."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
