"""Texts out of files: plain text, CSV, TSV, JSON lines, Parquet, each perhaps gzipped, or standard input.

Knows nothing of models. Every error names the file, the line or row, and the columns there are.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sentence_transformers.cli.command import CommandError
from sentence_transformers.errors import need

STANDARD = "-"
DEFAULT_COLUMN = "text"
GZIP_MAGIC = b"\x1f\x8b"
CELL_LIMIT = 2**31 - 1  # characters of one CSV field; Python's own limit is 131,072

EXTENSIONS = {
    "": "text",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}

Row = tuple[str, "int | str | None"]  # a text, and its id if an id column is asked for


@dataclass
class Texts:
    """n texts and their n ids: those of a column, else the numbers from 0."""

    texts: list[str] = field(default_factory=list)
    ids: list[int | str] = field(default_factory=list)


@dataclass(frozen=True)
class Columns:
    """Which columns are asked for; ``text`` None takes "text", or the only column there is."""

    text: str | None = None
    id: str | None = None

    def chosen(self, names: Sequence[str], place: str) -> str:
        """The name of the column of texts. Raises: CommandError that lists the columns there are."""
        for wanted in (self.text, self.id):
            if wanted is not None and wanted not in names:
                raise CommandError(f"{place}: no column {wanted!r}; there are: {_listed(names)}.")
        if self.text is not None:
            return self.text
        if DEFAULT_COLUMN in names:
            return DEFAULT_COLUMN
        if len(names) == 1:
            return names[0]
        raise CommandError(f"{place}: no column {DEFAULT_COLUMN!r}; pass --column with one of: {_listed(names)}.")


def read(inputs: Sequence[str], format: str | None, columns: Columns) -> Texts:
    """All texts of all inputs, one after the other.

    Args:
        inputs: paths; "-" is standard input.
        format: a value of ``READERS``; None goes by the extension, and takes standard input for plain text.

    Raises: CommandError for an unknown format or column, a damaged file, or no text at all; OSError.
    """
    found = Texts()
    for name in inputs:
        reader = READERS[format or format_of(name)]
        place = "standard input" if name == STANDARD else name
        with _opened(name) as stream, _explained(place):
            for text, identity in reader(stream, place, columns):
                found.ids.append(len(found.ids) if identity is None else identity)
                found.texts.append(text)
    if not found.texts:
        raise CommandError(f"no texts in {', '.join(inputs)}: expected at least one.")
    return found


def format_of(name: str) -> str:
    """The format that a name stands for. Raises: CommandError for an extension that says nothing."""
    if name == STANDARD:
        return "text"
    path = Path(name)
    extension = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if extension not in EXTENSIONS:
        raise CommandError(
            f"{name}: the extension {extension!r} does not say how to read it; pass --input-format "
            f"with one of: {', '.join(READERS)}."
        )
    return EXTENSIONS[extension]


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """The bytes of an input, unzipped where they start as gzip does."""
    if name != STANDARD and Path(name).is_dir():
        raise CommandError(f"{name} is a folder: expected a file.")
    source: Any = sys.stdin.buffer if name == STANDARD else open(name, "rb")  # noqa: SIM115
    raw = io.BufferedReader(source)
    try:
        zipped = raw.peek(2)[:2] == GZIP_MAGIC
        stream: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if zipped else raw
        yield stream
    finally:
        if name == STANDARD:
            raw.detach()  # standard input stays open
        else:
            raw.close()


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Say which file is damaged, and how."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CommandError(f"{place}: not UTF-8 text ({error}); convert it, or pass another --input-format.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CommandError(f"{place}: damaged gzip data ({error}).") from error
    except csv.Error as error:
        raise CommandError(f"{place}: damaged CSV ({error}).") from error


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines without their ends; only line feeds end a line, so that rows stay with line numbers."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n")
    try:
        for line in text:
            yield line.removesuffix("\n").removesuffix("\r")
    finally:
        text.detach()


def _read_text(stream: IO[bytes], place: str, columns: Columns) -> Iterator[Row]:
    if columns.text is not None or columns.id is not None:
        raise CommandError(
            f"{place}: plain text has no columns; leave out --column and --id-column, or say --input-format."
        )
    for line in _lines(stream):
        yield line, None


def _read_csv(stream: IO[bytes], place: str, columns: Columns, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(CELL_LIMIT)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        rows = csv.reader(text, delimiter=delimiter)
        header = next(rows, None)
        if header is None:
            return
        at = header.index(columns.chosen(header, place))
        identity = None if columns.id is None else header.index(columns.id)
        needed = max(at, identity or 0)
        for row in rows:
            if not row:
                continue
            if len(row) <= needed:
                raise CommandError(
                    f"{place}, line {rows.line_num}: {len(row)} fields, but the header has {len(header)}."
                )
            yield row[at], None if identity is None else row[identity]
    finally:
        text.detach()


def _read_tsv(stream: IO[bytes], place: str, columns: Columns) -> Iterator[Row]:
    return _read_csv(stream, place, columns, delimiter="\t")


def _read_jsonl(stream: IO[bytes], place: str, columns: Columns) -> Iterator[Row]:
    """Objects with the column of texts, or bare strings."""
    for number, line in enumerate(_lines(stream), start=1):
        if not line.strip():
            continue
        here = f"{place}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CommandError(
                f"{here}: not JSON ({error}); expected one JSON object or string on every line."
            ) from error
        if isinstance(value, str) and columns.text is None and columns.id is None:
            yield value, None
        elif isinstance(value, dict):
            yield _row(value, columns.chosen(list(value), here), columns.id, here)
        else:
            raise CommandError(f"{here}: expected a JSON object with the columns, got {_kind(value)}.")


def _read_parquet(stream: IO[bytes], place: str, columns: Columns) -> Iterator[Row]:
    parquet = need("pyarrow.parquet", extra="search", what="Reading Parquet")
    source = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        file = parquet.ParquetFile(source)
    except ValueError as error:  # pyarrow's own errors are ValueErrors
        raise CommandError(f"{place}: not a Parquet file ({error}).") from error
    column = columns.chosen(file.schema_arrow.names, place)
    wanted = [column] if columns.id in (None, column) else [column, columns.id]
    number = 0
    for batch in file.iter_batches(columns=wanted):
        for value in batch.to_pylist():
            number += 1
            yield _row(value, column, columns.id, f"{place}, row {number}")


def _row(value: dict[str, Any], column: str, id_column: str | None, here: str) -> Row:
    text = value[column]
    if not isinstance(text, str):
        raise CommandError(f"{here}: column {column!r} holds {_kind(text)}; expected text.")
    identity = None if id_column is None else value[id_column]
    if id_column is not None and (isinstance(identity, bool) or not isinstance(identity, (int, str))):
        raise CommandError(f"{here}: column {id_column!r} holds {_kind(identity)}; expected text or a whole number.")
    return text, identity


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing (null)" if value is None else kinds.get(type(value), type(value).__name__)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


READERS: dict[str, Callable[[IO[bytes], str, Columns], Iterator[Row]]] = {
    "text": _read_text,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
