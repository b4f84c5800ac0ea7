"""The program ``sentence-transformers``: finds the command, runs it, turns errors into one line and an exit code.

A new command is one row of ``COMMANDS``. Knows nothing of what commands do. Imports nothing heavy: help is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sentence_transformers._version import __version__
from sentence_transformers.cli import bench, encode, index, search, train
from sentence_transformers.cli.command import Command, CommandError, Group, UsageError, one_line

PROGRAM = "sentence-transformers"
SUMMARY = "embeddings of text from the command line"
COMMANDS: tuple[Command | Group, ...] = (
    encode.COMMAND,
    search.COMMAND,
    index.GROUP,
    train.COMMAND,
    bench.COMMAND,
)

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

EXPECTED = (CommandError, OSError, ValueError, ImportError, RuntimeError, MemoryError, EOFError)
"""What files, models and devices raise. Anything else is a mistake of ours, and keeps its traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: the words after the program's name; None takes those of the process.

    Returns: 0; 1 after an error, said in one line on stderr; 2 for a wrong command line; 130 when interrupted.
    """
    debug = False
    try:
        try:
            command, args = parse(argv)
            debug = args.debug
            code = command.run(args)
        finally:
            _flush()
    except SystemExit as stop:  # argparse: --help, --version, or a wrong command line
        return stop.code if isinstance(stop.code, int) else OK
    except BrokenPipeError:
        _close_pipe()
        return OK  # the reader, such as head, has all it wanted
    except KeyboardInterrupt:
        return INTERRUPTED
    except EXPECTED as error:
        if debug:
            raise
        print(f"{PROGRAM}: error: {one_line(error)}", file=sys.stderr)
        return MISUSED if isinstance(error, UsageError) else FAILED
    return code


def parse(argv: Sequence[str] | None) -> tuple[Command, argparse.Namespace]:
    """The command that is meant and its arguments. Raises: SystemExit, as argparse does."""
    chosen: Command | Group = Group(PROGRAM, SUMMARY, COMMANDS)
    name, words, debug = PROGRAM, argv, False
    while isinstance(chosen, Group):
        parser = _group_parser(name, chosen)
        given = parser.parse_args(words)
        debug = debug or given.debug
        if given.command is None:
            parser.print_help(sys.stderr)
            raise SystemExit(MISUSED)
        chosen = next(command for command in chosen.commands if command.name == given.command)
        name, words = f"{name} {chosen.name}", given.arguments
    # intermixed, so that options may stand between words: search QUERY -k 3 PATH
    args = _command_parser(name, chosen).parse_intermixed_args(words)
    args.debug = args.debug or debug
    return chosen, args


def _group_parser(name: str, group: Group) -> argparse.ArgumentParser:
    width = max(len(command.name) for command in group.commands)
    rows = "\n".join(f"  {command.name:<{width}}  {command.summary}" for command in group.commands)
    is_program = name == PROGRAM
    parser = argparse.ArgumentParser(
        prog=name,
        description=_sentence(group.summary),
        epilog=f"commands:\n{rows}\n\n'{name} COMMAND --help' explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"%(prog)s {'[--version] ' * is_program}[--debug] COMMAND ...",
    )
    if is_program:
        parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add_debug(parser)
    names = [command.name for command in group.commands]
    parser.add_argument("command", nargs="?", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _command_parser(name: str, command: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        usage=None if command.usage is None else f"{name} {command.usage}",
        description=_sentence(command.summary),
        epilog=None if command.example is None else f"example:\n  {name} {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    _add_debug(parser)
    return parser


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _flush() -> None:
    """Let a closed pipe show now, while it can be caught, not when Python ends."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _close_pipe() -> None:
    """Send what Python still holds for the closed pipe nowhere, so that it does not complain at its end."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # not a real file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
