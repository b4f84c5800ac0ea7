"""What differs between the families of models when a training is read from a file: a row each, of public names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..._lazy import resolve
from ..._public import NAMES
from ...evaluation.base import BaseEvaluator
from .parts import Made, classes


@dataclass(frozen=True)
class Kind:
    """A family, by names of the public table.

    Attributes:
        model, trainer, arguments: names of classes at the top of the package.
        losses, evaluators: namespaces.
    """

    model: str
    trainer: str
    arguments: str
    losses: str
    evaluators: str

    def named(self, name: str) -> Any:
        """The class of a public name."""
        return resolve(NAMES[""][name])

    def known_losses(self) -> dict[str, Made]:
        """Public name -> class."""
        return classes(self.losses, nn.Module)

    def known_evaluators(self) -> dict[str, Made]:
        """Public name -> class, without those that are no measure of their own."""
        bases = set(classes("base.evaluation", BaseEvaluator))
        return {name: one for name, one in classes(self.evaluators, BaseEvaluator).items() if name not in bases}


KINDS = {
    "dense": Kind(
        "SentenceTransformer",
        "SentenceTransformerTrainer",
        "SentenceTransformerTrainingArguments",
        "losses",
        "evaluation",
    ),
}
"""The values of ``kind:``. Other families are further rows."""
