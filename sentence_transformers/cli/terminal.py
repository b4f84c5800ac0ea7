"""Text for a terminal: colours where they are wanted, lines that fit, nothing that a file could smuggle in."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

PLAIN_WIDTH = 100
WIDEST = 120
CODES = {"bold": "1", "dim": "2", "green": "32", "cyan": "36"}


@dataclass(frozen=True)
class Look:
    """How output looks. colour: with escape codes. width: columns of a line."""

    colour: bool
    width: int

    @classmethod
    def of(cls, stream: TextIO) -> Look:
        """Colours and the real width on a terminal; plain text of a fixed width into pipes and files."""
        if not stream.isatty():
            return cls(False, PLAIN_WIDTH)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(not plain, max(20, min(shutil.get_terminal_size().columns, WIDEST)))

    def style(self, text: str, name: str) -> str:
        """The text in one of ``CODES``, or as it is."""
        return f"\x1b[{CODES[name]}m{text}\x1b[0m" if self.colour else text

    def mark(self, text: str, words: Iterable[str]) -> str:
        """The text with every occurrence of whole ``words``, in any case, in bold."""
        wanted = "|".join(re.escape(word) for word in words)
        if not self.colour or not wanted:
            return text
        return re.sub(rf"\b(?:{wanted})\b", lambda found: self.style(found.group(), "bold"), text, flags=re.IGNORECASE)


def clean(text: str) -> str:
    """The text on one line, without control characters: no escape codes, no bells."""
    return "".join(
        character for character in " ".join(text.split()) if unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )


def columns(text: str) -> int:
    """How many columns a terminal gives the text: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def wrap(text: str, width: int, most_lines: int) -> list[str]:
    """At most so many lines of at most ``width`` columns; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in (part for whole in text.split() for part in _chopped(whole, width)):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if columns(longer) <= width:
            lines[-1] = longer
        elif len(lines) < most_lines:
            lines.append(word)
        else:
            lines[-1] = _shortened(lines[-1], width - 2) + " …"
            break
    return [line for line in lines if line]


def _chopped(word: str, width: int) -> list[str]:
    """A word in parts that fit."""
    parts = [""]
    for character in word:
        if columns(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _shortened(text: str, width: int) -> str:
    while columns(text) > width:
        text = text[:-1]
    return text.rstrip()
