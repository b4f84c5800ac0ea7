"""Calls of ``save_to_hub`` as they were written for the versions before 2.3."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

logger = logging.getLogger(__name__)


def save_to_hub_args_decorator(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method, which takes ``(repo_id, organization, token, ...)``, be called as when it had no ``token``.

    Positional arguments behind the second move back by one place, with None between; the keyword ``repo_name`` is
    ``repo_id``.
    """

    @wraps(func)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) >= 2:
            args = (*args[:2], None, *args[2:])
        if "repo_name" in kwargs:
            logger.warning("The argument `repo_name` of `save_to_hub` is deprecated: pass `repo_id` instead.")
            kwargs["repo_id"] = kwargs.pop("repo_name")
        return func(self, *args, **kwargs)

    return wrapper
