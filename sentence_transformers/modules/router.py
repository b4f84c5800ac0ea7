"""A part with several routes: queries go through some modules, documents through others. Loads and saves them all."""

from __future__ import annotations

import ast
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import trust
from sentence_transformers.modules import routes
from sentence_transformers.modules.folders import open_part, save_part
from sentence_transformers.modules.module import EachBatch, InputModule, Module, Prepared, hub_arguments, preprocess
from sentence_transformers.modules.parts import WithDimension
from sentence_transformers.modules.routes import Modality

logger = logging.getLogger(__name__)

OLD_CONFIG = "config.json"
"""Where ``Asym``, the first form of this class, kept its config."""


class Router(WithDimension, InputModule):
    """Send inputs through one of several sequences of modules.

    The route is that of ``route_mappings`` for (task, modality), (task, None), (None, modality) or (None, None); else
    the one named like the task, or like the modality; else, without a task, the default.

    Args:
        sub_modules: route -> its modules. One module may serve several routes.
        default_route: the route without a task.
        allow_empty_key: without a default route, the first one is the default.
        route_mappings: (task, modality) -> route; None stands for any.

    Raises:
        ValueError: no routes, or a default or mapping to a route that there is not; a task that leads nowhere.
    """

    config_file_name: ClassVar[str] = "router_config.json"
    config_keys: ClassVar[Sequence[str]] = ("default_route", "allow_empty_key", "route_mappings")
    forward_kwargs: ClassVar[set[str]] = {"task", "modality"}

    def __init__(
        self,
        sub_modules: Mapping[str, Sequence[nn.Module]],
        default_route: str | None = None,
        allow_empty_key: bool = True,
        route_mappings: routes.Mappings | None = None,
    ) -> None:
        super().__init__()
        names = list(sub_modules)
        if not names:
            raise ValueError("The sub_modules dictionary cannot be empty: name at least one route and its modules.")
        if default_route is not None and default_route not in names:
            raise ValueError(f"Default route {default_route!r} not found in route keys: {names}")
        for key, name in (route_mappings or {}).items():
            if name not in names:
                raise ValueError(f"route_mappings leads {key} to {name!r}, which is not one of the routes {names}.")
        self.sub_modules = nn.ModuleDict({name: nn.Sequential(*parts) for name, parts in sub_modules.items()})
        self.default_route = names[0] if default_route is None and allow_empty_key else default_route
        self.allow_empty_key = allow_empty_key
        self.route_mappings = dict(route_mappings or {})
        self._told_of_limits = False

    @classmethod
    def for_query_document(
        cls,
        query_modules: Sequence[nn.Module],
        document_modules: Sequence[nn.Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Self:
        """The two routes ``"query"`` and ``"document"``, for ``encode_query`` and ``encode_document``."""
        return cls({"query": query_modules, "document": document_modules}, default_route, allow_empty_key)

    # --- running -----------------------------------------------------------------------------------------------------

    def _choose(self, task: str | None, modality: Modality | None) -> list[nn.Module]:
        name = routes.choose(list(self.sub_modules), self.route_mappings, self.default_route, task, modality)
        return self._route(name)

    def _route(self, name: str) -> list[nn.Module]:
        return list(self.sub_modules[name].children())

    def parts(self) -> Iterator[nn.Module]:
        """Every module once."""
        yield from dict.fromkeys(part for name in self.sub_modules for part in self._route(name))

    def _firsts(self) -> list[Any]:
        """The first module of each route."""
        return [parts[0] for parts in map(self._route, self.sub_modules) if parts]

    @property
    def accepts_packed(self) -> bool:  # type: ignore[override]
        """Whether every module does."""
        return all(getattr(part, "accepts_packed", False) for part in self.parts())

    @property
    def threads_safe(self) -> bool:
        """Whether every module may run in several threads at once."""
        return all(getattr(part, "threads_safe", False) for part in self.parts())

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        modality: Modality | None = None,
        **kwargs: Any,
    ) -> Features:
        """The features that the first module of the route makes, with ``task`` and ``modality``.

        Args:
            inputs: of one task; or in the old form, ``[{"query": "a text"}, ...]``.
        """
        inputs, task = routes.take_task(inputs, task)
        modality = routes.modality_of(inputs) if modality is None else modality
        kwargs.update(task=task, modality=modality)
        features = preprocess(self._reader(task, modality), inputs, prompt, kwargs)
        return {**features, "task": task, "modality": modality}

    def prepare(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        modality: Modality | None = None,
        **kwargs: Any,
    ) -> Prepared:
        """All inputs of a call, as the first module of the route prepares them."""
        inputs, task = routes.take_task(inputs, task)
        modality = routes.modality_of(inputs) if modality is None else modality
        kwargs.update(task=task, modality=modality)
        reader = self._reader(task, modality)
        if not self.accepts_packed or not isinstance(reader, InputModule):
            return EachBatch(self, inputs, prompt, kwargs)
        return Routed(reader.prepare(inputs, prompt=prompt, **kwargs), task, modality)

    def _reader(self, task: str | None, modality: Modality | None) -> Any:
        """The first module of a route."""
        parts = self._choose(task, modality)
        first = parts[0] if parts else None
        if not isinstance(first, InputModule) and not callable(getattr(first, "tokenize", None)):
            raise ValueError(
                f"A route that reads inputs must begin with an input module such as Transformer; that for "
                f"task={task!r} begins with {type(first).__name__ if parts else 'nothing'}."
            )
        return first

    def forward(
        self, features: Features, task: str | None = None, modality: Modality | None = None, **kwargs: Any
    ) -> Features:
        """Run the modules of the route, each with the keyword arguments that it declares.

        Args:
            task, modality: default ``features["task"]`` and ``features["modality"]``.
        """
        task = features.get("task") if task is None else task
        modality = features.get("modality") if modality is None else modality
        given = {**kwargs, "task": task, "modality": modality}
        for part in self._choose(task, modality):
            names = getattr(part, "forward_kwargs", ())
            features = part(features, **{name: value for name, value in given.items() if name in names})
        return features

    def on_model_ready(self, model: Any) -> None:
        """Tell every module."""
        for part in self.parts():
            if isinstance(part, Module):
                part.on_model_ready(model)

    # --- what users reach for ----------------------------------------------------------------------------------------

    @property
    def modalities(self) -> list[str]:
        """What kinds of input some route understands."""
        found = [kind for first in self._firsts() for kind in getattr(first, "modalities", ())]
        return list(dict.fromkeys(found))

    @property
    def tokenizer(self) -> Any:
        """That of the first route that has one; None where none has."""
        found = (getattr(first, "tokenizer", None) for first in self._firsts())
        return next((tokenizer for tokenizer in found if tokenizer is not None), None)

    @property
    def max_seq_length(self) -> float | int | None:
        """The limit of the routes that have one; the largest, with one warning, where they differ."""
        found = (getattr(first, "max_seq_length", None) for first in self._firsts())
        limits = {limit for limit in found if limit is not None}
        if len(limits) > 1 and not self._told_of_limits:
            self._told_of_limits = True
            logger.warning("The routes have different max_seq_length %s: this is the largest.", sorted(limits))
        return max(limits, default=None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        for first in self._firsts():
            if getattr(first, "max_seq_length", math.inf) != math.inf:  # has a limit at all
                first.max_seq_length = value

    def get_embedding_dimension(self) -> int | None:
        """The width of what the first route writes, with a warning where others differ; None where none knows."""
        widths = []
        for name in self.sub_modules:
            functions = (getattr(part, "get_embedding_dimension", None) for part in reversed(self._route(name)))
            last = next((function for function in functions if function is not None), None)
            if last is not None:
                widths.append(last())
        if len(set(widths)) > 1:
            logger.warning("The routes give embeddings of different widths %s: this is that of the first.", widths)
        return widths[0] if widths else None

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"default_route={self.default_route!r}"

    __repr__ = nn.Module.__repr__

    # --- saving and loading ------------------------------------------------------------------------------------------

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, with the keys of ``route_mappings`` as text."""
        return {
            "default_route": self.default_route,
            "allow_empty_key": self.allow_empty_key,
            "route_mappings": {str(key): route for key, route in self.route_mappings.items()},
        }

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write each module into ``<route>_<number>_<Class>/``, and which route has which."""
        folders: dict[nn.Module, str] = {}
        structure: dict[str, list[str]] = {}
        for name in self.sub_modules:
            parts = self._route(name)
            for number, part in enumerate(parts):
                folders.setdefault(part, f"{name}_{number}_{type(part).__name__}")
            structure[name] = [folders[part] for part in parts]
        for part, folder in folders.items():
            save_part(part, Path(output_path) / folder, safe_serialization)
            trust.copy_code(type(part), Path(output_path))
        config = {
            "types": {folder: trust.type_string(type(part)) for part, folder in folders.items()},
            "structure": structure,
            "parameters": self.get_config_dict(),
        }
        target = Path(output_path) / self.config_file_name
        target.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        module_classes: Mapping[str, type[nn.Module]] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open all modules of all routes.

        Args:
            module_classes: saved type -> the class to open it with instead.
            kwargs: for the modules; ``trust_remote_code`` also decides whether classes that are not ours may run.

        Raises:
            ModelFileError: no config, or one that does not name the modules.
            UntrustedCodeError: a class that is not ours and not trusted.
        """
        hub = hub_arguments(kwargs)
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        if not config:
            config = cls.load_config(model_name_or_path, subfolder=subfolder, config_filename=OLD_CONFIG, **hub)
        where = f"{model_name_or_path}/{subfolder}/{cls.config_file_name}".replace("//", "/")
        if not isinstance(config.get("types"), dict) or not isinstance(config.get("structure"), dict):
            raise ModelFileError(f"{where}: expected the keys 'types' and 'structure'. Save the model again.")
        folder = Path(cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub) or "")
        parts = {
            name: open_part(
                (module_classes or {}).get(kind)
                or trust.module_class(kind, folder, bool(kwargs.get("trust_remote_code"))),
                model_name_or_path,
                f"{subfolder}/{name}" if subfolder else name,
                folder / name,
                kwargs,
            )
            for name, kind in config["types"].items()
        }
        missing = sorted({name for names in config["structure"].values() for name in names} - parts.keys())
        if missing:
            raise ModelFileError(f"{where}: 'structure' has {missing}, of which 'types' does not know the class.")
        return cls(
            {route: [parts[name] for name in names] for route, names in config["structure"].items()},
            **_parameters(config.get("parameters", {}), where),
        )


def _parameters(saved: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The constructor's settings out of a config; ``route_mappings`` has tuples written as text."""
    known = {key: saved[key] for key in Router.config_keys if key in saved}
    if len(known) < len(saved):
        logger.warning("%s: ignoring the parameters %s.", where, sorted(saved.keys() - known.keys()))
    try:
        mappings = {ast.literal_eval(key): route for key, route in (known.get("route_mappings") or {}).items()}
    except (ValueError, SyntaxError) as error:
        raise ModelFileError(
            f"{where}: expected route_mappings with keys like \"('query', None)\" ({error})."
        ) from error
    return {**known, "route_mappings": mappings}


Asym = Router


class Routed:
    """Inputs as the first module of a route prepared them (see ``Prepared``), with the name of their task."""

    def __init__(self, prepared: Prepared, task: str | None, modality: Modality | None) -> None:
        self.prepared = prepared
        self.extra = {"task": task, "modality": modality}
        self.sizes, self.cut, self.limit = prepared.sizes, prepared.cut, prepared.limit

    def batch(self, rows: np.ndarray[Any, Any]) -> Features:
        return {**self.prepared.batch(rows), **self.extra}
