"""Cuts a text file into passages of a size that a model reads whole, each with its headings and its lines.

Blocks (a paragraph, a list, a table, a piece of code) stay whole where they fit; neighbours under a heading stay close.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import PurePath

TARGET = 120  # size at which a passage is full; about 160 tokens of English
LARGEST_CODE = 220  # size up to which a piece of code stays whole
CHARACTERS_A_WORD = 6  # so that code and tables, which have few spaces, count for what they are

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
MARKDOWN_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
RST_UNDERLINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
DEFINITION = re.compile(r"( {0,4})(?:async def|def|class) +(\w+)")
ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Line = tuple[int, str]  # its number from 1, and its text without the line feed


@dataclass(frozen=True)
class Passage:
    """A piece of a file.

    Attributes:
        text: as it is in the file, headings apart.
        headings: those it stands under, outermost first.
        first_line, last_line: where it is, from 1, both included.
    """

    text: str
    headings: tuple[str, ...]
    first_line: int
    last_line: int

    @property
    def with_headings(self) -> str:
        """What is encoded: the headings say what a short passage is about."""
        return "\n".join(filter(None, [" > ".join(self.headings), self.text]))


@dataclass(frozen=True)
class Block:
    """Lines that belong together. level, title: of a heading, which has no lines of its own; level 0 is no heading."""

    lines: tuple[Line, ...] = ()
    is_code: bool = False
    level: int = 0
    title: str = ""


def split(name: str, text: str) -> list[Passage]:
    """The passages of a file, in order.

    Args:
        name: the name of the file; its extension says how it is read.
        text: its content.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return list(_split_rows(text, "\t" if suffix == ".tsv" else ","))
    if suffix in (".jsonl", ".ndjson"):
        return list(_split_json_lines(text))
    lines = _html_lines(text) if suffix in (".html", ".htm") else list(enumerate(text.split("\n"), start=1))
    return list(_packed(BLOCKS.get(suffix, plain_blocks)(lines)))


# --- from lines to blocks --------------------------------------------------------------------------------------------


def markdown_blocks(lines: list[Line]) -> Iterator[Block]:
    """Headings, fenced code, and what blank lines part. Comments and the front matter are no text."""
    held: list[Line] = []
    at = _front_matter(lines)
    while at < len(lines):
        number, line = lines[at]
        fence, heading = FENCE.match(line), HEADING.match(line)
        underline = MARKDOWN_UNDERLINE.match(line)
        if fence:
            yield from _flushed(held)
            end = _fence_end(lines, at, fence.group(1))
            yield Block(tuple(lines[at:end]), is_code=True)
            at = end
            continue
        if line.lstrip().startswith("<!--"):
            yield from _flushed(held)
            while at < len(lines) - 1 and "-->" not in lines[at][1]:
                at += 1
        elif heading:
            yield from _flushed(held)
            yield Block(level=len(heading.group(1)), title=_plain(heading.group(2) or ""))
        elif underline and len(held) == 1:
            yield Block(level=1 if "=" in underline.group(1) else 2, title=_plain(held[0][1]))
            held.clear()
        elif line.strip():
            held.append((number, line))
        else:
            yield from _flushed(held)
        at += 1
    yield from _flushed(held)


def rst_blocks(lines: list[Line]) -> Iterator[Block]:
    """reStructuredText: underlined headings, whose levels follow from the order of their first appearance."""
    held: list[Line] = []
    seen: list[str] = []
    for number, line in lines:
        underline = RST_UNDERLINE.match(line)
        if underline and not held:
            continue  # the line above a heading
        if underline and len(held) == 1 and len(line.rstrip()) >= len(held[0][1].strip()):
            if underline.group(1) not in seen:
                seen.append(underline.group(1))
            yield Block(level=seen.index(underline.group(1)) + 1, title=held[0][1].strip())
            held.clear()
        elif line.strip():
            held.append((number, line))
        else:
            yield from _flushed(held)
    yield from _flushed(held)


def python_blocks(lines: list[Line]) -> Iterator[Block]:
    """Python: classes, and functions outside and one deep inside, are headings that keep their line."""
    held: list[Line] = []
    for number, line in lines:
        definition = DEFINITION.match(line)
        if definition and len(definition.group(1)) in (0, 4):
            decorators = _decorators(held)
            yield from _flushed(held, is_code=True)
            yield Block(level=1 if not definition.group(1) else 2, title=definition.group(2))
            held.extend([*decorators, (number, line)])
        elif line.strip():
            held.append((number, line))
        else:
            yield from _flushed(held, is_code=True)
    yield from _flushed(held, is_code=True)


def plain_blocks(lines: list[Line]) -> Iterator[Block]:
    """What blank lines part."""
    held: list[Line] = []
    for number, line in lines:
        if line.strip():
            held.append((number, line))
        else:
            yield from _flushed(held)
    yield from _flushed(held)


BLOCKS: dict[str, Callable[[list[Line]], Iterator[Block]]] = {
    ".md": markdown_blocks,
    ".markdown": markdown_blocks,
    ".html": markdown_blocks,
    ".htm": markdown_blocks,
    ".rst": rst_blocks,
    ".py": python_blocks,
}


def _flushed(held: list[Line], is_code: bool = False) -> Iterator[Block]:
    """The lines held so far as one block, if there are any; then none are held."""
    if held:
        yield Block(tuple(held), is_code)
        held.clear()


def _front_matter(lines: list[Line]) -> int:
    """At which index the text begins, behind the ``---`` ... ``---`` of settings."""
    if lines and lines[0][1].rstrip() == "---":
        for at in range(1, len(lines)):
            if lines[at][1].rstrip() in ("---", "..."):
                return at + 1
    return 0


def _fence_end(lines: list[Line], start: int, fence: str) -> int:
    """The index after the line that closes the fence of ``start``; the end of the file if none does."""
    closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    for at in range(start + 1, len(lines)):
        if closing.match(lines[at][1]):
            return at + 1
    return len(lines)


def _decorators(held: list[Line]) -> list[Line]:
    """Take the decorators at the end of what is held: they belong to the definition that follows."""
    at = len(held)
    while at and held[at - 1][1].lstrip().startswith("@"):
        at -= 1
    taken = held[at:]
    del held[at:]
    return taken


def _plain(title: str) -> str:
    """A heading without the marks of code and emphasis."""
    return re.sub(r"[`*]", "", title).strip()


# --- from blocks to passages -----------------------------------------------------------------------------------------


def _packed(blocks: Iterable[Block]) -> Iterator[Passage]:
    """Neighbouring blocks under one heading, together until they are full."""
    path: list[tuple[int, str]] = []
    held: list[Line] = []
    filled = 0
    for block in blocks:
        titles = tuple(title for _, title in path if title)
        if block.level:
            yield from _passage(held, titles)
            path = [*(entry for entry in path if entry[0] < block.level), (block.level, block.title)]
            continue
        for unit in _units(block):
            more = size(_joined(unit))
            if held and filled + more > TARGET:
                yield from _passage(held, titles)
            filled = filled + more if held else more
            held.extend(unit)
    yield from _passage(held, tuple(title for _, title in path if title))


def _units(block: Block) -> Iterator[list[Line]]:
    """What stays together: a block whole, or, where it is too large, the items of a list, the lines of the rest."""
    lines = list(block.lines)
    if size(_joined(lines)) <= (LARGEST_CODE if block.is_code else TARGET):
        yield lines
        return
    is_list = not block.is_code and ITEM.match(lines[0][1])
    item: list[Line] = []
    for line in lines:
        if item and not (is_list and not ITEM.match(line[1])):
            yield from _small(item)
            item = []
        item.append(line)
    yield from _small(item)


def _small(item: list[Line]) -> Iterator[list[Line]]:
    """An item whole if it fits, else in parts of lines."""
    if size(_joined(item)) <= TARGET:
        yield item
        return
    for number, line in item:
        for part in _parts(line):
            yield [(number, part)]


def _parts(line: str) -> Iterator[str]:
    """A line whole, or cut between sentences, then words, then anywhere, into parts of at most ``TARGET``."""
    if size(line) <= TARGET:
        yield from [line] if line else []
        return
    held = ""
    most = TARGET * CHARACTERS_A_WORD
    for sentence in SENTENCE_END.split(line):
        for word in [sentence] if size(sentence) <= TARGET else sentence.split():
            for at in range(0, len(word), most):
                part = word[at : at + most]
                if held and size(held) + size(part) > TARGET:
                    yield held
                    held = ""
                held = f"{held} {part}" if held else part
    if held:
        yield held


def _passage(held: list[Line], titles: tuple[str, ...]) -> Iterator[Passage]:
    """What is held as a passage, if there is anything; then nothing is held."""
    if held:
        yield Passage(_joined(held), titles, held[0][0], held[-1][0])
        held.clear()


def _joined(lines: list[Line]) -> str:
    """The text of lines; a blank line where lines of the file were left out, none inside a cut line."""
    parts: list[str] = []
    before = 0
    for number, line in lines:
        if parts:
            parts.append(" " if number == before else "\n" if number == before + 1 else "\n\n")
        parts.append(line.rstrip())
        before = number
    return "".join(parts)


def size(text: str) -> int:
    """How much a model has to read, in words of usual length."""
    return max(len(text.split()), len(text) // CHARACTERS_A_WORD)


# --- files that are no running text ----------------------------------------------------------------------------------


def _split_rows(text: str, delimiter: str) -> Iterator[Passage]:
    """Every row of a table, as "column: value" lines."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(rows, [])
    before = rows.line_num
    for row in rows:
        fields = [(header[at] if at < len(header) else "", value) for at, value in enumerate(row)]
        shown = "\n".join(f"{name}: {value}" if name else value for name, value in fields if value.strip())
        for part in _parts(shown):
            yield Passage(part, (), before + 1, rows.line_num)
        before = rows.line_num


def _split_json_lines(text: str) -> Iterator[Passage]:
    """The strings of every line; a line that is not JSON is taken as it is."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            strings = list(_strings(json.loads(line)))
        except (ValueError, RecursionError):
            strings = [line.strip()]
        for part in _parts("\n".join(strings)):
            yield Passage(part, (), number, number)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _html_lines(text: str) -> list[Line]:
    """The visible text of a page as lines of Markdown that keep their numbers."""
    page = _Page()
    page.feed(text)
    page.close()
    page.end_line()
    return page.lines


class _Page(HTMLParser):
    """Collects visible text. Lines of one block have the numbers of the source; a blank line parts blocks."""

    HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "head"})
    INLINE = frozenset(
        {"a", "abbr", "b", "code", "em", "i", "kbd", "mark", "q", "span", "strong", "sub", "sup", "u", "var"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[Line] = []
        self.held = ""
        self.number = 1
        self.hidden = 0

    def end_line(self) -> None:
        if self.held.strip():
            self.lines.append((self.number, self.held.strip()))
        self.held = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in self.HIDDEN
        if tag not in self.INLINE:
            self._part()
        if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self.number, self.held = self.getpos()[0], "#" * int(tag[1]) + " "

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in self.HIDDEN and self.hidden > 0
        if tag not in self.INLINE:
            self._part()

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        for offset, part in enumerate(data.split("\n")):
            if offset and not self.held.startswith("#"):
                self.end_line()
            if not self.held:
                self.number = self.getpos()[0] + offset
            elif offset:
                self.held += " "
            self.held += part.lstrip() if not self.held else part

    def _part(self) -> None:
        """End the block."""
        self.end_line()
        if self.lines and self.lines[-1][1]:
            self.lines.append((self.getpos()[0], ""))
