"""train: a real run of a tiny model, what it leaves behind, going on, and what is refused before anything happens."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from transformers import TrainerCallback

from sentence_transformers.cli.main import main
from sentence_transformers.encoders.dense import SentenceTransformer
from sentence_transformers.training.configured import run as running
from sentence_transformers.training.configured.document import load
from tests.unit.training.configs import settings, write_config, write_data

pytest.importorskip("matplotlib")


@pytest.fixture
def folder(in_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]) -> Path:
    """The current folder, with data and train.yaml; what datasets caches stays out of the user's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(in_folder / "cache"))
    write_data(in_folder)
    write_config(in_folder, settings(tiny_folder("bert")))
    return in_folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(path: Path) -> dict[int, float]:
    return {int(row["step"]): float(row["loss"]) for row in rows(path) if row["loss"]}


def fails(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """Run the command, see it fail, and give its one line."""
    assert main(["train", *words]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def test_a_run_leaves_the_model_its_card_metrics_curves_and_settings(
    folder: Path, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "train.yaml"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    table = [line.split() for line in shown.err.splitlines()]
    assert table[0] == ["step", "epoch", "loss", "eval", "loss", "sts", "time"]
    assert [line[0] for line in table[1:]] == ["1", "2", "3", "4"]
    assert [line[4] == "-" for line in table[1:]] == [True, False, True, False]  # evaluated after every second step

    out = folder / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoint-2", "checkpoint-4", "config.yaml", "curves.png", "eval", "final", "metrics.csv"}
    trained, before = (SentenceTransformer(str(path), device="cpu") for path in (out / "final", tiny_folder("bert")))
    assert not np.allclose(trained.encode(["a cat"]), before.encode(["a cat"]))
    assert "MultipleNegativesRankingLoss" in (out / "final" / "README.md").read_text()
    assert not list((out / "final").glob("*.bin"))

    metrics = rows(out / "metrics.csv")
    assert [row["step"] for row in metrics] == ["1", "2", "3", "4"]
    assert [bool(row["eval_sts_spearman_cosine"]) for row in metrics] == [False, True, False, True]
    assert f"{float(metrics[3]['loss']):.4f}" == table[4][2]
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    [kept] = (out / "eval").iterdir()
    assert [row["steps"] for row in rows(kept)] == ["2", "4"]
    assert load(out / "config.yaml")["train"]["path"] == str(folder / "pairs.tsv")


def test_the_kept_settings_and_seed_give_the_same_training_again(folder: Path) -> None:
    model = f"model={{static: {{tokenizer: {load(Path('train.yaml'))['model']}, dimension: 8}}}}"
    assert main(["train", "train.yaml", "--set", model]) == 0
    assert main(["train", "out/config.yaml", "--set", "arguments.output_dir=../again"]) == 0
    assert losses(folder / "out" / "metrics.csv") == losses(folder / "again" / "metrics.csv")


def test_a_resumed_training_goes_on_as_if_it_had_not_been_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "train.yaml", "--set", "arguments.output_dir=whole"]) == 0
    assert main(["train", "train.yaml", "--set", "arguments.save_total_limit=5"]) == 0
    for left in ("checkpoint-4", "final"):  # as if it had been killed after the second step
        _remove(folder / "out" / left)
    capsys.readouterr()
    assert main(["train", "train.yaml", "--resume"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()[1:]] == ["3", "4"]
    wanted, found = losses(folder / "whole" / "metrics.csv"), losses(folder / "out" / "metrics.csv")
    assert found == pytest.approx(wanted, rel=1e-6) and list(found) == [1, 2, 3, 4]
    one, other = (SentenceTransformer(str(folder / name / "final"), device="cpu") for name in ("whole", "out"))
    np.testing.assert_allclose(one.encode(["a cat"]), other.encode(["a cat"]), atol=1e-6)


def _remove(path: Path) -> None:
    for one in sorted(path.rglob("*"), reverse=True):
        one.unlink() if one.is_file() else one.rmdir()
    path.rmdir()


def test_an_interrupted_training_leaves_its_curves_and_says_how_to_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupt(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    original = running.use_table

    def use_table(trainer: Any, *args: Any) -> None:
        original(trainer, *args)
        trainer.add_callback(Interrupt())

    monkeypatch.setattr(running, "use_table", use_table)
    assert main(["train", "train.yaml"]) == 130
    assert "--resume goes on from the last checkpoint" in capsys.readouterr().err
    assert list(losses(folder / "out" / "metrics.csv")) == [1, 2, 3]
    assert (folder / "out" / "curves.png").is_file() and not (folder / "out" / "final").exists()


def test_the_last_model_is_measured_even_if_no_evaluation_falls_on_its_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "train.yaml", "--set", "arguments.eval_steps=3", "--json"]) == 0
    shown = capsys.readouterr()
    assert [row["step"] for row in rows(folder / "out" / "metrics.csv") if row["eval_sts_spearman_cosine"]] == [
        "3",
        "4",
    ]
    assert shown.err.splitlines()[-1].split()[0] == "4"
    assert json.loads(shown.out)["metrics"]["eval_sts_spearman_cosine"] == pytest.approx(
        float(rows(folder / "out" / "metrics.csv")[-1]["eval_sts_spearman_cosine"])
    )


def test_json_says_what_came_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", "train.yaml", "--set", "evaluators=null", "--set", "arguments.eval_strategy=no", "--json"]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts.pop("seconds") > 0 and facts.pop("loss") > 0
    out = str(folder / "out")
    assert facts == {"output": out, "model": f"{out}/final", "steps": 4, "metrics": {}}


def test_several_datasets_an_evaluation_dataset_and_no_picture(folder: Path) -> None:
    values = load(Path("train.yaml"))
    scored = {"path": "sts.csv", "columns": ["first", "second"], "label": {"column": "stars", "divide_by": 5}}
    values |= {
        "train": {"qa": values["train"], "sts": scored},
        "loss": {"qa": "MultipleNegativesRankingLoss", "sts": "CosineSimilarityLoss"},
        "eval": {"sts": {**scored, "limit": 8}},
        "curves": False,
    }
    write_config(folder, values)
    assert main(["train", "train.yaml"]) == 0
    assert not (folder / "out" / "curves.png").exists()
    assert [bool(row["eval_sts_loss"]) for row in rows(folder / "out" / "metrics.csv")] == [False, True, False, True]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "train.yaml", "--dry-run", "--set", "arguments.max_steps=9"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == [
        "model", "train", "loss", "evaluator", "arguments", "steps", "output"
    ]  # fmt: skip
    assert "36 rows; question, answer" in shown[1] and shown[5].endswith("about 9")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_mistake_is_said_in_one_line_before_anything_is_opened(
    dry: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SentenceTransformer, "__init__", lambda *args, **kwargs: pytest.fail("a model was opened"))
    assert "loss.CoSENTLoss does not take the columns of train" in fails(
        ["train.yaml", "--set", "loss=CoSENTLoss", *dry], capsys
    )
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.yaml"], 1, "no such file: none.yaml"),
        (["train.yaml", "--resume"], 1, "There is no checkpoint in"),
        (["train.yaml", "--resume", "--overwrite"], 2, "--resume goes on with what --overwrite deletes"),
        (["train.yaml", "--set", "x"], 1, "expected KEY=VALUE"),
        (["pairs.tsv"], 1, "pairs.tsv"),
    ],
)
def test_wrong_words_are_refused(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails(words, capsys, code)


def test_an_output_folder_that_is_used_is_refused_and_overwritten_on_demand(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, mine = folder / "out" / "checkpoint-70", folder / "out" / "notes.txt"
    old.mkdir(parents=True)
    mine.write_text("mine")
    assert "has checkpoint-70 of an earlier run: pass --resume" in fails(["train.yaml"], capsys)
    assert main(["train", "train.yaml", "--overwrite"]) == 0
    assert not old.exists() and mine.read_text() == "mine"


def test_without_matplotlib_it_stops_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = fails(["train.yaml"], capsys)
    assert "(or set curves: false) needs matplotlib. Install it: pip install" in message
    assert not (folder / "out").exists()
