"""Write and open the folder of any part, ours or a third party's, in the present form or in that of old versions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.module import Module

OLD_SETTINGS = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}


def save_part(part: Any, folder: Path, safe_serialization: bool) -> None:
    """Write a part into its folder, which is made if need be; old classes choose the format of weights themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = inspect.signature(part.save).parameters.values()
    if any(p.name == "safe_serialization" or p.kind is p.VAR_KEYWORD for p in parameters):
        part.save(str(folder), safe_serialization=safe_serialization)
    else:
        part.save(str(folder))


def open_part(kind: type, model: str, subfolder: str, folder: Path, settings: Mapping[str, Any]) -> nn.Module:
    """Open a part.

    Args:
        kind: its class.
        model, subfolder: where it is, as ``Module.load`` takes it.
        folder: the same, as a local path.
        settings: keyword arguments of ``Module.load``: where the model comes from, ``trust_remote_code``, ...

    Raises:
        ModelFileError: as ``load`` of the class, or if that gives something else than a torch module.
    """
    load: Any = kind.load  # type: ignore[attr-defined]
    if issubclass(kind, Module) and len(inspect.signature(load).parameters) > 1:
        part = load(model, subfolder=subfolder, **settings)
    else:
        part = _open_old(kind, str(folder), settings)
    if not isinstance(part, nn.Module):
        raise ModelFileError(f"{kind.__name__}.load gave a {type(part).__name__}; a part must be a torch.nn.Module.")
    return part


def _open_old(kind: Any, folder: str, settings: Mapping[str, Any]) -> Any:
    """A class of before version 5: like ``Transformer``, with settings to construct it, or with ``load(folder)``."""
    names = set(inspect.signature(kind.__init__).parameters)
    present = {"model_kwargs", "config_kwargs"} <= names
    if not present and not names & set(OLD_SETTINGS.values()):
        return kind.load(folder)
    given = {(new if present else old): dict(settings.get(new) or {}) for new, old in OLD_SETTINGS.items()}
    return kind(folder, **{name: value for name, value in given.items() if name in names})
