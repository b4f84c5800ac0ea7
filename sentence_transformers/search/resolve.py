"""Data sets of ids made data sets of texts, row by row as they are read. Knows nothing of what the texts are for."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import need, positive

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
LABELS = ("label", "labels", "score", "scores")
FORMATS = ("columns", "lists")
SUFFIXES = ("_ids", "_idx", "_id")


def resolve_ids(
    lookups: Mapping[str, Any],
    keep_columns: Sequence[str] = LABELS,
    max_list_length: int | None = None,
    output_format: str = "columns",
) -> Callable[[Batch], Batch]:
    """A transform that replaces ids by what they stand for: ``dataset.set_transform(resolve_ids(...))``.

    A column of ids gives one of values, named without ``_id``, ``_ids`` or ``_idx``. A column of lists of ids gives
    ``name_1``, ``name_2``, ..., or one of lists. A list may also be written as a string, ``"[1, 2]"``.

    Args:
        lookups: column -> where its ids are looked up: a ``Dataset``; with the name of its column of ids, by default
            the only one called ``id`` or ``..._id``; and that of its column of values, by default the only other one.
            Values are read when they are needed. Of equal ids the last one counts.
        keep_columns: these are kept as they are, where there are any; all others are left out.
        max_list_length: lists are cut after so many items, those of kept columns too.
        output_format: "columns"; "lists" leaves lists as they are, of any length, and calls them by the plural
            (``document_ids`` -> ``documents``).

    Returns: batch -> batch, the looked up columns first. It raises KeyError for an unknown id or a missing column,
        ValueError for lists of different length with "columns", for lists that cannot be read, and for two columns of
        the same name.
    Raises: TypeError for a lookup that is no ``Dataset``; ValueError for columns that are not in it or cannot be
        guessed, for another format, for a length below 1.
    """
    if output_format not in FORMATS:
        raise ValueError(f'output_format must be "columns" or "lists", got {output_format!r}.')
    if max_list_length is not None:
        positive("max_list_length", max_list_length)
    tables = {column: _Table.of(column, lookup) for column, lookup in lookups.items()}
    return _Resolve(tables, tuple(keep_columns), max_list_length, output_format == "lists")


@dataclass(frozen=True)
class _Resolve:
    """A class and no closure, so that workers of a data loader can be given it."""

    tables: dict[str, _Table]
    keep_columns: tuple[str, ...]
    longest: int | None
    as_lists: bool

    def __call__(self, batch: Batch) -> Batch:
        found: Batch = {}
        for column, table in self.tables.items():
            if column not in batch:
                raise KeyError(f"The dataset has no column {column!r} to look up; it has {sorted(batch)}.")
            for name, values in self._columns(column, self._parsed(column, batch[column]), table).items():
                _put(found, name, values)
        for column in self.keep_columns:
            if column in batch:
                _put(found, column, self._parsed(column, batch[column]))
        return found

    def _parsed(self, column: str, rows: Sequence[Any]) -> list[Any]:
        """The rows, with lists for strings that hold them, cut to the longest allowed."""
        parsed = [_list_in(column, row) for row in rows]
        return [row[: self.longest] if isinstance(row, list) else row for row in parsed]

    def _columns(self, column: str, rows: list[Any], table: _Table) -> Batch:
        """The looked up columns: one, or as many as the lists are long."""
        suffix = next((suffix for suffix in SUFFIXES if column.endswith(suffix) and column != suffix), "")
        name = column.removesuffix(suffix)
        if not any(isinstance(row, list) for row in rows):
            return {name: table.values(column, rows)}
        lists = [row if isinstance(row, list) else [row] for row in rows]
        values = iter(table.values(column, [item for row in lists for item in row]))
        resolved = [[next(values) for _ in row] for row in lists]
        if self.as_lists:
            return {_plural(name) if suffix == "_ids" else name: resolved}
        lengths = sorted({len(row) for row in lists})
        if len(lengths) > 1:
            raise ValueError(
                f"Rows of input column {column!r} hold lists of differing lengths {lengths}, which cannot become "
                'columns. Cut them with max_list_length, or keep lists with output_format="lists".'
            )
        if lengths == [0]:
            raise ValueError(f"Rows of input column {column!r} hold empty lists; filter such rows out of the dataset.")
        return {f"{name}_{place + 1}": list(one) for place, one in enumerate(zip(*resolved, strict=True))}


@dataclass(frozen=True)
class _Table:
    """A data set with one column, and the row of every id."""

    dataset: Any
    value_column: str
    row_of: dict[Any, int]

    @classmethod
    def of(cls, column: str, lookup: Any) -> _Table:
        """From a value of ``lookups``."""
        dataset, *names = lookup if isinstance(lookup, tuple) else (lookup,)
        datasets = need("datasets", extra="train", what="resolve_ids()")
        if not isinstance(dataset, datasets.Dataset) or len(names) > 2:
            what = type(dataset).__name__ if len(names) <= 2 else f"a tuple of {len(names) + 1}"
            raise TypeError(
                f"lookups[{column!r}] must be a Dataset, (Dataset, id column) or (Dataset, id column, value column); "
                f"got {what}."
            )
        columns = dataset.column_names
        id_column = names[0] if names else _guess_id_column(column, columns)
        value_column = names[1] if len(names) == 2 else None
        for kind, name in (("ID", id_column), ("value", value_column)):
            if name is not None and name not in columns:
                raise ValueError(
                    f"lookups[{column!r}]: {kind} column {name!r} is not a column of the lookup dataset (columns: "
                    f"{columns})."
                )
        if value_column is None:
            value_column = _guess_value_column(column, columns, id_column)
        plain = dataset.with_format(None)
        row_of = {key: row for row, key in enumerate(plain[id_column][:])}
        if len(row_of) < len(plain):
            logger.warning(
                "lookups[%r] has duplicate %r values; each of them stands for its last row (%d rows are not used).",
                column,
                id_column,
                len(plain) - len(row_of),
            )
        return cls(plain.select_columns([value_column]), value_column, row_of)

    def values(self, column: str, ids: list[Any]) -> list[Any]:
        """The value of each id; raises KeyError for an unknown one."""
        if not ids:
            return []
        rows = [self.row_of.get(key, -1) for key in ids]
        if -1 in rows:
            unknown = ids[rows.index(-1)]
            raise KeyError(f"ID {unknown!r} from input column {column!r} was not found in its lookup dataset.")
        return list(self.dataset[rows][self.value_column])


def _guess_id_column(column: str, columns: list[str]) -> str:
    found = [name for name in columns if name == "id" or name.endswith("_id")]
    if len(found) != 1:
        raise ValueError(
            f"Cannot infer the ID column of lookups[{column!r}]: expected exactly one column named 'id' or ending in "
            f"'_id', found {found or 'none'} among {columns}. Pass an explicit (dataset, id_col) tuple."
        )
    return found[0]


def _guess_value_column(column: str, columns: list[str], id_column: str) -> str:
    found = [name for name in columns if name != id_column]
    if len(found) != 1:
        raise ValueError(
            f"Cannot infer the value column of lookups[{column!r}]: expected exactly one column besides {id_column!r}, "
            f"found {found or 'none'}. Pass an explicit (dataset, id_col, value_col) tuple."
        )
    return found[0]


def _list_in(column: str, row: Any) -> Any:
    """The row as a list if it is one, or a string that holds one."""
    if isinstance(row, str):
        if not (row.startswith("[") and row.endswith("]")):
            return row
        try:
            return list(ast.literal_eval(row))
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"Column {column!r} looks like it holds string-encoded lists, but a row failed to parse ({error}): "
                f"{row!r}"
            ) from error
    return row if isinstance(row, (str, bytes)) or not isinstance(row, Sequence) else list(row)


def _put(found: Batch, name: str, values: list[Any]) -> None:
    if name in found:
        raise ValueError(
            f"Output column {name!r} is produced more than once. Rename the input columns so that their names differ "
            "without _id, _ids and _idx."
        )
    found[name] = values


def _plural(name: str) -> str:
    is_irregular = name.endswith("y") and name[-2:-1] not in {"a", "e", "i", "o", "u", ""}
    return f"{name[:-1]}ies" if is_irregular else f"{name}s"
