"""What a call of ``encode`` or ``predict`` means, validated once: inputs, prompt, and the arguments for the modules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sentence_transformers._types import OnTruncate
from sentence_transformers.encoders.prompts import resolve_prompt
from sentence_transformers.errors import one_of, positive
from sentence_transformers.inference.run import Request
from sentence_transformers.modules.modality import is_message

logger = logging.getLogger(__name__)

ALWAYS_ALLOWED = ("task", "processing_kwargs")


def request(
    inputs: Any,
    *,
    single: bool,
    prompts: Mapping[str, str],
    default_prompt_name: str | None,
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int,
    show_progress_bar: bool | None,
    on_truncate: OnTruncate,
    kwargs: dict[str, Any],
    allowed: Sequence[str] | None,
    caller: str,
) -> tuple[Request, bool]:
    """The request for a call, and whether it has one single input.

    Args:
        single: whether ``inputs`` is one input.
        prompts, default_prompt_name: of the model.
        allowed: names of extra arguments that its modules take; None lets any pass.
        caller: for the error message, such as "SentenceTransformer.encode()".

    Raises: ValueError for an unknown prompt or argument, or a batch size below 1.
    """
    unused = [name for name in kwargs if allowed is not None and name not in (*allowed, *ALWAYS_ALLOWED)]
    if unused and allowed is not None:
        raise ValueError(
            f"{caller} has been called with additional keyword arguments that this model does not use: {unused}. "
            f"It takes: {sorted({*allowed, *ALWAYS_ALLOWED})}."
        )
    return Request(
        inputs=[inputs] if single else _as_list(inputs),
        prompt=resolve_prompt(prompts, default_prompt_name, prompt_name, prompt),
        batch_size=positive("batch_size", batch_size),
        progress=_shows_progress(show_progress_bar),
        on_truncate=one_of("on_truncate", on_truncate, ("warn", "error", "ignore")),
        prepare_kwargs=kwargs,
        forward_kwargs=kwargs,
    ), single


def is_single(inputs: Any) -> bool:
    """Whether this is one input rather than a batch: anything but a list, a tuple, a column, an array of texts.

    A list that starts with a chat message is one conversation, so one input.
    """
    if isinstance(inputs, (list, tuple)):
        return len(inputs) > 0 and is_message(inputs[0])
    if isinstance(inputs, np.ndarray):
        return not (inputs.ndim >= 1 and inputs.dtype.kind in "UO")
    return isinstance(inputs, (str, bytes, dict, Tensor)) or not isinstance(inputs, Sequence)


def _as_list(inputs: Any) -> list[Any]:
    """A batch as a list; the rows of a 2-D array of texts are pairs."""
    if isinstance(inputs, np.ndarray):
        inputs = inputs.tolist()
    return inputs if isinstance(inputs, list) else list(inputs)


def _shows_progress(asked: bool | None) -> bool:
    """None: only where this package logs at INFO or finer."""
    if asked is None:
        return logging.getLogger("sentence_transformers").getEffectiveLevel() <= logging.INFO
    return asked
