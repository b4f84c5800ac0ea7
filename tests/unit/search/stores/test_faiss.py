"""The FAISS store: the index is only a shortcut, so it must follow the rows whatever happened to either."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from sentence_transformers.search.stores import faiss as module
from sentence_transformers.search.stores.embedded import EmbeddedStore

pytest.importorskip("faiss", reason="faiss-cpu is not installed")
from sentence_transformers.search.stores.faiss import FaissStore  # noqa: E402 - after the skip

ROWS = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
IDS = [str(number) for number in range(len(ROWS))]


def fill(store: EmbeddedStore, count: int = len(ROWS)) -> None:
    store.add(IDS[:count], ROWS[:count], metadata=[{"number": number} for number in range(count)])


def same(left: EmbeddedStore, right: EmbeddedStore, **options: object) -> bool:
    """Whether both find the same rows for the first ten."""
    found = [
        [[match.id for match in matches] for matches in store.search(ROWS[:10], **options)]  # type: ignore[arg-type]
        for store in (left, right)
    ]
    return found[0] == found[1]


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF4,Flat"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_an_index_that_looks_everywhere_finds_what_exact_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, similarity: str
) -> None:
    monkeypatch.setattr(module, "CODE_CENTROIDS", 1)  # train with few rows
    with FaissStore(tmp_path, factory, search_width=500, similarity=similarity) as store:
        fill(store)
        with EmbeddedStore(tmp_path) as exact:
            assert same(store, exact)
            assert same(store, exact, where={"number": {"$gte": 300}}, top_k=50)
            assert store.delete(where={"number": {"$lt": 200}}) == 200
            assert same(store, exact)
            assert same(store, exact, top_k=1000)
            store.delete(where={"number": {"$lt": 450}})  # more than half: it is built again
            assert same(store, exact, top_k=1000)


def test_few_rows_that_may_be_found_are_all_found(tmp_path: Path) -> None:
    with FaissStore(tmp_path, "HNSW8", search_width=2) as store:
        fill(store)
        [found] = store.search(ROWS[0], top_k=10, where={"number": {"$in": [3, 77, 200, 499]}})
        assert {match.id for match in found} == {"3", "77", "200", "499"}


def test_rows_are_searched_exactly_until_there_are_enough_to_train(tmp_path: Path) -> None:
    with FaissStore(tmp_path, "IVF4,PQ4") as store, EmbeddedStore(tmp_path) as exact:
        fill(store)
        assert same(store, exact)
        store.delete(["3"])
        assert same(store, exact)


def test_a_saved_index_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaissStore(tmp_path, "HNSW16") as store:
        fill(store, 300)
        store.delete(["7"])
        store.persist()
        fill(store)  # and so is "7" again
    added: list[int] = []
    original = module.HeldFaiss.extend
    monkeypatch.setattr(
        module.HeldFaiss,
        "extend",
        lambda self, numbers, blobs: (added.append(len(numbers)), original(self, numbers, blobs)),
    )
    with FaissStore(tmp_path, "HNSW16") as store, EmbeddedStore(tmp_path) as exact:
        assert sum(added) == 500  # all were replaced after the index was saved
        assert same(store, exact)
        store.persist()
    added.clear()
    with FaissStore(tmp_path, "HNSW16") as store:
        assert added == []
        assert store.search(ROWS[0], top_k=1)[0][0].id == "0"


@pytest.mark.parametrize("content", [b"", b"no index"])
def test_an_index_that_cannot_be_read_is_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    with FaissStore(tmp_path, "Flat") as store:
        fill(store)
        store.persist()
    [index] = tmp_path.glob("*.faiss")
    index.write_bytes(content)
    with caplog.at_level(logging.WARNING), FaissStore(tmp_path, "Flat") as store, EmbeddedStore(tmp_path) as exact:
        assert same(store, exact)
    assert "is built again" in caplog.text


def test_the_index_of_other_rows_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, count in (("one", 500), ("other", 20)):
        with FaissStore(tmp_path / name, "Flat") as store:
            fill(store, count)
            store.persist()
    [index] = (tmp_path / "one").glob("*.faiss")
    (tmp_path / "other" / index.name).write_bytes(index.read_bytes())
    with caplog.at_level(logging.WARNING), FaissStore(tmp_path / "other", "Flat") as store:
        assert len(store.search(ROWS[0], top_k=100)[0]) == 20
    assert "does not belong to the rows" in caplog.text


def test_an_index_that_faiss_cannot_make_is_refused_and_the_rows_stay(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        fill(store)
    with pytest.raises(ValueError, match="cannot make an index 'no such index' for embeddings of width 16: could not"):
        FaissStore(tmp_path, "no such index")
    with EmbeddedStore(tmp_path) as store:
        assert store.count() == 500


def test_an_index_that_faiss_cannot_make_is_refused_before_a_row_is_kept(tmp_path: Path) -> None:
    with FaissStore(tmp_path, "PQ5") as store:
        with pytest.raises(ValueError, match="cannot make an index 'PQ5' for embeddings of width 16"):
            fill(store)
        assert store.count() == 0
