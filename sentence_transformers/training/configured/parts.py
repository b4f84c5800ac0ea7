"""Losses and evaluators of a file of settings: found by their public names, checked against their signatures.

Nothing is listed here: names come of the public table, settings of the constructors. A model among the settings (a
guide, a teacher) stays a plan until ``built``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..._lazy import resolve
from ..._public import NAMES
from .document import Section, nearest, shown
from .models import ModelPlan
from .values import check_complete, checked, parameters

MODELS = ("guide", "teacher_model")
"""Arguments that are models."""
INNER = "loss"
"""The argument of a loss around a loss."""
FROM_MODEL = {"embedding_dimension": "get_embedding_dimension"}
"""Arguments that the model knows, where the file does not say them."""

Made: TypeAlias = type[Any]
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
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
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
            if name in inspect.signature(self.kind).parameters and name not in values:
                values[name] = getattr(model, method)()
        try:
            return self.kind(model, **values)
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error


def _built(value: Any, model: Any, open_model: Callable[[ModelPlan], Any]) -> Any:
    if isinstance(value, Part):
        return value.loss(model, open_model)
    return open_model(value) if isinstance(value, ModelPlan) else value


def classes(namespace: str, base: Made) -> dict[str, Made]:
    """Public name -> class, of those of a namespace of the table that are subclasses of ``base``."""
    found = {name: resolve(target) for name, target in NAMES[namespace].items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, base)}


def named_class(value: Any, place: str, known: Mapping[str, Made], example: str) -> tuple[str, Section]:
    """The class that settings are for, and they: a name, or {name: settings}, which a bare name becomes, too.

    Raises: ValueError for anything else, and for a name that is not known.
    """
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"{place}: expected a name, or one name with settings, as {example}; found {shown(value)}.")
    ((name, settings),) = value.items()
    if name not in known:
        raise ValueError(f"{place}: {name!r} is not known.{nearest(str(name), sorted(known))}")
    if settings is None:
        value[name] = settings = {}
    return name, Section.of(settings, f"{place}.{name}")


def loss_part(value: Any, place: str, known: Mapping[str, Made], open_plan: OpenPlan) -> Part:
    """A loss, as the file describes it, with the losses inside.

    Args:
        open_plan: reads the settings of a model.

    Raises: ValueError for names and values that no constructor takes.
    """
    name, section = named_class(value, place, known, "MultipleNegativesRankingLoss: {scale: 20}")
    takes = parameters(known[name])
    takes.pop("model", None)
    section.only(takes)
    settings: dict[str, Any] = {}
    for key, given in section.values.items():
        if key == INNER:
            settings[key] = loss_part(given, section.at(key), known, open_plan)
        elif key in MODELS:
            settings[key] = open_plan(section.values, key, section.at(key))
        else:
            settings[key] = checked(given, takes[key], section.at(key))
    check_complete(section, takes, given=[*settings, *FROM_MODEL])
    return Part(known[name], settings, section.place)
