"""Log records and progress bars on one terminal, or silence from both. Knows nothing of who logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    Handler = logging.StreamHandler[Any]
    Progress = tqdm[Any]
else:
    Handler = logging.StreamHandler  # cannot be subscripted in Python 3.10, nor tqdm at all
    Progress = tqdm

COLOURS = {logging.DEBUG: "32", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
"""Level -> the parameters of the terminal's "select graphic rendition" sequence (ECMA-48, 8.3.117)."""


class AboveBars:
    """Standard output, where text goes above the progress bars that are being drawn instead of into them."""

    def write(self, text: str) -> None:
        tqdm.write(text, end="")

    def flush(self) -> None:
        sys.stdout.flush()


class LoggingHandler(Handler):
    """Writes records to standard output, above the progress bars that are being drawn there or on standard error."""

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        super().__init__(AboveBars())
        self.setLevel(level)


class Terminal(Handler):
    """Writes records to standard error, coloured by their level where that is a terminal."""

    def __init__(self, level: int | str, layout: str) -> None:
        super().__init__(sys.stderr)
        self.setLevel(level)
        self.setFormatter(logging.Formatter(layout))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = COLOURS.get(record.levelno)
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self.stream.isatty() else text


class disabled_tqdm(Progress):  # noqa: N801 (the reference's name)
    """A progress bar that is never drawn, for those who take a class of progress bars."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


def install_logger(
    given_logger: logging.Logger,
    level: int | str = logging.WARNING,
    fmt: str = "%(levelname)s:%(name)s:%(message)s",
) -> None:
    """Show the records of a logger on standard error, from ``level`` on; a second call replaces the first.

    The level of the logger itself is lowered where it would hold back such records.
    """
    for handler in [handler for handler in given_logger.handlers if isinstance(handler, Terminal)]:
        given_logger.removeHandler(handler)
    handler = Terminal(level, fmt)
    given_logger.addHandler(handler)
    if given_logger.getEffectiveLevel() > handler.level:
        given_logger.setLevel(handler.level)


@contextmanager
def disable_logging(highest_level: int = logging.CRITICAL) -> Iterator[None]:
    """Inside the ``with``, no logger of this process lets records of this level, or of a lower one, through."""
    before = logging.root.manager.disable
    logging.disable(highest_level)
    try:
        yield
    finally:
        logging.disable(before)
