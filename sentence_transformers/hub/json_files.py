"""Read the JSON files of a model folder; every damage becomes an error that names file, line and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentence_transformers.errors import ModelFileError


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelFileError: no such file, not JSON, or JSON of another kind; names the file and the line.
    """
    value = _parse(path)
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}, line 1: expected a JSON object {{...}}, got {kind(value)}. {again(path)}")
    return value


def read_json_list(path: str | Path) -> list[dict[str, Any]]:
    """The JSON list of objects in a file, as ``modules.json`` is.

    Raises:
        ModelFileError: no such file, not JSON, or JSON of another kind; names the file and the line or item.
    """
    value = _parse(path)
    if not isinstance(value, list):
        raise ModelFileError(f"{path}, line 1: expected a JSON list [...], got {kind(value)}. {again(path)}")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise ModelFileError(f"{path}, item {number}: expected a JSON object, got {kind(item)}. {again(path)}")
    return value


def kind(value: Any) -> str:
    """What a value is, in words for an error message."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}
    return names.get(type(value), f"a {type(value).__name__}")


def again(path: str | Path) -> str:
    """The remedy for a damaged file, as a sentence."""
    return f"Save or download the model in {Path(path).parent} again."


def _parse(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: expected a JSON file. {again(path)}") from error
    except json.JSONDecodeError as error:
        raise ModelFileError(
            f"{path}, line {error.lineno}: expected JSON, but {error.msg} at column {error.colno}. {again(path)}"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ModelFileError(f"{path}, line {line}: expected UTF-8 text, got other bytes. {again(path)}") from error
    except RecursionError as error:
        raise ModelFileError(f"{path}, line 1: expected JSON, but it is nested too deeply. {again(path)}") from error
