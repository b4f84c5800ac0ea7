"""The embedded store: what it says of damaged folders, and that it follows a file which others change."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.base import Settings, StoreError
from sentence_transformers.search.stores.embedded import FILE, EmbeddedStore


def filled(path: Path, count: int = 6) -> EmbeddedStore:
    """A store of rows "0", "1", ... with width 2 and sparse width 5."""
    store = EmbeddedStore(path)
    rows = np.random.default_rng(0).standard_normal((count, 2))
    store.add(
        [str(number) for number in range(count)],
        rows,
        sparse_embeddings=torch.eye(5)[[number % 5 for number in range(count)]].to_sparse(),
        metadata=[{"number": number} for number in range(count)],
    )
    return store


def test_cosine_of_hand_computed_rows(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        store.add(["right", "up", "zero"], [[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        [found] = store.search([3.0, 4.0])
    assert [(match.id, round(match.score, 6)) for match in found] == [("up", 0.8), ("right", 0.6), ("zero", 0.0)]


def test_dot_product_is_kept_with_the_store(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, similarity="dot") as store:
        store.add(["long"], [[3.0, 0.0]])
    with EmbeddedStore(tmp_path) as store:
        assert store.settings.similarity == "dot"
        assert store.search([2.0, 5.0])[0][0].score == 6.0


def test_equal_scores_come_in_the_order_of_adding(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        store.add(["b", "a", "c"], [[1.0, 1.0]] * 3)
        store.add(["b"], [[2.0, 2.0]])  # a row that is replaced goes to the end
        assert [match.id for match in store.search([1.0, 1.0])[0]] == ["a", "c", "b"]


def test_a_missing_store_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no store at .*nothing"):
        EmbeddedStore(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough to look like one" * 50, b"SQLite"])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged: file is not a database. Take it from a backup"):
        EmbeddedStore(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
    with pytest.raises(StoreError, match="not a store of this library"):
        EmbeddedStore(tmp_path)
    assert sqlite3.connect(tmp_path / FILE).execute("SELECT name FROM sqlite_master").fetchall() == [("diary",)]


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match=r"has format 2, .* reads up to 1. Update it"):
        EmbeddedStore(tmp_path)


def test_a_page_that_is_overwritten_is_found(tmp_path: Path) -> None:
    filled(tmp_path, 3000).close()
    content = bytearray((tmp_path / FILE).read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xab" * 4096
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"), EmbeddedStore(tmp_path) as store:
        store.check()
    assert (tmp_path / FILE).read_bytes() == content


def test_embeddings_of_another_size_are_found(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE dense SET value = x'00000000' WHERE number = 2")
    with EmbeddedStore(tmp_path) as store:
        with pytest.raises(StoreError, match="1 embeddings of another width"):
            store.check()
        with pytest.raises(StoreError, match="different sizes"):
            store.search([1.0, 0.0])
        assert store.count() == 6


def test_a_whole_store_passes_its_check(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        store.check()


def test_two_open_stores_see_each_others_rows(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as first, EmbeddedStore(tmp_path) as second:
        assert second.search([1.0, 0.0]) == [[]]
        first.add(["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
        assert [match.id for match in second.search([1.0, 0.0])[0]] == ["a", "b"]
        second.delete(["a"])
        second.add(["c"], [[1.0, 0.0]])
        assert [match.id for match in first.search([1.0, 0.0])[0]] == ["c", "b"]
        with pytest.raises(ValueError, match="width 2, got width 3"):
            first.add(["d"], [[1.0, 0.0, 0.0]])


def test_two_open_stores_cannot_choose_different_widths(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as first, EmbeddedStore(tmp_path) as second:
        first.add(["a"], [[1.0, 0.0]])
        with pytest.raises(ValueError, match="width 2, got width 3"):
            second.add(["b"], [[1.0, 0.0, 0.0]])
        assert first.count() == 1


def test_persist_leaves_one_file_that_can_be_copied(tmp_path: Path) -> None:
    with filled(tmp_path / "here") as store:
        store.persist()
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / FILE).write_bytes((tmp_path / "here" / FILE).read_bytes())
    with EmbeddedStore(tmp_path / "there", create=False) as copy:
        copy.check()
        assert copy.count() == 6
        assert copy.settings == Settings("cosine", 2, 5)


def test_the_memory_follows_many_changes(tmp_path: Path) -> None:
    """Rows come and go in small steps; what is searched is always what is in the file."""
    chance = np.random.default_rng(1)
    there: dict[str, np.ndarray] = {}
    with EmbeddedStore(tmp_path, similarity="dot") as store:
        for _ in range(40):
            ids = [f"row {number}" for number in chance.choice(60, size=chance.integers(1, 20), replace=False)]
            rows = chance.standard_normal((len(ids), 3)).astype(np.float32)
            if chance.random() < 0.3:
                assert store.delete(ids) == sum(one in there for one in ids)
                there = {one: row for one, row in there.items() if one not in ids}
            else:
                store.add(ids, rows)
                there.update(zip(ids, rows, strict=True))
            [found] = store.search(np.ones(3), top_k=100)
            assert {match.id: match.score for match in found} == pytest.approx(
                {one: float(row.sum()) for one, row in there.items()}, abs=1e-5
            )
            assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)


def test_sparse_queries_may_have_dimensions_that_no_row_has(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path, sparse_width=100) as store:
        store.add(["a"], sparse_embeddings=torch.tensor([[0.0, 2.0, *[0.0] * 98]]).to_sparse())
        query = torch.zeros(100)
        query[1], query[99] = 3.0, 5.0
        assert store.search(sparse_embeddings=query.to_sparse())[0][0].score == 6.0


def test_a_search_sees_one_moment_while_rows_are_replaced(tmp_path: Path) -> None:
    with filled(tmp_path, 50) as store:
        rows = np.random.default_rng(1).standard_normal((50, 2))
        ids = [str(number) for number in range(50)]
        is_done = Event()

        def replace() -> None:
            while not is_done.is_set():
                store.add(ids, rows, metadata=[{"number": number} for number in range(50)])

        thread = Thread(target=replace)
        thread.start()
        try:
            for _ in range(150):
                assert len(store.search([1.0, 0.0], top_k=100)[0]) == 50
                assert len(store.search([1.0, 0.0], top_k=100, where={"number": {"$gte": 10}})[0]) == 40
        finally:
            is_done.set()
            thread.join()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count()
