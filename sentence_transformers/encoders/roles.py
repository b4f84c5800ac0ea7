"""``encode_query`` and ``encode_document``, made once for all encoders from their ``encode``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sentence_transformers.encoders.prompts import document_prompt
from sentence_transformers.modules.parts import renamed_arguments


def encode_query(encode: Callable[..., Any]) -> Any:
    """The method for the short side of a search, with the arguments of ``encode``."""

    def method(
        self: Any,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """``encode`` for the short side of a search: with task "query", and the prompt of that name unless another is
        given."""
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, *args, **_with_task("query", kwargs))

    return _like(encode, method, "encode_query")


def encode_document(encode: Callable[..., Any]) -> Any:
    """The method for what is searched, with the arguments of ``encode``."""

    def method(
        self: Any,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """``encode`` for what is searched: with task "document", and a prompt for documents unless another is given.

        That prompt is named "document", "passage" or "corpus". The first of these names that has a text wins; a name
        without one counts only if no other is there.
        """
        if prompt_name is None and prompt is None:
            prompt_name = document_prompt(self.prompts)
        return self.encode(inputs, prompt_name, prompt, *args, **_with_task("document", kwargs))

    return _like(encode, method, "encode_document")


def _with_task(task: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    if "task" in kwargs:
        raise TypeError(f"encode_{task}() is encode(..., task={task!r}); it takes no task of its own.")
    return {**kwargs, "task": task}


def _like(encode: Callable[..., Any], method: Any, name: str) -> Any:
    """``method`` as if it were written out in the class, with every argument of ``encode`` but ``task``."""
    method.__name__, method.__qualname__ = name, encode.__qualname__.replace("encode", name)
    method.__module__ = encode.__module__
    method = renamed_arguments(**getattr(encode, "renamed", {}))(method)  # names the method in its warnings
    signature = inspect.signature(encode)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != "task"]
    method.__signature__ = signature.replace(parameters=kept)
    return method
