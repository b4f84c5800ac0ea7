"""What a score function is called in logs, configurations and model cards. Knows no score function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Configured(Protocol):
    """An object that tells its settings."""

    def get_config_dict(self) -> dict[str, Any]: ...


def similarity_fct_name(similarity_fct: Callable[..., Any]) -> str:
    """The name of a function, or of the class of a callable object, with the settings that are known of it.

    >>> similarity_fct_name(partial(max, default=0))
    'max(default=0)'
    """
    function: Any = similarity_fct
    if isinstance(function, partial):
        name = _plain_name(function.func)
        return _with_settings(name, function.keywords) if function.keywords else name
    if isinstance(function, Configured) and not isinstance(function, type):
        return _with_settings(_plain_name(function), function.get_config_dict())
    return _plain_name(function)


def _plain_name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))  # objects have none of their own


def _with_settings(name: str, settings: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
