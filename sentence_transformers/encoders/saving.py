"""From the modules of an encoder to a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers._version import __version__
from sentence_transformers.encoders.loading import CONFIG_FILE, MODULES_FILE
from sentence_transformers.hub import trust
from sentence_transformers.hub.folder import staged
from sentence_transformers.modules.folders import save_part

CARD_FILE = "README.md"


def save(
    modules: Mapping[str, nn.Module],
    module_kwargs: Mapping[str, list[str]],
    path: Path,
    config: dict[str, Any],
    card: str | None,
    safe_serialization: bool,
) -> None:
    """Write all modules, ``modules.json``, the config and the card; the folder changes all at once."""
    with staged(path) as folder:
        entries = [
            _save_module(folder, i, name, module, module_kwargs.get(name), safe_serialization)
            for i, (name, module) in enumerate(modules.items())
        ]
        _write_json(folder / MODULES_FILE, entries)
        _write_json(folder / CONFIG_FILE, {"__version__": _versions(), **config})
        if card is not None:
            (folder / CARD_FILE).write_text(card, encoding="utf-8")


def _save_module(
    folder: Path, i: int, name: str, module: nn.Module, kwargs: list[str] | None, safe_serialization: bool
) -> dict[str, Any]:
    """Write one module; its entry for ``modules.json``."""
    in_root = i == 0 and bool(getattr(module, "save_in_root", False))
    path = "" if in_root else f"{i}_{type(module).__name__}"
    save_part(module, folder / path, safe_serialization)
    trust.copy_code(type(module), folder)
    entry = {"idx": i, "name": name, "path": path, "type": trust.type_string(type(module))}
    return {**entry, "kwargs": list(kwargs)} if kwargs else entry


def _versions() -> dict[str, str]:
    versions = {"sentence_transformers": __version__}
    for key, distribution in (("transformers", "transformers"), ("pytorch", "torch")):
        try:
            versions[key] = version(distribution)
        except PackageNotFoundError:
            versions[key] = "unknown"
    return versions


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, sort_keys=isinstance(value, dict), ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
