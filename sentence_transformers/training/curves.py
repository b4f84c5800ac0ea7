"""The curves of a training: what its log holds as rows of a CSV file, and as a picture.

Knows only the log (``trainer.state.log_history``); draws with matplotlib, which is imported on use.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import need

FIRST = ("step", "epoch", "loss", "learning_rate")
LEFT_OUT = ("total_flos",)
LEFT_OUT_ENDINGS = ("_runtime", "_samples_per_second", "_steps_per_second")
LEFT_OUT_BEGINNINGS = ("train_",)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people who see few colours can tell apart; markers differ too."""
MARKERS = "osD^vPX"
WIDTH, HEIGHT, DPI = 8.0, 2.4, 100
"""Of a panel, in inches, and dots an inch."""
MOST_POINTS_MARKED = 60

Row: TypeAlias = dict[str, float]
Line: TypeAlias = tuple[str, list[float], list[float]]
"""Label, steps, values."""


def rows(log: Iterable[Mapping[str, Any]]) -> list[Row]:
    """A row for each step that was logged, in order; what was logged of a step several times is joined.

    Args:
        log: as ``trainer.state.log_history``.

    Returns: rows with "step", and what there is of "epoch", "loss", "learning_rate" and metrics.
    """
    found: dict[int, Row] = {}
    for entry in log:
        values = {name: value for name, value in entry.items() if _is_kept(name) and isinstance(value, (int, float))}
        if set(values) - {"step", "epoch"}:
            found.setdefault(int(entry["step"]), {}).update(values)
    return [found[step] for step in sorted(found)]


def columns(found: Sequence[Row]) -> list[str]:
    """All columns of some rows: those of every training first, then the others as they came."""
    others = dict.fromkeys(name for row in found for name in row if name not in FIRST)
    return [*FIRST, *others]


def write_csv(found: Sequence[Row], path: Path) -> None:
    """Write rows; fields without a value are empty. The file appears whole."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns(found))
        writer.writeheader()
        writer.writerows(found)
    os.replace(part, path)


def draw(found: Sequence[Row], path: Path, metrics: Sequence[str] = (), title: str = "") -> None:
    """Write a PNG with a panel each for the losses, the metrics and the learning rate, as far as there are any.

    Args:
        metrics: columns of the panel of metrics; those without a value are left out.
        title: of the picture.

    Raises: ImportError without matplotlib; ValueError for no rows.
    """
    panels = [(name, lines) for name, lines in _panels(found, metrics) if lines]
    if not panels:
        raise ValueError("Nothing was logged: expected at least one row with a loss or a metric.")
    what = "Drawing the curves"
    figures = need("matplotlib.figure", extra="train", what=what)
    canvases = need("matplotlib.backends.backend_agg", extra="train", what=what)
    figure = figures.Figure(figsize=(WIDTH, HEIGHT * len(panels) + 0.3), dpi=DPI, layout="constrained")
    canvases.FigureCanvasAgg(figure)  # no window, no state of pyplot
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, panels, strict=True):
        _draw_panel(axis, name, lines)
    axes[-1].set_xlabel("step")
    if title:
        figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def _panels(found: Sequence[Row], metrics: Sequence[str]) -> list[tuple[str, list[Line]]]:
    losses = [name for name in columns(found) if name.startswith("eval_") and name.endswith("_loss")]
    return [
        ("loss", _lines(found, ["loss", *losses], {"loss": "training", "eval_loss": "evaluation"})),
        ("metric", _lines(found, metrics, {})),
        ("learning rate", _lines(found, ["learning_rate"], {})),
    ]


def _lines(found: Sequence[Row], names: Sequence[str], labels: Mapping[str, str]) -> list[Line]:
    lines = []
    for name in names:
        points = [(row["step"], row[name]) for row in found if name in row]
        if points:
            steps, values = zip(*points, strict=True)
            lines.append((labels.get(name, name.removeprefix("eval_")), list(steps), list(values)))
    return lines


def _draw_panel(axis: Any, name: str, lines: Sequence[Line]) -> None:
    for at, (label, steps, values) in enumerate(lines):
        marker = MARKERS[at % len(MARKERS)] if len(steps) <= MOST_POINTS_MARKED else None
        colour = COLOURS[at % len(COLOURS)]
        axis.plot(steps, values, label=label, color=colour, marker=marker, markersize=4, linewidth=1.5)
    axis.set_ylabel(name)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1 or lines[0][0] not in ("training", "learning_rate"):
        axis.legend(fontsize=8, frameon=False)


def _is_kept(name: str) -> bool:
    return not (name in LEFT_OUT or name.endswith(LEFT_OUT_ENDINGS) or name.startswith(LEFT_OUT_BEGINNINGS))
