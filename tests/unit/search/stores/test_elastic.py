"""The store in Elasticsearch, against a small one in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch

from sentence_transformers.search.stores import elastic
from sentence_transformers.search.stores.base import Settings, StoreError
from sentence_transformers.search.stores.elastic import ElasticsearchStore
from tests.unit.search.stores.conditions import CASES, METADATA
from tests.unit.search.stores.fake_elastic import FakeElastic, running

elasticsearch = pytest.importorskip("elasticsearch")

DENSE = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]
SPARSE = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.fixture
def server() -> Iterator[FakeElastic]:
    with running() as made:
        yield made


@pytest.fixture
def store(server: FakeElastic) -> Iterator[ElasticsearchStore]:
    with ElasticsearchStore(hosts=server.address) as made:
        yield made


def found(store: ElasticsearchStore, **asked: Any) -> list[tuple[str, float]]:
    [matches] = store.search(**asked)
    return [(match.id, round(match.score, 6)) for match in matches]


@pytest.mark.parametrize(
    "similarity, expected",
    [
        ("cosine", [("a", 0.6), ("b", 0.0), ("c", -1.0)]),
        ("dot", [("a", 6.0), ("b", 0.0), ("c", -2.0)]),
    ],
)
def test_dense_scores(server: FakeElastic, similarity: str, expected: Any) -> None:
    with ElasticsearchStore(hosts=server.address, similarity=similarity) as store:
        store.add(["a", "b", "c"], DENSE)
        assert found(store, embeddings=[2.0, 0.0]) == expected


def test_zero_is_0_from_everything(store: ElasticsearchStore) -> None:
    store.add(["a", "0"], [[3.0, 4.0], [0.0, 0.0]])
    assert found(store, embeddings=[1.0, 0.0]) == [("a", 0.6), ("0", 0.0)]
    assert found(store, embeddings=[0.0, 0.0]) == [("0", 0.0), ("a", 0.0)]


def test_equal_scores_are_ordered_by_id(store: ElasticsearchStore) -> None:
    store.add(["b", "c", "a"], [[1.0, 0.0]] * 3)
    assert [match.id for match in store.search([1.0, 0.0], top_k=2)[0]] == ["a", "b"]


def test_sparse_scores(store: ElasticsearchStore) -> None:
    store.add(["a", "b", "c"], sparse_embeddings=SPARSE.to_sparse())
    matches = store.search(sparse_embeddings=torch.tensor([[0.5, 0.5, 1.0], [0.0, 0.0, 0.0]]).to_sparse())
    assert [[(match.id, match.score) for match in one] for one in matches] == [[("a", 2.5), ("b", 1.5)], []]
    assert store.count() == 3


def test_sparse_values_must_be_above_0(store: ElasticsearchStore) -> None:
    with pytest.raises(ValueError, match=r"above 0 only, got -1\.0"):
        store.add(["a", "b"], sparse_embeddings=torch.tensor([[1.0], [-1.0]]).to_sparse())
    assert store.count() == 0


def test_hybrid_scores_are_sums_of_reciprocal_ranks(store: ElasticsearchStore) -> None:
    store.add(["a", "b"], DENSE[:2], sparse_embeddings=SPARSE[:2].to_sparse())
    [matches] = store.search([[0.0, 1.0]], sparse_embeddings=torch.tensor([[1.0, 1.0, 0.0]]).to_sparse())
    # dense: b (1), a (0.8); sparse: b (3), a (1)
    assert [match.id for match in matches] == ["b", "a"]
    assert [match.score for match in matches] == pytest.approx([2 / 61, 2 / 62])


def test_a_match_has_what_was_kept(store: ElasticsearchStore) -> None:
    store.add(["a", "b"], DENSE[:2], texts=["one", None], metadata=[METADATA["a"], None])
    [[first, second]] = store.search([3.0, 4.0])
    assert (first.id, first.text, first.metadata) == ("a", "one", METADATA["a"])
    assert (second.id, second.text, second.metadata) == ("b", None, {})


def test_a_row_replaces_the_one_before_as_a_whole(store: ElasticsearchStore) -> None:
    store.add(["a"], DENSE[:1], sparse_embeddings=SPARSE[:1].to_sparse(), texts=["old"], metadata=[{"x": 1}])
    store.add(["a"], [[1.0, 0.0]])
    assert store.count() == 1
    [[match]] = store.search([1.0, 0.0])
    assert (match.score, match.text, match.metadata) == (1.0, None, {})
    assert found(store, sparse_embeddings=SPARSE[0].to_sparse()) == []


def test_rows_can_be_found_when_they_are_acknowledged(server: FakeElastic, store: ElasticsearchStore) -> None:
    store.add(["a"], DENSE[:1])
    assert [options["refresh"] for _, path, options in server.requests if path == "/_bulk"] == ["wait_for"]
    assert server.requests[-1][1] == "/_bulk"
    store.delete(["a"])
    assert server.requests[-1][2]["refresh"] == "true"


def test_many_rows_go_in_parts_and_wait_once(server: FakeElastic, store: ElasticsearchStore) -> None:
    store.add([str(number) for number in range(1001)], [[1.0]] * 1001)
    assert [path for _, path, _ in server.requests[-4:]] == ["/_bulk"] * 3 + ["/embeddings/_refresh"]
    assert store.count() == 1001


def test_a_row_that_is_not_taken_is_an_error(store: ElasticsearchStore) -> None:
    with pytest.raises(elasticsearch.helpers.BulkIndexError):
        store.add(["a"], [[1.0]], metadata=[{"long": "x" * 40_000}])


@pytest.mark.parametrize(
    "where, expected",
    [
        *CASES,
        ({"lang": {"$gt": "EN"}}, "ab"),
        ({"lang": {"$gte": "EN", "$lt": "en"}}, "bc"),
        ({'a".b[0]': {"$gte": ""}}, "c"),
    ],
)
def test_conditions(store: ElasticsearchStore, where: Any, expected: str) -> None:
    store.add(list(METADATA), [[1.0]] * len(METADATA), metadata=list(METADATA.values()))
    assert store.count(where) == len(expected)
    assert [match.id for match in store.search([1.0], where=where)[0]] == list(expected)


def test_a_condition_holds_for_a_sparse_search(store: ElasticsearchStore) -> None:
    store.add(["a", "b"], sparse_embeddings=torch.ones(2, 1).to_sparse(), metadata=[{"x": 1}, {"x": 2}])
    assert found(store, sparse_embeddings=torch.ones(1, 1).to_sparse(), where={"x": 2}) == [("b", 1.0)]


def test_delete_says_how_many_there_were(store: ElasticsearchStore) -> None:
    store.add(["a", "b", "c"], DENSE, metadata=[{"x": 1}, {"x": 2}, {"x": 2}])
    assert store.delete(["a", "no"]) == 1
    assert store.delete(where={"x": 2}) == 2
    assert store.count() == 0


def test_nothing_is_made_before_there_is_something_to_keep(server: FakeElastic, store: ElasticsearchStore) -> None:
    assert (store.count(), store.delete(["a"]), store.delete(where={"x": 1})) == (0, 0, 0)
    assert store.search([1.0]) == [[]]
    assert server.indices == {}


def test_threads_may_make_it_and_fill_it_at_once(store: ElasticsearchStore) -> None:
    start = Barrier(6)

    def work(thread: int) -> None:
        start.wait()
        for turn in range(5):
            store.add([f"{thread} {turn}", "shared"], [[1.0, 0.0]] * 2)
            store.search([1.0, 0.0])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store.count() == 31


def test_it_is_there_when_it_is_opened_again(server: FakeElastic) -> None:
    with ElasticsearchStore("i", hosts=server.address, similarity="dot", notes={"model": "m"}) as store:
        store.add(["a"], sparse_embeddings=SPARSE[:1].to_sparse(), metadata=[{"x": 1}])
        store.add(["b"], [[1.0, 2.0]])
    with ElasticsearchStore("i", hosts=server.address, notes={"by": "me"}) as store:
        assert store.settings == Settings("dot", 2, 3, {"model": "m", "by": "me"})
        assert found(store, embeddings=[1.0, 1.0]) == [("b", 3.0)]
        assert found(store, sparse_embeddings=SPARSE[0].to_sparse(), where={"x": 1}) == [("a", 5.0)]
    with ElasticsearchStore("i", hosts=server.address) as store:
        assert store.settings.notes == {"model": "m", "by": "me"}


def test_what_another_store_keeps_first_is_found(server: FakeElastic, store: ElasticsearchStore) -> None:
    with ElasticsearchStore(hosts=server.address) as other:
        other.add(["a"], [[3.0, 4.0]])
    assert found(store, embeddings=[1.0, 0.0]) == [("a", 0.6)]


@pytest.mark.parametrize("asked", [{"width": 3}, {"sparse_width": 4}, {"similarity": "dot"}])
def test_other_settings_are_refused(server: FakeElastic, asked: dict[str, Any]) -> None:
    ElasticsearchStore("i", hosts=server.address, width=2, sparse_width=3).close()
    with pytest.raises(ValueError, match=next(iter(asked))):
        ElasticsearchStore("i", hosts=server.address, **asked)


def test_another_width_is_refused_and_nothing_is_kept(store: ElasticsearchStore) -> None:
    store.add(["a"], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="width 2, got width 1"):
        store.add(["b"], [[1.0]])
    with pytest.raises(ValueError, match="width 2, got width 3"):
        store.search([1.0, 2.0, 3.0])
    assert store.count() == 1


def test_an_index_of_others_is_refused(server: FakeElastic) -> None:
    server.indices["i"] = {"mappings": {"properties": {}}, "documents": {}}
    with pytest.raises(StoreError, match="'i' of Elasticsearch was not made by this library"):
        ElasticsearchStore("i", hosts=server.address)


def test_a_newer_format_is_refused(server: FakeElastic) -> None:
    ElasticsearchStore("i", hosts=server.address, width=2).close()
    server.indices["i"]["mappings"]["_meta"][elastic.OWNER]["format"] = 2
    with pytest.raises(StoreError, match="format 2"):
        ElasticsearchStore("i", hosts=server.address)


def test_a_given_client_stays_open(server: FakeElastic) -> None:
    client = elasticsearch.Elasticsearch(server.address)
    with ElasticsearchStore(client=client, width=1):
        pass
    assert client.count(index="embeddings", query={"match_all": {}})["count"] == 0
    with pytest.raises(ValueError, match="hosts"):
        ElasticsearchStore(client=client, hosts=server.address)
    client.close()


def test_the_server_is_looked_for_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[Any] = []

    def client(**given: Any) -> Any:
        options.append(given)
        raise ConnectionError("no server")

    monkeypatch.setattr(elasticsearch, "Elasticsearch", client)
    for given in ({"request_timeout": 3}, {"cloud_id": "x"}):
        with pytest.raises(ConnectionError):
            ElasticsearchStore(**given)
    assert options == [{"hosts": "http://localhost:9200", "request_timeout": 3}, {"cloud_id": "x"}]


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elasticsearch", None)
    with pytest.raises(ImportError, match=r"ElasticsearchStore needs elasticsearch.*sentence-transformers\[engines\]"):
        ElasticsearchStore()
