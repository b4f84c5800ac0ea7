"""Save a folder so that a reader, or the next start after a kill, sees the old model or the new one, never a mix.

    target/.saving-<random>/   being written
    target/.saved/             committed (one rename), whole until every file is in place; readers use it: ``current``
    target/.publishing/        links on their way into place

Knows which files an earlier save leaves behind that would change the meaning of the new one; all others stay.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub.json_files import read_json_list

if sys.platform != "win32":  # there, without locks, what a killed save left stays until it is removed by hand
    import fcntl

SAVING, SAVED, PUBLISHING = ".saving-", ".saved", ".publishing"

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
SAFE = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
STALE = {
    "model.safetensors": (*SAFE, *PICKLED, *ADAPTER),
    "model.safetensors.index.json": (*SAFE, *PICKLED, *ADAPTER),
    "pytorch_model.bin": (*SAFE, *PICKLED, *ADAPTER),
    "pytorch_model.bin.index.json": (*SAFE, *PICKLED, *ADAPTER),
    "adapter_model.safetensors": ADAPTER,
    "adapter_model.bin": ADAPTER,
    "tokenizer_config.json": ("added_tokens.json", "special_tokens_map.json", "chat_template.jinja"),
}
"""Written file -> files of the same folder that an earlier save may have left and that a loader would still read.
An adapter does not replace full weights: they may be the model it adapts."""

MODULE_FOLDER = re.compile(r"\d+_[A-Za-z]\w*")
MODULE_CONFIGS = ("*config.json",)
MODULE_FILES = ("*config.json", *SAFE, *PICKLED, *ADAPTER, "tokenizer.json", "special_tokens_map.json", "vocab.txt")


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Give a folder to write a whole model into; at the end it replaces the model in ``path``, all at once.

    Leftovers of a save that was killed are finished or removed first. An exception inside leaves ``path`` as it was.
    Files that no save of a model makes are not touched.

    Raises:
        FileExistsError: a file of the model would replace a folder, or the other way round.
    """
    target = Path(path)
    created = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        _finish(target)
        staging = target / f"{SAVING}{os.urandom(6).hex()}"
        staging.mkdir()
        guard = _lock(staging)
    try:
        yield staging
        _check_kinds(staging, target)
        _sync_tree(staging)
        with _locked(target):
            _finish(target)
            os.rename(staging, target / SAVED)
            _sync(target)
            _publish(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _unlock(guard)
        if created and target.is_dir() and not any(target.iterdir()):
            target.rmdir()


def current(folder: Path) -> Path:
    """Where a reader finds the last committed save: ``folder``, unless a save was killed before it was in place."""
    saved = folder / SAVED
    return saved if saved.is_dir() else folder


def _finish(target: Path) -> None:
    """Put a committed save in place, and remove what killed saves left; needs the lock of the target."""
    shutil.rmtree(target / PUBLISHING, ignore_errors=True)
    if (target / SAVED).is_dir():
        _publish(target)
    for leftover in target.glob(f"{SAVING}*"):
        guard = _lock(leftover)
        if guard is not None:  # else another process is writing it
            shutil.rmtree(leftover, ignore_errors=True)
            _unlock(guard)


def _publish(target: Path) -> None:
    """Copy ``.saved`` over the target, file by file; may be repeated from any point."""
    saved, passage = target / SAVED, target / PUBLISHING
    passage.mkdir(exist_ok=True)
    for stale in _stale_files(saved, target):
        stale.unlink(missing_ok=True)
    _remove_old_modules(saved, target)
    files = sorted(_files(saved), key=lambda path: path.name == "modules.json")  # last: it names the old modules
    folders = {target}
    for number, file in enumerate(files):
        place = target / file.relative_to(saved)
        place.parent.mkdir(parents=True, exist_ok=True)
        folders.add(place.parent)
        _place(file, place, passage / str(number))
    for folder in saved.rglob("*"):
        if folder.is_dir():
            (target / folder.relative_to(saved)).mkdir(parents=True, exist_ok=True)
    for folder in folders:
        _sync(folder)
    passage.rmdir()
    retired = target / f"{SAVING}{os.urandom(6).hex()}"
    os.rename(saved, retired)
    shutil.rmtree(retired, ignore_errors=True)


def _place(file: Path, place: Path, passing: Path) -> None:
    """Make ``place`` the same file as ``file``, with no moment at which it is partly written."""
    if place.is_file() and not place.is_symlink() and place.samefile(file):
        return
    try:
        os.link(file, passing)
    except OSError:  # a file system without hard links
        shutil.copy2(file, passing)
        _sync(passing)
    os.replace(passing, place)


def _stale_files(saved: Path, target: Path) -> list[Path]:
    """What an earlier save left beside the files of this one, and a loader would read besides or instead."""
    stale = []
    for file in _files(saved):
        folder = target / file.relative_to(saved).parent
        for pattern in STALE.get(file.name, ()):
            stale += [path for path in folder.glob(pattern) if not (file.parent / path.name).exists()]
    return stale


def _remove_old_modules(saved: Path, target: Path) -> None:
    """Remove the folders of modules that the model no longer has: named by the ``modules.json`` about to be replaced,
    called like ours, and with a config; of those only the files that a save makes."""
    if not (saved / "modules.json").is_file() or not (target / "modules.json").is_file():
        return
    try:
        old = read_json_list(target / "modules.json")
    except ModelFileError:
        return
    for name in {str(module.get("path", "")) for module in old}:
        folder = target / name
        if not MODULE_FOLDER.fullmatch(name) or (saved / name).exists() or folder.is_symlink() or not folder.is_dir():
            continue
        known = [path for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in MODULE_FILES)]
        if any(fnmatch(path.name, pattern) for pattern in MODULE_CONFIGS for path in known):
            for path in known:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _check_kinds(staging: Path, target: Path) -> None:
    for path in staging.rglob("*"):
        place = target / path.relative_to(staging)
        if (place.is_dir() and not path.is_dir()) or (place.is_file() and path.is_dir()):
            kinds = ("folder", "file") if place.is_dir() else ("file", "folder")
            raise FileExistsError(
                f"{place} is a {kinds[0]}, but the model to save has a {kinds[1]} of that name. "
                "Remove it, or save to another folder."
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; Windows cannot do that for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One save at a time in the short phases that read or change the target."""
    guard = _lock(target, wait=True)
    try:
        yield
    finally:
        _unlock(guard)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """A lock that the system releases when the process ends, however it ends; None where it is not to be had."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # taken, or a file system without locks
        os.close(handle)
        return None
    return handle


def _unlock(guard: int | None) -> None:
    if sys.platform != "win32" and guard is not None:
        fcntl.flock(guard, fcntl.LOCK_UN)  # closing is not enough: a forked child may hold the same handle
        os.close(guard)
