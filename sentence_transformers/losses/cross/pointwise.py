"""Losses that compare the scores of pairs with a label for each: right or not, a class, a number, a margin.

How far off a score is, a loss of torch says; keyword arguments beyond those named here are handed to it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..base import one_label_each
from ..checks import at_least
from ..teacher_objectives import margins_of
from .base import Pair, PairLoss


class PointLoss(PairLoss):
    """A loss on each pair by itself.

    Columns: two, the texts of each pair.
    """

    def pairs(self, columns: list[list[Any]], labels: Any) -> list[list[Pair]]:
        if len(columns) != 2:
            raise ValueError(
                f"{type(self).__name__} expects a dataset with two non-label columns, but got a dataset with "
                f"{len(columns)} columns."
            )
        return [list(zip(*columns, strict=True))]

    def compared(self, columns: list[Tensor], labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores and labels, each (B,) float. Raises: ValueError unless there is a label for each pair."""
        (logits,) = columns
        scores = self.scores(logits)
        return scores, one_label_each(type(self).__name__, labels, len(scores)).to(scores)


class BinaryCrossEntropyLoss(PointLoss):
    """The sigmoid of the score must be the label, as a probability.

    Args:
        model: the ``CrossEncoder`` to train, with one label.
        activation_fn: applied to the score first; the sigmoid comes on top of it.
        pos_weight: weighs pairs labelled 1, for instance how many others there are for each: a tensor with one number.
        **kwargs: of ``torch.nn.BCEWithLogitsLoss``.

    Columns: two. Labels: (B,) 0 to 1.
    Raises: ValueError for another number of columns or labels, or a model with several labels.
    """

    def __init__(
        self,
        model: nn.Module,
        activation_fn: nn.Module | None = None,
        pos_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, activation_fn)
        self.pos_weight = pos_weight
        self.bce_with_logits_loss = nn.BCEWithLogitsLoss(pos_weight=pos_weight, **kwargs)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        return self.bce_with_logits_loss(*self.compared(embeddings, labels))

    def get_config_dict(self) -> dict[str, Any]:
        weight = self.pos_weight
        return {**super().get_config_dict(), "pos_weight": None if weight is None else weight.tolist()}


class CrossEntropyLoss(PointLoss):
    """The class of a pair must have the highest of its L scores.

    Args:
        model: the ``CrossEncoder`` to train, with L labels.
        activation_fn: applied to the scores first; the softmax comes on top of it.
        **kwargs: of ``torch.nn.CrossEntropyLoss``.

    Columns: two. Labels: (B,) int 0 to L - 1, or (B, L) probabilities.
    Raises: ValueError for another number of columns or labels, or for classes that are no integers.
    """

    needs_one_label: ClassVar[bool] = False

    def __init__(self, model: nn.Module, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.ce_loss = nn.CrossEntropyLoss(**kwargs)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        (logits,) = embeddings
        scores = self.activation_fn(logits)  # (B, L)
        if labels is not None and labels.is_floating_point() and labels.shape == scores.shape:
            return self.ce_loss(scores, labels.to(scores))
        classes = one_label_each("CrossEntropyLoss", labels, len(scores))
        if classes.is_floating_point():
            raise ValueError(
                f"CrossEntropyLoss expects a class for each pair, an integer from 0 to {scores.shape[1] - 1}, or the "
                f"probabilities of all classes; got labels of type {classes.dtype}. Cast the column to int."
            )
        return self.ce_loss(scores, classes.to(scores.device, torch.int64))


class MSELoss(PointLoss):
    """The score must be the label: for instance that of a teacher.

    Args:
        model: the ``CrossEncoder`` to train, with one label.
        activation_fn: applied to the score first.
        **kwargs: of ``torch.nn.MSELoss``.

    Columns: two. Labels: (B,) float, any range.
    Raises: ValueError for another number of columns or labels, or a model with several labels.
    """

    def __init__(self, model: nn.Module, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        return self.loss_fct(*self.compared(embeddings, labels))


class MarginMSELoss(PairLoss):
    """How much better the positive scores than each negative must be as with the teacher.

    Args:
        model: the ``CrossEncoder`` to train, with one label.
        activation_fn: applied to the scores first.
        **kwargs: of ``torch.nn.MSELoss``.

    Columns: query, positive, one or more negatives. Labels: (B,) or (B, N) margins, or (B, 1 + N) scores.
    Raises: ValueError for fewer columns, labels of another shape, or a model with several labels.
    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666
    """

    citations = ("hofstaetter2020margin",)

    def __init__(self, model: nn.Module, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def pairs(self, columns: list[Any], labels: Any) -> list[list[Pair]]:
        queries, *candidates = at_least("MarginMSELoss", columns, 3, "a query, a positive, one or more negatives")
        return [list(zip(queries, some, strict=True)) for some in candidates]

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        if labels is None:
            raise ValueError("MarginMSELoss expects the teacher's margins or scores as labels, but got none.")
        scores = self.table(embeddings)  # (B, 1 + N)
        rows, negatives = len(scores), scores.shape[1] - 1
        return self.loss_fct(margins_of(scores, rows, negatives), margins_of(labels, rows, negatives).to(scores))
