"""Does a loss take the columns of a dataset? Asked of the loss itself, on the first rows with invented embeddings.

So nothing has to be said twice about what losses need, and no model has to be there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from ..._types import Features
from .. import columns as meanings
from ..collator import stacked
from .models import ModelPlan
from .parts import INNER, Part
from .values import parameters

ROWS = 2
WIDTH = 8


class Invented(nn.Module):
    """Stands for a model: it only knows how wide its embeddings are."""

    def __init__(self, width: int | None) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features) -> Features:
        """Embeddings of a text for each row of token ids."""
        return {**features, "sentence_embedding": torch.randn(len(features["input_ids"]), self.width or WIDTH)}

    def get_embedding_dimension(self) -> int | None:
        """The width; None where it does not matter."""
        return self.width


def check_loss(loss: Part, rows: Dataset, dataset: str) -> None:
    """Compute a loss on the first rows, with invented embeddings.

    Losses that need more of a model than that (layers, a guide) are left to the training.

    Args:
        dataset: the place of the dataset in the file, for messages.

    Raises: ValueError for settings that the loss refuses, and for columns and labels that it does not take.
    """
    first = rows[: min(ROWS, len(rows))]
    label = meanings.label_column(first)
    inputs = meanings.input_columns(first, label)
    labels = None if label is None else stacked(first[label], label)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        made = _made(loss.innermost, labels)
        if made is None:
            return
        _check_outer(loss, made)
        try:
            found = _computed(made, len(next(iter(first.values()))), len(inputs), labels)
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueError(f"{_mismatch(loss, dataset, inputs, label)}: {error}") from error
    if not isinstance(found, (Tensor, dict)):
        raise ValueError(f"{_mismatch(loss, dataset, inputs, label)}: it needs labels. Name their column by label.")


def _computed(loss: nn.Module, rows: int, columns: int, labels: Tensor | None) -> Any:
    """The loss of texts of three tokens each, all of them different."""
    tokens = torch.arange(3 * rows * columns).reshape(columns, rows, 3)
    features = [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in tokens]
    with torch.no_grad():
        return loss(features, labels)


def _mismatch(loss: Part, dataset: str, inputs: list[str], label: str | None) -> str:
    of_labels = f"the label {label!r}" if label is not None else "no label"
    return f"{loss.innermost.place} does not take the columns of {dataset} ({', '.join(inputs) or 'none'}; {of_labels})"


def _made(loss: Part, labels: Tensor | None) -> Any:
    """The loss; None for one that needs a real model.

    A loss that cannot be made with the settings of the file is made with only those that it must have: where that
    works, the other settings are wrong.
    """
    if any(isinstance(value, ModelPlan) for value in loss.settings.values()):
        return None
    model = Invented(_width(loss.settings, labels))
    try:
        return loss.loss(model, ModelPlan.open)
    except ValueError:
        if not _is_possible(loss, model, None):
            return None
        raise


def _check_outer(loss: Part, innermost: Any) -> Any:
    """Make the losses around it, of any width. Raises: ValueError, as the losses do."""
    inner = loss.settings.get(INNER)
    if not isinstance(inner, Part):
        return innermost
    made = _check_outer(inner, innermost)
    if made is None:
        return None
    model = Invented(None)
    try:
        return loss.loss(model, ModelPlan.open, made)
    except ValueError:
        if not _is_possible(loss, model, made):
            return None
        raise


def _is_possible(loss: Part, model: Invented, inner: Any) -> bool:
    needed = {name for name, one in parameters(loss.kind).items() if one.default is one.empty}
    plain = Part(loss.kind, {name: value for name, value in loss.settings.items() if name in needed}, loss.place)
    try:
        plain.loss(model, ModelPlan.open, inner)
    except ValueError:
        return False
    return True


def _width(settings: Mapping[str, Any], labels: Tensor | None) -> int:
    given = settings.get("embedding_dimension")
    if given is not None:
        return int(given)
    return labels.shape[-1] if labels is not None and labels.dim() > 1 else WIDTH
