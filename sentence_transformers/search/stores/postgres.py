"""A store in PostgreSQL with pgvector (https://github.com/pgvector/pgvector): one table, searched exactly by default.

Its columns: id, seq (the order in which rows were added), text, metadata; "dense" and "sparse" once there are such
embeddings. The settings are in the comment of the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import pack
from threading import RLock
from typing import TYPE_CHECKING, Any

from ...errors import need, one_of
from .base import Match, Rows, Settings, Store, StoreError
from .held import unit_rows
from .jsonb import clause_of, to_json
from .remote import from_note, note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    import numpy as np

    from .base import SparseRows
    from .where import Condition

    Array: TypeAlias = np.ndarray[Any, Any]

OWNER = "sentence_transformers"
"""Under this name the settings are in the comment, which is JSON."""
LOCK = 0x5354_5653
"""The first number of our advisory locks ("STVS"); the second is that of the table's name."""
LONGEST_NAME = 63
"""So many bytes of a name PostgreSQL keeps, https://www.postgresql.org/docs/current/limits.html"""
LEAST_EXPLORED, MOST_EXPLORED = 100, 1000
"""``hnsw.ef_search``: so many rows an index looks at, and it finds no more than these; 1000 is the most it takes."""


class PostgresStore(Store):
    """Rows in a table of PostgreSQL 13 or newer, with pgvector 0.5 or newer; sparse embeddings need pgvector 0.7.

    A call of ``add`` or ``delete`` is one transaction. Several processes may use a table; those that change it take
    turns, searches go on meanwhile. Several threads may use a store; they take turns on its one connection. Of rows
    with equal scores those that were added earlier come first.

    For "cosine", dense embeddings are kept at unit length. Limits of the server, which raise its errors: no character
    NUL in ids, texts and metadata; about 2,700 bytes for an id; 16,000 dimensions of a dense embedding, and 16,000
    values other than zero in a sparse one. The order of the keys of metadata is not kept.

    Args:
        conninfo: where the database is, such as "postgresql://user@host/name", see ``psycopg.connect``. The extension
            pgvector is created there if it is missing, which not every user may do.
        table: its name, of 1 to 63 bytes; made if it is missing. What is there must have been made by this class. It
            is looked for in the ``search_path`` of the connection.
        similarity: "cosine" (for a new store the default), where a zero embedding is 0 from everything, or "dot".
        width, sparse_width: of embeddings; by default those of the first ones that are added.
        notes: kept with the store, see ``Settings``.
        index: "hnsw" makes an index if there is none, for dense embeddings of up to 2,000 dimensions, and searches
            with it: fast, but some of the closest rows may be missing. Where it finds fewer than ``top_k`` rows,
            because of a condition perhaps, the search is exact after all. None: exact, also where there is an index.

    Raises: ValueError if the store there has other settings; StoreError if it is none, or for the lack of pgvector;
        ImportError without psycopg; psycopg.Error for what the server, or the connection to it, fails to do.
    """

    def __init__(
        self,
        conninfo: str,
        table: str = "embeddings",
        *,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
        index: str | None = None,
    ) -> None:
        self._psycopg: Any = need("psycopg", extra="postgres", what="PostgresStore")
        if not 0 < len(table.encode()) <= LONGEST_NAME or "\0" in table:
            raise ValueError(f"table must be a name of 1 to {LONGEST_NAME} bytes, got {table!r}.")
        self.table = table
        self.index = one_of("index", index, (None, "hnsw"))
        self._lock = RLock()
        # not prepared: a plan for any query knows less than one for this query, and poolers lose them
        self._connection = self._psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        self._connection.isolation_level = self._psycopg.IsolationLevel.READ_COMMITTED
        self._name = self._psycopg.sql.Identifier(table).as_string(self._connection)
        self._table = self._name.replace("%", "%%")  # where values are bound, % marks their places
        try:
            super().__init__(self._agree(Settings(similarity, width, sparse_width, notes or {})))
        except BaseException:
            self._connection.close()
            raise

    @property
    def settings(self) -> Settings:
        """What holds for all rows, also where another process has just said so."""
        if self._settings.width is None or self._settings.sparse_width is None:
            self._settings = self._read() or self._settings
        return self._settings

    def persist(self) -> None:
        """Nothing to do: rows are kept when ``add`` returns."""

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _prepare(self, settings: Settings) -> None:
        self._agree(settings)

    def _put(self, rows: Rows) -> None:
        columns: dict[str, Sequence[Any]] = {
            "id": rows.ids,
            "text": rows.texts,
            "metadata": [b"\x01" + to_json(one).encode() for one in rows.metadata],
        }
        if rows.dense is not None:
            columns["dense"] = _dense_bytes(self._scaled(rows.dense))
        if rows.sparse is not None:
            columns["sparse"] = _sparse_bytes(rows.sparse, self._settings.sparse_width or 0)
        statement = f"COPY {self._name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        with self._changing():
            self._run(f"DELETE FROM {self._table} WHERE id = ANY(%s)", rows.ids)
            with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in zip(*columns.values(), strict=True):
                    copy.write_row(row)

    def _delete_ids(self, ids: list[str]) -> int:
        with self._changing():
            return int(self._run(f"DELETE FROM {self._table} WHERE id = ANY(%s)", ids).rowcount)

    def _delete_where(self, condition: Condition) -> int:
        clause, values = clause_of(condition)
        with self._changing():
            return int(self._run(f"DELETE FROM {self._table} WHERE {clause}", *values).rowcount)

    def _count(self, condition: Condition | None) -> int:
        clause, values = clause_of(condition)
        with self._lock:
            [(count,)] = self._run(f"SELECT count(*) FROM {self._table} WHERE {clause}", *values)
        return int(count)

    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        texts = [json.dumps(query.tolist()) for query in self._scaled(queries)]
        found = []
        for text in texts:
            matches = self._indexed(text, limit, condition) if self.index and limit <= MOST_EXPLORED else []
            found.append(matches if len(matches) == limit else self._exact("dense", text, limit, condition))
        return found

    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]:
        width = self._settings.sparse_width or 0
        return [self._exact("sparse", _sparse_text(*query, width), limit, condition) for query in queries]

    def _indexed(self, query: str, limit: int, condition: Condition | None) -> list[Match]:
        explored = min(MOST_EXPLORED, max(LEAST_EXPLORED, 2 * limit))
        with self._lock, self._connection.transaction():
            self._run("SELECT set_config('hnsw.ef_search', %s, true)", str(explored))
            return self._closest("dense", "(dense <#> %s::vector)", "distance", query, limit, condition)

    def _exact(self, column: str, query: str, limit: int, condition: Condition | None) -> list[Match]:
        kind = {"dense": "vector", "sparse": "sparsevec"}[column]
        # no index is in the order of this sum
        return self._closest(column, f"({column} <#> %s::{kind}) + 0", "distance, seq", query, limit, condition)

    def _closest(
        self, column: str, distance: str, order: str, query: str, limit: int, condition: Condition | None
    ) -> list[Match]:
        """The matches of one query, best first.

        Args:
            distance: the negated dot product, in SQL. order: that of which the first rows are taken.
        """
        clause, values = clause_of(condition)
        statement = (
            "SELECT id, distance, text, metadata FROM ("
            f"SELECT id, {distance} AS distance, text, metadata, seq FROM {self._table} "
            f"WHERE {column} IS NOT NULL AND {clause} ORDER BY {order} LIMIT %s) AS found ORDER BY distance, seq"
        )
        with self._lock:
            found = self._run(statement, query, *values, limit).fetchall()
        # 0 - x and not -x, which is -0.0 for 0.0
        return [Match(one, 0.0 - far, text, metadata) for one, far, text, metadata in found]

    def _scaled(self, rows: Array) -> Array:
        """So that the dot product is the similarity; zero stays zero."""
        return unit_rows(rows) if self._settings.similarity == "cosine" else rows

    def _run(self, statement: str, *values: Any) -> Any:
        """A cursor. Of what others choose, only the quoted name of the table is part of a statement."""
        return self._connection.execute(statement, values)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction, while no other one of ours changes the table."""
        with self._lock, self._connection.transaction():
            self._run("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", LOCK, self.table)
            yield

    def _agree(self, asked: Settings) -> Settings:
        """Keep the settings that are ``asked`` for, make what they need, and return all. Raises: see the class."""
        with self._lock:
            here = self._read()
            if here is None or here.agree(asked) != here:
                self._create_extension()
                with self._changing():
                    here = self._make(self._read(), asked)
            if self.index and here.width:
                self._create_index()
        return here

    def _read(self) -> Settings | None:
        """The settings of the table; None if there is no table."""
        with self._lock:
            query = "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)"
            found = self._run(query, self._name).fetchall()
        return from_note(_noted(found[0][0]), f"The table {self._name} of PostgreSQL") if found else None

    def _make(self, here: Settings | None, asked: Settings) -> Settings:
        """The table, or what is missing of it."""
        settings = (here or Settings()).agree(asked)
        if here is None:
            self._run(
                f'CREATE TABLE {self._table} (id text COLLATE "C" PRIMARY KEY, '
                "seq bigint GENERATED ALWAYS AS IDENTITY, text text, metadata jsonb NOT NULL)"
            )
            self._run(f"CREATE INDEX ON {self._table} USING gin (metadata jsonb_path_ops)")
            here = Settings()
        if settings.width != here.width:
            self._run(f"ALTER TABLE {self._table} ADD COLUMN dense vector({int(settings.width or 0)})")
        if settings.sparse_width != here.sparse_width:
            if self._run("SELECT to_regtype('sparsevec')").fetchone() == (None,):
                raise StoreError("Sparse embeddings need pgvector 0.7 or newer, and the server has an older one.")
            self._run(f"ALTER TABLE {self._table} ADD COLUMN sparse sparsevec({int(settings.sparse_width or 0)})")
        text = self._psycopg.sql.Literal(json.dumps({OWNER: note(settings)})).as_string(self._connection)
        self._run(f"COMMENT ON TABLE {self._table} IS {text.replace('%', '%%')}")
        return settings

    def _create_extension(self) -> None:
        if self._run("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchall():
            return
        try:
            with self._connection.transaction():
                self._run("SELECT pg_advisory_xact_lock(%s, 0)", LOCK)
                self._run("CREATE EXTENSION IF NOT EXISTS vector")
        except self._psycopg.Error as error:
            raise StoreError(
                "PostgresStore needs the extension pgvector in the database. Install it on the server, and let an "
                f'administrator say there "CREATE EXTENSION vector". ({error})'
            ) from error

    def _create_index(self) -> None:
        query = (
            "SELECT 1 FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
            "WHERE indrelid = to_regclass(%s) AND amname = 'hnsw'"
        )
        if not self._run(query, self._name).fetchall():
            with self._changing():
                if not self._run(query, self._name).fetchall():  # nor made by another process meanwhile
                    self._run(f"CREATE INDEX ON {self._table} USING hnsw (dense vector_ip_ops)")


def _noted(comment: str | None) -> dict[str, Any] | None:
    """What was noted in the comment of a table; None if that is not ours."""
    try:
        found = json.loads(comment or "null")
    except ValueError:
        return None
    return found.get(OWNER) if isinstance(found, dict) else None


def _dense_bytes(rows: Array) -> list[bytes]:
    """(n, D) as pgvector's ``vector_recv`` reads them: D, 0 (both int16), and D float32, all big-endian."""
    head = pack(">HH", rows.shape[1], 0)
    return [head + row.tobytes() for row in rows.astype(">f4")]


def _sparse_bytes(rows: SparseRows, width: int) -> list[bytes]:
    """As ``sparsevec_recv`` reads them: V, k, 0, k dimensions (all int32), and k float32, all big-endian."""
    return [
        pack(">iii", width, len(ids), 0) + ids.astype(">i4").tobytes() + values.astype(">f4").tobytes()
        for ids, values in rows
    ]


def _sparse_text(ids: Array, values: Array, width: int) -> str:
    """As ``sparsevec_in`` reads it, which counts dimensions from 1."""
    pairs = (f"{place + 1}:{value!r}" for place, value in zip(ids.tolist(), values.tolist(), strict=True))
    return f"{{{','.join(pairs)}}}/{width}"
