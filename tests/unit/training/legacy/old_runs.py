"""What tests of ``fit`` share: old data, an evaluator with given scores, a loss that notes what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from sentence_transformers.evaluation import BaseEvaluator
from sentence_transformers.training.legacy.data import InputExample

QUICK: dict[str, Any] = {"optimizer_params": {"lr": 2e-3}, "scheduler": "constantlr", "show_progress_bar": False}
TEXTS = ["a cat", "the dog", "on the mat", "is here", "a yes", "the cat sat", "dog", "here the mat"]


def pairs(count: int, label: Callable[[int], Any] = lambda i: 0) -> list[InputExample]:
    return [InputExample(texts=[f"{TEXTS[i % 8]} {i}", TEXTS[i * 3 % 8]], label=label(i)) for i in range(count)]


def loaded(examples: list[InputExample], batch_size: int = 4, **settings: Any) -> DataLoader[Any]:
    return DataLoader(examples, batch_size=batch_size, **settings)  # type: ignore[arg-type]


class Scores(BaseEvaluator):
    """Gives these, one after the other, and notes the folders and the models."""

    primary_metric = "score"

    def __init__(self, *scores: float, as_number: bool = False) -> None:
        self.scores, self.as_number = list(scores), as_number
        self.folders: list[str | None] = []
        self.states: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: Any, output_path: str | None = None, epoch: Any = -1, steps: Any = -1) -> Any:
        assert not model.training
        self.states.append({name: one.clone() for name, one in model.state_dict().items()})
        self.folders.append(output_path)
        score = self.scores[len(self.folders) - 1]
        return score if self.as_number else {"score": score}


class Watched(nn.Module):
    """A loss that notes what comes in, and the values that it gives."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss, self.model = loss, loss.model
        self.labels: list[Any] = []
        self.sizes: list[int] = []
        self.values: list[float] = []
        self.repeated: list[bool] = []

    def forward(self, features: Any, labels: Any = None) -> Any:
        features = list(features)
        self.labels.append(None if labels is None else labels.tolist())
        self.sizes.append(len(features[0]["input_ids"]))
        texts = [tuple(row) for column in features for row in column["input_ids"].tolist()]
        self.repeated.append(len(set(texts)) < len(texts))
        value = self.loss(features, labels)
        self.values.append(value.item())
        return value
