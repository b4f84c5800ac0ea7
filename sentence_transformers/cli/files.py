"""Which files a search reads: text below the given paths, and nothing hidden, generated, binary or huge."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentence_transformers.cli import passages
from sentence_transformers.cli.command import CommandError
from sentence_transformers.cli.passages import Passage

SUFFIXES = frozenset(
    {".md", ".markdown", ".rst", ".txt", ".text", ".py", ".html", ".htm", ".csv", ".tsv", ".jsonl", ".ndjson"}
)
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "env"})
LARGEST = 5_000_000  # bytes; a larger file below a folder is data rather than text
LOOKED_AT = 8192  # bytes in which a NUL shows a binary file
SHIPPED = ("docs", "README.md")


def collect(paths: Sequence[str]) -> list[str]:
    """The files to search, in order, each once.

    Args:
        paths: folders, of which hidden, generated, huge and binary files are left out; and files, which are taken
            whatever they are called.

    Raises: FileNotFoundError; CommandError for a binary file, or where there is nothing to read.
    """
    found: dict[str, str] = {}
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {given}")
        if path.is_dir():
            names = [name for name in _below(path) if _is_wanted(name)]
        elif is_binary(given):
            raise CommandError(f"{given} is not a text file: expected UTF-8 text.")
        else:
            names = [given]
        for name in names:
            found.setdefault(os.path.realpath(name), name)
    if not found:
        raise CommandError(f"no text files in {', '.join(paths)}; looked for {', '.join(sorted(SUFFIXES))}.")
    return list(found.values())


def shipped() -> list[str]:
    """The documents of a project in the current folder. Raises: CommandError where there are none."""
    found = [name for name in SHIPPED if Path(name).exists()]
    if not found:
        raise CommandError(
            f"no {' or '.join(SHIPPED)} in this folder; say what to search: sentence-transformers search QUERY PATH ..."
        )
    return found


def read(name: str) -> str:
    """The text of a file; bytes that are not UTF-8 become replacement characters."""
    return Path(name).read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n")


def cut(name: str) -> Iterator[Passage]:
    """The passages of a file. Raises: CommandError for a damaged one."""
    try:
        yield from passages.split(name, read(name))
    except csv.Error as error:
        raise CommandError(f"{name}: {error}") from error


def is_binary(name: str) -> bool:
    """Whether the file starts as no text does."""
    with open(name, "rb") as file:
        return b"\0" in file.read(LOOKED_AT)


def _below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            yield os.path.join(parent, name)


def _is_wanted(name: str) -> bool:
    path = Path(name)
    if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    return 0 < path.stat().st_size <= LARGEST and not is_binary(name)
