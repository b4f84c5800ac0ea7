"""Checkpoints: the folder of a model, and beside it what losses have of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer import TRAINING_ARGS_NAME

from ..backend import adapters
from ..encoders.loading import MODULES_FILE
from ..hub.adapters import is_adapter
from ..hub.json_files import read_json, read_json_list
from ..modules.folders import open_part
from ..modules.router import Router
from ..modules.transformer import Transformer
from . import objectives

LOSS_FILE = "loss.safetensors"
OF_TRAINING = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", LOSS_FILE, "global_step*")
"""What a checkpoint has beside the model."""


def save(model: Any, loss: objectives.Objective, args: Any, folder: Path, state_dict: dict[str, Any] | None) -> None:
    """Write a checkpoint.

    Args:
        state_dict: the gathered weights, where processes hold parts of the model each; else None.
    """
    if state_dict is not None:
        model.load_state_dict(state_dict)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    own = objectives.own_state(loss, model)
    if own:
        save_file(own, folder / LOSS_FILE)
    torch.save(args, folder / TRAINING_ARGS_NAME)


def load(model: Any, loss: objectives.Objective, folder: Path) -> None:
    """Put the weights of a checkpoint into a model and its losses.

    A model with adapters gets theirs, and those of its other modules; what they are put on is left as it is.

    Raises:
        ValueError: there is no model in the folder, or one of other layers; or the losses are others.
        ModelFileError: a file is missing or damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"Expected the folder of a checkpoint, found none at {folder}.")
    if any(_has_adapters(part) for part in model.parts()):
        for read in [_reader(*part, folder, model.trust_remote_code) for part in _saved_parts(model, folder)]:
            read()
    elif is_adapter(folder):
        raise ValueError(
            f"The checkpoint {folder} has only an adapter, and the model has none. Give it one of the same settings: "
            f"model.add_adapter(peft.PeftConfig.from_pretrained({str(folder)!r}))."
        )
    else:
        trust = model.trust_remote_code
        saved = type(model)(str(folder), device="cpu", trust_remote_code=trust, local_files_only=True)
        _loader(model, saved, folder)()
    own = folder / LOSS_FILE
    if own.is_file():
        objectives.restore(loss, model, load_file(own))


def copy_model(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint, but for what only training needs."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*OF_TRAINING), dirs_exist_ok=True)


def _has_adapters(part: nn.Module) -> bool:
    return isinstance(part, Transformer) and bool(adapters.configs(part.pretrained.built))


def _saved_parts(model: Any, folder: Path) -> Iterator[tuple[nn.Module, str]]:
    """Every module of a model, routes included, and where it is in the folder of the model.

    Raises: ValueError where the folder has other modules.
    """
    entries = read_json_list(folder / MODULES_FILE)
    modules = dict(model.named_children())
    _check_same("modules", list(modules), [entry.get("name") for entry in entries], folder)
    for module, entry in zip(modules.values(), entries, strict=True):
        path = str(entry.get("path", ""))
        yield from _routed(module, folder, path) if isinstance(module, Router) else [(module, path)]


def _routed(router: Router, folder: Path, path: str) -> Iterator[tuple[nn.Module, str]]:
    structure = read_json(folder / path / Router.config_file_name).get("structure") or {}
    _check_same("routes", list(router.sub_modules), list(structure), folder)
    for names, parts in zip(structure.values(), router.sub_modules.values(), strict=True):
        for part, name in zip(parts.children(), names, strict=True):
            yield part, f"{path}/{name}" if path else name


def _check_same(what: str, expected: list[Any], found: list[Any], folder: Path) -> None:
    if expected != found:
        raise ValueError(f"The checkpoint {folder} is of another model: expected the {what} {expected}, found {found}.")


def _reader(part: nn.Module, path: str, folder: Path, trust_remote_code: bool) -> Callable[[], Any]:
    """A function that puts what was saved of a module into it; whether it fits is checked now."""
    if isinstance(part, Transformer) and _has_adapters(part):
        return adapters.reader(part.auto_model, folder / path)
    if not part.state_dict():
        return lambda: None
    settings = dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"))
    given = {"trust_remote_code": trust_remote_code, "backend": "torch", **settings}
    return _loader(part, open_part(type(part), str(folder), path, folder / path, given), folder)


def _loader(module: nn.Module, saved: nn.Module, folder: Path) -> Callable[[], Any]:
    wanted, found = module.state_dict(), saved.state_dict()
    if wanted.keys() != found.keys():
        raise ValueError(
            f"The checkpoint {folder} is of another model: expected tensors {sorted(wanted)[:3]}..., without "
            f"{sorted(wanted.keys() - found.keys())[:5]} and beside {sorted(found.keys() - wanted.keys())[:5]}."
        )
    return partial(module.load_state_dict, found)
