"""Adapters on disk: a few weights, and the name of the model that they are for. Knows where that model is, not how the
weights are used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import source
from sentence_transformers.hub.json_files import again, kind, read_json
from sentence_transformers.hub.layout import LAYOUTS, has_tokenizer

CONFIG_FILE = "adapter_config.json"
HOW = ("token", "cache_folder", "local_files_only")
"""What holds for a base model too of the arguments of ``source.find``; its revision is its own."""


@dataclass(frozen=True)
class Base:
    """A pretrained network on this machine.

    Attributes:
        folder: has its config and its weights.
        name: where others find it: its name on the Hub, or the absolute path of the folder.
        revision: of that name; None: the newest.
        adapter: the folder of weights to put on it; None for none.
    """

    folder: Path
    name: str
    revision: str | None = None
    adapter: Path | None = None

    @property
    def tokenizer(self) -> Path:
        """The folder that has the tokenizer."""
        return self.adapter if self.adapter is not None and has_tokenizer(self.adapter) else self.folder


def is_adapter(folder: Path) -> bool:
    """Whether there are weights for another model in a folder."""
    return (folder / CONFIG_FILE).is_file()


def base_of(found: source.Source, revision: str | None = None, **how: Any) -> Base:
    """The network of a folder: what is in it, or the model that its adapter is for, which is fetched if need be.

    A folder with an adapter and with a whole model has both: the adapter is for that model.

    Args:
        revision: which one was asked for.
        how: further arguments of ``source.find``.

    Raises:
        FileNotFoundError: there is no such base model, or not on this machine when requests are forbidden.
        ModelFileError: the config of the adapter does not name a model.
        OSError: as ``source.find``.
    """
    folder, adapter = found.folder, found.folder if is_adapter(found.folder) else None
    is_whole = (folder / "config.json").is_file() and any((folder / name).is_file() for name in LAYOUTS)
    if adapter is None or is_whole:
        name = os.path.abspath(folder) if found.kind == "folder" else found.name
        return Base(folder, name, None if found.kind == "folder" else revision, adapter)
    name, revision = _named_in(adapter / CONFIG_FILE)
    given = {key: how[key] for key in HOW if key in how}
    try:
        base = source.find(name, revision=revision, **given)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The adapter in {adapter} is for the model {name!r}, which was not found. {error} Or write the place "
            f"where it is now into {CONFIG_FILE}, as base_model_name_or_path."
        ) from error
    return Base(base.folder, name, revision, adapter)


def _named_in(path: Path) -> tuple[str, str | None]:
    """Name and revision of the model that an adapter is for."""
    config = read_json(path)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise ModelFileError(
            f"{path}: expected 'base_model_name_or_path' to be the name or the folder of a model, found {kind(name)}. "
            f"Write it there, or: {again(path)}"
        )
    return name, revision if isinstance(revision, str) else None
