"""Training adapters: what changes, what checkpoints hold, going on from one; and training with less memory."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.training import checkpoints
from tests.unit.training.training_runs import FIRST, SECOND, logged, pairs, scored, trainer, weights

SAVED = {"save_strategy": "steps", "save_steps": 4}
FULL = {"model.safetensors", "pytorch_model.bin", "config.json"}


class StopAt(TrainerCallback):
    """Ends the training after some step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def with_adapter(model: SentenceTransformer, **settings: Any) -> SentenceTransformer:
    """The model with a LoRA that drops, so that going on needs the state of chance too."""
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    torch.manual_seed(0)
    model.add_adapter(
        peft.LoraConfig(
            **{
                "target_modules": ["query", "value"],
                "r": 4,
                "lora_dropout": 0.1,
                "init_lora_weights": False,
                **settings,
            }
        )
    )
    return model


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture
def opened(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    """A model of the test's own."""
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


@pytest.fixture
def model(opened: SentenceTransformer) -> SentenceTransformer:
    """The same with an adapter."""
    return with_adapter(opened)


def dense(model: SentenceTransformer) -> SentenceTransformer:
    """With a projection behind, which is trained in full."""
    torch.manual_seed(1)
    return SentenceTransformer(modules=[*model, Dense(32, 16)], device="cpu")


def routed(model: SentenceTransformer) -> SentenceTransformer:
    """Two routes, of which the one for queries has the adapter."""
    router = Router.for_query_document([model[0]], [Transformer(model[0].auto_model.name_or_path)])
    return SentenceTransformer(modules=[router, Pooling(32)], device="cpu")


def wrapped(model: SentenceTransformer) -> SentenceTransformer:
    """With the adapter in the wrapper of peft."""
    from peft import LoraConfig, get_peft_model

    plain = SentenceTransformer(model[0].auto_model.name_or_path, device="cpu")
    settings = LoraConfig(target_modules=["query", "value"], r=4, lora_dropout=0.1, init_lora_weights=False)
    plain[0].auto_model = get_peft_model(plain[0].auto_model, settings)
    return plain


# --- what changes -----------------------------------------------------------------------------------------------------


def test_only_the_adapter_is_trained(model: SentenceTransformer, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored())
    before = weights(run)
    run.train()
    changed = {name for name, tensor in weights(run).items() if not torch.equal(before[name], tensor)}
    assert changed == {name for name in before if "lora_" in name}
    optimised = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    assert len(optimised) == len(changed)


def test_modules_behind_the_transformer_are_trained_too(model: SentenceTransformer, tmp_path: Path) -> None:
    run = trainer(dense(model), tmp_path, train_dataset=scored())
    before = weights(run)
    run.train()
    changed = {name for name, tensor in weights(run).items() if not torch.equal(before[name], tensor)}
    assert changed == {name for name in before if "lora_" in name or "linear" in name}


def test_training_an_adapter_lowers_the_loss(model: SentenceTransformer, tmp_path: Path) -> None:
    dataset = scored()
    run = trainer(
        model,
        tmp_path,
        {"max_steps": 40, "learning_rate": 2e-2},
        train_dataset=dataset,
        eval_dataset=dataset,
        loss=losses.CosineSimilarityLoss,
    )
    first = run.evaluate()["eval_loss"]
    run.train()
    assert run.evaluate()["eval_loss"] < 0.8 * first


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_has_the_adapter_alone_and_is_a_model(model: SentenceTransformer, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, train_dataset=scored())
    run.train()
    folder = tmp_path / "checkpoint-4"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "modules.json", "optimizer.pt"} <= names
    assert not names & FULL
    assert np.array_equal(SentenceTransformer(str(folder), device="cpu").encode(FIRST), run.model.encode(FIRST))


RUNS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "plain": (lambda model: model, {}),
    "dense": (dense, {}),
    "routed": (routed, {"router_mapping": {"anchor": "query", "positive": "document"}}),
    "wrapped": (wrapped, {}),
    "checkpointing": (lambda model: model, {"gradient_checkpointing": True}),
    "accumulating": (lambda model: model, {"gradient_accumulation_steps": 2}),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_training_is_that_which_was_not_cut(name: str, model: SentenceTransformer, tmp_path: Path) -> None:
    build, settings = RUNS[name]
    settings = {**SAVED, "max_steps": 8, **settings}
    start, parts = build(model), {"train_dataset": scored(20)}
    whole = trainer(start, tmp_path / "whole", settings, **parts)
    whole.train()
    cut = trainer(start, tmp_path / "cut", settings, **parts, callbacks=[StopAt(5)])
    cut.train()
    resumed = trainer(start, tmp_path / "cut", settings, **parts)
    resumed.train(resume_from_checkpoint=True)
    assert logged(resumed) == logged(whole) and len(logged(whole)) == 8
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(resumed).items())


def test_going_on_needs_the_base_in_memory_only(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_folder("bert"), base)
    model = with_adapter(SentenceTransformer(str(base), device="cpu"))
    run = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, train_dataset=scored())
    run.train()
    shutil.rmtree(base)
    resumed = trainer(model, tmp_path, {**SAVED, "max_steps": 8}, train_dataset=scored())
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8


def test_the_adapter_of_the_best_step_is_taken_at_the_end(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, [0.1, 0.9, 0.3, 0.5, 0.8, 0.2], name="dev")
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_dev_spearman_cosine",
        "greater_is_better": False,  # so that it is an early step
        "learning_rate": 2e-2,
        "max_steps": 8,
    }
    run = trainer(dense(model), tmp_path, settings, train_dataset=scored(), evaluator=evaluator)
    run.train()
    best = str(run.state.best_model_checkpoint)
    assert best != str(tmp_path / "checkpoint-8")
    assert evaluator(run.model)["dev_spearman_cosine"] == pytest.approx(run.state.best_metric)
    assert np.array_equal(run.model.encode(FIRST), SentenceTransformer(best, device="cpu").encode(FIRST))


def test_losses_have_their_own_beside_the_adapter(model: SentenceTransformer, tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "train_dataset": pairs(20, label=[row % 3 for row in range(20)]),
        "loss": lambda one: losses.SoftmaxLoss(one, 32, 3),
    }
    run = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, **parts)
    run.train()
    assert (tmp_path / "checkpoint-4" / checkpoints.LOSS_FILE).is_file()
    other = trainer(model, tmp_path, {**SAVED, "max_steps": 4}, **parts)
    checkpoints.load(other.model, other.loss, tmp_path / "checkpoint-4")
    assert torch.equal(other.loss.classifier.weight, run.loss.classifier.weight)


@pytest.fixture
def checkpoint(model: SentenceTransformer, tmp_path: Path) -> Path:
    """One with a projection behind the transformer."""
    dense(model).save(str(tmp_path / "checkpoint"))
    return tmp_path / "checkpoint"


def refused(model: SentenceTransformer, checkpoint: Path, message: str) -> None:
    """Reading the checkpoint is an error that changes nothing."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        checkpoints.load(model, losses.CoSENTLoss(model), checkpoint)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_adapter_for_a_model_without_one_is_refused(bare: SentenceTransformer, checkpoint: Path) -> None:
    refused(dense(bare), checkpoint, r"has only an adapter.*model\.add_adapter\(peft\.PeftConfig\.from_pretrained")


def test_an_adapter_of_other_settings_is_refused(bare: SentenceTransformer, checkpoint: Path) -> None:
    other = with_adapter(copy.deepcopy(bare), target_modules=["key"])
    refused(dense(other), checkpoint, "not of the settings of 'default'")
    refused(dense(with_adapter(bare, r=2)), checkpoint, r"expected and found shapes: .*\(2, 32\) and \(4, 32\)")


def test_a_checkpoint_of_other_modules_is_refused(model: SentenceTransformer, checkpoint: Path) -> None:
    refused(model, checkpoint, r"of another model: expected the modules \['0', '1'\], found \['0', '1', '2'\]")


def test_a_whole_model_is_no_checkpoint_of_an_adapter(
    model: SentenceTransformer, bare: SentenceTransformer, tmp_path: Path
) -> None:
    bare.save(str(tmp_path / "whole"))
    refused(model, tmp_path / "whole", r"adapter_model\.safetensors is missing")


@pytest.fixture
def bare(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    """Another model without an adapter."""
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


def test_a_trained_adapter_can_be_opened_and_trained_further(model: SentenceTransformer, tmp_path: Path) -> None:
    model.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    again.set_adapter("default")
    run = trainer(again, tmp_path, train_dataset=scored())
    before = weights(run)
    run.train()
    changed = {name for name, tensor in weights(run).items() if not torch.equal(before[name], tensor)}
    assert changed == {name for name in before if "lora_" in name}


# --- less memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_checkpointing_gives_the_same_losses(
    name: str, family: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = without_dropout(SentenceTransformer(str(tiny_folder(family)), device="cpu"))
    runs = [trainer(model, tmp_path, settings, train_dataset=scored()) for settings in ({}, {name: True})]
    for run in runs:
        run.train()
    assert logged(runs[1]) == pytest.approx(logged(runs[0]), rel=1e-4)
    assert runs[1].model.transformers_model.is_activation_checkpointing
    assert not runs[0].model.transformers_model.is_activation_checkpointing


def test_checkpointing_gives_the_same_losses_with_an_adapter(opened: SentenceTransformer, tmp_path: Path) -> None:
    model = without_dropout(with_adapter(opened, lora_dropout=0.0))
    settings: list[dict[str, Any]] = [
        {},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    ]
    runs = [trainer(model, tmp_path, one, train_dataset=scored()) for one in settings]
    for run in runs:
        run.train()
    for run in runs[1:]:
        assert logged(run) == pytest.approx(logged(runs[0]), rel=1e-4)
