"""Markdown as the Hub shows it: tables, code, and text of others that must not become markup."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

LONGEST = 500
"""Characters of an example that are shown."""

MARKUP = re.compile(r"[|`*\[\\~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # an underscore within a word is none
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and an ellipsis: at most ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def escape(text: str) -> str:
    """Text on one line, in which nothing is markup, neither of Markdown nor of HTML."""
    clean = html.escape(CONTROL.sub(" ", text.replace("\r\n", "\n")), quote=False)
    return MARKUP.sub(lambda match: f"&#{ord(match[0])};", clean).replace("\t", " ").replace("\n", "<br>")


def code(value: Any) -> str:
    """A value in the type of code, as it may stand in a cell of a table."""
    return f"<code>{escape(str(value))}</code>"


def fence(text: str, language: str = "") -> str:
    """A block of code; its fence is longer than any in the text."""
    runs = re.findall(r"`{3,}", text)
    marks = "`" * max([3, *(len(run) + 1 for run in runs)])
    return f"{marks}{language}\n{text}\n{marks}"


def plain(value: Any) -> Any:
    """Numbers of numpy and torch as those of Python; anything else as it is."""
    return value.item() if type(value).__module__.partition(".")[0] in ("numpy", "torch") else value


def number(value: Any) -> str:
    """A number with at most four digits after the point: 0.9593, 1.0, 12; anything else as it is."""
    value = plain(value)
    return str(round(value, 4)) if isinstance(value, float) else str(value)


def is_finite(value: Any) -> bool:
    """Whether this is a number that can be written down."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def bold(text: str) -> str:
    """In bold, unless there is nothing."""
    return f"**{text}**" if text else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = ":--") -> str:
    """A table; the cells are Markdown already.

    Args:
        align: ":--" to the left, ":-:" centred.
    """
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]
    rule = [align[0] + "-" * (width - 2) + align[-1] for width in widths]
    lines = [header, rule, *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def listing(items: Sequence[str], quote: Callable[[str], str] = str) -> str:
    """Some things in a sentence: "a, b and c"."""
    parts = [quote(item) for item in items]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
