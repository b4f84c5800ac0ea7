"""Embeddings into files: .npy, .npz, JSON lines, Parquet. A file appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sentence_transformers.cli.command import CommandError, UsageError
from sentence_transformers.cli.readers import STANDARD, Texts
from sentence_transformers.errors import need

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

EXTENSIONS = {".npy": "npy", ".npz": "npz", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
NPZ_TEXT_LIMIT = 2**30
"""Most bytes of the array of texts in an .npz, where every text takes as much as the longest."""


@dataclass(frozen=True)
class Output:
    """Where embeddings go. ``path`` None is standard output. with_text: keep the texts beside them."""

    path: Path | None
    format: str
    with_text: bool = True

    @classmethod
    def of(cls, name: str, format: str | None, with_text: bool) -> Output:
        """Check, before any work is done, that the output can be written.

        Raises: UsageError for an unknown extension; CommandError for a missing folder; ImportError without pyarrow.
        """
        if name == STANDARD:
            output = cls(None, format or "jsonl", with_text)
        else:
            path = Path(os.path.realpath(name))
            chosen = format or EXTENSIONS.get(path.suffix.lower())
            if chosen is None:
                raise UsageError(
                    f"-o {name}: the extension {path.suffix!r} does not say what to write; use one of "
                    f"{', '.join(EXTENSIONS)}, or pass --output-format with one of: {', '.join(WRITERS)}."
                )
            if path.is_dir():
                raise CommandError(f"-o {name} is a folder: expected the name of a file.")
            if not path.parent.is_dir():
                raise CommandError(f"-o {name}: there is no folder {str(path.parent)!r}; make it first.")
            output = cls(path, chosen, with_text)
        if output.format == "parquet":
            need("pyarrow.parquet", extra="search", what="Writing Parquet")
        return output

    def check(self, texts: Texts) -> None:
        """Refuse texts that the format cannot keep. Raises: CommandError."""
        longest = max(map(len, texts.texts), default=0)
        if self.format == "npz" and self.with_text and len(texts.texts) * longest * 4 > NPZ_TEXT_LIMIT:
            raise CommandError(
                f".npz keeps every text in as much room as the longest ({longest:,} characters), too much for "
                f"{len(texts.texts):,} texts; pass --no-text, or write .jsonl or .parquet."
            )

    def write(self, texts: Texts, embeddings: Array) -> None:
        """Write ids, texts and (n, D) embeddings."""
        kept = texts.texts if self.with_text else None
        with _opened(self.path) as stream:
            WRITERS[self.format](stream, texts.ids, kept, embeddings)


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[bytes]]:
    """A stream to write to. A file gets its name only when all is written; an error leaves what was there."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        with open(path, "wb") as stream:
            yield stream
        return
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def json_line(value: Any) -> bytes:
    """One line of JSON in UTF-8; what UTF-8 cannot say (half of a surrogate pair) is escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode("ascii")


def _write_npy(stream: IO[bytes], ids: list[int | str], texts: list[str] | None, embeddings: Array) -> None:
    stream.write(_npy(embeddings).getbuffer())


def _write_npz(stream: IO[bytes], ids: list[int | str], texts: list[str] | None, embeddings: Array) -> None:
    """``embeddings``, ``ids`` and ``texts``, for ``numpy.load``; only the texts compress well."""
    import numpy as np

    arrays = {"embeddings": embeddings, "ids": np.array(_alike(ids))}
    if texts is not None:
        arrays["texts"] = np.array(texts, dtype=str)
    whole = io.BytesIO()  # a zip is written back and forth, which a pipe cannot do
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            method = zipfile.ZIP_STORED if name == "embeddings" else zipfile.ZIP_DEFLATED
            archive.writestr(f"{name}.npy", _npy(array).getbuffer(), compress_type=method)
    stream.write(whole.getbuffer())


def _npy(array: Array) -> io.BytesIO:
    import numpy as np

    whole = io.BytesIO()
    np.save(whole, array, allow_pickle=False)
    return whole


def _write_jsonl(stream: IO[bytes], ids: list[int | str], texts: list[str] | None, embeddings: Array) -> None:
    floats = embeddings.dtype.kind == "f"
    for number, row in enumerate(embeddings):
        # str of a float32 is the shortest number that reads back the same
        values = [float(str(value)) for value in row] if floats else row.tolist()
        text = {} if texts is None else {"text": texts[number]}
        stream.write(json_line({"id": ids[number], **text, "embedding": values}))


def _write_parquet(stream: IO[bytes], ids: list[int | str], texts: list[str] | None, embeddings: Array) -> None:
    arrow = need("pyarrow", extra="search", what="Writing Parquet")
    parquet = need("pyarrow.parquet", extra="search", what="Writing Parquet")
    columns = {"id": arrow.array(_alike(ids))}
    if texts is not None:
        columns["text"] = arrow.array(
            [text.encode("utf-8", "replace").decode() for text in texts], arrow.large_string()
        )
    flat = arrow.array(embeddings.reshape(-1))
    columns["embedding"] = arrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    parquet.write_table(arrow.table(columns), stream)


def _alike(ids: list[int | str]) -> list[int] | list[str]:
    """Ids of one type: numbers if all are."""
    numbers = [identity for identity in ids if isinstance(identity, int)]
    return numbers if len(numbers) == len(ids) else [str(identity) for identity in ids]


WRITERS: dict[str, Callable[[IO[bytes], list[int | str], list[str] | None, Array], None]] = {
    "npy": _write_npy,
    "npz": _write_npz,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
