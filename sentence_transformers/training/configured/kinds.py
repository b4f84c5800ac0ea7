"""What differs between the families of models when a training is read from a file: a row each, of public names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..._lazy import resolve
from ..._public import NAMES
from ...evaluation.base import BaseEvaluator
from ...evaluation.cross.deprecated import Renamed
from ...losses.base import Loss
from .values import Made, classes


@dataclass(frozen=True)
class Kind:
    """A family, by names of the public table.

    Attributes:
        model, trainer, arguments: names of classes at the top of the package.
        losses, evaluators: namespaces.
        functions: a namespace with what else may be named among the settings of losses, such as weighting schemes; "":
            none.
        from_nothing: whether a model may be static embeddings that no model is read for.
    """

    model: str
    trainer: str
    arguments: str
    losses: str
    evaluators: str
    functions: str = ""
    from_nothing: bool = False

    def named(self, name: str) -> Any:
        """The class of a public name."""
        return resolve(NAMES[""][name])

    def known_losses(self) -> dict[str, Made]:
        """Public name -> class."""
        return classes(self.losses, Loss)

    def known_functions(self) -> dict[str, Any]:
        """Public name -> function, or class that is called with settings."""
        found = {name: resolve(target) for name, target in NAMES[self.functions].items()} if self.functions else {}
        losses = self.known_losses()
        return {name: one for name, one in found.items() if name not in losses}

    def known_evaluators(self) -> dict[str, Made]:
        """Public name -> class, without old names, and those that are no measure of their own."""
        bases = set(classes("base.evaluation", BaseEvaluator))
        found = classes(self.evaluators, BaseEvaluator).items()
        return {name: one for name, one in found if name not in bases and not issubclass(one, Renamed)}

    def collator(self) -> Any:
        """The class that makes batches."""
        return self.named(self.trainer).data_collator_class


KINDS = {
    "dense": Kind(
        "SentenceTransformer",
        "SentenceTransformerTrainer",
        "SentenceTransformerTrainingArguments",
        "losses",
        "evaluation",
        from_nothing=True,
    ),
    "reranker": Kind(
        "CrossEncoder",
        "CrossEncoderTrainer",
        "CrossEncoderTrainingArguments",
        "cross_encoder.losses",
        "cross_encoder.evaluation",
        functions="cross_encoder.losses",
    ),
    "sparse": Kind(
        "SparseEncoder",
        "SparseEncoderTrainer",
        "SparseEncoderTrainingArguments",
        "sparse_encoder.losses",
        "sparse_encoder.evaluation",
    ),
    "multi-vector": Kind(
        "MultiVectorEncoder",
        "MultiVectorEncoderTrainer",
        "MultiVectorEncoderTrainingArguments",
        "multi_vector_encoder.losses",
        "multi_vector_encoder.evaluation",
        functions="multi_vector_encoder.scoring",
    ),
}
"""The values of ``kind:``."""
