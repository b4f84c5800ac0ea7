"""Does a loss take the columns of a dataset? Asked of the loss itself, on the first rows with invented outputs.

So nothing has to be said twice about what losses need, and no model has to be there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from ..._types import Features
from ...losses.base import Loss, Wrapper
from ...losses.cross.base import PairLoss
from ...losses.sparse import SpladeLoss
from ...losses.sparse_inner import OnlyInside
from ...ops.logs import disable_logging
from .. import columns as meanings
from ..collator import BaseDataCollator
from .document import shown
from .models import ModelPlan
from .parts import INNER, Part
from .values import Made, parameters

ROWS = 2
WIDTH = 8
TOKENS = 3


class Invented(nn.Module):
    """Stands for a model: it only knows how wide its embeddings are, and how many scores a pair has."""

    device = torch.device("cpu")

    def __init__(self, width: int | None, num_labels: int = 1) -> None:
        super().__init__()
        self.width = width
        self.num_labels = num_labels

    def preprocess(self, inputs: Sequence[Any], **settings: Any) -> Features:
        """A few token ids for each pair of inputs. Raises: ValueError for a pair with a list in it."""
        odd = next((one for pair in inputs for one in pair if isinstance(one, (list, tuple))), None)
        if odd is not None:
            raise ValueError(
                f"expected texts, found {shown(odd)}. Lists of documents, with a list of labels each, are for "
                "ListNetLoss, LambdaLoss and their like."
            )
        return _of_tokens(torch.arange(TOKENS * len(inputs)).reshape(-1, TOKENS))

    def forward(self, features: Features, **settings: Any) -> Features:
        """All that a model may make of each row of token ids: an embedding, one for each token, scores."""
        rows, width = len(features["input_ids"]), self.width or WIDTH
        return {
            **features,
            "sentence_embedding": torch.randn(rows, width),
            "token_embeddings": torch.randn(rows, features["input_ids"].shape[1], width),
            "scores": torch.randn(rows, self.num_labels),
        }

    def get_embedding_dimension(self) -> int | None:
        """The width; None where it does not matter."""
        return self.width


def check_loss(
    loss: Part, rows: Dataset, dataset: str, collator: type[BaseDataCollator], num_labels: int | None = None
) -> None:
    """Compute a loss on the first rows, with invented outputs of a model.

    Losses that need more of a model than that (layers, a guide) are left to the training.

    Args:
        dataset: the place of the dataset in the file, for messages.
        collator: makes the batches of the training.
        num_labels: of a reranker; None where the file does not say it.

    Raises: ValueError for settings that the loss refuses, and for columns and labels that it does not take.
    """
    first = rows[: min(ROWS, len(rows))]
    label = meanings.label_column(first)
    inputs = [first[name] for name in meanings.input_columns(first, label)]
    labels = None if label is None else collator(Invented.preprocess).collate_labels(list(first[label]), label)
    about = f"{dataset} ({', '.join(meanings.input_columns(first, label)) or 'none'}; " + (
        f"the label {label!r})" if label is not None else "no label)"
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), disable_logging():
        warnings.simplefilter("ignore")
        made = _made(loss.innermost, labels, num_labels)
        if made is None:
            return
        outer = _check_outer(loss, made)
        _check_columns(made, loss.innermost.place, about, inputs, labels, is_inside=loss.innermost is not loss)
        if isinstance(outer, SpladeLoss) and outer is not made:
            outer.model = made.model  # as wide
            _check_columns(outer, loss.place, about, inputs, labels, is_inside=True)


def _check_columns(loss: Any, place: str, about: str, inputs: list[list[Any]], labels: Any, *, is_inside: bool) -> None:
    """Raises: ValueError unless the loss takes the columns and the labels."""
    mismatch = f"{place} does not take the columns of {about}"
    while isinstance(loss, Wrapper) and not isinstance(loss, SpladeLoss):  # the loss inside that is its default
        loss, is_inside = loss.loss, True
    try:
        found = _computed(loss, inputs, labels, is_inside)
    except (ValueError, RuntimeError, IndexError) as error:
        if isinstance(error, NotImplementedError):  # of a part of another loss
            raise ValueError(f"{place}: {error}") from error
        raise ValueError(f"{mismatch}: {error}") from error
    except AttributeError as error:
        if not isinstance(loss, OnlyInside):
            raise
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(found, (Tensor, dict)):
        raise ValueError(f"{mismatch}: it needs labels. Name their column by label.")


def _computed(loss: Any, inputs: list[list[Any]], labels: Any, is_inside: bool) -> Any:
    """The loss of the columns as they are, if it makes pairs of them; else of texts of a few tokens, all different."""
    with torch.no_grad():
        if isinstance(loss, PairLoss):
            return loss(inputs, labels)
        rows = len(inputs[0]) if inputs else 0
        tokens = torch.arange(TOKENS * rows * len(inputs)).reshape(len(inputs), rows, TOKENS)
        features = [_of_tokens(one) for one in tokens]
        if is_inside and isinstance(loss, Loss):  # as a loss around it does
            return loss.run(features, labels, loss.compute_loss_from_embeddings)
        return loss(features, labels)


def _of_tokens(ids: Tensor) -> Features:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _made(loss: Part, labels: Any, num_labels: int | None) -> Any:
    """The loss; None for one that needs a real model.

    A loss that cannot be made with the settings of the file is made with only those that it must have: where that
    works, the other settings are wrong.
    """
    if any(isinstance(value, ModelPlan) for value in loss.settings.values()):
        return None
    scores = _scores(loss.kind, labels) if num_labels is None else num_labels
    model = Invented(_width(loss.settings, labels), scores)
    try:
        return loss.loss(model, ModelPlan.open)
    except ValueError:
        if not issubclass(loss.kind, PairLoss) and not _is_possible(loss, model, None):
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


def _width(settings: Mapping[str, Any], labels: Any) -> int:
    given = settings.get("embedding_dimension")
    if given is not None:
        return int(given)
    return labels.shape[-1] if isinstance(labels, Tensor) and labels.dim() > 1 else WIDTH


def _scores(kind: Made, labels: Any) -> int:
    """How many scores a pair has, as far as a loss and labels say: as many as there are classes."""
    if not issubclass(kind, PairLoss) or kind.needs_one_label or not isinstance(labels, Tensor):
        return 1
    return labels.shape[-1] if labels.dim() > 1 else max(2, int(labels.max()) + 1)
