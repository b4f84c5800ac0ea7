"""Trainings that must end the same whether one process or several run them.

``python training_processes.py FOLDER`` runs every case, started by ``torchrun`` as one process of several, else alone,
and writes logs and weights to FOLDER/<rank or "alone">-<case>.pt. The package and ``tests/parity`` must be on the path.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tiny
import torch
from datasets import Dataset
from torch import nn
from transformers import TrainerCallback

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.modules.static import StaticEmbedding
from sentence_transformers.training.arguments import SentenceTransformerTrainingArguments
from sentence_transformers.training.dense import SentenceTransformerTrainer
from tests.integration.process_groups import WORLD

BATCH = 4
"""Rows of a batch of one process."""
WIDTH = 32
WORDS = (
    "cat", "dog", "rain", "tea", "chess", "book", "mat", "north", "loud", "woman", "cold", "play", "read", "sun", "the",
    "a", "is", "in", "on", "two",
)  # fmt: skip


def texts(rows: int, column: int) -> list[str]:
    """Texts of one to nine words, all different."""
    found = []
    for row in range(rows):
        at = 7 * row + 3 * column
        words = [WORDS[(at + 5 * step + row // 3) % len(WORDS)] for step in range(1 + at % 8)]
        found.append(" ".join([*words, f"{row}.{column}"]))
    return found


def rows_of(count: int, texts_each: int = 2, **columns: list[Any]) -> Dataset:
    """Rows of texts, and further columns."""
    return Dataset.from_dict({**{f"text{at}": texts(count, at) for at in range(texts_each)}, **columns})


def scored(count: int) -> Dataset:
    return rows_of(count, score=[row * 7 % 11 / 10 for row in range(count)])


def classified(count: int) -> Dataset:
    return rows_of(count, label=[row * 5 % 3 for row in range(count)])


@cache
def small_model() -> SentenceTransformer:
    """The small model without dropout, in float64; to be copied."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with TemporaryDirectory() as folder:
        model = SentenceTransformer(str(tiny.build("bert", folder, settings=off)), device="cpu").double()
        assert model.transformers_model is not None  # which is built now, while there is the folder
    return model


def averaging_model() -> SentenceTransformer:
    """A mean of vectors of words."""
    tokenizer = small_model().tokenizer.backend_tokenizer
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(tokenizer.get_vocab_size(), WIDTH, generator=generator)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, vectors)], device="cpu").double()


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        loss: of the model, and of a second model for losses that need one.
        data: what is trained on.
        settings: arguments of the trainer.
        joined: one process takes the batches of all as one; else one after the other, and adds up the gradients.
        is_static: of a model without a transformer.
    """

    loss: Callable[[Any, Any], Any]
    data: Callable[[], Any]
    settings: dict[str, Any] = field(default_factory=dict)
    joined: bool = True
    is_static: bool = False
    cut: int | None = None
    """The step after which several processes stop, and go on from the checkpoint."""


SAVED = {"save_strategy": "steps", "save_steps": 3}


class StopAt(TrainerCallback):
    """Ends the training after some step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True


def pairs(count: int) -> Callable[[], Dataset]:
    return lambda: rows_of(count)


CASES: dict[str, Case] = {
    "mean of the rows": Case(lambda one, _: losses.CosineSimilarityLoss(one), lambda: scored(24)),
    "static": Case(
        lambda one, _: losses.MultipleNegativesRankingLoss(one, gather_across_devices=True), pairs(24), is_static=True
    ),
    "of each batch": Case(lambda one, _: losses.CoSENTLoss(one), lambda: scored(24), joined=False),
    "negatives of each batch": Case(lambda one, _: losses.MultipleNegativesRankingLoss(one), pairs(24), joined=False),
    "negatives of all": Case(
        lambda one, _: losses.MultipleNegativesRankingLoss(one, gather_across_devices=True), pairs(24)
    ),
    "cached": Case(
        lambda one, _: losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=3, gather_across_devices=True),
        pairs(24),
    ),
    "guided": Case(lambda one, two: losses.GISTEmbedLoss(one, two, gather_across_devices=True), pairs(24)),
    "guided, cached": Case(
        lambda one, two: losses.CachedGISTEmbedLoss(one, two, mini_batch_size=3, gather_across_devices=True), pairs(24)
    ),
    "own parameters": Case(lambda one, _: losses.SoftmaxLoss(one, WIDTH, 3), lambda: classified(24)),
    "shortened": Case(
        lambda one, _: losses.MatryoshkaLoss(
            one, losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=3, gather_across_devices=True), [32, 8]
        ),
        pairs(24),
    ),
    "accumulated": Case(
        lambda one, _: losses.MultipleNegativesRankingLoss(one, gather_across_devices=True),
        pairs(48),
        {"gradient_accumulation_steps": 2},
    ),
    "accumulated, cached": Case(
        lambda one, _: losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=3, gather_across_devices=True),
        pairs(48),
        {"gradient_accumulation_steps": 2},
    ),
    "accumulated, own parameters": Case(
        lambda one, _: losses.SoftmaxLoss(one, WIDTH, 3), lambda: classified(48), {"gradient_accumulation_steps": 2}
    ),
    "uneven": Case(
        lambda one, _: losses.CosineSimilarityLoss(one), lambda: scored(29), {"gradient_accumulation_steps": 2}
    ),
    "in parts": Case(lambda one, _: losses.GlobalOrthogonalRegularizationLoss(one), pairs(24), joined=False),
    "distinct": Case(
        lambda one, _: losses.MultipleNegativesRankingLoss(one, gather_across_devices=True),
        lambda: rows_of(40, group=[f"group {row // 2}" for row in range(40)]),
        {"batch_sampler": "no_duplicates"},
    ),
    "by name": Case(
        lambda one, _: {
            "ranked": losses.MultipleNegativesRankingLoss(one, gather_across_devices=True),
            "labelled": losses.SoftmaxLoss(one, WIDTH, 3),
        },
        lambda: {"ranked": rows_of(24, 3), "labelled": classified(20)},
    ),
    "by turns": Case(
        lambda one, _: {
            "ranked": losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=3, gather_across_devices=True),
            "scored": losses.CosineSimilarityLoss(one),
        },
        lambda: {"ranked": rows_of(24), "scored": scored(24)},
        {"multi_dataset_batch_sampler": "round_robin"},
    ),
    "grouped": Case(
        lambda one, _: losses.BatchAllTripletLoss(one),
        lambda: rows_of(32, 1, label=[row % 4 for row in range(32)]),
        {"batch_sampler": "group_by_label"},
        joined=False,
    ),
    "layers": Case(
        lambda one, _: losses.AdaptiveLayerLoss(
            one, losses.MultipleNegativesRankingLoss(one, gather_across_devices=True)
        ),
        pairs(24),
    ),
    "two models": Case(
        lambda one, _: losses.ContrastiveTensionLoss(one),
        lambda: rows_of(32, label=[row % 2 for row in range(32)]),
        joined=False,
    ),
    "streamed": Case(
        lambda one, _: losses.MultipleNegativesRankingLoss(one, gather_across_devices=True),
        lambda: rows_of(37).to_iterable_dataset(num_shards=2),
        {"max_steps": 8},
    ),
    "resumed": Case(lambda one, _: losses.SoftmaxLoss(one, WIDTH, 3), lambda: classified(40), SAVED, cut=7),
    "resumed, distinct": Case(
        lambda one, _: losses.CachedMultipleNegativesRankingLoss(one, mini_batch_size=3, gather_across_devices=True),
        pairs(40),
        {**SAVED, "batch_sampler": "no_duplicates"},
        cut=7,
    ),
    "resumed, by name": Case(
        lambda one, _: {
            "ranked": losses.MultipleNegativesRankingLoss(one, gather_across_devices=True),
            "labelled": losses.SoftmaxLoss(one, WIDTH, 3),
        },
        lambda: {"ranked": rows_of(24, 3), "labelled": classified(20)},
        SAVED,
        cut=7,
    ),
}


def trained(name: str, folder: Path, world: int) -> dict[str, Any]:
    """Losses and weights of one case.

    Args:
        world: how many processes run it.
    """
    case = CASES[name]
    settings = {"output_dir": str(folder / f"{world} {name}"), "per_device_train_batch_size": BATCH, **case.settings}
    if world == 1:
        name = "per_device_train_batch_size" if case.joined else "gradient_accumulation_steps"
        settings[name] = WORLD * settings.get(name, 1)
    if world == 1 or case.cut is None:
        trainer = made(case, settings)
        trainer.train()
        return found(trainer)
    made(case, settings, [StopAt(case.cut)]).train()
    trainer = made(case, settings)
    trainer.train(resume_from_checkpoint=True)
    return found(trainer)


def made(case: Case, settings: dict[str, Any], callbacks: Any = None) -> SentenceTransformerTrainer:
    model, other = (copy.deepcopy(small_model()) for _ in range(2))
    model = averaging_model() if case.is_static else model
    torch.manual_seed(0)
    loss = case.loss(model, other)
    for one in loss.values() if isinstance(loss, dict) else [loss]:
        one.double()
    return SentenceTransformerTrainer(
        model=model, args=arguments(**settings), train_dataset=case.data(), loss=loss, callbacks=callbacks
    )


def found(trainer: Any) -> dict[str, Any]:
    """What a training has led to: numbers of the log by name, and weights of model and losses."""
    logs: dict[str, list[float]] = {}
    for entry in trainer.state.log_history:
        if "loss" in entry:
            for name in entry.keys() - {"epoch", "step"}:
                logs.setdefault(name, []).append(entry[name])
    loss = nn.ModuleDict(trainer.loss) if isinstance(trainer.loss, dict) else trainer.loss
    own = {name: value for name, value in loss.state_dict().items() if "classifier" in name}
    return {"logs": logs, "weights": copy.deepcopy({**trainer.model.state_dict(), **own})}


def arguments(**settings: Any) -> SentenceTransformerTrainingArguments:
    defaults: dict[str, Any] = {
        "num_train_epochs": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_drop_last": True,
    }
    return SentenceTransformerTrainingArguments(**{**defaults, **settings})


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    rank = os.environ.get("RANK")
    small_model()  # before there are ranks: of several, transformers lets only the first one write
    for name in names or CASES:
        torch.save(trained(name, folder, 1 if rank is None else WORLD), folder / f"{rank or 'alone'}-{name}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
