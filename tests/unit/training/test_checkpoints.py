"""Checkpoints: a training that was cut goes on as if it was not, and every checkpoint is a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.training import checkpoints
from tests.unit.training.training_runs import FIRST, logged, pairs, scored, trainer, weights

SAVED = {"save_strategy": "steps", "save_steps": 4}


class StopAt(TrainerCallback):
    """Ends the training after some step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True


@pytest.fixture(scope="session")
def model(tiny_model: Callable[[str], Any]) -> Any:
    return tiny_model("bert")


LOSSES: dict[str, Any] = {
    "plain": losses.CoSENTLoss,
    "with parameters of its own": lambda one: losses.SoftmaxLoss(one, 32, 3),
    "with a gradient cache": lambda one: losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=2),
    "with random layers": lambda one: losses.AdaptiveLayerLoss(one, losses.CoSENTLoss(one)),
}


RUNS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LOSSES),
    ("plain", {"batch_sampler": "no_duplicates"}),
    ("plain", {"gradient_accumulation_steps": 2}),
]


@pytest.mark.parametrize(("name", "settings"), RUNS)
def test_a_resumed_training_is_that_which_was_not_cut(
    name: str, settings: dict[str, Any], model: Any, tmp_path: Path
) -> None:
    rows = 20  # 5 batches: the cut is in the second epoch or in the first
    dataset = pairs(rows, label=[row % 3 for row in range(rows)]) if "own" in name else scored(rows)
    parts: dict[str, Any] = {"train_dataset": dataset, "loss": LOSSES[name]}
    settings = {**SAVED, "max_steps": 8, **settings}
    whole = trainer(model, tmp_path / "whole", settings, **parts)
    whole.train()
    cut = trainer(model, tmp_path / "cut", settings, **parts, callbacks=[StopAt(5)])
    cut.train()
    resumed = trainer(model, tmp_path / "cut", settings, **parts)
    resumed.train(resume_from_checkpoint=True)
    assert logged(resumed) == logged(whole) and len(logged(whole)) == 8
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(resumed).items())


def test_a_checkpoint_is_a_model(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, train_dataset=scored())
    run.train()
    saved = SentenceTransformer(str(tmp_path / "checkpoint-4"), device="cpu")
    assert np.array_equal(saved.encode(FIRST), run.model.encode(FIRST))
    assert {"training_args.bin", "optimizer.pt", "trainer_state.json", "README.md", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "checkpoint-4").iterdir()
    }


def test_a_checkpoint_of_other_losses_is_refused(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, train_dataset=scored())
    run.train()
    save_file({"other": torch.zeros(2)}, tmp_path / "checkpoint-4" / checkpoints.LOSS_FILE)
    with pytest.raises(ValueError, match="written with other losses"):
        run.train(resume_from_checkpoint=True)


def test_a_checkpoint_that_is_not_there_is_an_error(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored())
    with pytest.raises(ValueError, match="none at"):
        run.train(resume_from_checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="No valid checkpoint"):
        run.train(resume_from_checkpoint=True)


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(
    model: Any, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    tiny_model("distilbert").save(str(tmp_path / "other"))
    run = trainer(model, tmp_path, train_dataset=scored())
    before = weights(run)
    with pytest.raises(ValueError, match="of another model"):
        run.train(resume_from_checkpoint=str(tmp_path / "other"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run).items())


def test_what_is_copied_for_the_hub_is_the_model_without_what_only_training_needs(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path / "run", {**SAVED, "max_steps": 4}, train_dataset=scored())
    run.train()
    checkpoints.copy_model(tmp_path / "run" / "checkpoint-4", tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert not names & {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert np.array_equal(
        SentenceTransformer(str(tmp_path / "copy"), device="cpu").encode(FIRST), run.model.encode(FIRST)
    )
