"""Full signatures for methods that hand their arguments on, so that help(), editors and callers see every name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def same_arguments_as(function: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator: the method takes exactly the arguments of ``function``, in the same order."""

    def decorate(method: F) -> F:
        method.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return method

    return decorate


def arguments_and_those_of(base: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator: the ``**kwargs`` of the method are the arguments of ``base`` that it does not name itself.

    So are its ``*args``, if it has them, in the order of ``base``; else those arguments go by name alone.
    """

    def decorate(method: F) -> F:
        own = inspect.signature(method)
        named = [p for p in own.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        rest = [p for name, p in inspect.signature(base).parameters.items() if name not in own.parameters]
        if not any(p.kind is p.VAR_POSITIONAL for p in own.parameters.values()):
            rest = [p.replace(kind=p.KEYWORD_ONLY) for p in rest]
        parameters = sorted(named + rest, key=lambda p: p.kind)  # positional ones before those that go by name
        method.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return method

    return decorate
