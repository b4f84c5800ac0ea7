"""Columns of texts and numbers made a ``datasets.Dataset``, without a Python object for each cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import need

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

ROWS = 4096
"""So many rows are one piece of a column: Arrow allows 2 GiB of text in one."""


@dataclass(frozen=True)
class Column:
    """One column of a data set.

    Attributes:
        items: (m,) numbers; or places in ``texts``, int64.
        texts: what the places stand for; None for numbers.
        lengths: (rows,) int64, how many items a row has; None for one, which is then no list.
    """

    items: Array
    texts: Sequence[Any] | None = None
    lengths: Array | None = None

    @classmethod
    def of_matrix(cls, numbers: Array) -> Column:
        """Lists of the same length, from (rows, length)."""
        return cls(numbers.ravel(), lengths=np.full(len(numbers), numbers.shape[1]))

    def __len__(self) -> int:
        return len(self.items if self.lengths is None else self.lengths)

    def pieces(self) -> Iterator[tuple[Array, Array | None]]:
        """Items, and where each row's begin and end among them, (rows + 1,) int32, of some rows after others."""
        if self.lengths is None:
            for start in range(0, len(self.items), ROWS):
                yield self.items[start : start + ROWS], None
            return
        ends = np.concatenate([[0], self.lengths.cumsum()])
        for start in range(0, len(self.lengths), ROWS):
            some = ends[start : start + ROWS + 1]
            yield self.items[some[0] : some[-1]], (some - some[0]).astype(np.int32)

    def to_list(self) -> list[Any]:
        """The values of all rows."""
        values = self.items.tolist() if self.texts is None else [self.texts[one] for one in self.items.tolist()]
        if self.lengths is None:
            return values
        ends = self.lengths.cumsum().tolist()
        return [values[end - length : end] for end, length in zip(ends, self.lengths.tolist(), strict=True)]


def to_dataset(columns: Mapping[str, Column]) -> Any:
    """A ``datasets.Dataset`` of columns of one length, in memory.

    Raises: ImportError without ``datasets``.
    """
    datasets = need("datasets", extra="train", what="mine_hard_negatives()")
    sources = {id(column.texts): column.texts for column in columns.values() if column.texts is not None}
    rows = len(next(iter(columns.values())))
    if rows and not all(set(map(type, texts)) <= {str} for texts in sources.values()):  # images, messages, ...
        return datasets.Dataset.from_dict({name: column.to_list() for name, column in columns.items()})
    import pyarrow

    # "large": all texts may be more than 2 GiB, which those of a piece are not
    arrays = {key: pyarrow.array(texts if rows else [], pyarrow.large_string()) for key, texts in sources.items()}
    made = {name: _arrow(column, arrays.get(id(column.texts))) for name, column in columns.items()}
    table = datasets.table.InMemoryTable(pyarrow.table(made))
    return datasets.Dataset(table, fingerprint=_fingerprint(columns, table.schema, arrays))


def _arrow(column: Column, texts: Any) -> Any:
    """The column as ``pyarrow.ChunkedArray``; ``texts``: ``pyarrow.LargeStringArray`` of its texts, if it has any."""
    import pyarrow

    kind = pyarrow.from_numpy_dtype(column.items.dtype) if texts is None else pyarrow.string()
    found = []
    for items, ends in column.pieces():
        values = pyarrow.array(items) if texts is None else texts.take(pyarrow.array(items)).cast(kind)
        found.append(values if ends is None else pyarrow.ListArray.from_arrays(ends, values))
    return pyarrow.chunked_array(found, kind if column.lengths is None else pyarrow.list_(kind))


def _fingerprint(columns: Mapping[str, Column], schema: Any, texts: Mapping[int, Any]) -> str:
    """Names what is in the data set; without one, ``datasets`` would write and hash all its cells."""
    digest = hashlib.sha256(str(schema).encode())
    for column in columns.values():
        for part in (column.items, column.lengths):
            digest.update(b"" if part is None else part.tobytes())
    for array in texts.values():
        for buffer in array.buffers():
            digest.update(b"" if buffer is None else buffer)
    return digest.hexdigest()[:16]
