"""Join a model folder and a path that a file of that model names, so that the result stays in the model.

Knows the two shapes of a folder: a plain one, and a snapshot of the Hugging Face cache, whose files are links to blobs.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from sentence_transformers.errors import UntrustedCodeError


def safe_join(folder: Path, relative: str) -> Path:
    """``folder / relative``, which need not exist.

    Args:
        relative: as written in ``modules.json`` or an index file; ``""`` is the folder itself; a backslash separates
            too, because models saved on Windows have it.

    Raises:
        UntrustedCodeError: the path is absolute, has a drive, ``..`` or NUL, or is a link that leads out of the model.
    """
    parts = PurePosixPath(relative.replace("\\", "/")).parts
    windows = PureWindowsPath(relative)
    if "\0" in relative or ".." in parts or parts[:1] == ("/",) or windows.drive or windows.root:
        raise UntrustedCodeError(
            f"Invalid model path {relative!r} in {folder}: expected a path relative to the model folder, without '..'. "
            "Correct the file that names it, or do not use this model."
        )
    path = folder.joinpath(*parts)
    if parts and not _stays_inside(path, folder):
        raise UntrustedCodeError(
            f"Invalid model path {relative!r} in {folder}: it is a link to {path.resolve()}, outside the model folder. "
            "Copy the file into the folder, or do not use this model."
        )
    return path


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change of a file, to tell whether it is still the one that was read; None: no file."""
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _stays_inside(path: Path, folder: Path) -> bool:
    """A link of a cache snapshot may lead anywhere in the folder of its repository: ``../../blobs/<etag>``."""
    target = path.resolve()
    root = folder.resolve()
    if target.is_relative_to(root):
        return True
    repository = cache_repository(root)
    return repository is not None and target.is_relative_to(repository / "blobs")


def cache_repository(folder: Path) -> Path | None:
    """``models--x--y`` for ``models--x--y/snapshots/<commit>[/...]``; None outside the Hugging Face cache."""
    for parent in folder.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            return parent.parent
    return None
