"""Values of a file of settings for the arguments of constructors: whether they fit, and what names stand for."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from ..._lazy import resolve
from ..._public import NAMES
from ...errors import one_of
from .document import KINDS, Section, is_a, nearest, shown

Made: TypeAlias = type[Any]
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
    found = inspect.signature(kind).parameters.items()
    return {
        name: one.replace(annotation=hints.get(name, one.annotation))
        for name, one in found
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }


def classes(namespace: str, base: Made) -> dict[str, Made]:
    """Public name -> class, of those of a namespace of the table that are subclasses of ``base``."""
    found = {name: resolve(target) for name, target in NAMES[namespace].items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, base)}


def named_class(value: Any, place: str, known: Collection[str], example: str) -> tuple[str, Section]:
    """What settings are for, and they: a name, or {name: settings}, which a bare name becomes, too.

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


def check_complete(section: Section, takes: Mapping[str, inspect.Parameter], given: Collection[str]) -> None:
    """Raises: ValueError for arguments without a default that are not given."""
    missing = [name for name, one in takes.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(
            f"{section.place}: {', '.join(missing)} must be given; found {list(section.values) or 'none'}."
        )


def checked(value: Any, parameter: inspect.Parameter, place: str, functions: Mapping[str, Any] | None = None) -> Any:
    """A value for an argument; names of functions become the functions.

    Args:
        functions: those that may be named where the default does not say which: name -> function, or class of some.

    Raises: ValueError for a value of another type, and for arguments that no text can stand for.
    """
    hint = parameter.annotation
    if isinstance(value, str) and inspect.isfunction(parameter.default):
        return function_named(value, parameter.default, place)
    if isinstance(value, str) and nn.Module in (hint, *get_args(hint)):
        return _torch_module(value, place)
    if fits(value, hint):
        return value
    if Tensor in get_args(hint) and fits(value, float | list[float]):
        return torch.tensor(value, dtype=torch.float32)
    if functions and any(get_origin(one) is Callable for one in (hint, *get_args(hint))):
        return _called(value, hint, place, functions)
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


def _called(value: Any, hint: Any, place: str, functions: Mapping[str, Any]) -> Any:
    """The function of a name; of a class, an instance with its settings."""
    bases = tuple(get_args(one)[0] for one in get_args(hint) if get_origin(one) is type)
    known = {name: one for name, one in functions.items() if not bases or _is_one(one, bases)}
    name, section = named_class(value, place, known, f"{min(known)}: {{...}}")
    function = known[name]
    if not isinstance(function, type):
        if section.values:
            raise ValueError(f"{section.place} is a function: it has no settings.")
        return function
    takes = parameters(function)
    section.only(takes)
    settings = {key: checked(one, takes[key], section.at(key)) for key, one in section.values.items()}
    check_complete(section, takes, given=settings)
    try:
        return function(**settings)
    except ValueError as error:
        raise ValueError(f"{section.place}: {error}") from error


def _is_one(function: Any, bases: tuple[type[Any], ...]) -> bool:
    return isinstance(function, type) and issubclass(function, bases)


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
