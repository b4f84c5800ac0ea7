"""The shared half of all losses on embeddings: columns of a batch through the model, then an objective.

A loss says what is optimised (``compute_loss_from_embeddings``). How the columns are run is apart from that
(``run``): once with gradients here, in small parts in ``gradcache``; a wrapper borrows it from the loss inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from ..hub.trust import fullname
from .joining import Features as Features
from .joining import embed_columns

Components: TypeAlias = dict[str, Tensor]
"""Parts of a loss, whose sum is minimised; each is logged under its name."""
Objective: TypeAlias = Callable[[list[Tensor], Tensor | None], Tensor | Components]
"""Embeddings of the columns and labels -> the loss."""
Embed: TypeAlias = Callable[[Features], Tensor]
"""Features of some inputs -> what the objective gets of them, a row for each input."""

CITATIONS = Path(__file__).with_name("citations.bib")


class Loss(nn.Module):
    """A loss on the embeddings of the columns of a batch.

    Args:
        model: what is trained. Trainers put a wrapped one (for several processes) into ``self.model``.
    """

    citations: ClassVar[tuple[str, ...]] = ()
    """Keys of ``citations.bib``."""
    output_name: ClassVar[str] = "sentence_embedding"
    """What is taken from the features that the model returns."""
    judges: ClassVar[tuple[str, ...]] = ()
    """Attributes with models that are asked, and not trained."""
    uses_gradient_cache: bool = False
    """Whether the columns are run in small parts (``gradcache``)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor | Components:
        """The loss of a batch.

        Args:
            sentence_features: features of each column that is not a label, in order, as ``model.preprocess`` makes
                them for B inputs.
            labels: what the loss asks for; None where it needs none.

        Returns: a number, or the parts it is the sum of.
        """
        return self.run(list(sentence_features), labels, self.compute_loss_from_embeddings)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        """The loss from the embeddings of the columns, each (B, D); ``forward`` gives it those of the model."""
        raise NotImplementedError(f"{type(self).__name__} is not computed from embeddings alone.")

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        """Run the columns through the model, those that are alike as one, and the objective on what comes out.

        Args:
            embed: how; None for ``self.embed``.
        """
        return objective(embed_columns(self.model, features, embed or self.embed), labels)

    def embed(self, features: Features) -> Tensor:
        """Embeddings of one column, (B, D). The features stay as they are."""
        found: Tensor = self.model(dict(features))[self.output_name]
        return found

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of the constructor but for the model, as they can be written down."""
        return {name: _written(getattr(self, name)) for name in _arguments(type(self)) if hasattr(self, name)}

    @property
    def citation(self) -> str:
        """BibTeX entries of the papers."""
        entries = _entries()
        return "\n".join(entries[key] for key in self.citations)


class Wrapper(Loss):
    """A loss around a loss: it changes what is optimised, and borrows how the columns are run.

    Args:
        loss: the loss inside, of the same model.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__(model)
        self.loss: Any = loss

    @property
    def uses_gradient_cache(self) -> bool:  # type: ignore[override]
        """Whether the loss inside runs the columns in small parts."""
        return bool(getattr(self.loss, "uses_gradient_cache", False))

    def run(
        self, features: list[Features], labels: Tensor | None, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        if not isinstance(self.loss, Loss):  # of somebody else: it is only asked what it makes of embeddings
            return super().run(features, labels, objective, embed)
        self.loss.model = self.model  # the trainer swaps only the outer one
        return self.loss.run(features, labels, objective, embed)


def one_label_each(name: str, labels: Tensor | None, count: int) -> Tensor:
    """The labels as (B,). Raises: ValueError unless there is one for each of ``count`` examples."""
    if labels is None:
        raise ValueError(
            f"{name} expects {count} labels (one per example), but got none. Add a column named label or score."
        )
    flat = labels.reshape(-1)
    if len(flat) != count:
        raise ValueError(
            f"{name} expects {count} labels (one per example), but got {len(flat)} labels with shape "
            f"{tuple(labels.shape)}."
        )
    return flat


def total(parts: Tensor | Components) -> Tensor:
    """The number that is minimised."""
    return parts if isinstance(parts, Tensor) else torch.stack([part.reshape(()) for part in parts.values()]).sum()


def _arguments(kind: type[Loss]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(kind).parameters if name != "model")


def _written(value: Any) -> Any:
    """A value of a configuration: numbers and texts as they are; functions, classes and modules by their names."""
    if isinstance(value, nn.Module):
        return type(value).__name__ if isinstance(value, Loss) else fullname(value)
    if isinstance(value, (list, tuple)):
        return [_written(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _written(item) for key, item in value.items()}
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", fullname(value))
    return value


@cache
def _entries() -> dict[str, str]:
    """Key -> entry of the file of citations; entries are divided by blank lines."""
    found = [entry for entry in CITATIONS.read_text(encoding="utf-8").split("\n\n") if entry.strip()]
    return {entry.partition("{")[2].partition(",")[0].strip(): entry.strip() + "\n" for entry in found}
