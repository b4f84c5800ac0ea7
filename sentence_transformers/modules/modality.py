"""What kind of thing an input is. Decided once per call; the rules and error texts are those users match on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NO_CHAT = "does not support chat-style 'message' inputs: its tokenizer has no chat template. Pass texts."
EXPECTED = "str, dict, PIL.Image.Image, np.ndarray, torch.Tensor"


def is_pair(item: Any) -> bool:
    """Two texts that are read together."""
    return isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(part, str) for part in item)


def is_message(item: Any) -> bool:
    """One turn of a conversation."""
    return isinstance(item, dict) and "role" in item and "content" in item


def texts_of(inputs: Sequence[Any]) -> list[Any]:
    """The inputs of a text model: strings, and pairs of strings.

    Raises: ValueError for anything that is not text.
    """
    texts = [item["text"] if isinstance(item, dict) and set(item) == {"text"} else item for item in inputs]
    for item in texts:
        if not isinstance(item, str) and not is_pair(item):
            raise ValueError(problem_of(item))
    return texts


def problem_of(item: Any) -> str:
    """Why a model of text cannot read this input: the message of an error."""
    if isinstance(item, dict):
        if is_message(item):
            return f"This model {NO_CHAT}"
        keys = sorted(map(str, item))
        return f"This model reads text alone; got a dict with the keys {keys}. Expected {{'text': ...}} or a string."
    if isinstance(item, (list, tuple)):
        if item and is_message(item[0]):
            return f"This model {NO_CHAT}"
        kinds = ", ".join(type(part).__name__ for part in item[:3])
        odd = next((part for part in item if not isinstance(part, str)), item) if len(item) == 2 else item
        return (
            f"Unsupported input type: {type(odd).__name__}. Expected a text or a pair of texts; got a "
            f"{type(item).__name__} of {len(item)} ({kinds})."
        )
    if hasattr(item, "convert") or type(item).__name__ in ("ndarray", "Tensor"):
        return f"This model reads text alone; got a {type(item).__name__}."
    return f"Unsupported input type: {type(item).__name__}. Expected one of: {EXPECTED}"
