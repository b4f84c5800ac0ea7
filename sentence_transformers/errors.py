"""One helper per sentence form of an error, so that all messages read alike: what must hold, what came, what to do."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from numbers import Integral
from types import ModuleType
from typing import Any


class ModelFileError(ValueError):
    """A file of a model folder is missing, damaged, or does not fit the others."""


class UntrustedCodeError(ValueError):
    """A model folder asks for code, or for a path, that it may not have."""


def positive(name: str, value: Any) -> int:
    """Return ``value``; raise ``ValueError`` unless it is an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Return ``value``; raise ``ValueError`` with the nearest allowed spelling unless it is one of ``allowed``."""
    if value in allowed:
        return value
    from difflib import get_close_matches

    near = get_close_matches(str(value), [str(item) for item in allowed], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.{hint}")


def need(module: str, *, extra: str, what: str) -> ModuleType:
    """Import an optional dependency, or raise an ``ImportError`` that names the extra to install.

    Args:
        module: dotted name of the third-party module.
        extra: the extra of this distribution that brings it.
        what: what the caller was about to do, as the start of a sentence.
    """
    try:
        return import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise ImportError(
            f'{what} needs {top}. Install it: pip install "sentence-transformers[{extra}]" ({error})'
        ) from error
