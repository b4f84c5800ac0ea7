"""The store in Qdrant, with the engine that its client brings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from sentence_transformers.search.stores.base import Settings, StoreError
from sentence_transformers.search.stores.qdrant import QdrantStore
from tests.unit.search.stores.conditions import CASES, METADATA

qdrant = pytest.importorskip("qdrant_client")

DENSE = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]
SPARSE = torch.tensor([[1.0, 0.0, 2.0], [0.0, -3.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.fixture
def store() -> Iterator[QdrantStore]:
    with QdrantStore(location=":memory:") as made:
        yield made


def found(store: QdrantStore, **asked: Any) -> list[tuple[str, float]]:
    [matches] = store.search(**asked)
    return [(match.id, round(match.score, 6)) for match in matches]


@pytest.mark.parametrize(
    "similarity, expected",
    [
        ("cosine", [("a", 0.6), ("b", 0.0), ("c", -1.0)]),
        ("dot", [("a", 6.0), ("b", 0.0), ("c", -2.0)]),
    ],
)
def test_dense_scores(similarity: str, expected: Any) -> None:
    with QdrantStore(location=":memory:", similarity=similarity) as store:
        store.add(["a", "b", "c"], DENSE)
        assert found(store, embeddings=[2.0, 0.0]) == expected


def test_zero_is_0_from_everything(store: QdrantStore) -> None:
    store.add(["a", "0"], [[3.0, 4.0], [0.0, 0.0]])
    assert found(store, embeddings=[1.0, 0.0]) == [("a", 0.6), ("0", 0.0)]
    assert {score for _, score in found(store, embeddings=[0.0, 0.0])} == {0.0}


def test_sparse_scores(store: QdrantStore) -> None:
    store.add(["a", "b", "c"], sparse_embeddings=SPARSE.to_sparse())
    matches = store.search(sparse_embeddings=torch.tensor([[0.5, 1.0, 1.0], [0.0, 0.0, 0.0]]).to_sparse())
    assert [[(match.id, match.score) for match in one] for one in matches] == [[("a", 2.5), ("b", -3.0)], []]
    assert store.count() == 3


def test_hybrid_scores_are_sums_of_reciprocal_ranks(store: QdrantStore) -> None:
    store.add(["a", "b"], DENSE[:2], sparse_embeddings=SPARSE[:2].to_sparse())
    query = torch.tensor([[1.0, 1.0, 0.0]]).to_sparse()
    [matches] = store.search([[0.0, 1.0]], sparse_embeddings=query)
    # dense: b, a; sparse: a (1), b (-3)
    assert [match.score for match in matches] == pytest.approx([1 / 61 + 1 / 62] * 2)


def test_a_match_has_what_was_kept(store: QdrantStore) -> None:
    store.add(["a", "b"], DENSE[:2], texts=["one", None], metadata=[METADATA["a"], None])
    [[first, second]] = store.search([3.0, 4.0])
    assert (first.id, first.text, first.metadata) == ("a", "one", METADATA["a"])
    assert (second.id, second.text, second.metadata) == ("b", None, {})


def test_a_row_replaces_the_one_before_as_a_whole(store: QdrantStore) -> None:
    store.add(["a"], DENSE[:1], sparse_embeddings=SPARSE[:1].to_sparse(), texts=["old"], metadata=[{"x": 1}])
    store.add(["a"], [[1.0, 0.0]])
    assert store.count() == 1
    [[match]] = store.search([1.0, 0.0])
    assert (match.score, match.text, match.metadata) == (1.0, None, {})
    assert found(store, sparse_embeddings=SPARSE[0].to_sparse()) == []


def test_many_rows_and_queries_go_in_parts(store: QdrantStore) -> None:
    angles = torch.arange(300) / 300
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = [str(number) for number in range(300)]
    store.add(ids, rows)
    assert [matches[0].id for matches in store.search(rows, top_k=1)] == ids
    assert store.delete(ids[:299]) == 299
    assert store.count() == 1


@pytest.mark.parametrize("where, expected", CASES)
def test_conditions(store: QdrantStore, where: Any, expected: str) -> None:
    store.add(list(METADATA), [[1.0]] * len(METADATA), metadata=list(METADATA.values()))
    assert store.count(where) == len(expected)
    assert sorted(match.id for match in store.search([1.0], where=where)[0]) == list(expected)


def test_ranges_of_times(store: QdrantStore) -> None:
    store.add(list(METADATA), [[1.0]] * len(METADATA), metadata=list(METADATA.values()))
    assert [match.id for match in store.search([1.0], where={"on": {"$gt": "2020-06-30"}})[0]] == ["b"]
    assert [match.id for match in store.search([1.0], where={"on": {"$lte": "2020-01-01T01:00:00+01:00"}})[0]] == ["a"]


def test_ranges_of_other_strings_are_refused(store: QdrantStore) -> None:
    store.add(["a"], [[1.0]])
    with pytest.raises(ValueError, match="RFC 3339"):
        store.count({"lang": {"$gt": "en"}})
    with pytest.raises(ValueError, match="double quote"):
        store.count({'"': {"$gt": 1}})


def test_delete_says_how_many_there_were(store: QdrantStore) -> None:
    store.add(["a", "b", "c"], DENSE, metadata=[{"x": 1}, {"x": 2}, {"x": 2}])
    assert store.delete(["a", "no"]) == 1
    assert store.delete(where={"x": 2}) == 2
    assert store.count() == 0


def test_nothing_is_made_before_there_is_something_to_keep(store: QdrantStore) -> None:
    assert (store.count(), store.delete(["a"]), store.delete(where={"x": 1})) == (0, 0, 0)
    assert store.search([1.0]) == [[]]
    assert not store.client.collection_exists("embeddings")


def test_what_another_store_keeps_first_is_found(store: QdrantStore) -> None:
    QdrantStore(client=store.client).add(["a"], [[3.0, 4.0]])
    assert found(store, embeddings=[1.0, 0.0]) == [("a", 0.6)]


def test_a_given_client_stays_open(store: QdrantStore) -> None:
    QdrantStore(client=store.client, width=2).close()
    assert store.count() == 0


def test_another_store_with_other_settings_is_noticed(store: QdrantStore) -> None:
    QdrantStore(client=store.client, similarity="dot").add(["a"], [[3.0, 4.0]])
    with pytest.raises(ValueError, match="has similarity 'dot'"):
        store.add(["b"], [[3.0, 4.0]])


def test_threads_may_make_it_and_fill_it_at_once(store: QdrantStore) -> None:
    start = Barrier(6)

    def work(thread: int) -> None:
        start.wait()
        for turn in range(5):
            store.add([f"{thread} {turn}", "shared"], [[1.0, 0.0]] * 2)
            store.search([1.0, 0.0])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store.count() == 31


def test_it_is_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    with QdrantStore("c", path=str(tmp_path), similarity="dot", notes={"model": "m"}) as store:
        store.add(["a"], sparse_embeddings=SPARSE[:1].to_sparse(), metadata=[{"x": 1}])
        store.add(["b"], [[1.0, 2.0]])
    with QdrantStore("c", path=str(tmp_path), notes={"by": "me"}) as store:
        assert store.settings == Settings("dot", 2, 3, {"model": "m", "by": "me"})
        assert found(store, embeddings=[1.0, 1.0]) == [("b", 3.0)]
        assert found(store, sparse_embeddings=SPARSE[0].to_sparse(), where={"x": 1}) == [("a", 5.0)]
    with QdrantStore("c", path=str(tmp_path)) as store:
        assert store.settings.notes == {"model": "m", "by": "me"}


@pytest.mark.parametrize("asked", [{"width": 3}, {"sparse_width": 4}, {"similarity": "dot"}])
def test_other_settings_are_refused_and_the_folder_is_given_back(tmp_path: Path, asked: dict[str, Any]) -> None:
    QdrantStore("c", path=str(tmp_path), width=2, sparse_width=3).close()
    for _ in range(2):  # a folder that was not given back could not be opened a second time
        with pytest.raises(ValueError, match=next(iter(asked))):
            QdrantStore("c", path=str(tmp_path), **asked)


def test_another_width_is_refused_and_nothing_is_kept(store: QdrantStore) -> None:
    store.add(["a"], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="width 2, got width 1"):
        store.add(["b"], [[1.0]])
    with pytest.raises(ValueError, match="width 2, got width 3"):
        store.search([1.0, 2.0, 3.0])
    assert store.count() == 1


def test_a_collection_of_others_is_refused() -> None:
    client = qdrant.QdrantClient(":memory:")
    client.create_collection("c", vectors_config={})
    with pytest.raises(StoreError, match="'c' of Qdrant was not made by this library"):
        QdrantStore("c", client=client)


def test_a_client_or_options() -> None:
    with pytest.raises(ValueError, match="location"):
        QdrantStore(client=qdrant.QdrantClient(":memory:"), location=":memory:")


def test_no_warnings(store: QdrantStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.add(["a"], [[1.0]])
        store.search([1.0])


def test_the_server_is_looked_for_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[Any] = []

    def client(**given: Any) -> Any:
        options.append(given)
        raise ConnectionError("no server")

    monkeypatch.setattr(qdrant, "QdrantClient", client)
    for given in ({"timeout": 3}, {"host": "far"}):
        with pytest.raises(ConnectionError):
            QdrantStore(**given)
    assert options == [{"url": "http://localhost:6333", "timeout": 3}, {"host": "far"}]


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ImportError, match=r"QdrantStore needs qdrant_client.*sentence-transformers\[engines\]"):
        QdrantStore(location=":memory:")
