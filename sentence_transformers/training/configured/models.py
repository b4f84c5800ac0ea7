"""The model of a file of settings: a name or a folder with settings, or static embeddings from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from ...hub import source
from ...modules.static import TOKENIZER, StaticEmbedding
from .document import Section, expect, shown
from .values import checked, parameters

NOT_IN_A_FILE = ("modules", "model_card_data", "device", "token", "use_auth_token")
AFTERWARDS = ("max_seq_length",)
"""What is set on the model once it is open."""
STATIC_KEYS = ("tokenizer", "dimension")
ORGANIZATION = "sentence-transformers"
"""Whose models need no organisation before their names."""
NAME = "model_name_or_path"
ACTIVATIONS = {name: getattr(nn, name) for name in ("Identity", *nn.modules.activation.__all__)}
"""What the activation of a reranker may be."""


@dataclass(frozen=True)
class ModelPlan:
    """A model, as the file describes it.

    Attributes:
        kind: the class of the encoder.
        settings: arguments of its constructor; ``model_name_or_path`` is missing for static embeddings.
        afterwards: attribute -> value.
        static: tokenizer and dimension of static embeddings from nothing.
        place: of its settings in the file.
    """

    kind: type[Any]
    place: str
    settings: dict[str, Any] = field(default_factory=dict)
    afterwards: dict[str, Any] = field(default_factory=dict)
    static: dict[str, Any] | None = None

    def __str__(self) -> str:
        if self.static is not None:
            return f"static embeddings, {self.static['dimension']} dimensions, tokens of {self.static['tokenizer']}"
        more = {**self.settings, **self.afterwards}
        name = more.pop(NAME)
        return f"{name} ({', '.join(f'{key}={value}' for key, value in more.items())})" if more else str(name)

    def open(self) -> Any:
        """The model; fetched, where its name is one of the Hub. Raises: what the encoder raises."""
        if self.static is None:
            model = self.kind(**self.settings)
        else:
            parts = [StaticEmbedding(_tokenizer(self.static["tokenizer"]), embedding_dim=self.static["dimension"])]
            model = self.kind(modules=parts, **self.settings)
        for name, value in self.afterwards.items():
            setattr(model, name, value)
        return model


def model_plan(
    holder: dict[str, Any], key: str, place: str, kind: type[Any], folder: Path, from_nothing: bool = True
) -> ModelPlan:
    """Read the settings of a model; a text is its name.

    Args:
        holder: what has the settings under ``key``; a folder becomes an absolute path in it.
        folder: relative paths begin here. What is no folder there is a name.
        from_nothing: whether it may be static embeddings that no model is read for.

    Raises: ValueError for what cannot be, and for a path that is not there.
    """
    value = holder[key]
    if isinstance(value, str):
        holder[key] = _name(value, place, folder)
        return ModelPlan(kind, place, {NAME: holder[key]})
    section = Section.of(value, place)
    takes = {name: one for name, one in parameters(kind).items() if name not in NOT_IN_A_FILE}
    if from_nothing and section.values.get("static") is not None:
        section.only(["static", *(name for name in takes if name not in (NAME, "trust_remote_code", "revision"))])
        static = _static(section.section("static"), folder)
        return ModelPlan(kind, place, _checked(section, takes, "static"), {}, static)
    allowed = ["name", *AFTERWARDS, *(name for name in takes if name != NAME)]
    section.only([*allowed, "static"] if from_nothing else allowed)
    other = "; or static: {tokenizer: ..., dimension: ...}" if from_nothing else ""
    name = section.need("name", str, what=f"a model's name or folder{other}")
    section.values["name"] = _name(name, section.at("name"), folder)
    settings = {NAME: section.values["name"], **_checked(section, takes, "name", "static", *AFTERWARDS)}
    afterwards = {k: v for k, v in section.values.items() if k in AFTERWARDS}
    if "max_seq_length" in afterwards:
        _positive(afterwards["max_seq_length"], section.at("max_seq_length"))
    return ModelPlan(kind, place, settings, afterwards)


def _checked(section: Section, takes: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """The arguments of the constructor among the settings."""
    given = {key: value for key, value in section.values.items() if key not in others}
    return {key: checked(value, takes[key], section.at(key), ACTIVATIONS) for key, value in given.items()}


def _static(section: Section, folder: Path) -> dict[str, Any]:
    section.only(STATIC_KEYS)
    name = section.need("tokenizer", str, what="a tokenizer.json, a model's folder, or a name on the Hub")
    dimension = section.need("dimension", int, what="how many numbers an embedding has")
    section.values["tokenizer"] = found = _name(name, section.at("tokenizer"), folder)
    if Path(found).is_dir() and not (Path(found) / TOKENIZER).is_file():
        raise ValueError(f"{section.at('tokenizer')}: there is no {TOKENIZER} in {found}.")
    return {"tokenizer": section.values["tokenizer"], "dimension": _positive(dimension, section.at("dimension"))}


def _positive(value: Any, place: str) -> int:
    number = int(expect(value, place, int))
    if number < 1:
        raise ValueError(f"{place}: expected at least 1, found {shown(value)}.")
    return number


def _name(name: str, place: str, folder: Path) -> str:
    """The absolute path of what is there; a name as it is. Raises: ValueError for what can only be a path."""
    path = folder / Path(name).expanduser()
    if path.exists():
        return str(path.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise ValueError(
            f"{place}: there is nothing at {path}: expected a folder, or a name such as "
            "sentence-transformers/all-MiniLM-L6-v2. Relative paths begin at the folder of this file."
        )
    return name


def _tokenizer(name: str) -> Any:
    path: str | Path | None = name
    if not Path(name).is_file():
        known = name if Path(name).is_dir() else source.repository_name(name, ORGANIZATION)
        path = source.load_file_path(known, TOKENIZER)
    if path is None:
        raise ValueError(f"model.static.tokenizer: {name} has no {TOKENIZER}: expected a model with a fast tokenizer.")
    return Tokenizer.from_file(str(path))
