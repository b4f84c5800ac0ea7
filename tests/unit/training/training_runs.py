"""Small trainings for tests: a tiny encoder, a few rows of data, settings that write nothing but what is asked for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from datasets import Dataset

from sentence_transformers.training.arguments import SentenceTransformerTrainingArguments
from sentence_transformers.training.dense import SentenceTransformerTrainer

FIRST = ["a cat sat on the mat", "dogs bark", "it rains in the north", "she reads", "two men play chess", "cold tea"]
SECOND = ["the cat is sitting", "a loud dog", "rain", "a woman with a book", "chess is played", "the tea is not hot"]


def pairs(rows: int = 24, **columns: list[Any]) -> Dataset:
    """Rows of (anchor, positive), all different, and further columns."""
    texts = {
        "anchor": [f"{FIRST[row % 6]} number {row}" for row in range(rows)],
        "positive": [f"{SECOND[row % 6]} number {row}" for row in range(rows)],
    }
    return Dataset.from_dict({**texts, **columns})


def scored(rows: int = 24) -> Dataset:
    """Pairs with a score."""
    return pairs(rows, score=[(row * 7 % 11) / 10 for row in range(rows)])


def arguments(folder: Path, **settings: Any) -> SentenceTransformerTrainingArguments:
    """Settings without reports, progress bars and checkpoints."""
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
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
    return SentenceTransformerTrainingArguments(**{**defaults, **settings})


def trainer(
    model: Any, folder: Path, settings: dict[str, Any] | None = None, **parts: Any
) -> SentenceTransformerTrainer:
    """A trainer of a copy of the model."""
    return SentenceTransformerTrainer(model=copy.deepcopy(model), args=arguments(folder, **(settings or {})), **parts)


def logged(run: SentenceTransformerTrainer, name: str = "loss") -> list[float]:
    """What was logged under a name, in order."""
    return [entry[name] for entry in run.state.log_history if name in entry]


def weights(run: SentenceTransformerTrainer) -> dict[str, Any]:
    """The weights of the model, copied."""
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
