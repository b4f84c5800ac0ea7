"""From a model folder to its modules: every layout that was ever saved, each part opened by its own class."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from sentence_transformers._types import HubArguments
from sentence_transformers._version import __version__
from sentence_transformers.backend.graphs import files
from sentence_transformers.backend.native.heads import FEATURES
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import adapters, source, trust
from sentence_transformers.hub.json_files import again, kind, read_json, read_json_list
from sentence_transformers.hub.requirements import check_requirements
from sentence_transformers.hub.source import Source
from sentence_transformers.modules.folders import open_part
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.modules.transformer_config import with_base

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
PYLATE_DENSE = "pylate.models.Dense.Dense"


class Family(Protocol):
    """What loading asks of the encoder that is being made (see ``Encoder``)."""

    model_type: ClassVar[str]
    default_huggingface_organization: ClassVar[str | None]

    def default_modules(self, folder: Path, settings: dict[str, Any]) -> list[nn.Module]: ...
    def module_defaults(self, config: dict[str, Any]) -> dict[str, Any]: ...
    def understands(self, saved_type: str) -> bool: ...
    def convert(
        self, saved_type: str, modules: OrderedDict[str, nn.Module], config: dict[str, Any]
    ) -> OrderedDict[str, nn.Module]: ...


@dataclass(frozen=True)
class Loaded:
    """modules: by name. module_kwargs: extra ``forward`` arguments by module name. config: as saved. card: of the same
    model, which a conversion is not. origin: name and commit of a model that was not just a folder."""

    modules: OrderedDict[str, nn.Module]
    module_kwargs: dict[str, list[str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    card: str | None = None
    origin: tuple[str, str | None] | None = None


def load(name: str, family: Family, hub: HubArguments, settings: dict[str, Any]) -> Loaded:
    """Find a model and open its modules.

    Args:
        family: the encoder that is being made.
        hub: where and how it is fetched. settings: keyword arguments of the modules' ``load``.

    Raises: as ``hub.source.find``; ModelFileError for damaged files; ImportError for unmet requirements.
    """
    found = source.find(name, organization=family.default_huggingface_organization, **hub)
    if settings.get("backend", "torch") != "torch":
        files.fetch(found, settings["backend"], settings.get("model_kwargs") or {}, hub)
    how = {key: value for key, value in hub.items() if key in adapters.HOW}
    loaded = _modules_of(found, family, {**settings, **how})
    if found.kind == "folder":
        return loaded
    _name_base(loaded.modules, found, hub.get("revision"))
    return replace(loaded, origin=(found.name, found.commit))


def _name_base(modules: OrderedDict[str, nn.Module], found: Source, revision: str | None) -> None:
    """Tell the transformer in the root of a model what others call it; it was opened as a folder."""
    first = next(iter(modules.values()))
    if isinstance(first, Transformer) and first.pretrained.folder == found.folder:
        first.pretrained.base = replace(first.pretrained.base, name=found.name, revision=revision)


def _modules_of(found: Source, family: Family, settings: dict[str, Any]) -> Loaded:
    if found.file(MODULES_FILE) is None:
        logger.info("%s has no %s: taking it for a bare transformer.", found.folder, MODULES_FILE)
        return Loaded(numbered(family.default_modules(found.folder, settings)))
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
    if saved_type != family.model_type:
        logger.warning("Converting a %s model to %s.", saved_type, family.model_type)
        if not family.understands(saved_type):
            backbone = found.path(entries[0].get("path", ""))
            return Loaded(numbered(family.default_modules(backbone, settings)))
    if defaults := family.module_defaults(config):
        settings = {**settings, "init_defaults": defaults}
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    extra: dict[str, list[str]] = {}
    for entry in entries:
        key = str(entry.get("name", entry.get("idx", len(modules))))
        modules[key] = _open(found, entry, settings)
        if entry.get("kwargs"):
            extra[key] = list(entry["kwargs"])
    if saved_type != family.model_type:
        return Loaded(family.convert(saved_type, modules, config), config=config)
    card_file = found.file("README.md")
    card = card_file.read_text(encoding="utf-8", errors="replace") if card_file else None
    return Loaded(modules, extra, config, card)


def saved_type(name: str, organization: str | None = "sentence-transformers") -> str:
    """The name of the class that a model was saved from; a bare transformer with a head for labels is a reranker.

    Raises: as ``hub.source.find``.
    """
    found = source.find(name, organization=organization)
    config_file = found.file(CONFIG_FILE)
    if found.file(MODULES_FILE) is not None:
        return str((read_json(config_file) if config_file else {}).get("model_type", "SentenceTransformer"))
    names = architectures(found.folder)
    return "CrossEncoder" if names and names[0].endswith("ForSequenceClassification") else "SentenceTransformer"


def network_folder(folder: Path, settings: dict[str, Any]) -> Path:
    """Where config and weights of a bare transformer are: there, or with the model that an adapter there is for.

    Args:
        settings: keyword arguments of ``Transformer.load``.
    """
    return adapters.base_of(Source(str(folder), folder, "folder", None), **settings).folder


def architectures(folder: Path) -> list[str]:
    """The classes that a transformer was saved from, by the ``config.json`` of its ``network_folder``."""
    return list(read_json(folder / "config.json").get("architectures") or [])


def bare_transformer(folder: Path, settings: dict[str, Any], task: str = FEATURES) -> Transformer:
    """The transformer of a folder; what another family saved about it, such as its task, does not count.

    Args:
        settings: keyword arguments of ``Transformer.load``.
    """
    given = {key: value for key, value in settings.items() if key not in adapters.HOW}
    trust_remote_code = given.pop("trust_remote_code")
    model_kwargs = with_base(given["model_kwargs"], folder, settings)
    given["model_kwargs"] = {**model_kwargs, "trust_remote_code": trust_remote_code}
    return Transformer(str(folder), transformer_task=task, **given)


def numbered(modules: Iterable[nn.Module]) -> OrderedDict[str, nn.Module]:
    """Modules under the names "0", "1", ..."""
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
        "sentence_transformers.models.Dense" if entry["type"] == PYLATE_DENSE else entry["type"],
        found.folder,
        settings["trust_remote_code"],
        (settings.get("model_kwargs") or {}).get("code_revision"),
        found.name,
    )
    return open_part(module, str(found.folder), path, folder, settings)
