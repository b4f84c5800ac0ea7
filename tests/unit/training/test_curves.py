"""The curves of a training: rows of the log, the CSV file, the picture; and the table that grows while it trains."""

from __future__ import annotations

import csv
import io
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentence_transformers.evaluation.base import BaseEvaluator
from sentence_transformers.training import curves
from sentence_transformers.training.table import LossTable

LOG: list[dict[str, Any]] = [
    {"loss": 2.0, "learning_rate": 0.01, "epoch": 0.5, "step": 1},
    {"loss": 1.5, "learning_rate": 0.005, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.8, "eval_runtime": 3.0, "eval_samples_per_second": 9, "epoch": 1.0, "step": 2},
    {"eval_dev_ndcg@10": 0.5, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.2, "eval_dev_ndcg@10": 0.75, "epoch": 2.0, "step": 4},
    {"train_runtime": 5.0, "train_loss": 1.7, "total_flos": 1e9, "epoch": 2.0, "step": 4},
]


def test_rows_join_what_was_logged_of_a_step_and_leave_times_out() -> None:
    assert curves.rows(LOG) == [
        {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.01},
        {"step": 2, "epoch": 1.0, "loss": 1.5, "learning_rate": 0.005, "eval_loss": 1.8, "eval_dev_ndcg@10": 0.5},
        {"step": 4, "epoch": 2.0, "eval_loss": 1.2, "eval_dev_ndcg@10": 0.75},
    ]


def test_the_csv_file_has_a_row_for_each_step_and_empty_fields_where_nothing_was_logged(tmp_path: Path) -> None:
    curves.write_csv(curves.rows(LOG), tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "epoch", "loss", "learning_rate", "eval_loss", "eval_dev_ndcg@10"]
    assert rows == [
        ["1", "0.5", "2.0", "0.01", "", ""],
        ["2", "1.0", "1.5", "0.005", "1.8", "0.5"],
        ["4", "2.0", "", "", "1.2", "0.75"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.parametrize(("log", "panels"), [(LOG, 3), (LOG[:2], 2), (LOG[2:3], 1)])
def test_the_picture_has_a_panel_for_losses_metrics_and_rates_as_far_as_there_are_any(
    log: list[dict[str, Any]], panels: int, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "c.png"
    curves.draw(curves.rows(log), path, ["eval_dev_ndcg@10"], "a title")
    height = round((curves.HEIGHT * panels + 0.3) * curves.DPI)
    width, found = png_size(path)
    assert width == 800 and abs(found - height) <= 1 and path.stat().st_size < 100_000


def test_the_picture_shows_the_lines_in_their_colours(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    images = pytest.importorskip("PIL.Image")
    path = tmp_path / "c.png"
    curves.draw(curves.rows(LOG), path, ["eval_dev_ndcg@10"])
    image = images.open(path).convert("RGB")
    counts = {colour: count for count, colour in image.getcolors(1 << 20)}
    for colour in curves.COLOURS[:2]:  # of the training loss and of the other one
        assert counts.get(tuple(bytes.fromhex(colour[1:])), 0) > 100, colour
    assert counts[(255, 255, 255)] > image.width * image.height / 2


def test_drawing_leaves_the_state_of_pyplot_alone(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    curves.draw(curves.rows(LOG), tmp_path / "c.png")
    assert pyplot.get_fignums() == before


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Nothing was logged"):
        curves.draw([], tmp_path / "c.png")


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'Drawing the curves needs matplotlib. Install it: pip install "sentence-'):
        curves.draw(curves.rows(LOG), tmp_path / "c.png")


# --- the table --------------------------------------------------------------------------------------------------------


class Measured(BaseEvaluator):
    """An evaluator with a name."""

    name = "dev"
    primary_metric = "dev_ndcg@10"


def table(*calls: tuple[int, dict[str, Any] | None], evaluators: list[BaseEvaluator]) -> list[list[str]]:
    """The words of the lines that logs lead to; None is the beginning of the next step."""
    stream = io.StringIO()
    made = LossTable(evaluators, stream)
    state = SimpleNamespace(global_step=0, epoch=0.0, is_world_process_zero=True)
    made.on_train_begin(None, state, None)
    for step, logs in calls:
        state.global_step, state.epoch = step, step / 2
        if logs is None:
            made.on_step_begin(None, state, None)
        else:
            made.on_log(None, state, None, logs)
    made.on_train_end(None, state, None)
    return [line.split() for line in stream.getvalue().splitlines()]


def test_the_loss_and_the_evaluation_of_a_step_are_one_line() -> None:
    lines = table(
        (1, {"loss": 2.0}),
        (1, None),
        (2, {"loss": 1.5}),
        (2, {"eval_loss": 1.25}),
        (2, {"eval_dev_ndcg@10": 0.75}),
        (2, None),
        (2, {"train_runtime": 3.0}),
        evaluators=[Measured()],
    )
    assert lines[0] == ["step", "epoch", "loss", "eval", "loss", "dev", "time"]
    assert [line[:-1] for line in lines[1:]] == [
        ["1", "0.50", "2.0000", "-", "-"],
        ["2", "1.00", "1.5000", "1.2500", "0.7500"],
    ]


def test_losses_of_several_evaluation_datasets_are_shown_by_their_mean() -> None:
    lines = table((4, {"eval_a_loss": 1.0, "eval_b_loss": 2.0}), evaluators=[])
    assert lines[1][:4] == ["4", "2.00", "-", "1.5000"]


def test_the_columns_stand_below_their_titles() -> None:
    stream = io.StringIO()
    made = LossTable([], stream)
    state = SimpleNamespace(global_step=1200, epoch=1.0, is_world_process_zero=True)
    made.on_log(None, state, None, {"loss": 0.5})
    made.on_train_end(None, state, None)
    head, line = stream.getvalue().splitlines()
    assert len(head) == len(line) and line[: head.index("step") + 4].strip() == "1,200"


def test_other_processes_say_nothing() -> None:
    stream = io.StringIO()
    made = LossTable([], stream)
    state = SimpleNamespace(global_step=1, epoch=1.0, is_world_process_zero=False)
    made.on_log(None, state, None, {"loss": 0.5})
    made.on_train_end(None, state, None)
    assert stream.getvalue() == ""


def test_an_evaluation_after_the_training_has_its_line() -> None:
    stream = io.StringIO()
    made = LossTable([], stream)
    state = SimpleNamespace(global_step=3, epoch=1.0, is_world_process_zero=True)
    made.on_train_begin(None, state, None)
    made.on_train_end(None, state, None)
    made.on_log(None, state, None, {"eval_loss": 0.5})
    made.on_evaluate(None, state, None)
    assert stream.getvalue().split()[-2] == "0.5000"
