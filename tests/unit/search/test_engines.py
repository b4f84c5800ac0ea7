"""Sparse search engines: Qdrant and Seismic as they are, Elasticsearch and OpenSearch against a server of one page."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from sentence_transformers.search import engines
from sentence_transformers.search.engines import (
    semantic_search_elasticsearch,
    semantic_search_opensearch,
    semantic_search_qdrant,
    semantic_search_seismic,
)

CORPUS = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).to_sparse()
QUERIES = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 4.0]]).to_sparse()
BEST = [
    [{"corpus_id": 0, "score": 3.0}, {"corpus_id": 2, "score": 1.0}],
    [{"corpus_id": 2, "score": 4.0}, {"corpus_id": 1, "score": 3.0}],
]

DOCUMENTS = [[("a.b", 1.0), ("c", 2.0)], [("d", 3.0)], [("c", 1.0), ("e", 1.0)]]
QUESTIONS = [[("a.b", 1.0), ("c", 1.0)], [("d", 1.0), ("e", 4.0)]]


class Server(ThreadingHTTPServer):
    """What Elasticsearch and OpenSearch have in common, as far as it is used. ``requests``: (method, path, body)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.requests: list[tuple[str, str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self, ending: str) -> list[Any]:
        return [json.loads(body) for _, path, body in self.requests if path.partition("?")[0].endswith(ending)]

    def bulk(self) -> list[Any]:
        text = next(body for _, path, body in self.requests if path.endswith("/_bulk"))
        return [json.loads(line) for line in text.splitlines()]


class Page(BaseHTTPRequestHandler):
    """Says yes to everything, and finds documents 1 and 0 for every query."""

    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.requests.append((self.command, self.path, body))
        found: dict[str, Any] = {"acknowledged": True}
        if self.path.partition("?")[0].endswith("/_search"):
            found = {"hits": {"hits": [{"_id": "1", "_score": 2.5}, {"_id": "0", "_score": 1}]}}
        if self.path.endswith("/_bulk"):
            found = {"errors": False, "items": [{"index": {"status": 201}} for _ in body.splitlines()[::2]]}
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", self.headers.get("Accept", "application/json").split(",")[0])
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


# --- Qdrant


def test_qdrant_ranks_by_dot_product() -> None:
    pytest.importorskip("qdrant_client")
    hits, seconds = semantic_search_qdrant(QUERIES, CORPUS, top_k=2, location=":memory:")
    assert hits == BEST
    assert seconds > 0


def test_qdrant_gives_the_index_and_takes_it_again() -> None:
    pytest.importorskip("qdrant_client")
    _, _, index = semantic_search_qdrant(QUERIES, CORPUS, output_index=True, location=":memory:")
    assert semantic_search_qdrant(QUERIES[0], corpus_index=index, top_k=2)[0] == BEST[:1]


def test_qdrant_does_not_touch_the_corpus_when_there_is_an_index() -> None:
    pytest.importorskip("qdrant_client")
    _, _, index = semantic_search_qdrant(QUERIES, CORPUS, output_index=True, location=":memory:")
    assert semantic_search_qdrant(QUERIES, CORPUS * -1, corpus_index=index, top_k=2)[0] == BEST


def test_qdrant_is_looked_for_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    qdrant = pytest.importorskip("qdrant_client")
    options: list[Any] = []

    def client(**given: Any) -> Any:
        options.append(given)
        raise ConnectionError("no server")

    monkeypatch.setattr(qdrant, "QdrantClient", client)
    with pytest.raises(ConnectionError):
        semantic_search_qdrant(QUERIES, CORPUS, timeout=3)
    assert options == [{"url": "http://localhost:6333", "timeout": 3}]


@pytest.mark.parametrize("queries, corpus, said", [(QUERIES.to_dense(), CORPUS, "Query"), (QUERIES, [1.0], "Corpus")])
def test_qdrant_needs_sparse_embeddings(queries: Any, corpus: Any, said: str) -> None:
    pytest.importorskip("qdrant_client")
    with pytest.raises(ValueError, match=f"{said} embeddings must be a sparse COO tensor"):
        semantic_search_qdrant(queries, corpus, location=":memory:")


# --- Elasticsearch


def test_elasticsearch_puts_the_corpus_in(server: Server) -> None:
    pytest.importorskip("elasticsearch")
    _, _, (_, index) = semantic_search_elasticsearch(QUESTIONS, DOCUMENTS, output_index=True, hosts=server.address)
    created, bulk, refreshed = server.requests[:3]
    assert created[:2] == ("PUT", f"/{index}")
    assert json.loads(created[2])["mappings"]["properties"]["tokens"] == {"type": "rank_features"}
    assert server.bulk()[:2] == [
        {"index": {"_index": index, "_id": "0"}},
        {"id": "0", "tokens": {"a_b": 1.0, "c": 2.0}},
    ]
    assert len(server.bulk()) == 2 * len(DOCUMENTS)
    assert refreshed[:2] == ("POST", f"/{index}/_refresh")


def test_elasticsearch_asks_for_every_token(server: Server) -> None:
    pytest.importorskip("elasticsearch")
    hits, _ = semantic_search_elasticsearch(QUESTIONS, DOCUMENTS, top_k=2, hosts=server.address)
    first, _ = server.bodies("/_search")
    assert first["size"] == 2
    assert first["query"]["bool"]["should"] == [
        {"rank_feature": {"field": "tokens.a_b", "saturation": {}, "boost": 1.0}},
        {"rank_feature": {"field": "tokens.c", "saturation": {}, "boost": 1.0}},
    ]
    assert hits == [[{"corpus_id": 1, "score": 2.5}, {"corpus_id": 0, "score": 1.0}]] * 2


def test_of_tokens_that_elasticsearch_cannot_tell_apart_the_heaviest_counts(server: Server) -> None:
    pytest.importorskip("elasticsearch")
    semantic_search_elasticsearch([[("_", 1.0)]], [[(".", 2.0), ("_", 0.5)]], hosts=server.address)
    assert server.bulk()[1]["tokens"] == {"_": 2.0}


# --- OpenSearch


def test_opensearch_puts_the_corpus_in(server: Server) -> None:
    pytest.importorskip("opensearchpy")
    _, _, (_, index) = semantic_search_opensearch(QUESTIONS, DOCUMENTS, output_index=True, hosts=server.address)
    created, bulk, refreshed = server.requests[:3]
    assert created[:2] == ("PUT", f"/{index}")
    assert json.loads(created[2])["mappings"]["properties"]["tokens"] == {"type": "rank_features"}
    assert server.bulk()[1] == {"id": "0", "tokens": {"a.b": 1.0, "c": 2.0}}
    assert refreshed[:2] == ("POST", f"/{index}/_refresh")


def test_opensearch_asks_with_the_tokens(server: Server) -> None:
    pytest.importorskip("opensearchpy")
    hits, _ = semantic_search_opensearch(QUESTIONS, DOCUMENTS, top_k=2, hosts=server.address)
    asked = [(body["size"], body["query"]["neural_sparse"]["tokens"]) for body in server.bodies("/_search")]
    assert asked == [(2, {"query_tokens": {"a.b": 1.0, "c": 1.0}}), (2, {"query_tokens": {"d": 1.0, "e": 4.0}})]
    assert hits == [[{"corpus_id": 1, "score": 2.5}, {"corpus_id": 0, "score": 1.0}]] * 2


# --- Both


SERVED = [("elasticsearch", semantic_search_elasticsearch), ("opensearchpy", semantic_search_opensearch)]


@pytest.mark.parametrize("package, search", SERVED)
def test_an_index_is_taken_again(server: Server, package: str, search: Callable[..., Any]) -> None:
    pytest.importorskip(package)
    _, _, index = search(QUESTIONS, DOCUMENTS, output_index=True, hosts=server.address)
    before = len(server.requests)
    search(QUESTIONS[:1], corpus_index=index)
    assert [path.partition("?")[0] for _, path, _ in server.requests[before:]] == [f"/{index[1]}/_search"]


@pytest.mark.parametrize("package, search", SERVED)
def test_a_query_without_tokens_finds_nothing(server: Server, package: str, search: Callable[..., Any]) -> None:
    pytest.importorskip(package)
    assert search([[]], DOCUMENTS, hosts=server.address)[0] == [[]]
    assert server.bodies("/_search") == []


def test_the_server_is_looked_for_on_this_machine() -> None:
    assert engines._at_port_9200({"timeout": 3}) == {"hosts": "http://localhost:9200", "timeout": 3}
    assert engines._at_port_9200({"cloud_id": "x"}) == {"cloud_id": "x"}


# --- Seismic


def test_seismic_ranks_by_dot_product() -> None:
    pytest.importorskip("seismic")
    assert semantic_search_seismic(QUESTIONS, DOCUMENTS, top_k=2)[0] == BEST


def test_seismic_may_answer_in_any_order() -> None:
    pytest.importorskip("seismic")

    class Backwards:
        def batch_search(self, **asked: Any) -> list[list[tuple[str, float, str]]]:
            return [[(query, 1.0, f"1{query}")] for query in asked["queries_ids"][::-1]]

    hits, _ = semantic_search_seismic(QUESTIONS, corpus_index=Backwards())
    assert [found[0]["corpus_id"] for found in hits] == [10, 11]


def test_seismic_gives_the_index_and_takes_it_again() -> None:
    pytest.importorskip("seismic")
    _, _, index = semantic_search_seismic(QUESTIONS, DOCUMENTS, output_index=True)
    assert semantic_search_seismic([[], QUESTIONS[1]], corpus_index=index)[0] == [[], BEST[1]]


def test_seismic_looks_at_the_heaviest_tokens_only() -> None:
    pytest.importorskip("seismic")
    hits, _ = semantic_search_seismic(QUESTIONS[1:], DOCUMENTS, search_kwargs={"query_cut": 1, "heap_factor": 1.0})
    assert [hit["corpus_id"] for hit in hits[0]] == [2]


def test_seismic_takes_options_for_its_index() -> None:
    pytest.importorskip("seismic")
    with pytest.raises(TypeError, match="no_such_option"):
        semantic_search_seismic(QUESTIONS, DOCUMENTS, index_kwargs={"no_such_option": 1})


# --- All


DECODED = [*SERVED, ("seismic", semantic_search_seismic)]


@pytest.mark.parametrize("package, search", [("qdrant_client", semantic_search_qdrant), *DECODED])
def test_there_must_be_something_to_search_in(package: str, search: Callable[..., Any]) -> None:
    pytest.importorskip(package)
    with pytest.raises(ValueError, match="or corpus_index must be provided"):
        search(QUERIES if package == "qdrant_client" else QUESTIONS)


@pytest.mark.parametrize("package, search", DECODED)
def test_one_decoded_embedding_alone_is_refused(package: str, search: Callable[..., Any]) -> None:
    pytest.importorskip(package)
    with pytest.raises(ValueError, match="Query embeddings must be a list of lists"):
        search(QUESTIONS[0], DOCUMENTS)
    with pytest.raises(ValueError, match="Corpus embeddings must be a list of lists"):
        search(QUESTIONS, DOCUMENTS[0])


def test_top_k_is_checked_before_anything_is_put_in(server: Server) -> None:
    with pytest.raises(ValueError, match="top_k"):
        semantic_search_elasticsearch(QUESTIONS, DOCUMENTS, top_k=0, hosts=server.address)
    assert server.requests == []


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ImportError, match=r"sentence-transformers\[engines\]"):
        semantic_search_qdrant(QUERIES, CORPUS)
