"""The shared half of all losses on scores: columns of texts become pairs, pairs become logits, then an objective.

A loss says which texts are read together (``pairs``) and what is optimised (``compute_loss_from_embeddings``, which
gets logits). How pairs are run is that of ``losses.base``: columns that are alike as one, or in parts by ``gradcache``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from ..base import Components, Features, Loss
from ..joining import encoder_of

Pair: TypeAlias = Sequence[Any]


class PairLoss(Loss):
    """A loss on the logits of pairs.

    Args:
        model: the ``CrossEncoder`` to train.
        activation_fn: applied to the logits first.

    Raises: ValueError for a model that does not score pairs, or with several labels where the loss needs one score.
    """

    output_name: ClassVar[str] = "scores"
    needs_one_label: ClassVar[bool] = True
    needs_lists: ClassVar[bool] = False
    """Whether the labels of an example are a list of any length, one for each of its texts."""

    def __init__(self, model: nn.Module, activation_fn: nn.Module | None = None) -> None:
        super().__init__(model)
        self.activation_fn = nn.Identity() if activation_fn is None else activation_fn
        name, labels = type(self).__name__, getattr(encoder_of(model), "num_labels", None)
        if labels is None:
            raise ValueError(f"{name} expects a model of type CrossEncoder, but got a model of type {type(model)}.")
        if self.needs_one_label and labels != 1:
            raise ValueError(
                f"{name} expects a model with 1 output label, but got a model with {labels} output labels. Load it "
                "with num_labels=1."
            )

    def forward(  # type: ignore[override]
        self,
        inputs: Iterable[Sequence[Any]],
        labels: Any = None,
        prompt: str | None = None,
        task: str | None = None,
    ) -> Tensor | Components:
        """The loss of a batch.

        Args:
            inputs: the columns that are no label, in order, each a list of B texts (or lists of texts).
            labels: what the loss asks for, a tensor or a list with those of each example; None where it needs none.
            prompt: put before the first text of every pair. task: for a model with routes.

        Returns: a number, or the parts it is the sum of.
        """
        if isinstance(labels, (list, tuple)) and not self.needs_lists:
            labels = self._stacked(labels)
        columns = self.pairs([list(column) for column in inputs], labels)
        features = [self.preprocess(column, prompt, task) for column in columns]
        return self.run(features, labels, self.compute_loss_from_embeddings)

    def _stacked(self, labels: Sequence[Any]) -> Tensor:
        """Labels of each example as one tensor. Raises: ValueError unless there are as many of each."""
        rows = [torch.as_tensor(one) for one in labels]
        shapes = {tuple(row.shape) for row in rows}
        if len(shapes) != 1:
            raise ValueError(
                f"{type(self).__name__} expects as many labels for each example, got the shapes {sorted(shapes)}. For "
                "lists of any length there are ListNetLoss, LambdaLoss and their like."
            )
        return torch.stack(rows)

    def pairs(self, columns: list[list[Any]], labels: Any) -> list[list[Pair]]:
        """What is scored: lists of pairs. Raises: ValueError for columns that do not fit the loss."""
        raise NotImplementedError

    def preprocess(self, pairs: list[Pair], prompt: str | None, task: str | None) -> Features:
        """The features of some pairs, on the device of the model."""
        encoder = encoder_of(self.model)
        settings = {} if task is None else {"task": task}
        features: Features = encoder.preprocess(pairs, prompt=prompt, **settings)
        device = encoder.device
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}

    def embed(self, features: Features) -> Tensor:
        """The logits of some pairs, (B, labels), in float32 at least: half of it is too coarse for differences."""
        found = super().embed(features)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def scores(self, logits: Tensor) -> Tensor:
        """Of a model with one label: logits (B, 1) or (B,) -> scores (B,), activated."""
        found: Tensor = self.activation_fn(logits.reshape(len(logits)))
        return found

    def table(self, columns: list[Tensor]) -> Tensor:
        """The scores of several columns of logits side by side, (B, columns)."""
        return torch.stack([self.scores(logits) for logits in columns], dim=1)
