"""Values of a file of settings for the arguments of constructors: whether they fit, and what names stand for."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from ..._public import NAMES
from ...errors import one_of
from .document import KINDS, Section, is_a, shown

LISTS = (list, tuple, set, Sequence, Iterable)
MAPPINGS = (dict, Mapping)


def parameters(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor, with their types as far as they can be known."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        try:
            hints |= get_type_hints(base.__init__)  # type: ignore[misc]
        except NameError:  # of types that only a type checker imports
            continue
    found = inspect.signature(kind).parameters
    return {name: one.replace(annotation=hints.get(name, one.annotation)) for name, one in found.items()}


def check_complete(section: Section, takes: Mapping[str, inspect.Parameter], given: Collection[str]) -> None:
    """Raises: ValueError for arguments without a default that are not given."""
    missing = [name for name, one in takes.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(
            f"{section.place}: {', '.join(missing)} must be given; found {list(section.values) or 'none'}."
        )


def checked(value: Any, parameter: inspect.Parameter, place: str) -> Any:
    """A value for an argument; names of functions become the functions.

    Raises: ValueError for a value of another type, and for arguments that no text can stand for.
    """
    hint = parameter.annotation
    if isinstance(value, str) and inspect.isfunction(parameter.default):
        return function_named(value, parameter.default, place)
    if isinstance(value, str) and nn.Module in (hint, *get_args(hint)):
        return _torch_module(value, place)
    if fits(value, hint):
        return value
    words = described(hint)
    if not words:
        raise ValueError(f"{place} cannot be said in a file: train in Python to set it.")
    raise ValueError(f"{place}: expected {words}, found {shown(value)}.")


def function_named(name: str, default: Callable[..., Any], place: str) -> Any:
    """The function of a name, among those that are kept together with the default.

    Raises: ValueError for a name that is none of them.
    """
    home = sys.modules[default.__module__]
    owner, _, own = default.__qualname__.rpartition(".")
    if owner:  # such as SiameseDistanceMetric.EUCLIDEAN
        found = {
            one: getattr(getattr(home, owner), one) for one in vars(getattr(home, owner)) if not one.startswith("_")
        }
    else:  # such as cos_sim and dot_score; those of pairs have names of their own
        public = {target.rpartition(":")[2] for target in NAMES["util"].values()}
        pairwise = own.startswith("pairwise_")
        found = {
            one: function
            for one, function in vars(home).items()
            if one in public and inspect.isfunction(function) and _takes_alike(function, default)
            if one.startswith("pairwise_") == pairwise
        }
    return found[one_of(place, name, sorted(found))]


def _takes_alike(function: Callable[..., Any], other: Callable[..., Any]) -> bool:
    counts = [len(inspect.signature(one).parameters) for one in (function, other)]
    return counts[0] == counts[1]


def _torch_module(name: str, place: str) -> nn.Module:
    kind = getattr(nn, name, None)
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise ValueError(f"{place}: expected the name of a class of torch.nn, such as L1Loss, found {name!r}.")
    made: nn.Module = kind()
    return made


# --- values and types -------------------------------------------------------------------------------------------------


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a file is of an annotated type; types that a file cannot hold never fit."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (Any, inspect.Parameter.empty) or isinstance(hint, str):  # a text: a type that is not known
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint in KINDS and origin is None:
        return is_a(value, hint)
    if hint is None:
        return value is None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in [one.value for one in hint]
    if origin in MAPPINGS:
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if origin in LISTS:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    return False


def described(hint: Any) -> str:
    """A type in words; empty where a file cannot hold it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [one for one in inner if one not in (type(None), Any)]
        return " or ".join(dict.fromkeys(words for words in map(described, kinds) if words))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(one.value) for one in hint)
    if origin in MAPPINGS:
        return KINDS[dict] if described(inner[1]) else ""
    if origin in LISTS:
        words = described(inner[0])
        return f"a list, each of which is {words}" if words else ""
    return KINDS.get(hint, "") if isinstance(hint, type) else ""
