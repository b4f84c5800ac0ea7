"""Which route of a ``Router`` an input takes. Pure functions on names and inputs; knows no modules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sentence_transformers.modules.modality import EXPECTED, is_message, is_pair

Modality = str | tuple[str, ...]
Mappings = Mapping[tuple[str | None, Modality | None], str]

KINDS = ("text", "image", "audio", "video")
MESSAGE = "message"


def choose(
    routes: Collection[str], mappings: Mappings, default: str | None, task: str | None, modality: Modality | None
) -> str:
    """The name of a route.

    First of: the mapping of (task, modality), of (task, None), of (None, modality), of (None, None); the route named
    like the task; the route named like the modality; without a task, the default.

    Raises:
        ValueError: a task that leads nowhere, or neither a task nor a default.
    """
    for key in ((task, modality), (task, None), (None, modality), (None, None)):
        if key in mappings:
            return mappings[key]
    for name in (task, modality):
        if isinstance(name, str) and name in routes:
            return name
    if task is not None:
        raise ValueError(f"No route found for task type {task!r}. Available routes: {available(routes, mappings)}")
    if default is None:
        raise ValueError(
            f"No task is given, and the Router has no default route. Pass task= one of {list(routes)}, or set "
            "default_route; in training, pass `router_mapping` in the training arguments."
        )
    return default


def available(routes: Collection[str], mappings: Mappings) -> str:
    """What can be asked for, as text for a message."""
    texts = [f"task={name!r}" for name in routes]
    for task, modality in mappings:
        parts = [f"task={task!r}"] if task is not None else []
        if modality is not None:
            parts.append(f"modality={modality if isinstance(modality, str) else '+'.join(modality)!r}")
        text = ", ".join(parts)
        if text not in texts:
            texts.append(f"({text})" if len(parts) > 1 else text)
    return ", ".join(texts)


def take_task(inputs: Sequence[Any], task: str | None) -> tuple[Sequence[Any], str | None]:
    """Old inputs name the task themselves, as in ``[{"query": "a text"}]``: take the texts out.

    Returns: the inputs and the task; both as they came where the inputs are of any other form.
    Raises:
        ValueError: inputs of several tasks, or of another task than the given one.
    """
    if not inputs or not all(_names_a_task(item) for item in inputs):
        return inputs, task
    names = {name for item in inputs for name in item}
    if len(names) > 1 or (task is not None and names != {task}):
        raise ValueError(
            f"Inputs of one call must be of one task; got dictionaries with the keys {sorted(map(str, names))}"
            + (f" and task={task!r}" if task is not None else "")
            + ". Pass plain texts and the argument `task`."
        )
    name = names.pop()
    return [item[name] for item in inputs], name


def _names_a_task(item: Any) -> bool:
    return isinstance(item, dict) and bool(item) and not is_message(item) and not set(item) & {*KINDS, "array"}


def modality_of(inputs: Sequence[Any]) -> Modality:
    """The common modality of the inputs; ``"message"`` where they differ.

    Strings are text: whether one is the address of an image is up to the part that reads it.

    Raises:
        ValueError: an input of no known kind.
    """
    if all(isinstance(item, str) for item in inputs):
        return "text"
    found = {_modality(item) for item in inputs}
    return found.pop() if len(found) == 1 else MESSAGE


def _modality(item: Any) -> Modality:
    if isinstance(item, str) or is_pair(item):
        return "text"
    if is_message(item) or (isinstance(item, list) and item and is_message(item[0])):
        return MESSAGE
    if isinstance(item, dict):
        return _of_dict(item)
    kind = type(item).__name__
    if kind in ("ndarray", "Tensor"):
        names = {1: "audio", 2: "audio", 3: "image", 4: "video", 5: "video"}
        if item.ndim in names:
            return names[item.ndim]
    if hasattr(item, "convert"):  # a PIL image
        return "image"
    if kind in ("AudioDecoder", "VideoDecoder"):
        return kind.removesuffix("Decoder").lower()
    raise ValueError(f"Unsupported input type: {kind}. Expected one of: {EXPECTED}")


def _of_dict(item: Mapping[str, Any]) -> Modality:
    keys = set(item)
    if "array" in keys and keys & {"sampling_rate", "video_metadata"}:
        return "audio" if "sampling_rate" in keys else "video"
    if not keys or not keys <= set(KINDS):
        raise ValueError(f"A dictionary must have keys among {', '.join(KINDS)}; got {sorted(map(str, keys))}.")
    return tuple(sorted(keys)) if len(keys) > 1 else str(next(iter(keys)))
