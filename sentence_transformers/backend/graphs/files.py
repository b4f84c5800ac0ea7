"""Which file of a model is its graph for a back end. Knows only names; imports neither torch nor a runtime."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sentence_transformers.hub import source
from sentence_transformers.hub.source import Source

logger = logging.getLogger(__name__)

FOUND_HERE = ("file_name", "subfolder", "export")
"""The keys of ``model_kwargs`` that say which file."""


@dataclass(frozen=True)
class Format:
    """How the graphs of a back end are called.

    backend: also the folder they are in. title: for messages. default: the usual name. start, end: of all names.
    runtime: the package that runs them.
    """

    backend: str
    title: str
    default: str
    start: str
    end: str
    runtime: str

    def companion(self, name: str) -> str:
        """The name of the file of weights that may stand beside a graph."""
        return f"{name}_data" if self.backend == "onnx" else f"{name.removesuffix(self.end)}.bin"


FORMATS = {
    "onnx": Format("onnx", "ONNX", "model.onnx", "", ".onnx", "onnxruntime"),
    "openvino": Format("openvino", "OpenVINO", "openvino_model.xml", "openvino", ".xml", "openvino"),
}


@dataclass(frozen=True)
class Asked:
    """What the user says of the file. places: where it may be, below the model, best first. named: not by default."""

    places: tuple[str, ...]
    named: bool
    export: bool | None

    @classmethod
    def of(cls, form: Format, settings: Mapping[str, Any]) -> Asked:
        """From ``model_kwargs``. Raises: ValueError for a name without the right end."""
        given, folder = settings.get("file_name"), PurePosixPath(settings.get("subfolder") or "")
        name = PurePosixPath(given or form.default)
        if name.suffix != form.end:
            raise ValueError(f"model_kwargs['file_name'] must end in {form.end!r} for {form.title}; got {given!r}.")
        folder, base = folder / name.parent, name.name
        places = tuple(str(place) for place in (folder / base, folder / form.backend / base))
        return cls(places, given is not None, settings.get("export"))


def choose(names: Collection[str], form: Format, asked: Asked, where: str) -> str | None:
    """The graph among the files of a model; None where it has to be exported.

    Args:
        names: files of the model, relative, with "/".
        where: the model, for messages.

    Raises: FileNotFoundError if it is not there, and ``export=False``.
    """
    if asked.export:
        return None
    there = sorted(name for name in names if is_graph(name, form))
    found = next((place for place in asked.places if place in there), None)
    if found is None:
        _not_found(there, form, asked, where)
        return None
    folder = PurePosixPath(found).parent
    beside = [name for name in there if PurePosixPath(name).parent == folder]
    if len(beside) > 1 and not asked.named:
        logger.warning(
            "Multiple %s files found in %r: %s. %r is used; model_kwargs={'file_name': ...} chooses another.",
            form.title,
            where,
            beside,
            found,
        )
    return found


def is_graph(name: str, form: Format) -> bool:
    """Whether a file is called as graphs of a back end are."""
    base = PurePosixPath(name).name
    return base.startswith(form.start) and base.endswith(form.end)


def _not_found(there: list[str], form: Format, asked: Asked, where: str) -> None:
    choice = f" It has {there}: model_kwargs={{'file_name': ...}} chooses one." if there else ""
    if asked.export is False:
        raise FileNotFoundError(
            f"{where!r} has no {form.title} file {asked.places[0]!r} or {asked.places[-1]!r}, and export=False.{choice}"
            " Leave export out to make one from the weights."
        )
    logger.warning(
        "No %s file %r in %r: exporting the model to %s now.%s To do it once, save the opened model: "
        "model.save_pretrained(folder), or model.push_to_hub(name, create_pr=True).",
        form.title,
        asked.places[-1],
        where,
        form.title,
        choice,
    )


def files_of(folder: Path, form: Format) -> list[str]:
    """The graphs of a folder, relative."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob(f"*{form.end}") if is_graph(path.name, form)]


def fetch(found: Source, backend: str, settings: Mapping[str, Any], where: Mapping[str, Any]) -> None:
    """Have the graph of a model of the Hub, and its weights, beside its other files, if it has one.

    Args:
        settings: ``model_kwargs``. where: keyword arguments of ``hub.source.find``.
    """
    form = FORMATS[backend]
    asked = Asked.of(form, settings)
    if found.kind not in ("cache", "hub") or asked.export:
        return
    for place in asked.places:
        if source.load_file_path(found.name, place, **where) is not None:
            source.load_file_path(found.name, form.companion(place), **where)
            return
