"""What a card says about one column of a dataset: of which kind its values are, how large, and some of them.

Knows values only: where they come from, and how a model counts tokens, is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .markdown import code, cut, escape, number

CountTokens: TypeAlias = Callable[[list[str]], "list[int] | None"]
"""Texts -> the number of tokens of each; None where the model has none."""
KeepImage: TypeAlias = Callable[[Any], str]
"""A PIL image -> the path of its file beside the card."""

MOST_CLASSES = 50
"""Whole numbers with more different values than this are amounts, not classes."""


@dataclass(frozen=True)
class Column:
    """name: of the column. kind: of its values. modality: "text", "image", "audio" or "". details: what -> how much."""

    name: str
    kind: str
    modality: str
    details: dict[str, str]

    def cell(self) -> str:
        """The details as a cell of a table."""
        items = "".join(f"<li>{escape(key)}: {escape(value)}</li>" for key, value in self.details.items())
        return f"<ul>{items}</ul>" if items else ""


def described(name: str, values: Sequence[Any], count: CountTokens) -> Column:
    """What the values of a column are like; values that are None are only counted."""
    plain = [_plain(value) for value in values]
    known = [value for value in plain if value is not None]
    kinds = [kind_of(value) for value in known]
    kind = Counter(kinds).most_common(1)[0][0] if kinds else "NoneType"
    same = [value for value, its in zip(known, kinds, strict=True) if its == kind]
    details = _DETAILS[kind](same, count) if kind in _DETAILS else {}
    if known and len(known) < len(plain):
        details["missing"] = f"~{100 * (1 - len(known) / len(plain)):.2f}%"
    return Column(name, kind, _modality(kind, same), details)


def kind_of(value: Any) -> str:
    """The kind of a value: that of Python, or "image", "audio", "array"."""
    if is_image(value):
        return "image"
    if _seconds(value) is not None:
        return "audio"
    for kind, name in ((bool, "bool"), (str, "string"), (int, "int"), (float, "float"), (bytes, "bytes")):
        if isinstance(value, kind):
            return name
    if isinstance(value, (list, tuple)):
        return "list"
    if isinstance(value, np.ndarray):
        return "array"
    return "dict" if isinstance(value, dict) else type(value).__name__


def is_image(value: Any) -> bool:
    """Whether this is an image of PIL; that package is not asked for it."""
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def example(value: Any, keep_image: KeepImage | None = None) -> str:
    """A value as a cell of a table: short, and never markup."""
    value = _plain(value)
    if is_image(value):
        if keep_image is not None:
            return f'<img src="{keep_image(value)}" width="200">'
        return code(f"image, {value.width} x {value.height} pixels")
    if (seconds := _seconds(value)) is not None:
        return code(f"audio, {seconds:.1f} seconds")
    return code(cut(text_of(value)))


def text_of(value: Any) -> str:
    """A value as text; what is not text or a number is named rather than shown."""
    if isinstance(value, str):
        return value
    return json.dumps(_json(value), ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else str(_json(value))


def _json(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, bytes):
        return _amount(len(value), "bytes")
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size <= 16 else f"array of shape {value.shape}"
    if is_image(value):
        return f"image, {value.width} x {value.height} pixels"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Tensors as arrays, and arrays of one number as that number."""
    if type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ in ("Tensor", "Parameter"):
        value = value.detach().cpu()
        value = (value.float() if value.dtype.is_floating_point else value).numpy()  # numpy has no bfloat16
    if isinstance(value, (np.ndarray, np.generic)) and np.ndim(value) == 0:
        return value.item()
    return value


def _seconds(value: Any) -> float | None:
    """The length of a sound as ``datasets`` gives it: a dict, or a decoder; None for anything else."""
    if isinstance(value, dict) and {"array", "sampling_rate"} <= value.keys() and value["sampling_rate"]:
        return len(value["array"]) / float(value["sampling_rate"])
    if type(value).__name__ != "AudioDecoder":
        return None
    found = getattr(getattr(value, "metadata", None), "duration_seconds", None)
    return 0.0 if found is None else float(found)


def _modality(kind: str, values: Sequence[Any]) -> str:
    if kind == "list":
        inner = [item for value in values for item in value if item is not None]
        return _modality(kind_of(inner[0]), ()) if inner else ""
    return {"string": "text"}.get(kind, kind if kind in ("image", "audio") else "")


# --- details, by kind ------------------------------------------------------------------------------------------------


def _of_texts(values: list[str], count: CountTokens) -> dict[str, str]:
    sizes = count(values)
    return _spread(
        [len(text) for text in values] if sizes is None else sizes, "characters" if sizes is None else "tokens"
    )


def _of_classes(values: list[Any], count: CountTokens) -> dict[str, str]:
    shares = Counter(values)
    if len(shares) > MOST_CLASSES:
        return _spread(values)
    return {str(value): f"~{100 * shares[value] / len(values):.2f}%" for value in sorted(shares)}


def _of_floats(values: list[float], count: CountTokens) -> dict[str, str]:
    return _spread(values)


def _of_lists(values: list[Any], count: CountTokens) -> dict[str, str]:
    sizes = [len(value) for value in values]
    if len(set(sizes)) == 1:
        return {"size": _amount(sizes[0], "elements")}
    return _spread(sizes, "elements")


def _of_arrays(values: list[np.ndarray[Any, Any]], count: CountTokens) -> dict[str, str]:
    shapes = {value.shape for value in values}
    return {"shape": str(shapes.pop())} if len(shapes) == 1 else _of_lists(values, count)


def _of_images(values: list[Any], count: CountTokens) -> dict[str, str]:
    sizes = sorted((one.size for one in values), key=lambda size: size[0] * size[1])
    mean = tuple(round(sum(size[i] for size in sizes) / len(sizes)) for i in (0, 1))
    return {name: f"{w} x {h} pixels" for name, (w, h) in (("min", sizes[0]), ("mean", mean), ("max", sizes[-1]))}


def _of_sounds(values: list[Any], count: CountTokens) -> dict[str, str]:
    return _spread([seconds for value in values if (seconds := _seconds(value)) is not None], "seconds")


def _spread(values: Sequence[float], unit: str = "") -> dict[str, str]:
    mean = sum(values) / len(values)
    found = {"min": min(values), "mean": mean, "max": max(values)}
    return {name: _amount(value, unit) for name, value in found.items()}


def _amount(value: float, unit: str) -> str:
    shown = number(round(value, 2)) if isinstance(value, float) else str(value)
    return f"{shown} {unit[:-1] if value == 1 else unit}".rstrip()


_DETAILS: dict[str, Callable[[list[Any], CountTokens], dict[str, str]]] = {
    "string": _of_texts,
    "int": _of_classes,
    "bool": _of_classes,
    "float": _of_floats,
    "list": _of_lists,
    "array": _of_arrays,
    "image": _of_images,
    "audio": _of_sounds,
}
