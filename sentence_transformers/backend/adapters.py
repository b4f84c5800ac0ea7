"""Adapters on a transformers model: put on, taken off, saved under the right name, read back in training.

Two kinds of model have them: a transformers model with layers put into it, and peft's own wrapper around one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.errors import ModelFileError, need
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.adapters import CONFIG_FILE
from sentence_transformers.hub.json_files import again, read_json

logger = logging.getLogger(__name__)

EXTRA = "peft"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
"""What stands before every name in a file of peft, as it does in its wrapper."""


def configs(model: nn.Module | None) -> dict[str, Any]:
    """Name -> settings of the adapters of a model; {} for a model without."""
    return dict(getattr(model, "peft_config", None) or {})


def attach(model: nn.Module, folder: Path) -> None:
    """Put the adapter of a folder on a transformers model, for use, not for training.

    Raises:
        ImportError: ``peft`` is not installed.
        ModelFileError: its weights are missing, damaged, or for another model.
    """
    need("peft", extra=EXTRA, what=f"The adapter in {folder}")
    _read(folder)  # damage is told in our words
    with torch.inference_mode(False):
        found = model.load_adapter(str(folder))  # type: ignore[operator]
    if found.missing_keys:
        raise ModelFileError(
            f"The adapter in {folder} has no weights {sorted(found.missing_keys)[:3]}, which its {CONFIG_FILE} asks "
            f"for in a {type(model).__name__}. {again(folder / CONFIG_FILE)}"
        )
    for config in configs(model).values():
        config.base_model_name_or_path = model.name_or_path  # on this machine; ``name_base`` writes the other


def unload(model: nn.Module) -> None:
    """Give a model its own layers back when all adapters are deleted: peft leaves empty wrappers around them."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, child in list(model.named_children()):
        if isinstance(child, AuxiliaryTrainingWrapper):
            setattr(model, name, child.original_module)
        elif isinstance(child, BaseTunerLayer):
            setattr(model, name, child.get_base_layer())
        else:
            unload(child)


def enable_trained_in_full(model: nn.Module) -> None:
    """Use again the modules that adapters trained in full, such as a head: ``disable_adapters`` of transformers turns
    them off, but its ``enable_adapters`` leaves them so."""
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in model.modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            module.enable_adapters(enabled=True)


def name_base(folder: Path, known_as: str, name: str, revision: str | None) -> None:
    """Write into the saved settings of an adapter where others find its base model.

    Args:
        known_as: where it is for transformers; settings that say anything else are right already.
        name, revision: see ``hub.adapters.Base``.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    config = read_json(path)
    if config.get("base_model_name_or_path") == known_as:
        changed = {**config, "base_model_name_or_path": name, "revision": config.get("revision") or revision}
        path.write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def warn_of_the_unsaved(model: nn.Module) -> None:
    """Log which weights are trained although only those of adapters are saved."""
    if not configs(model):
        return
    saved = {tensor.data_ptr() for name in configs(model) for tensor in _state(model, name).values()}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p.data_ptr() not in saved]
    if lost:
        logger.warning(
            "Only adapters are saved, but these weights are trained too: %s. Freeze them, or name their modules in "
            "modules_to_save of the adapter's settings.",
            ", ".join(lost[:3]) + (f", and {len(lost) - 3} more" if len(lost) > 3 else ""),
        )


def reader(model: nn.Module, folder: Path) -> Callable[[], None]:
    """A function that puts the adapter of a folder into the weights of the active one; whether it fits is checked now.

    Raises: ModelFileError where it is missing, damaged, or of other settings.
    """
    from peft import PeftModel, set_peft_model_state_dict

    name, state = _active(model), _read(folder)
    if not isinstance(model, PeftModel):
        state = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    wanted = {key: tuple(tensor.shape) for key, tensor in _state(model, name).items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if wanted != found:
        wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        shapes = [f"{key}: {wanted.get(key)} and {found.get(key)}" for key in wrong[:3]]
        raise ModelFileError(
            f"The adapter in {folder} is not of the settings of {name!r}; expected and found shapes: "
            f"{', '.join(shapes)}. Give the model an adapter of the settings in {folder / CONFIG_FILE}."
        )

    def read() -> None:
        set_peft_model_state_dict(model, dict(state), adapter_name=name)

    return read


def _read(folder: Path) -> Mapping[str, Tensor]:
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), folder / WEIGHT_FILES[0])
    return checkpoint.read_weights(path)


def _state(model: nn.Module, name: str) -> Mapping[str, Tensor]:
    from peft import get_peft_model_state_dict

    state: Mapping[str, Tensor] = get_peft_model_state_dict(model, adapter_name=name)
    return state


def _active(model: nn.Module) -> str:
    """The name of the first active adapter."""
    found: Any = model.active_adapters
    return str((found() if callable(found) else found)[0])
