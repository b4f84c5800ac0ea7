"""Which prompt a call means. Imports nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Mapping

logger = logging.getLogger(__name__)

DOCUMENT_PROMPTS = ("document", "passage", "corpus")


def resolve_prompt(
    prompts: Mapping[str, str], default_name: str | None, name: str | None, prompt: str | None
) -> str | None:
    """The prompt given, else the one named, else the default, else None."""
    if prompt is not None:
        if name is not None:
            logger.warning("Both prompt and prompt_name were given: prompt_name is ignored.")
        return prompt
    if name is None:
        if default_name is not None and default_name not in prompts:
            logger.warning("The default prompt %r is not in prompts any more: no prompt is used.", default_name)
        return None if default_name is None else prompts.get(default_name)
    if name not in prompts:
        raise ValueError(
            f"Prompt name {name!r} not found in the configured prompts dictionary with keys {list(prompts)!r}."
        )
    return prompts[name]


def document_prompt(prompts: Mapping[str, str]) -> str | None:
    """The name of the prompt for documents: the first that has a text, else the first there is."""
    present = [name for name in DOCUMENT_PROMPTS if name in prompts]
    return next((name for name in present if prompts[name]), present[0] if present else None)
