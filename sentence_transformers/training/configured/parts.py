"""Losses and evaluators of a file of settings: found by their public names, checked against their signatures.

Nothing is listed here: names come of the public table, settings of the constructors. A model among the settings (a
guide, a teacher) stays a plan until ``built``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from .models import ModelPlan
from .values import Made, check_complete, checked, named_class, parameters

MODELS = ("guide", "teacher_model")
"""Arguments that are models."""
INNER = "loss"
"""The argument of a loss around a loss."""
LOSSES = (INNER, "document_regularizer", "query_regularizer")
"""Arguments that are losses."""
FROM_MODEL = {"embedding_dimension": "get_embedding_dimension"}
"""Arguments that the model knows, where the file does not say them."""

OpenPlan: TypeAlias = Callable[[dict[str, Any], str, str], ModelPlan]
"""Settings, a key in them that is a model, its full name -> the plan of the model."""


@dataclass(frozen=True)
class Part:
    """A loss or an evaluator: its class, and those of its arguments that the file gives.

    Attributes:
        settings: argument -> value; a loss inside is a Part, a model a ModelPlan.
        place: of its settings in the file.
    """

    kind: Made
    settings: dict[str, Any]
    place: str

    @property
    def innermost(self) -> Part:
        """The loss that is inside of all others."""
        inner = self.settings.get(INNER)
        return inner.innermost if isinstance(inner, Part) else self

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={_said(value)}" for name, value in self.settings.items())
        return f"{self.kind.__name__}({settings})" if settings else self.kind.__name__

    def loss(self, model: Any, open_model: Callable[[ModelPlan], Any], inner: Any = None) -> Any:
        """Make the loss, with those inside, for a model.

        Args:
            inner: the loss inside, where it is made already.

        Raises: ValueError, with the place, for settings that the loss refuses.
        """
        values = {
            name: inner if name == INNER and inner is not None else _built(value, model, open_model)
            for name, value in self.settings.items()
        }
        for name, method in FROM_MODEL.items():
            if name in parameters(self.kind) and name not in values:
                values[name] = getattr(model, method)()
        try:
            return self.kind(model, **values)
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error


def _said(value: Any) -> Any:
    """A setting for people, on one line."""
    named = type(value) if isinstance(value, nn.Module) else value
    return getattr(named, "__name__", named)


def _built(value: Any, model: Any, open_model: Callable[[ModelPlan], Any]) -> Any:
    if isinstance(value, Part):
        return value.loss(model, open_model)
    return open_model(value) if isinstance(value, ModelPlan) else value


@dataclass(frozen=True)
class Known:
    """What the file may name.

    Attributes:
        losses: name -> class. functions: name -> function, or class of some, for settings of losses.
        open_plan: reads the settings of a model.
    """

    losses: Mapping[str, Made]
    functions: Mapping[str, Any]
    open_plan: OpenPlan


def loss_part(value: Any, place: str, known: Known) -> Part:
    """A loss, as the file describes it, with the losses inside.

    Raises: ValueError for names and values that no constructor takes.
    """
    name, section = named_class(value, place, known.losses, "MultipleNegativesRankingLoss: {scale: 20}")
    takes = parameters(known.losses[name])
    takes.pop("model", None)
    section.only(takes)
    settings: dict[str, Any] = {}
    for key, given in section.values.items():
        if key in LOSSES:
            settings[key] = loss_part(given, section.at(key), known)
        elif key in MODELS:
            settings[key] = known.open_plan(section.values, key, section.at(key))
        else:
            settings[key] = checked(given, takes[key], section.at(key), known.functions)
    check_complete(section, takes, given=[*settings, *FROM_MODEL])
    return Part(known.losses[name], settings, section.place)
