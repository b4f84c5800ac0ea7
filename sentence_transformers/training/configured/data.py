"""Datasets of a file of settings: what may be said of one, where it is read from, and which columns are taken.

Everything that can be said without reading is checked in ``DatasetPlan.of``; the rest as soon as rows are there.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from datasets.exceptions import DatasetsError

from ...errors import one_of
from .. import columns as meanings
from .document import Section, expect, shown, texts

logger = logging.getLogger(__name__)

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".txt": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""The extension of a file (before .gz) -> how it is read."""
OF_HUB = ("subset", "split", "revision")
OF_FILES = ("format", "quotes")
KEYS = ("path", "hub", *OF_HUB, *OF_FILES, "where", "limit", "columns", "label")
LABEL = "label"
SCANNED = 10_000  # rows looked at together
LABEL_KEYS = ("column", "divide_by", "classes")


@dataclass(frozen=True)
class Label:
    """Which column is the label, and how numbers are made of it. classes: its texts, in the order of the numbers."""

    column: str
    divide_by: float | None = None
    classes: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, value: Any, place: str) -> Label:
        """Raises: ValueError for what says no label."""
        if isinstance(value, str):
            return cls(value)
        section = Section.of(value, place)
        section.only(LABEL_KEYS)
        column = section.need("column", str, what="the name of the column that holds the labels")
        divide_by = section.get("divide_by", float)
        if divide_by is not None and not divide_by > 0:
            raise ValueError(f"{section.at('divide_by')}: expected a number above 0, found {shown(divide_by)}.")
        classes = section.get("classes", list)
        return cls(column, divide_by, None if classes is None else tuple(classes))


@dataclass
class DatasetPlan:
    """One dataset, as the file describes it.

    Attributes:
        place: of its settings in the file.
        files: to read; empty for one of the Hub.
        hub: its name on the Hub, and what ``datasets.load_dataset`` takes besides.
        columns: names as they shall be -> as they are; None: all.
    """

    place: str
    files: list[Path] = field(default_factory=list)
    format: str = ""
    quotes: bool = True
    hub: dict[str, Any] = field(default_factory=dict)
    where: dict[str, list[Any]] = field(default_factory=dict)
    limit: int | None = None
    columns: dict[str, str] | None = None
    label: Label | None = None
    _rows: Any = None

    @classmethod
    def of(cls, section: Section, folder: Path) -> DatasetPlan:
        """Read the settings of a dataset; keys that are none of ``KEYS`` are not looked at.

        Args:
            folder: relative paths begin here; in the settings they become absolute.

        Raises: ValueError for what cannot be, or a file that is not there.
        """
        made = cls(section.place)
        _check_source(section)
        if "path" in section.values:
            made.files = _files(section, folder)
            made.format = _format(section, made.files)
            made.quotes = section.get("quotes", bool, default=True)
        else:
            name = section.need("hub", str, what="the name of a dataset on the Hub")
            settings = {"path": name, "name": section.get("subset", str), "revision": section.get("revision", str)}
            made.hub = {**settings, "split": section.get("split", str, default="train")}
        where = section.get("where", dict, default={})
        made.where = {key: value if isinstance(value, list) else [value] for key, value in where.items()}
        made.limit = section.get("limit", int)
        if made.limit is not None and made.limit < 1:
            raise ValueError(f"{section.at('limit')}: expected at least 1 row, found {made.limit}.")
        made.columns = _columns(section)
        if section.values.get("label") is not None:
            made.label = Label.of(section.values["label"], section.at("label"))
        return made

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be fetched."""
        return bool(self.files)

    @property
    def is_there(self) -> bool:
        """Whether its rows can be had without fetching."""
        return self.is_local or self._rows is not None

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        if self.files:
            return ", ".join(map(str, self.files))
        name = self.hub["path"] if self.hub["name"] is None else f"{self.hub['path']}/{self.hub['name']}"
        return f"{name} ({self.hub['split']}) of the Hub"

    def raw(self) -> Dataset:
        """All rows that are asked for, with all columns as they are; read once.

        Raises: ValueError for damaged files, names that are not there, or no row at all; OSError.
        """
        if self._rows is None:
            try:
                rows = self._read()
            except DatasetsError as error:
                cause = error if error.__cause__ is None else error.__cause__
                raise ValueError(f"{self.place}: cannot read {self.source}: {cause}.") from error
            self._rows = self._narrowed(rows)
        return self._rows

    def training_rows(self) -> Dataset:
        """The rows with the columns that are asked for, and the label as "label"; checked.

        Raises: ValueError as ``raw``, and for columns that are not there or hold what cannot be trained on.
        """
        rows = self.raw()
        if self.label is not None:
            rows = _labelled(rows, self.label, self.place, self.columns is None)
        if self.columns is not None:
            rows = self._selected(rows)
        _check_inputs(rows, self.place)
        return rows

    def _read(self) -> Dataset:
        if not self.files:
            return datasets.load_dataset(**self.hub)
        names = [str(path) for path in self.files]
        if self.format == "saved":
            found = datasets.load_from_disk(names[0])
            if not isinstance(found, Dataset):
                raise ValueError(f"{self.place}.path: {names[0]} holds several datasets: name the folder of one.")
            return found
        settings: dict[str, Any] = {}
        if self.format in ("csv", "tsv"):  # texts such as "NA" stay texts
            quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
            settings = {"sep": "\t" if self.format == "tsv" else ",", "keep_default_na": False, "quoting": quoting}
        kind = "csv" if self.format == "tsv" else self.format
        return datasets.load_dataset(kind, data_files={"train": names}, split="train", **settings)

    def _narrowed(self, rows: Dataset) -> Dataset:
        for column in self.where:
            _check_column(column, rows, f"{self.place}.where")
        if self.where:
            rows = rows.filter(partial(_is_wanted, self.where))
        if self.limit is not None:
            rows = rows.select(range(min(self.limit, len(rows))))
        if not len(rows):
            because = f" where {self.where}" if self.where else ""
            raise ValueError(f"{self.place}: no rows in {self.source}{because}: expected at least one.")
        return rows

    def _selected(self, rows: Dataset) -> Dataset:
        wanted = dict(self.columns or {})
        for column in wanted.values():
            _check_column(column, rows, f"{self.place}.columns")
        if self.label is not None:
            wanted[LABEL] = LABEL
        taken = rows.select_columns(list(dict.fromkeys(wanted.values())))
        for new, old in wanted.items():
            if new not in taken.column_names and list(wanted.values()).count(old) > 1:
                taken = taken.add_column(new, rows[old][:])
        renamed = {old: new for new, old in wanted.items() if new not in taken.column_names}
        return taken.rename_columns(renamed).select_columns(list(wanted))


# --- what the file says -----------------------------------------------------------------------------------------------


def is_dataset(value: Any) -> bool:
    """Whether settings describe one dataset, rather than several by name."""
    return isinstance(value, str) or (isinstance(value, dict) and ("path" in value or "hub" in value))


def dataset_plan(holder: Section, key: str, folder: Path, allowed: Sequence[str] = KEYS) -> DatasetPlan:
    """The dataset below a key; a text is its path. Raises: ValueError as ``DatasetPlan.of``."""
    if isinstance(holder.values[key], str):
        holder.values[key] = {"path": holder.values[key]}
    section = holder.section(key)
    section.only(allowed)
    return DatasetPlan.of(section, folder)


def _check_source(section: Section) -> None:
    if ("path" in section.values) == ("hub" in section.values):
        raise ValueError(
            f"{section.place}: expected path (a file) or hub (a name on the Hub), and one of them; found the keys "
            f"{list(section.values)}."
        )
    given, others = ("path", OF_HUB) if "path" in section.values else ("hub", OF_FILES)
    for key in others:
        if key in section.values:
            raise ValueError(f"{section.at(key)} does not go with {given}: leave it out.")


def _files(section: Section, folder: Path) -> list[Path]:
    place = section.at("path")
    found: list[Path] = []
    for name in texts(section.values["path"], place):
        path = folder / Path(name).expanduser()
        matching = [path] if path.exists() or "*" not in name else [Path(one) for one in sorted(glob(str(path)))]
        if not matching or not path.exists() and "*" not in name:
            raise ValueError(f"{place}: there is no file {path}. Relative paths begin at the folder of this file.")
        found += [one.resolve() for one in matching]
    section.values["path"] = str(found[0]) if len(found) == 1 else [str(path) for path in found]
    return found


def _format(section: Section, files: list[Path]) -> str:
    given = section.get("format", str)
    if given is not None:
        return str(one_of(section.at("format"), given, sorted({*FORMATS.values()})))
    found = {_format_of(path, section.at("path")) for path in files}
    if len(found) > 1:
        raise ValueError(f"{section.at('path')}: expected files of one format, found {', '.join(sorted(found))}.")
    return found.pop()


def _format_of(path: Path, place: str) -> str:
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return "saved"
        raise ValueError(f"{place}: {path} is a folder: expected files, or a folder of dataset.save_to_disk.")
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    extension = name.suffix.lower()
    if extension not in FORMATS:
        raise ValueError(
            f"{place}: the extension {extension!r} of {path} does not say how to read it; expected one of "
            f"{', '.join(FORMATS)}, also with .gz. Or give format, one of {', '.join(sorted({*FORMATS.values()}))}."
        )
    return FORMATS[extension]


def _columns(section: Section) -> dict[str, str] | None:
    given = section.get("columns", list, dict)
    if given is None:
        return None
    place = section.at("columns")
    if isinstance(given, dict):
        return {str(new): expect(old, f"{place}.{new}", str) for new, old in given.items()}
    names = texts(given, place)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"{place}: {twice[0]!r} is there twice. To use a column twice, give each a name: {{anchor: {twice[0]}, "
            f"positive: {twice[0]}}}."
        )
    return {name: name for name in names}


# --- what the rows are ------------------------------------------------------------------------------------------------


def _check_column(column: str, rows: Dataset, place: str) -> None:
    one_of(f"{place}: a column", column, rows.column_names)


def _is_wanted(where: Mapping[str, Sequence[Any]], row: Mapping[str, Any]) -> bool:
    return all(row[column] in wanted for column, wanted in where.items())


def _labelled(rows: Dataset, label: Label, place: str, takes_all: bool) -> Dataset:
    """The rows with numbers, or lists of numbers, as "label"."""
    here = f"{place}.label"
    _check_column(label.column, rows, here)
    others = [name for name in meanings.LABEL_COLUMNS if name in rows.column_names and name != label.column]
    if others and takes_all:
        raise ValueError(
            f"{here}: {label.column!r} shall be the label, but {others} would be taken for labels too. Name the inputs "
            f"by columns, without {others}."
        )
    if label.classes is not None:
        if isinstance(rows[0][label.column], list):
            raise ValueError(f"{here}.classes: the column {label.column!r} holds lists; expected one of the classes.")
        unknown = sorted({str(one) for one in rows.unique(label.column) if one not in label.classes})
        if unknown:
            raise ValueError(
                f"{here}.classes: the column {label.column!r} holds {unknown[:5]}, which are none of "
                f"{list(label.classes)}. Add them, or leave such rows out: where: {{{label.column}: "
                f"{list(label.classes)}}}."
            )
    else:
        _check_numbers(rows, label.column, here)
    missing = next(_places(rows, label.column, None), None)
    if missing is not None:
        raise ValueError(f"{here}: row {missing + 1} has no value in the column {label.column!r}.")
    if LABEL in rows.column_names and label.column != LABEL:
        rows = rows.remove_columns(LABEL)
    if label.classes is None and label.divide_by is None:
        return rows.rename_column(label.column, LABEL) if label.column != LABEL else rows
    values = rows[label.column][:]
    if label.classes is not None:
        numbers = {name: number for number, name in enumerate(label.classes)}
        values = [numbers[value] for value in values]
    if label.divide_by is not None:
        values = [_divided(value, label.divide_by) for value in values]
    return rows.remove_columns(label.column).add_column(LABEL, values)


def _divided(value: Any, by: float) -> Any:
    return [one / by for one in value] if isinstance(value, list) else value / by


def _check_numbers(rows: Dataset, column: str, here: str) -> None:
    """Raises: ValueError for a label that is text."""
    if rows.features[column] in (datasets.Value("string"), datasets.Value("large_string")):
        raise ValueError(
            f"{here}: the column {column!r} holds text such as {rows.unique(column)[:4]}; expected numbers. Name the "
            f"texts in the order of their numbers: label: {{column: {column}, classes: [...]}}."
        )


def _check_inputs(rows: Dataset, place: str) -> None:
    """Numbers are no inputs; None is none either; an empty text is a reason to look."""
    meanings.check_names(rows.column_names, place)
    label = meanings.label_column(rows.column_names)
    if label is not None:
        _check_numbers(rows, label, f"{place}.label")
    for name in meanings.input_columns(rows.column_names, label):
        kind = rows.features[name]
        dtype = kind.dtype if isinstance(kind, datasets.Value) else ""
        if dtype.startswith(("int", "uint", "float", "double", "bool", "null")):
            raise ValueError(
                f"{place}: the column {name!r} holds {dtype}, expected texts. Name the inputs, in their order, by "
                f"columns: [{', '.join(one for one in rows.column_names if one not in (name, label))}]; and the label, "
                "if there is one, by label."
            )
        if dtype not in ("string", "large_string"):
            continue
        missing = next(_places(rows, name, None), None)
        if missing is not None:
            raise ValueError(f"{place}: row {missing + 1} has no text in the column {name!r}.")
        empty = sum(1 for _ in _places(rows, name, ""))
        if empty:
            logger.warning("%s: %d rows have an empty text in the column %r.", place, empty, name)


def _places(rows: Dataset, column: str, value: Any) -> Iterator[int]:
    """The numbers of the rows with this value, from 0; a column need not fit into memory."""
    number = 0
    for batch in rows.select_columns([column]).iter(SCANNED):
        for one in batch[column]:
            if one == value:
                yield number
            number += 1
