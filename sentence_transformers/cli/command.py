"""What a command of the program is, and how it says that it cannot go on. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


class CommandError(Exception):
    """Something that the user can put right: what must hold, what came, what to do. Exit code 1."""


class UsageError(CommandError):
    """The words of the command line do not fit together. Exit code 2."""


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        name: the word after ``sentence-transformers``.
        summary: half a line for the list of commands.
        usage: the part of the usage line after the name, where argparse's own would mislead; None for its own.
        example: a line that works.
        add_arguments: declares the options.
        run: does the work; gives the exit code. Heavy imports belong in here.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    usage: str | None = None
    example: str | None = None


@dataclass(frozen=True)
class Group:
    """Several commands under one word. Attributes as those of ``Command``."""

    name: str
    summary: str
    commands: tuple[Command | Group, ...]


def positive_int(text: str) -> int:
    """An ``argparse`` type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks; of a system's error, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
