"""A small Elasticsearch: what the store asks of it is evaluated over dictionaries, anything else is refused."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np


class FakeElastic(ThreadingHTTPServer):
    """``indices``: name -> {"mappings": ..., "documents": {_id: source}}. ``requests``: (method, path, options)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.indices: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, options: dict[str, str], body: str) -> tuple[int, Any]:
        self.requests.append((method, path, options))
        name, _, verb = path.strip("/").partition("/")
        if verb == "_bulk" or name == "_bulk":
            return 200, self.bulk([json.loads(line) for line in body.splitlines()])
        asked = json.loads(body) if body else {}
        if method == "PUT" and not verb:
            if name in self.indices:
                return 400, {"error": {"type": "resource_already_exists_exception"}, "status": 400}
            self.indices[name] = {"mappings": asked["mappings"], "documents": {}}
            return 200, {"acknowledged": True}
        if name not in self.indices:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        known = {"": exists, "_mapping": mapping, "_search": search, "_count": count, "_delete_by_query": delete}
        return 200, {"_refresh": exists, **known}[verb](self.indices[name], method, asked, name)

    def bulk(self, lines: list[Any]) -> Any:
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            index = self.indices[action["index"]["_index"]]
            error = wrong(source, index["mappings"]["properties"])
            if error is None:
                index["documents"][action["index"]["_id"]] = source
            items.append({"index": {"status": 400, "error": error} if error else {"status": 201}})
        return {"errors": any("error" in item["index"] for item in items), "items": items}


def wrong(source: dict[str, Any], fields: dict[str, Any]) -> dict[str, str] | None:
    """Why a document is not taken."""
    if "dense" in source and len(source["dense"]) != fields["dense"]["dims"]:
        return {"type": "document_parsing_exception", "reason": "dims"}
    if min(source.get("sparse", {"": 1.0}).values()) <= 0:
        return {"type": "document_parsing_exception", "reason": "positive"}
    if any(len(fact.encode()) > 32766 for fact in source["facts"]):
        return {"type": "document_parsing_exception", "reason": "immense term"}
    return None


def exists(index: dict[str, Any], method: str, asked: Any, name: str) -> Any:
    return {}


def mapping(index: dict[str, Any], method: str, asked: Any, name: str) -> Any:
    if method == "PUT":
        index["mappings"]["_meta"] = asked["_meta"]
        index["mappings"]["properties"].update(asked["properties"])
    return {name: {"mappings": index["mappings"]}}


def search(index: dict[str, Any], method: str, asked: Any, name: str) -> Any:
    assert asked["sort"] == [{"_score": "desc"}, {"id": "asc"}]
    scored = [(score(asked["query"], one, source), source) for one, source in index["documents"].items()]
    found = sorted(((value, source) for value, source in scored if value is not None), key=order)
    hits = [{"_score": float(np.float32(value)), "_source": source} for value, source in found[: asked["size"]]]
    return {"hits": {"hits": hits}}


def order(pair: tuple[float, dict[str, Any]]) -> Any:
    return -pair[0], pair[1]["id"]


def count(index: dict[str, Any], method: str, asked: Any, name: str) -> Any:
    return {"count": len(selected(index, asked))}


def delete(index: dict[str, Any], method: str, asked: Any, name: str) -> Any:
    found = selected(index, asked)
    for one in found:
        del index["documents"][one]
    return {"deleted": len(found), "failures": []}


def selected(index: dict[str, Any], asked: Any) -> list[str]:
    return [one for one, source in index["documents"].items() if score(asked["query"], one, source) is not None]


def score(query: dict[str, Any], one: str, source: dict[str, Any]) -> float | None:
    """The score of a document; None if the query does not match it."""
    [(kind, asked)] = query.items()
    if kind == "bool":
        return of_bool(asked, one, source)
    if kind == "script_score":
        matches = score(asked["query"], one, source) is not None
        return painless(asked["script"], source["dense"]) if matches else None
    if kind == "sparse_vector":
        assert asked["prune"] is False
        tokens = source.get(asked["field"], {})
        shared = [weight * tokens[token] for token, weight in asked["query_vector"].items() if token in tokens]
        return sum(shared) if shared else None
    return 1.0 if holds(kind, asked, one, source) else None


def of_bool(asked: dict[str, Any], one: str, source: dict[str, Any]) -> float | None:
    assert asked.keys() <= {"must", "filter", "should", "must_not", "minimum_should_match"}
    scores = [score(part, one, source) for part in asked.get("must", [])]
    needed = scores + [score(part, one, source) for part in asked.get("filter", [])]
    matching = [part for part in asked.get("should", []) if score(part, one, source) is not None]
    refused = [part for part in asked.get("must_not", []) if score(part, one, source) is not None]
    if None in needed or refused or len(matching) < asked.get("minimum_should_match", 0):
        return None
    return float(sum(value for value in scores if value is not None))


def holds(kind: str, asked: Any, one: str, source: dict[str, Any]) -> bool:
    if kind in ("match_all", "match_none"):
        return kind == "match_all"
    if kind == "exists":
        return asked["field"] in source
    if kind == "ids":
        return one in asked["values"]
    [(field, operand)] = asked.items()
    assert field == "facts"
    if kind == "terms":
        return bool(set(source[field]) & set(operand))
    assert kind == "range"
    compared = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
    limits = [(compared[name], limit.encode()) for name, limit in operand.items()]  # terms are ordered by their bytes
    return any(all(getattr(value.encode(), name)(limit) for name, limit in limits) for value in source[field])


def painless(script: dict[str, Any], dense: list[float]) -> float:
    """The value of ``double s = EXPRESSION; return EXPRESSION;`` where ``? :`` may stand at the top."""
    row = np.array(dense)
    first, second = re.fullmatch(r"double s = (.+); return (.+);", script["source"]).groups()  # type: ignore[union-attr]
    names: dict[str, Any] = {
        "params": SimpleNamespace(**script["params"]),
        "doc": {"dense": SimpleNamespace(magnitude=np.linalg.norm(row))},
        "dotProduct": lambda query, field: row @ query,
        "cosineSimilarity": lambda query, field: row @ query / np.linalg.norm(row) / np.linalg.norm(query),
    }
    names["s"] = eval(python(first), {}, names)
    value = float(eval(python(second), {}, names))
    assert value >= 0, "Elasticsearch refuses a negative score, and NaN"
    return value


def python(expression: str) -> str:
    return re.sub(r"^(.+) \? (.+) : (.+)$", r"(\2) if (\1) else (\3)", expression)


class Page(BaseHTTPRequestHandler):
    """HTTP around ``FakeElastic.answer``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for 40 ms
    server: FakeElastic

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        options = {name: value for name, [value] in parse_qs(url.query).items()}
        with self.server.lock:
            status, found = self.server.answer(self.command, url.path, options, body)
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Accept", "application/json").split(",")[0])
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_HEAD = respond

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[FakeElastic]:
    """A server on this machine."""
    with FakeElastic() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
