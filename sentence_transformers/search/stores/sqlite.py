"""Rows of a store in one SQLite file: every change is a transaction, there as a whole or not at all.

SQLite is what survives a kill, a full disk and a second process here; nothing else of the embedded stores writes.
Knows nothing of search.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Rows, Settings, StoreError
from .sql import Clause, joined
from .where import Condition, Test, Value, fold

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

FORMAT = 1
APPLICATION = 0x5354_5653
"""Marks the file as one of ours ("STVS"), https://www.sqlite.org/fileformat.html#application_id"""
WAIT_SECONDS = 60.0
"""So long another process may write before this one gives up."""

READ_ROWS = 4096

SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE settings (value TEXT NOT NULL);
-- a number is never given twice: a row that replaces another one has a new number, and what is cached stays right
CREATE TABLE rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL
);
-- float32, little-endian; apart from the rows, so that conditions are tried without reading them
CREATE TABLE dense (number INTEGER PRIMARY KEY REFERENCES rows ON DELETE CASCADE, value BLOB NOT NULL);
-- the dimensions of a row, int32, and behind them as many float32
CREATE TABLE sparse (number INTEGER PRIMARY KEY REFERENCES rows ON DELETE CASCADE, value BLOB NOT NULL);
-- what was deleted, in order, for those who have cached it
CREATE TABLE deleted (place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL);
CREATE TRIGGER deletion AFTER DELETE ON rows BEGIN INSERT INTO deleted (number) VALUES (old.number); END;
"""


class RowFile:
    """The rows in one file. May be used by several threads, and the file by several processes.

    Args:
        path: of the file. create: make it where it is missing.

    Raises: FileNotFoundError; StoreError for a file that is damaged, not ours, or newer than this code.
    """

    def __init__(self, path: Path, create: bool) -> None:
        if not create and not path.is_file():
            raise FileNotFoundError(f"There is no store at {path.parent}: expected the file {path.name} in it.")
        self.path = path
        self._lock = RLock()
        with self._explained():
            self._connection = sqlite3.connect(
                path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Give the file back; what was written stays."""
        with self._lock:
            self._connection.close()

    def version(self) -> tuple[int, int]:
        """Another pair of numbers after every change, whoever made it."""
        with self._lock, self._explained():
            [(others,)] = self._connection.execute("PRAGMA data_version")
            return int(others), self._connection.total_changes

    def settings(self) -> Settings:
        """What holds for all rows."""
        with self._lock, self._explained():
            [(text,)] = self._connection.execute("SELECT value FROM settings")
        return Settings(**json.loads(text))

    def agree(self, asked: Settings) -> Settings:
        """Keep the settings that are ``asked`` for, and return all. Raises: ValueError where they contradict these."""
        here = self.settings()
        if here.agree(asked) == here:
            return here
        with self._transaction() as connection:
            settings = self.settings().agree(asked)
            connection.execute("UPDATE settings SET value = ?", (_settings_text(settings),))
        return settings

    def put(self, rows: Rows) -> None:
        """Keep the rows, in place of those with the same ids."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM rows WHERE id = ?", ((one,) for one in rows.ids))
            [(last,)] = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'rows'")
            numbers = range(last + 1, last + 1 + len(rows.ids))
            metadata = (json.dumps(one, ensure_ascii=False, allow_nan=False) for one in rows.metadata)
            connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?)", zip(numbers, rows.ids, rows.texts, metadata, strict=True)
            )
            if rows.dense is not None:
                blobs = (row.astype("<f4", copy=False).tobytes() for row in rows.dense)
                connection.executemany("INSERT INTO dense VALUES (?, ?)", zip(numbers, blobs, strict=True))
            if rows.sparse is not None:
                blobs = (_sparse_blob(ids, values) for ids, values in rows.sparse)
                connection.executemany("INSERT INTO sparse VALUES (?, ?)", zip(numbers, blobs, strict=True))

    def delete_ids(self, ids: list[str]) -> int:
        """Delete the rows of these ids. Returns: how many there were."""
        with self._transaction() as connection:
            return connection.executemany("DELETE FROM rows WHERE id = ?", ((one,) for one in ids)).rowcount

    def delete_where(self, condition: Condition) -> int:
        """Delete the rows for which the condition holds. Returns: how many there were."""
        clause, values = _clause(condition)
        with self._transaction() as connection:
            return connection.execute(f"DELETE FROM rows WHERE {clause}", values).rowcount

    def count(self, condition: Condition | None) -> int:
        """How many rows there are, of those for which the condition holds."""
        clause, values = _clause(condition)
        with self._lock, self._explained():
            [(count,)] = self._connection.execute(f"SELECT count(*) FROM rows WHERE {clause}", values)
        return int(count)

    def numbers(self, condition: Condition | None) -> Array:
        """The numbers of the rows for which the condition holds: (n,) int64, ascending."""
        clause, values = _clause(condition)
        with self._lock, self._explained():
            found = self._connection.execute(f"SELECT number FROM rows WHERE {clause} ORDER BY number", values)
            return np.fromiter((number for (number,) in found), dtype=np.int64)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, all that is read is of one moment, and other threads wait."""
        with self._lock, self._explained():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def vectors(self, table: str, after: int) -> Iterator[tuple[Array, list[bytes]]]:
        """What is kept in "dense" or "sparse" for rows above a number, some at a time.

        Yields: numbers, (n,) int64, ascending, and the blobs. To be used inside ``reading``.
        """
        found = self._connection.execute(
            f"SELECT number, value FROM {table} WHERE number > ? ORDER BY number", (after,)
        )
        while some := found.fetchmany(READ_ROWS):
            yield np.array([number for number, _ in some], dtype=np.int64), [value for _, value in some]

    def count_vectors(self, table: str) -> int:
        """How many rows have something in "dense" or "sparse"."""
        with self._lock, self._explained():
            [(count,)] = self._connection.execute(f"SELECT count(*) FROM {table}")
        return int(count)

    def deleted(self, after: int) -> tuple[Array, int]:
        """The numbers of rows that were deleted after a place in the order of deletions, and the last place now."""
        with self._lock, self._explained():
            query = "SELECT number, place FROM deleted WHERE place > ? ORDER BY place"
            found = self._connection.execute(query, (after,)).fetchall()
        return np.array([number for number, _ in found], dtype=np.int64), found[-1][1] if found else after

    def texts(self, numbers: list[int]) -> dict[int, tuple[str, str | None, dict[str, Any]]]:
        """Number -> id, text and metadata, of those rows that are still there."""
        query = "SELECT number, id, text, metadata FROM rows WHERE number IN (SELECT value FROM json_each(?))"
        with self._lock, self._explained():
            found = self._connection.execute(query, (json.dumps(numbers),)).fetchall()
        return {number: (one, text, json.loads(metadata)) for number, one, text, metadata in found}

    def persist(self) -> None:
        """Move what stands in the journal beside the file into it, so that the file alone can be copied."""
        with self._lock, self._explained():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def check(self) -> None:
        """Read everything. Raises: StoreError if anything is damaged."""
        settings = self.settings()
        with self._lock, self._explained():
            found = [text for (text,) in self._connection.execute("PRAGMA integrity_check")]
            found += [f"{table} has no row" for table, *_ in self._connection.execute("PRAGMA foreign_key_check")]
            wrong = "SELECT count(*) FROM dense WHERE length(value) IS NOT ?"
            [(count,)] = self._connection.execute(wrong, (4 * (settings.width or 0),))
        problems = [text for text in found if text != "ok"] + [f"{count} embeddings of another width"] * bool(count)
        if problems:
            raise StoreError(f"The store {self.path} is damaged: {'; '.join(problems[:5])}. {_ADVICE}")

    def _open(self) -> None:
        """Make the tables where there are none, and see whose file it is."""
        connection = self._connection
        [(application,)] = connection.execute("PRAGMA application_id")
        [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_master")
        if application == 0 and tables == 0:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            with self._transaction():
                [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_master")
                if not tables:  # nor made by another process meanwhile
                    for statement in _statements(SCHEMA):
                        connection.execute(statement)
                    connection.execute("INSERT INTO settings VALUES (?)", (_settings_text(Settings()),))
            [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        if application != APPLICATION:
            raise StoreError(f"{self.path} is a database, but not a store of this library. Choose another folder.")
        if version > FORMAT:
            raise StoreError(
                f"The store {self.path} has format {version}, and this version of sentence-transformers reads up to "
                f"{FORMAT}. Update it."
            )
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        connection.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no thread and no other process changes the file."""
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Inside, what SQLite says about the file becomes a ``StoreError``."""
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
            raise StoreError(f"Cannot read or write the store {self.path}: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"The store {self.path} is damaged: {error}. {_ADVICE}") from error


_ADVICE = "Take it from a backup, or build it anew; nothing was changed."


def _sparse_blob(ids: Array, values: Array) -> bytes:
    return ids.astype("<i4", copy=False).tobytes() + values.astype("<f4", copy=False).tobytes()


def _settings_text(settings: Settings) -> str:
    return json.dumps({**asdict(settings), "notes": dict(settings.notes)}, ensure_ascii=False)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would end the transaction."""
    held = ""
    for line in script.splitlines():
        held += line.partition("--")[0] + "\n"
        if sqlite3.complete_statement(held):
            yield held
            held = ""


def _clause(condition: Condition | None) -> Clause:
    """The condition as SQL over the table "rows". What is bound are keys and values; nothing of them is in the SQL."""
    if condition is None:
        return "1", []
    return fold(condition, _test, joined("AND", "1"), joined("OR", "0"), lambda part: (f"(NOT {part[0]})", part[1]))


def _test(test: Test) -> Clause:
    source = "json_each(rows.metadata) AS entry"
    if test.operator == "exists":
        clause, values = "1", list[Any]()
    elif test.operator == "contains":
        source += ", json_each(entry.value) AS item"
        clause, values = _compared("item", "=", test.operand)
        clause = f"entry.type = 'array' AND {clause}"
    elif test.operator == "in":
        clause, values = _is_one_of("entry", test.operand)
    else:
        sign = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}[test.operator]
        clause, values = _compared("entry", sign, test.operand)
    return f"EXISTS (SELECT 1 FROM {source} WHERE entry.key = ? AND {clause})", [test.key, *values]


def _compared(table: str, sign: str, value: Value) -> Clause:
    """Whether a value of ``json_each`` compares so with another one of its kind; strings by code points."""
    if isinstance(value, bool):
        return f"({table}.type = '{str(value).lower()}')", []
    return f"({table}.type IN {_KINDS[type(value)]} AND {table}.value {sign} ?)", [_bound(value)]


def _is_one_of(table: str, values: tuple[Value, ...]) -> Clause:
    """Whether a value of ``json_each`` is one of these: compared by kinds, with all of a kind at once."""
    clauses = [_compared(table, "=", value) for value in values if isinstance(value, bool)]
    for kinds in ((str,), (int, float)):
        some = [_bound(value) for value in values if isinstance(value, kinds) and not isinstance(value, bool)]
        if some:
            among = f"{table}.value IN (SELECT value FROM json_each(?))"
            clauses.append((f"({table}.type IN {_KINDS[kinds[0]]} AND {among})", [json.dumps(some)]))
    return joined("OR", "0")(clauses)


_KINDS = {str: "('text')", int: "('integer', 'real')", float: "('integer', 'real')"}


def _bound(value: Value) -> Value:
    """SQLite has integers of 64 bits; larger ones in JSON it reads as floats."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
