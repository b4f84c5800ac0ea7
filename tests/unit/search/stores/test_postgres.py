"""The store in PostgreSQL, with a private server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.base import Settings, StoreError
from sentence_transformers.search.stores.postgres import PostgresStore
from tests.unit.search.stores.conditions import METADATA

psycopg = pytest.importorskip("psycopg")

DENSE = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]
SPARSE = torch.tensor([[1.0, 0.0, 2.0], [0.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
ODD = ["'; DROP TABLE keep; --", '"; DROP TABLE keep; --', "%s", "50%", "{table}", "$1", "\\", "E'", "a\nb", "Zoë 😀"]
"""What must never be read as a part of a statement."""
Open = Callable[..., PostgresStore]


@pytest.fixture
def open_store(postgres_place: tuple[str, str]) -> Iterator[Open]:
    """``open_store(**settings)``: one more store on the table of this test."""
    opened: list[PostgresStore] = []

    def open_it(options: str = "", **settings: Any) -> PostgresStore:
        conninfo, table = postgres_place
        opened.append(PostgresStore(conninfo + options, settings.pop("table", table), **settings))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> PostgresStore:
    return open_store()


@pytest.fixture
def sql(postgres: str) -> Iterator[Any]:
    """``sql(statement, *values)``: the rows of an administrator's statement."""
    with psycopg.connect(postgres, autocommit=True) as connection:

        def run(statement: str, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

        yield run


@pytest.fixture
def database(postgres: str, sql: Any) -> Iterator[str]:
    """Another database, without pgvector."""
    sql("CREATE DATABASE other TEMPLATE template0")
    yield postgres.replace("dbname=postgres", "dbname=other")
    sql("DROP DATABASE other WITH (FORCE)")


def found(store: PostgresStore, **asked: Any) -> list[tuple[str, float]]:
    [matches] = store.search(**asked)
    return [(match.id, round(match.score, 6)) for match in matches]


# --- searches


@pytest.mark.parametrize(
    "similarity, expected",
    [
        ("cosine", [("a", 0.6), ("b", 0.0), ("c", -1.0)]),
        ("dot", [("a", 6.0), ("b", 0.0), ("c", -2.0)]),
    ],
)
def test_dense_scores(open_store: Open, similarity: str, expected: Any) -> None:
    store = open_store(similarity=similarity)
    store.add(["a", "b", "c"], DENSE)
    assert found(store, embeddings=[2.0, 0.0]) == expected


def test_zero_is_0_from_everything(store: PostgresStore) -> None:
    store.add(["a", "0"], [[3.0, 4.0], [0.0, 0.0]])
    assert found(store, embeddings=[1.0, 0.0]) == [("a", 0.6), ("0", 0.0)]
    assert [str(score) for _, score in found(store, embeddings=[0.0, 0.0])] == ["0.0", "0.0"]


def test_cosine_of_tiny_and_huge_embeddings(store: PostgresStore) -> None:
    # a float32 holds the squares of these; beyond that, lengths are not told apart from 0 or infinity
    store.add(["tiny", "huge"], [[3e-5, 4e-5], [4e18, 3e18]])
    assert found(store, embeddings=[1e-5, 0.0]) == [("huge", 0.8), ("tiny", 0.6)]


def test_sparse_scores(store: PostgresStore) -> None:
    store.add(["a", "b", "c"], sparse_embeddings=SPARSE.to_sparse())
    matches = store.search(sparse_embeddings=torch.tensor([[0.5, 1.0, 1.0], [0.0, 0.0, 0.0]]).to_sparse())
    assert [[(match.id, match.score) for match in one] for one in matches] == [
        [("a", 2.5), ("c", 0.0), ("b", -3.0)],
        [("a", 0.0), ("b", 0.0), ("c", 0.0)],
    ]


def test_hybrid_scores_are_sums_of_reciprocal_ranks(store: PostgresStore) -> None:
    store.add(["a", "b"], DENSE[:2], sparse_embeddings=SPARSE[:2].to_sparse())
    query = torch.tensor([[1.0, 1.0, 0.0]]).to_sparse()
    [matches] = store.search([[0.0, 1.0]], sparse_embeddings=query)
    # dense: b, a; sparse: a (1), b (-3)
    assert [match.score for match in matches] == pytest.approx([1 / 61 + 1 / 62] * 2)


def test_rows_of_the_other_kind_are_not_found(store: PostgresStore) -> None:
    store.add(["a"], DENSE[:1])
    store.add(["b"], sparse_embeddings=SPARSE[:1].to_sparse())
    assert found(store, embeddings=[3.0, 4.0]) == [("a", 1.0)]
    assert found(store, sparse_embeddings=SPARSE[0].to_sparse()) == [("b", 5.0)]


def test_of_equal_scores_the_row_that_was_added_earlier_is_first(store: PostgresStore) -> None:
    store.add(["c", "a"], [[1.0, 0.0]] * 2)
    store.add(["b"], [[1.0, 0.0]])
    store.add(["c"], [[2.0, 0.0]])  # replaced: the last now
    assert [match.id for match in store.search([1.0, 0.0])[0]] == ["a", "b", "c"]
    assert [match.id for match in store.search([1.0, 0.0], top_k=2)[0]] == ["a", "b"]


def test_the_place_of_a_row_in_the_table_does_not_matter(store: PostgresStore, sql: Any) -> None:
    store.add(["a", "b"], [[1.0]] * 2)
    store.delete(["a"])
    sql(f'VACUUM "{store.table}"')
    store.add(["c"], [[1.0]])
    assert sql(f'SELECT id FROM "{store.table}" ORDER BY ctid') == [("c",), ("b",)]
    assert [match.id for match in store.search([1.0], top_k=1)[0]] == ["b"]


# --- rows


def test_a_match_has_what_was_kept(store: PostgresStore) -> None:
    store.add(["a", "b"], DENSE[:2], texts=["one", None], metadata=[METADATA["a"], None])
    [[first, second]] = store.search([3.0, 4.0])
    assert (first.id, first.text, first.metadata) == ("a", "one", METADATA["a"])
    assert (second.id, second.text, second.metadata) == ("b", None, {})


@pytest.mark.parametrize("value", [1, 1.0, 1e20, 1e300, 5e-324, -0.1, 2**70, True, "1", [], [1e16, 10**16, False, "x"]])
def test_metadata_come_back_with_their_types(store: PostgresStore, value: Any) -> None:
    store.add(["a"], [[1.0]], metadata=[{"key": value}])
    assert repr(store.search([1.0])[0][0].metadata) == repr({"key": value})


def test_a_row_replaces_the_one_before_as_a_whole(store: PostgresStore) -> None:
    store.add(["a"], DENSE[:1], sparse_embeddings=SPARSE[:1].to_sparse(), texts=["old"], metadata=[{"x": 1}])
    store.add(["a"], [[1.0, 0.0]])
    assert store.count() == 1
    [[match]] = store.search([1.0, 0.0])
    assert (match.score, match.text, match.metadata) == (1.0, None, {})
    assert found(store, sparse_embeddings=SPARSE[0].to_sparse()) == []


def test_delete_says_how_many_there_were(store: PostgresStore) -> None:
    store.add(["a", "b", "c"], DENSE, metadata=[{"x": 1}, {"x": 2}, {"x": 2}])
    assert store.delete(["a", "no"]) == 1
    assert store.delete(where={"x": 2}) == 2
    assert store.count() == 0


def test_rows_are_there_for_others_when_add_returns(store: PostgresStore, sql: Any) -> None:
    store.add(["a"], [[3.0, 4.0]], sparse_embeddings=SPARSE[:1].to_sparse(), texts=["t"], metadata=[{"x": 1}])
    rows = sql(f'SELECT id, dense::text, sparse::text, text, metadata FROM "{store.table}"')
    assert rows == [("a", "[0.6,0.8]", "{1:1,3:2}/3", "t", {"x": 1})]


# --- strings that look like SQL


@pytest.mark.parametrize("odd", ODD)
def test_odd_strings_are_only_strings(store: PostgresStore, sql: Any, odd: str) -> None:
    sql("CREATE TABLE IF NOT EXISTS keep ()")
    store.add([odd, "other"], DENSE[:2], texts=[odd, None], metadata=[{odd.lstrip("$"): odd, "list": [odd]}, None])
    key = odd.lstrip("$")
    for where in (
        {key: odd},
        {key: {"$in": [odd, *map(str, range(20))]}},
        {key: {"$gte": odd, "$lte": odd}},
        {key: {"$exists": True}},
        {"list": {"$contains": odd}},
    ):
        [[match]] = store.search([1.0, 0.0], where=where)
        assert (match.id, match.text, match.metadata) == (odd, odd, {key: odd, "list": [odd]})
        assert store.count({"$not": where}) == 1
    assert [store.delete([odd]), store.delete(where={key: odd}), store.count()] == [1, 0, 1]
    assert sql("SELECT count(*) FROM pg_class WHERE relname = 'keep'") == [(1,)]


@pytest.mark.parametrize("odd", [*ODD, "select", "Ä" * 31, "a.b", "pg_class'"])
def test_odd_names_of_tables_and_notes_are_only_names(open_store: Open, sql: Any, odd: str) -> None:
    sql("CREATE TABLE IF NOT EXISTS keep ()")
    for _ in range(2):
        store = open_store(table=odd, notes={odd: odd}, index="hnsw")
        store.add(["a", "b"], DENSE[:2], sparse_embeddings=SPARSE[:2].to_sparse())
        assert found(store, embeddings=[3.0, 4.0], where={"$not": {"x": 1}})[0] == ("a", 1.0)
        assert store.delete(["b"]) == 1
        assert store.settings == Settings("cosine", 2, 3, {odd: odd})
    assert sql("SELECT count(*) FROM pg_class WHERE relname = %s", odd) == [(1,)]
    assert sql("SELECT count(*) FROM pg_class WHERE relname = 'keep'") == [(1,)]


@pytest.mark.parametrize("name", ["", "x" * 64, "Ä" * 32, "a\0b"])
def test_names_that_the_server_would_change_are_refused(postgres: str, name: str) -> None:
    with pytest.raises(ValueError, match="table must be a name of 1 to 63 bytes"):
        PostgresStore(postgres, name)


# --- opening


def test_it_is_there_when_it_is_opened_again(open_store: Open) -> None:
    store = open_store(similarity="dot", notes={"model": "m"})
    store.add(["a"], sparse_embeddings=SPARSE[:1].to_sparse(), metadata=[{"x": 1}])
    store.add(["b"], [[1.0, 2.0]])
    again = open_store(notes={"by": "me"})
    assert again.settings == Settings("dot", 2, 3, {"model": "m", "by": "me"})
    assert found(again, embeddings=[1.0, 1.0]) == [("b", 3.0)]
    assert found(again, sparse_embeddings=SPARSE[0].to_sparse(), where={"x": 1}) == [("a", 5.0)]
    assert open_store().settings.notes == {"model": "m", "by": "me"}


def test_settings_without_widths_are_kept(open_store: Open) -> None:
    before = open_store(similarity="dot", notes={"a": "b"}).settings
    assert open_store().settings == before == Settings("dot", None, None, {"a": "b"})


@pytest.mark.parametrize("asked", [{"width": 3}, {"sparse_width": 4}, {"similarity": "dot"}])
def test_other_settings_are_refused(open_store: Open, asked: dict[str, Any]) -> None:
    open_store(width=2, sparse_width=3)
    with pytest.raises(ValueError, match=f"This store has {next(iter(asked))} "):
        open_store(**asked)


def test_another_width_is_refused_and_nothing_is_kept(store: PostgresStore) -> None:
    store.add(["a"], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="width 2, got width 1"):
        store.add(["b"], [[1.0]])
    with pytest.raises(ValueError, match="width 2, got width 3"):
        store.search([1.0, 2.0, 3.0])
    assert store.count() == 1


def test_a_width_beyond_that_of_pgvector_leaves_the_store_as_it_was(store: PostgresStore) -> None:
    with pytest.raises(psycopg.Error, match="16000"):
        store.add(["a"], np.ones((1, 20_000)))
    assert store.settings.width is None
    store.add(["a"], [[1.0]])
    assert store.count() == 1


@pytest.mark.parametrize("comment", [None, "my table", "[1]", '{"a": 1}'])
def test_a_table_of_others_is_refused(open_store: Open, sql: Any, postgres_place: Any, comment: str | None) -> None:
    table = postgres_place[1]
    sql(f'CREATE TABLE "{table}" (id text)')
    if comment is not None:
        sql(f"COMMENT ON TABLE \"{table}\" IS '{comment}'")
    with pytest.raises(StoreError, match=f'"{table}" of PostgreSQL was not made by this library'):
        open_store()


def test_a_newer_format_is_refused(open_store: Open, sql: Any) -> None:
    table = open_store().table
    [(comment,)] = sql("SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE relname = %s", table)
    newer = comment.replace('"format": 1', '"format": 2')
    sql(f"COMMENT ON TABLE \"{table}\" IS '{newer}'")
    with pytest.raises(StoreError, match="format 2"):
        open_store()


def test_a_missing_extension_is_made(database: str) -> None:
    with PostgresStore(database) as store:
        store.add(["a"], [[1.0]])
        assert store.count() == 1


def test_who_may_not_make_the_extension_is_told_so(database: str, sql: Any) -> None:
    sql("DROP ROLE IF EXISTS guest")
    sql("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreError, match="needs the extension pgvector"):
        PostgresStore(database.replace("user=postgres", "user=guest"))


def test_an_older_pgvector_keeps_dense_embeddings_only(database: str) -> None:
    with PostgresStore(database) as store, psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TYPE sparsevec RENAME TO not_there_yet")
        with pytest.raises(StoreError, match=r"pgvector 0\.7"):
            store.add(["a"], [[1.0]], sparse_embeddings=SPARSE[:1].to_sparse())
        assert (store.settings, store.count()) == (Settings("cosine"), 0)
        store.add(["a"], [[1.0]])
        assert found(store, embeddings=[1.0]) == [("a", 1.0)]


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"PostgresStore needs psycopg.*sentence-transformers\[postgres\]"):
        PostgresStore("")


# --- failures


def test_rows_that_fail_change_nothing(store: PostgresStore) -> None:
    store.add(["a"], [[1.0, 0.0]], texts=["old"])
    with pytest.raises(psycopg.DataError):
        store.add(["a", "b", "c"], DENSE, texts=["new", "a NUL: \0", None])
    [[match]] = store.search([1.0, 0.0])
    assert (match.id, match.text) == ("a", "old")
    store.add(["b"], DENSE[:1])
    assert store.count() == 2


def test_a_lost_connection_is_the_drivers_error_and_what_was_kept_stays(open_store: Open, sql: Any) -> None:
    store = open_store(" application_name=lost")
    store.add(["a"], [[1.0]])
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lost'")
    with pytest.raises(psycopg.OperationalError):
        store.add(["a", "b"], [[1.0], [2.0]])
    with pytest.raises(psycopg.OperationalError):
        store.search([1.0])
    assert open_store().count() == 1


def test_a_closed_store_is_the_drivers_error(store: PostgresStore) -> None:
    store.close()
    store.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        store.count()


# --- several stores


def test_two_stores_see_each_others_rows_and_widths(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.add(["a"], [[3.0, 4.0]])
    assert found(second, embeddings=[3.0, 4.0]) == [("a", 1.0)]
    second.add(["b"], sparse_embeddings=SPARSE[:1].to_sparse())
    assert found(first, sparse_embeddings=SPARSE[0].to_sparse()) == [("b", 5.0)]
    assert first.settings == second.settings == Settings("cosine", 2, 3)
    with pytest.raises(ValueError, match="width 2, got width 1"):
        second.add(["c"], [[1.0]])


def test_many_who_open_a_new_table_at_once_share_it(open_store: Open) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda number: open_store(notes={str(number): "was here"}), range(6)))
    stores[0].add(["a"], [[1.0]])
    assert [store.count() for store in stores] == [1] * 6
    assert sorted(open_store().settings.notes) == list("012345")


def test_stores_that_replace_the_same_rows_in_other_orders_take_turns(open_store: Open) -> None:
    ids = [f"r{number}" for number in range(50)]

    def replace(store: PostgresStore, ids: list[str]) -> None:
        for _ in range(10):
            store.add(ids, np.ones((len(ids), 2)))
            store.delete(ids[::7])

    stores = [open_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(replace, one, ids[::step]) for one, step in zip(stores, (1, -1, 1, -1), strict=True)]
        for job in jobs:
            job.result()
    assert 0 < stores[0].count() <= 50


def test_searches_go_on_while_another_changes_rows(open_store: Open) -> None:
    store = open_store(" options='-c statement_timeout=5s'")
    store.add(["a"], [[1.0]])
    other = open_store()
    with other._changing():
        other._run(f'DELETE FROM "{other.table}"')
        assert found(store, embeddings=[1.0]) == [("a", 1.0)]
    assert store.search([1.0]) == [[]]


def test_threads_share_a_store(store: PostgresStore) -> None:
    def work(number: int) -> int:
        store.add([f"t{number}"], [[1.0, float(number)]])
        return len(store.search([1.0, 0.0], top_k=100)[0])

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(work, range(40)))
    assert store.count() == 40
    assert min(seen) >= 1


# --- an index

NO_SCAN = " options='-c enable_seqscan=off'"
"""So that the server uses an index for few rows too."""


def uses_of_index(store: PostgresStore) -> list[int]:
    """How often each index on the dense embeddings was used."""
    store._run("SELECT pg_stat_force_next_flush()")
    query = "SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = %s AND indexrelname LIKE %s"
    return [uses for (uses,) in store._run(query, store.table, "%dense%")]


@pytest.mark.parametrize("server", ["postgres", "older_postgres"])
def test_an_index_is_made_once_and_used_where_it_is_asked_for(server: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(server) + NO_SCAN, "indexed"
    rows = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    with PostgresStore(*place, index="hnsw") as first, PostgresStore(*place, index="hnsw"):
        first.add([str(number) for number in range(500)], rows)
    with PostgresStore(*place, index="hnsw") as again:
        matches = again.search(rows[:20], top_k=3)
        assert [found[0].id for found in matches] == [str(number) for number in range(20)]
        assert all(found[0].score >= found[1].score >= found[2].score for found in matches)
        assert uses_of_index(again) == [20]
    with PostgresStore(*place) as exact:
        assert [[match.id for match in found] for found in exact.search(rows[:20], top_k=1)] == [
            [str(number)] for number in range(20)
        ]
        assert uses_of_index(exact) == [20]


def test_with_an_index_too_as_many_rows_are_found_as_there_are(open_store: Open) -> None:
    rows = np.random.default_rng(1).standard_normal((1500, 4)).astype(np.float32)
    store = open_store(NO_SCAN, index="hnsw", similarity="dot")
    store.add([str(n) for n in range(1500)], rows, metadata=[{"n": n % 50} for n in range(1500)])
    assert [len(store.search(rows[0], top_k=top_k)[0]) for top_k in (900, 1200)] == [900, 1200]
    # 1 in 50: few are among those that the index looks at
    matches = store.search(rows[7], where={"n": {"$lt": 1}}, top_k=40)[0]
    assert [match.id for match in matches] == [
        str(n) for n in sorted(range(0, 1500, 50), key=lambda n: -rows[n] @ rows[7])
    ]


def test_an_unknown_index_is_refused(postgres: str) -> None:
    with pytest.raises(ValueError, match="index must be one of None, 'hnsw'"):
        PostgresStore(postgres, index="flat")
