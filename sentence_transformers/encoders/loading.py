"""From a model folder to its modules: every layout that was ever saved, each part opened by its own class."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers._types import HubArguments
from sentence_transformers._version import __version__
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import source, trust
from sentence_transformers.hub.json_files import again, kind, read_json, read_json_list
from sentence_transformers.hub.requirements import check_requirements
from sentence_transformers.hub.source import Source
from sentence_transformers.modules.folders import open_part

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
DefaultModules = Callable[[Path, dict[str, Any]], list[nn.Module]]


@dataclass(frozen=True)
class Loaded:
    """modules: by name. module_kwargs: extra ``forward`` arguments by module name. config, card: as saved."""

    modules: OrderedDict[str, nn.Module]
    module_kwargs: dict[str, list[str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    card: str | None = None


def load(
    name: str,
    model_type: str,
    organization: str | None,
    default_modules: DefaultModules,
    hub: HubArguments,
    settings: dict[str, Any],
) -> Loaded:
    """Find a model and open its modules.

    Args:
        model_type, organization: of the family of encoders that is being made.
        default_modules: the modules of a bare transformer, from its folder and the settings.
        hub: where and how it is fetched. settings: keyword arguments of the modules' ``load``.

    Raises: as ``hub.source.find``; ModelFileError for damaged files; ImportError for unmet requirements.
    """
    found = source.find(name, organization=organization, **hub)
    card_file = found.file("README.md")
    card = card_file.read_text(encoding="utf-8", errors="replace") if card_file else None
    if found.file(MODULES_FILE) is None:
        logger.info("%s has no %s: taking it for a bare transformer.", found.folder, MODULES_FILE)
        return Loaded(_numbered(default_modules(found.folder, settings)), card=card)
    config_file = found.file(CONFIG_FILE)
    config = read_json(config_file) if config_file else {}
    check_requirements(config, str(found.name))
    _compare_versions(config)
    _check_kinds(config, found.path(CONFIG_FILE))
    saved_type = config.get("model_type", "SentenceTransformer")
    modules_file = found.path(MODULES_FILE)
    entries = read_json_list(modules_file)
    if not entries:
        raise ModelFileError(f"{modules_file}: expected at least one module, found none. {again(modules_file)}")
    if saved_type != model_type:
        logger.warning("Converting a %s model to %s: it gets the default modules of one.", saved_type, model_type)
        backbone = found.path(entries[0].get("path", ""))
        return Loaded(_numbered(default_modules(backbone, settings)), card=card)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    extra: dict[str, list[str]] = {}
    for entry in entries:
        key = str(entry.get("name", entry.get("idx", len(modules))))
        modules[key] = _open(found, entry, settings)
        if entry.get("kwargs"):
            extra[key] = list(entry["kwargs"])
    return Loaded(modules, extra, config, card)


def _numbered(modules: list[nn.Module]) -> OrderedDict[str, nn.Module]:
    return OrderedDict((str(i), module) for i, module in enumerate(modules))


def _check_kinds(config: dict[str, Any], path: Path) -> None:
    """Whether the values that every encoder reads are what they should be."""
    prompts, name, width = (config.get(key) for key in ("prompts", "default_prompt_name", "truncate_dim"))
    texts = prompts.values() if isinstance(prompts, dict) else ()
    for key, value, fits, expected in (
        ("prompts", prompts, prompts is None or isinstance(prompts, dict), "an object of texts by name"),
        *(("prompts", text, text is None or isinstance(text, str), "an object of texts by name") for text in texts),
        ("default_prompt_name", name, name is None or isinstance(name, str), "a string or null"),
        ("truncate_dim", width, width is None or type(width) is int, "a whole number or null"),
    ):
        if not fits:
            raise ModelFileError(f"{path}: expected {key!r} to be {expected}, found {kind(value)}. {again(path)}")


def _compare_versions(config: dict[str, Any]) -> None:
    versions = config.get("__version__")
    saved = str(versions.get("sentence_transformers", "0")) if isinstance(versions, dict) else "0"
    if _release(saved) > _release(__version__):
        logger.warning(
            "This model was created with Sentence Transformers version %s, but you're using version %s. It may not "
            "load, or give other results. Update with: pip install -U sentence-transformers",
            saved,
            __version__,
        )


def _release(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _open(found: Source, entry: dict[str, Any], settings: dict[str, Any]) -> nn.Module:
    """Open one module of ``modules.json``."""
    if "type" not in entry:
        raise ModelFileError(
            f"{found.path(MODULES_FILE)}: every entry needs 'type', the class of the module; got {entry}."
        )
    path = str(entry.get("path", ""))
    folder = found.path(path) if path else found.folder
    module = trust.module_class(
        entry["type"],
        found.folder,
        settings["trust_remote_code"],
        (settings.get("model_kwargs") or {}).get("code_revision"),
        found.name,
    )
    return open_part(module, str(found.folder), path, folder, settings)
