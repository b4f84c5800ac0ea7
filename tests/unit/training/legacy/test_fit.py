"""``fit``, ``old_fit`` and how they read what they are given. Their steps are recorded, see ``parity``."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.evaluation import BaseEvaluator
from sentence_transformers.training.legacy import fitting, plain_loop
from sentence_transformers.training.legacy.data import (
    ContrastiveTensionDataLoader,
    DenoisingAutoEncoderDataset,
    NoDuplicatesDataLoader,
)
from sentence_transformers.training.legacy.fit import fit, old_fit
from tests.unit.training.legacy.old_runs import QUICK, TEXTS, Scores, Watched, loaded, pairs

BOTH = pytest.mark.parametrize("train", [fit, old_fit])
UNTOUCHED = ("guide", "pooler", "crossattention.self.query", "crossattention.self.key")
"""Parameters that no value depends on; attention to one place has no choice."""
ONES = [1.0] * 9


@pytest.fixture
def model(tiny_model: Callable[[str], Any]) -> Any:
    """A small encoder without dropout, for one test alone."""
    found = copy.deepcopy(tiny_model("bert"))
    _ = found[0].auto_model  # built when it is asked for
    for module in found.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return found


# --- training ---------------------------------------------------------------------------------------------------------


@BOTH
def test_the_loss_goes_down(train: Any, model: Any) -> None:
    loss = Watched(losses.CosineSimilarityLoss(model))
    train(model, [(loaded(pairs(8, lambda i: i % 2 / 1)), loss)], epochs=12, **QUICK)
    assert len(loss.values) == 24
    assert sum(loss.values[-4:]) < 0.5 * sum(loss.values[:4])


@BOTH
def test_every_family_of_old_data_is_trained_on(train: Any, model: Any) -> None:
    denoising = DenoisingAutoEncoderDataset(TEXTS, noise_fn=lambda text: text.split()[0])
    guide = copy.deepcopy(model)
    objectives = [
        (NoDuplicatesDataLoader(pairs(8), 4), losses.MultipleNegativesRankingLoss(model)),
        (loaded(pairs(8, lambda i: i % 3)), losses.SoftmaxLoss(model, 32, 3)),
        (loaded(denoising), losses.DenoisingAutoEncoderLoss(model)),  # type: ignore[arg-type]
        (ContrastiveTensionDataLoader(TEXTS * 2, 4, 2), losses.ContrastiveTensionLoss(model)),
        (loaded(pairs(8, lambda i: np.full(32, i, np.float32))), losses.MSELoss(model)),
        (loaded(pairs(8)), losses.GISTEmbedLoss(model, guide)),
    ]
    given = [loss.train() for _, loss in objectives]
    before = [{name: one.detach().clone() for name, one in loss.named_parameters()} for loss in given]
    judged = {name: one.clone() for name, one in guide.named_parameters()}
    train(model, objectives, **QUICK)
    for loss, old in zip(given, before, strict=True):
        still = [
            name
            for name, one in loss.named_parameters()
            if one.equal(old[name]) and not any(part in name for part in UNTOUCHED)
        ]
        assert still == []
    assert all(one.equal(judged[name]) for name, one in guide.named_parameters())


@BOTH
def test_parameters_of_a_loss_are_trained(train: Any, model: Any) -> None:
    loss = losses.SoftmaxLoss(model, 32, 2)
    before = loss.classifier.weight.detach().clone()
    train(model, [(loaded(pairs(8, lambda i: i % 2)), loss)], **QUICK)
    assert not loss.classifier.weight.equal(before)


@BOTH
def test_components_of_a_loss_are_summed(train: Any, model: Any) -> None:
    before = next(model.parameters()).detach().clone()
    train(model, [(loaded(pairs(4)), losses.GlobalOrthogonalRegularizationLoss(model))], **QUICK)
    assert not next(model.parameters()).equal(before)


@BOTH
def test_embeddings_are_those_of_evaluation_afterwards(train: Any, model: Any) -> None:
    train(model, [(loaded(pairs(4)), losses.MultipleNegativesRankingLoss(model))], **QUICK)
    assert np.array_equal(model.encode(TEXTS), model.encode(TEXTS))


@BOTH
def test_no_folder_is_made_unless_it_is_asked_for(
    train: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(model, [(loaded(pairs(4)), losses.MultipleNegativesRankingLoss(model))], evaluator=Scores(1.0), **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_the_bar_is_all_that_is_printed(model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    fit(model, [(loaded(pairs(4)), losses.MultipleNegativesRankingLoss(model))], evaluator=Scores(1.0), **QUICK)
    assert capfd.readouterr().out == ""


# --- what is evaluated, told and saved --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("as_number", [False, True])
def test_the_best_model_is_saved(train: Any, as_number: bool, model: Any, tmp_path: Path) -> None:
    scores, told = Scores(0.25, 0.75, 0.5, as_number=as_number), []
    train(
        model,
        [(loaded(pairs(4, lambda i: i / 4)), losses.CosineSimilarityLoss(model))],
        evaluator=scores,
        epochs=3,
        output_path=str(tmp_path / "out"),
        callback=lambda *call: told.append(call),
        **QUICK,
    )
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu").state_dict()
    assert [score for score, _, _ in told] == [0.25, 0.75, 0.5]
    assert all(one.equal(scores.states[1][name]) for name, one in saved.items())
    assert not any(scores.states[1][name].equal(scores.states[2][name]) for name in saved if "query.weight" in name)
    assert scores.folders == [str(tmp_path / "out" / "eval")] * 3


@BOTH
def test_the_last_model_is_saved_without_an_evaluator(train: Any, model: Any, tmp_path: Path) -> None:
    objectives = [(loaded(pairs(4)), losses.MultipleNegativesRankingLoss(model))]
    train(model, objectives, output_path=str(tmp_path), evaluation_steps=1, **QUICK)
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.array_equal(saved.encode(TEXTS), model.encode(TEXTS))


@BOTH
def test_lower_can_be_better(train: Any, model: Any, tmp_path: Path) -> None:
    scores = Scores(2.0, 1.0, 3.0)
    scores.greater_is_better = False
    objectives = [(loaded(pairs(4)), losses.MultipleNegativesRankingLoss(model))]
    train(model, objectives, evaluator=scores, epochs=3, output_path=str(tmp_path), **QUICK)
    saved = SentenceTransformer(str(tmp_path), device="cpu").state_dict()
    assert all(one.equal(scores.states[1][name]) for name, one in saved.items())


def test_a_score_that_is_no_number_is_never_the_best(model: Any, tmp_path: Path) -> None:
    settings = fitting.Settings(evaluator=Scores(float("nan"), 1.0, float("nan")), output_path=str(tmp_path))
    watch, saved = fitting.Watch(settings), []
    model.eval().save = lambda path: saved.append(path)
    for expected in (0, 1, 1):
        watch(model)
        assert len(saved) == expected


def test_other_processes_write_nothing(model: Any, tmp_path: Path) -> None:
    scores = Scores(1.0)
    fitting.Watch(fitting.Settings(evaluator=scores, output_path=str(tmp_path)), is_writer=False)(model.eval())
    assert (scores.folders, list(tmp_path.iterdir())) == ([None], [])


def test_the_first_metric_counts_where_none_is_the_primary_one(model: Any) -> None:
    class Two(BaseEvaluator):
        def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            return {"first": 1.0, "second": 2.0}

    told: list[Any] = []
    watch = fitting.Watch(fitting.Settings(evaluator=Two(), callback=lambda *call: told.append(call)))
    assert watch(model, None, 1.0, 5) == {"first": 1.0, "second": 2.0}
    assert told == [(1.0, 1.0, 5)]
    assert watch.primary_metric == "first"


def test_the_name_of_the_primary_metric_may_come_with_the_first_evaluation(model: Any) -> None:
    class Named(BaseEvaluator):
        primary_metric = "score"

        def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            return self.prefix_name_to_metrics({"score": 3.0}, "dev")

    watch = fitting.Watch(fitting.Settings(evaluator=Named()))
    assert (watch(model), watch.best, watch.primary_metric) == ({"dev_score": 3.0}, 3.0, "dev_score")


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "limit", "expected"),
    [
        (fit, 0, ["checkpoint-2", "checkpoint-4", "checkpoint-5"]),
        (fit, 1, ["checkpoint-5"]),
        (old_fit, 0, ["2", "4", "5"]),
        (old_fit, 2, ["4", "5"]),
    ],
)
def test_checkpoints_are_made_and_the_oldest_removed(
    train: Any, limit: int, expected: list[str], model: Any, tmp_path: Path
) -> None:
    settings = {"checkpoint_path": str(tmp_path), "checkpoint_save_steps": 2, "checkpoint_save_total_limit": limit}
    train(model, [(loaded(pairs(20)), losses.MultipleNegativesRankingLoss(model))], **settings, **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    last = SentenceTransformer(str(tmp_path / expected[-1]), device="cpu")
    assert np.array_equal(last.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("steps_per_epoch", [None, 3])
def test_a_training_goes_on_from_its_checkpoint(steps_per_epoch: int | None, model: Any, tmp_path: Path) -> None:
    def run(one: Any, folder: str, **settings: Any) -> Any:
        torch.manual_seed(0)
        loss = Watched(losses.CosineSimilarityLoss(one))
        objectives = [
            (loaded(pairs(16, lambda i: i / 16)), loss),
            (loaded(pairs(9)), losses.DenoisingAutoEncoderLoss(one)),
        ]
        saving = {"checkpoint_path": str(tmp_path / folder), "checkpoint_save_steps": 4}
        fit(one, objectives, epochs=2, steps_per_epoch=steps_per_epoch, **saving, **QUICK, **settings)
        return loss

    class StopError(Exception):
        pass

    def stop(score: float, epoch: float, steps: int) -> None:
        if steps == 5:
            raise StopError

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    whole, cut = model, copy.deepcopy(model)
    # evaluations draw random numbers, so all have the same ones
    run(whole, "whole", evaluator=Scores(*ONES), evaluation_steps=5)
    with pytest.raises(StopError):
        run(copy.deepcopy(cut), "cut", evaluator=Scores(*ONES), evaluation_steps=5, callback=stop)
    loss = run(cut, "cut", evaluator=Scores(*ONES), evaluation_steps=5, resume_from_checkpoint=True)
    assert len(loss.values) == (1 if steps_per_epoch else 4)
    for name, one in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], one, rtol=1e-6, atol=1e-7, msg=name)


def test_going_on_needs_a_folder_of_checkpoints(model: Any) -> None:
    with pytest.raises(ValueError, match="resume_from_checkpoint=True needs checkpoint_path"):
        fit(model, [(loaded(pairs(4)), losses.CoSENTLoss(model))], resume_from_checkpoint=True)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_arguments_are_those_of_old() -> None:
    known = {name: one.default for name, one in inspect.signature(fit).parameters.items()}
    assert list(known) == [
        "model", "train_objectives", "evaluator", "epochs", "steps_per_epoch", "scheduler", "warmup_steps",
        "optimizer_class", "optimizer_params", "weight_decay", "evaluation_steps", "output_path", "save_best_model",
        "max_grad_norm", "use_amp", "callback", "show_progress_bar", "checkpoint_path", "checkpoint_save_steps",
        "checkpoint_save_total_limit", "resume_from_checkpoint",
    ]  # fmt: skip
    assert known["optimizer_params"] == {"lr": 2e-5}
    assert known.pop("resume_from_checkpoint") is False
    assert known == {name: one.default for name, one in inspect.signature(old_fit).parameters.items()}


def test_settings_alone_are_the_defaults_of_fit() -> None:
    plain = vars(fitting.Settings())
    for name, one in inspect.signature(fit).parameters.items():
        if name not in ("model", "train_objectives"):
            assert plain[name] == one.default, name


@pytest.mark.parametrize("name", ["WarmUpLinear2", "", None])
def test_an_unknown_scheduler_is_named(name: Any, model: Any) -> None:
    with pytest.raises(ValueError, match=f"Unknown scheduler {name}.*'warmuplinear'"):
        fit(model, [(loaded(pairs(4)), losses.CoSENTLoss(model))], scheduler=name)


@BOTH
def test_an_objective_is_needed(train: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="train_objectives must have at least one pair"):
        train(model, [])


@BOTH
@pytest.mark.parametrize("settings", [{"epochs": 0}, {"steps_per_epoch": -1}])
def test_numbers_are_positive(train: Any, settings: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="must be a positive integer"):
        train(model, [(loaded(pairs(4)), losses.CoSENTLoss(model))], **settings)


@BOTH
def test_gradients_are_cut_to_their_length(train: Any, model: Any) -> None:
    class Noting(torch.optim.SGD):
        lengths: list[float] = []  # noqa: RUF012

        def step(self, *args: Any, **kwargs: Any) -> Any:
            grads = [one.grad for group in self.param_groups for one in group["params"] if one.grad is not None]
            self.lengths.append(torch.stack([one.norm() for one in grads]).norm().item())
            return super().step(*args, **kwargs)

    loss = losses.MultipleNegativesRankingLoss(model)
    train(model, [(loaded(pairs(8)), loss)], max_grad_norm=0.01, optimizer_class=Noting, **QUICK)
    assert Noting.lengths == pytest.approx([0.01] * 2, rel=1e-3)


def test_half_precision_on_a_cpu_is_bfloat16(model: Any) -> None:
    types: list[Any] = []
    model[0].auto_model.encoder.layer[0].intermediate.register_forward_hook(
        lambda module, args, output: types.append(output.dtype)
    )
    loss = Watched(losses.CosineSimilarityLoss(model))
    old_fit(model, [(loaded(pairs(8, lambda i: i % 2 / 1)), loss)], epochs=12, use_amp=True, **QUICK)
    assert set(types) == {torch.bfloat16}
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert sum(loss.values[-4:]) < 0.5 * sum(loss.values[:4])


def test_judges_stay_in_evaluation(model: Any) -> None:
    guide = copy.deepcopy(model)
    modes: list[bool] = []
    guide.register_forward_pre_hook(lambda *call: modes.append(guide.training))
    old_fit(model, [(loaded(pairs(8)), losses.GISTEmbedLoss(model, guide))], **QUICK)
    assert modes and not any(modes)


def test_biases_and_norms_are_not_decayed(model: Any) -> None:
    parameters = dict(model.named_parameters())
    optimizer = plain_loop.optimizer_of(parameters, fitting.Settings(weight_decay=0.25))
    names = {id(one): name for name, one in parameters.items()}
    groups = {group["weight_decay"]: [names[id(one)] for one in group["params"]] for group in optimizer.param_groups}
    assert set(groups) == {0.25, 0.0}
    assert all(name.endswith("bias") or "LayerNorm" in name for name in groups[0.0])
    assert sum(map(len, groups.values())) == len(parameters)
    assert not any(name.endswith("bias") or "LayerNorm" in name for name in groups[0.25])


def test_a_step_with_gradients_that_are_too_large_is_not_taken() -> None:
    module = nn.Linear(1, 1)
    before = module.weight.detach().clone()
    settings = fitting.Settings(scheduler="warmuplinear", warmup_steps=4, optimizer_params={"lr": 1.0})
    device = torch.device("cpu")
    batches: Any = [torch.full((1, 1), float("inf")), torch.ones(1, 1)]
    turn = plain_loop.Turn(batches, module, lambda batch: module(batch).sum(), 8, settings, torch.float16, device)
    rates = []
    for _ in range(3):
        turn.step()
        rates.append(turn.scheduler.get_last_lr()[0])
    assert rates == [0.0, 0.25, 0.25]  # of the second and the third of four: the first and the third were not taken
    assert module.weight.equal(before)  # at the rate 0
