"""Read and write the weight files of a model folder. Knows file layouts, not what the tensors mean."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub.json_files import again, kind
from sentence_transformers.hub.json_files import read_json as read_json
from sentence_transformers.hub.json_files import read_json_list as read_json_list
from sentence_transformers.hub.layout import LAYOUTS
from sentence_transformers.hub.paths import safe_join

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SHOWN = 8
"""How many file names or differences an error message lists."""

GIT_LFS = b"version https://git-lfs"
DAMAGED_PICKLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)
"""What ``torch.load`` raises on bytes that are not a whole checkpoint."""

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def find_weights(folder: Path) -> Path:
    """The weight file of a folder, or the index of its shards; safetensors before pickles.

    Raises:
        ModelFileError: there is none; lists what was looked for and what is there.
    """
    for name in LAYOUTS:
        if (folder / name).is_file():
            return folder / name
    raise no_weights(folder)


def no_weights(folder: Path) -> ModelFileError:
    """The error to raise when a folder has no weights."""
    there = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else None
    found = "no such folder" if there is None else ", ".join(there[:SHOWN]) or "nothing"
    more = f" and {len(there) - SHOWN} more" if there is not None and len(there) > SHOWN else ""
    return ModelFileError(
        f"No weights in {folder}: looked for {', '.join(LAYOUTS)}; found {found}{more}. "
        "Save or download the model again."
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a weight file or of the shards of an index file, on the CPU, mapped from disk where possible.

    Pickles are read by the loader of torch that makes tensors only and runs no code.

    Raises:
        ModelFileError: no such file, an empty, truncated or damaged one, a pickle of anything but tensors, or an index
            that names a shard or tensor that is not there.
        UntrustedCodeError: an index that names a file outside its folder.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    _check_bytes(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def tensor(weights: Mapping[str, Tensor], key: str, shape: Sequence[int | None], path: str | Path) -> Tensor:
    """One tensor of a known shape.

    Args:
        shape: expected sizes; None accepts any size of that dimension.
        path: the file the weights came from, for the error.

    Raises:
        ModelFileError: no such key, or another shape.
    """
    found = weights.get(key)
    if found is None:
        raise ModelFileError(f"{path}: expected a tensor {key!r} of shape {_shape(shape)}, found none. {again(path)}")
    fits = len(shape) == found.dim() and all(
        size in (None, actual) for size, actual in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise ModelFileError(
            f"{path}: expected {key!r} of shape {_shape(shape)}, found {_shape(found.shape)}. "
            "The weights do not belong to this config.json."
        )
    return found


def load_strictly(module: ModuleType, weights: Mapping[str, Tensor], path: str | Path) -> ModuleType:
    """Copy weights into a module, every key of both matching; returns the module.

    Raises:
        ModelFileError: a missing, unexpected or wrongly shaped tensor; names file, key, expected and found shape.
    """
    try:
        module.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        problems = _differences(module.state_dict(), weights) or [str(error)]
        more = f" ... and {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
        raise ModelFileError(
            f"{path} does not fit {type(module).__name__}: {' '.join(problems[:SHOWN])}{more} "
            "The weights and the config of this module are from different models; save or download both again."
        ) from error
    return module


def write_weights(state: Mapping[str, Tensor], folder: Path, safe_serialization: bool = True) -> Path:
    """Write tensors as ``model.safetensors``, or as ``pytorch_model.bin`` when asked not to be safe.

    The file appears whole or not at all, so that a model mapped from an older one stays usable; files of the other
    layouts, which a reader might prefer, are removed. Tensors that share memory are stored apart.

    Returns: the path of the file.
    """
    target = folder / WEIGHT_FILES[0 if safe_serialization else 1]
    partial = folder / f".{target.name}.partial"
    partial.touch()
    mode = partial.stat().st_mode
    try:
        if safe_serialization:
            save_file(_separate(state), partial, metadata={"format": "pt"})
        else:
            torch.save({key: value.detach().cpu() for key, value in state.items()}, partial)
        partial.chmod(mode)  # safetensors makes its files private; others of the folder follow the umask
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    for name in LAYOUTS:
        if name != target.name:
            (folder / name).unlink(missing_ok=True)
    return target


def _check_bytes(path: Path) -> None:
    """Name the two common kinds of a file that is not there in full: nothing, and a Git LFS pointer."""
    try:
        with path.open("rb") as file:
            start = file.read(len(GIT_LFS))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: expected a weight file. {again(path)}") from error
    if not start:
        raise ModelFileError(f"{path} is empty: expected tensors. {again(path)}")
    if start == GIT_LFS:
        raise ModelFileError(
            f"{path} is a Git LFS pointer, not the weights themselves. Run 'git lfs pull' in {path.parent}."
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{path} is damaged: expected safetensors, but its header and its {path.stat().st_size} bytes do not agree "
            f"({error}). {again(path)}"
        ) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # only the zip format of torch >= 1.6 can be mapped
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except DAMAGED_PICKLE as error:
        if isinstance(error, pickle.UnpicklingError) and "unsupported global" in str(error).lower():
            raise ModelFileError(
                f"{path} holds Python objects other than tensors, and unpickling those could run any code: refused. "
                "Get the model as model.safetensors, or convert it on a machine where you trust its author."
            ) from error
        raise ModelFileError(f"{path} is damaged: expected a file written by torch.save. {again(path)}") from error
    if not isinstance(value, Mapping):
        raise ModelFileError(f"{path}: expected a dict of tensors, got {kind(value)}. {again(path)}")
    wrong = [str(key) for key, item in value.items() if not isinstance(key, str) or not isinstance(item, Tensor)]
    if wrong:
        raise ModelFileError(
            f"{path}: expected a dict of tensors, but {', '.join(wrong[:SHOWN])} is not a named tensor. "
            "Save only the state_dict of the model."
        )
    return dict(value)


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelFileError(
            f"{index}: expected a key 'weight_map' that maps tensor names to file names. {again(index)}"
        )
    weights: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        shard = safe_join(index.parent, name)
        if shard.name.endswith(".index.json"):
            raise ModelFileError(f"{index}: expected a weight file as a shard, got {name!r}. {again(index)}")
        weights.update(read_weights(shard))
    missing = sorted(set(weight_map) - set(weights))
    if missing:
        raise ModelFileError(
            f"{index}: expected a tensor {missing[0]!r} in {weight_map[missing[0]]}, found none "
            f"({len(missing)} missing in all). {again(index)}"
        )
    return weights


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors wants them; copies only where it must."""
    taken: set[int] = set()
    separate: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        if memory in taken:
            value = value.clone()
        taken.add(memory)
        separate[key] = value
    return separate


def _differences(expected: Mapping[str, Any], found: Mapping[str, Tensor]) -> list[str]:
    """One sentence for every key that is not in both with the same shape."""
    problems = []
    for key in sorted(expected.keys() | found.keys()):
        wanted = _shape(expected[key].shape) if isinstance(expected.get(key), Tensor) else "nothing"
        actual = _shape(found[key].shape) if key in found else "nothing"
        if wanted != actual:
            problems.append(f"{key!r}: expected {wanted}, found {actual}.")
    return problems


def _shape(sizes: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in sizes) + ")"
