"""What the trainers of all families keep; what is particular to one is below, family by family."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_heads
import torch
from datasets import Dataset
from sentence_transformers.cross_encoder import CrossEncoderDataCollator
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderDataCollator
from sentence_transformers.sparse_encoder import SparseEncoderDataCollator

from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)
from sentence_transformers.losses.cross.pointwise import BinaryCrossEntropyLoss
from sentence_transformers.losses.sparse import SpladeLoss
from sentence_transformers.losses.sparse_inner import SparseMultipleNegativesRankingLoss
from sentence_transformers.training import sparse
from sentence_transformers.training.regularizer_weights import SpladeRegularizerWeightSchedulerCallback
from tests.unit.training.training_runs import logged, pairs, weights


@dataclass(frozen=True)
class Family:
    """A family: how to make a small model of it, its classes, what it learns from, and its default loss."""

    build: Callable[[Path], Any]
    encoder: type[Any]
    trainer: type[Any]
    arguments: type[Any]
    collator: type[Any]
    data: Callable[[], Dataset]
    default_loss: str


def labelled(rows: int = 24) -> Dataset:
    return pairs(rows, label=[float(row % 2) for row in range(rows)])


FAMILIES = {
    "cross": Family(
        lambda folder: tiny.build(
            "bert", folder, model_class="BertForSequenceClassification", settings={"num_labels": 1}
        ),
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        CrossEncoderDataCollator,
        labelled,
        "BinaryCrossEntropyLoss",
    ),
    "sparse": Family(
        lambda folder: tiny_heads.build_splade(folder, "max", "relu"),
        SparseEncoder,
        SparseEncoderTrainer,
        SparseEncoderTrainingArguments,
        SparseEncoderDataCollator,
        pairs,
        "SpladeLoss",
    ),
    "late": Family(
        lambda folder: tiny_heads.build_late("bert", folder),
        MultiVectorEncoder,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
        MultiVectorEncoderDataCollator,
        pairs,
        "MultiVectorMultipleNegativesRankingLoss",
    ),
}
EVERY = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("families")
    return {name: one.encoder(str(one.build(root / name)), device="cpu") for name, one in FAMILIES.items()}


@pytest.fixture
def make(models: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    """A trainer of a copy of the model of a family."""

    def made(family: str, settings: dict[str, Any] | None = None, **parts: Any) -> Any:
        one = FAMILIES[family]
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "max_steps": 6,
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        args = one.arguments(**{**defaults, **(settings or {})})
        given = {"train_dataset": one.data(), "model": copy.deepcopy(models[family]), **parts}
        return one.trainer(args=args, **given)

    return made


# --- all families -----------------------------------------------------------------------------------------------------


@EVERY
def test_training_with_the_default_loss_moves_the_model_and_lowers_the_loss(family: str, make: Any) -> None:
    run = make(family, {"max_steps": 30})
    before = weights(run)
    run.train()
    assert type(run.loss).__name__ == FAMILIES[family].default_loss
    assert type(run.data_collator) is FAMILIES[family].collator
    losses = logged(run)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(run).items())


@EVERY
def test_a_training_that_is_resumed_goes_on_as_if_it_had_not_stopped(family: str, make: Any, tmp_path: Path) -> None:
    whole = make(family, {"save_strategy": "steps", "save_steps": 3})
    whole.train()
    again = make(family, {"output_dir": str(tmp_path / "again")})
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert logged(again)[-3:] == logged(whole)[-3:]
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(again)[name], tensor, rtol=0, atol=0)


@EVERY
def test_a_trained_model_is_saved_with_a_card_and_opens(family: str, make: Any, tmp_path: Path) -> None:
    run = make(family, {"eval_strategy": "steps", "eval_steps": 3}, eval_dataset=FAMILIES[family].data())
    run.train()
    assert len(logged(run, "eval_loss")) == 2
    run.model.save(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert f"loss:{FAMILIES[family].default_loss}" in card and "generated_from_trainer" in card
    assert "Training Logs" in card and "number 1" in card  # a text of the examples
    saved = FAMILIES[family].encoder(str(tmp_path / "saved"), device="cpu")
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], tensor, rtol=0, atol=0)


@EVERY
def test_settings_of_another_family_are_refused(family: str, make: Any, tmp_path: Path, models: Any) -> None:
    args = SentenceTransformerTrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    one = FAMILIES[family]
    with pytest.raises(ValueError, match=f"Please pass an instance of `{one.arguments.__name__}`"):
        one.trainer(model=models[family], args=args, train_dataset=pairs())


@EVERY
def test_a_model_can_be_made_anew_for_every_training(family: str, make: Any, models: Any) -> None:
    run = make(family, model=None, model_init=lambda: copy.deepcopy(models[family]))
    first = run.model
    run.train()
    assert run.model is not first and all(module is not first for module in run.loss.modules())
    assert any(module is run.model for module in run.loss.modules())


# --- rerankers --------------------------------------------------------------------------------------------------------


def test_a_reranker_with_several_labels_learns_classes(tmp_path: Path) -> None:
    folder = tiny.build(
        "bert", tmp_path / "three", model_class="BertForSequenceClassification", settings={"num_labels": 3}
    )
    args = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path), max_steps=2, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    run = CrossEncoderTrainer(
        model=CrossEncoder(str(folder), device="cpu"),
        args=args,
        train_dataset=pairs(label=[row % 3 for row in range(24)]),
    )
    run.train()
    assert type(run.loss).__name__ == "CrossEntropyLoss"


def test_columns_of_a_reranker_stay_texts_and_lists_of_labels_become_tensors() -> None:
    collate = CrossEncoderDataCollator(preprocess_fn=lambda *_: {}, prompts="ask: ")
    batch = collate(
        [{"query": "a", "docs": ["b", "c"], "labels": [1, 0]}, {"query": "d", "docs": ["e"], "labels": [2]}]
    )
    assert batch["query"] == ["a", "d"] and batch["docs"] == [["b", "c"], ["e"]]
    assert [one.tolist() for one in batch["label"]] == [[1, 0], [2]]
    assert batch["prompt"] == "ask: " and batch["task"] is None


def test_a_pair_cannot_have_prompts_by_column() -> None:
    collate = CrossEncoderDataCollator(preprocess_fn=lambda *_: {}, prompts={"query": "ask: "})
    with pytest.raises(ValueError, match="prompts cannot go by columns"):
        collate([{"query": "a", "doc": "b"}])


def test_a_column_may_be_called_prompt_unless_there_is_one() -> None:
    rows = [{"prompt": "a", "response": "b"}]
    assert CrossEncoderDataCollator(preprocess_fn=lambda *_: {})(rows)["prompt"] == ["a"]
    with pytest.raises(ValueError, match="has a column 'prompt'"):
        CrossEncoderDataCollator(preprocess_fn=lambda *_: {}, prompts="ask: ")(rows)


def test_prompt_and_task_reach_the_loss(make: Any) -> None:
    seen = []

    class Noting(BinaryCrossEntropyLoss):
        def forward(self, inputs: Any, labels: Any = None, prompt: Any = None, task: Any = None) -> Any:
            seen.append((prompt, task))
            return super().forward(inputs, labels, prompt, task)

    datasets = {"first": labelled(), "second": labelled()}
    run = make("cross", {"max_steps": 8, "prompts": {"first": "ask: "}}, train_dataset=datasets, loss=Noting)
    run.train()
    assert set(seen) == {("ask: ", None), (None, None)}


def test_a_loss_that_takes_no_prompt_is_called_without_and_says_so(make: Any, caplog: Any) -> None:
    class Plain(BinaryCrossEntropyLoss):
        def forward(self, inputs: Any, labels: Any = None) -> Any:  # type: ignore[override]
            return super().forward(inputs, labels)

    with caplog.at_level(logging.WARNING):
        make("cross", {"max_steps": 2, "prompts": "ask: "}, loss=Plain).train()
    assert sum("Plain.forward takes no prompt" in one.message for one in caplog.records) == 1


def test_a_reranker_takes_no_stream(make: Any) -> None:
    with pytest.raises(ValueError, match="does not support an IterableDataset"):
        make("cross", train_dataset=labelled().to_iterable_dataset())


# --- sparse encoders --------------------------------------------------------------------------------------------------


def splade(model: Any) -> SpladeLoss:
    return SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=0.3,
        query_regularizer_weight=0.5,
    )


def test_the_weights_of_a_splade_loss_rise_and_all_its_parts_are_logged(make: Any, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, sparse.__name__):
        run = make("sparse", {"max_steps": 9}, loss=splade)
    assert "regularizer weights" in caplog.text
    run.train()
    assert run.loss.document_regularizer_weight == 0.3 and run.loss.query_regularizer_weight == 0.5
    for name in ("base_loss", "document_regularizer_loss", "query_regularizer_loss"):
        assert len(logged(run, name)) == 9
    risen = logged(run, "document_regularizer_weight")
    assert risen == sorted(risen) and risen[0] < 0.3 and risen[-1] == pytest.approx(0.3)


def test_the_callback_of_a_user_is_the_only_one(make: Any, models: Any) -> None:
    model = copy.deepcopy(models["sparse"])
    loss = splade(model)
    own = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=0.5)
    run = make("sparse", model=model, loss=loss, callbacks=[own])
    found = [one for one in run.callback_handler.callbacks if type(one) is type(own)]
    assert found == [own]


def test_a_new_model_has_new_weights_and_one_callback(make: Any, models: Any) -> None:
    run = make("sparse", model=None, model_init=lambda: copy.deepcopy(models["sparse"]), loss=splade)
    run.train()
    found = [one for one in run.callback_handler.callbacks if isinstance(one, SpladeRegularizerWeightSchedulerCallback)]
    assert [one.loss for one in found] == [run.loss]
    assert run.loss.document_regularizer_weight == 0.3


# --- multi-vector encoders --------------------------------------------------------------------------------------------


def test_the_first_column_is_read_as_queries(make: Any) -> None:
    run = make("late")
    batch = next(iter(run.get_train_dataloader()))
    assert batch["anchor_task"] == "query" and batch["positive_task"] == "document"
    opened = run.model.tokenizer.convert_ids_to_tokens(batch["anchor_input_ids"][0].tolist())
    assert opened != run.model.tokenizer.convert_ids_to_tokens(batch["positive_input_ids"][0].tolist())


@pytest.mark.parametrize("given", [{"query": 5, "document": 7}, '{"query": 5, "document": 7}'])
def test_the_length_of_inputs_goes_by_the_task(given: Any, make: Any) -> None:
    batch = next(iter(make("late", {"max_length": given}).get_train_dataloader()))
    assert batch["anchor_input_ids"].shape[1] <= 5 < batch["positive_input_ids"].shape[1] <= 7


@pytest.mark.parametrize("wrong", [0, {"passage": 5}, "many", {"query": "5"}])
def test_a_length_that_cannot_be_is_refused(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_length"):
        MultiVectorEncoderTrainingArguments(output_dir=str(tmp_path), max_length=wrong, report_to="none")
