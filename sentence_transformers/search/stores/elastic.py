"""A store in Elasticsearch.

The fields of a document: "id", "text", "metadata" as they were given; "facts" (see there), "dense", "sparse".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import need
from .base import Match, Rows, Settings
from .facts import facts, span, wanted
from .remote import RemoteStore, connection, from_note, match, note, refuse_options, row_key
from .where import Condition, Test, fold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    import numpy as np

    from .base import SparseRows

    Array: TypeAlias = np.ndarray[Any, Any]
    Query: TypeAlias = dict[str, Any]

OWNER = "sentence_transformers"
"""Under this name the settings are in the ``_meta`` of the mapping."""
PLACES = ("hosts", "cloud_id")
DEFAULT = {"hosts": "http://localhost:9200"}
PART = 500
"""So many rows go in one request, fewer if it would be too long."""
PART_OF_IDS = 10_000

COMPARED = {
    # of zero Elasticsearch has no cosine
    "cosine": "doc['dense'].magnitude == 0 ? 0.0 : cosineSimilarity(params.query, 'dense')",
    "dot": "dotProduct(params.query, 'dense')",
}
# scores must not be negative; this is what "max_inner_product" does with them, undone by ``_unshifted``
SCRIPT = "double s = {}; return s < 0 ? 1 / (1 - s) : s + 1;"


class ElasticsearchStore(RemoteStore):
    """Rows in an index of Elasticsearch, version 8.15 or newer; dense embeddings are compared exactly, one by one.

    ``add`` sends rows in parts of 500, and returns when they can be found. Elasticsearch keeps row by row: if ``add``
    fails, some rows are there, and the same call again completes it.

    What differs from other stores: sparse values must be above 0, also in queries, and are kept with 9 significant
    bits, so that a score is right to about 0.4%; a sparse search finds only rows that share a dimension with the
    query. A string in the metadata may have about 32,000 bytes, and a ``top_k`` is at most 10,000, unless the index is
    told otherwise. Numbers in conditions are compared as float64. Equal scores are ordered by id.

    Args:
        index: its name. What is there must have been made by this class.
        client: an ``Elasticsearch``; the store does not close it.
        similarity: "cosine" (for a new store the default), where a zero embedding is 0 from everything, or "dot".
        width, sparse_width: of embeddings; by default those of the first ones that are added.
        notes: kept with the store, see ``Settings``.
        options: for the ``Elasticsearch`` that is made otherwise: ``hosts`` (by default http://localhost:9200), ...

    Raises: ValueError if the store there has other settings; StoreError if it is none; ImportError without
        elasticsearch; what the client raises, ``BulkIndexError`` if it does not take a row.
    """

    def __init__(
        self,
        index: str = "embeddings",
        *,
        client: Any | None = None,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        elasticsearch = need("elasticsearch", extra="engines", what="ElasticsearchStore")
        self._bulk = need("elasticsearch.helpers", extra="engines", what="ElasticsearchStore").bulk
        refuse_options(client, options)

        def connect() -> Any:
            return elasticsearch.Elasticsearch(**connection(options, PLACES, DEFAULT))

        super().__init__(index, client, connect, Settings(similarity, width, sparse_width, notes or {}))

    def _read(self) -> Settings | None:
        if not self.client.indices.exists(index=self.name):
            return None
        # the name may be an alias; that of several indices has no mapping of its own
        mappings = [answer["mappings"] for answer in self.client.indices.get_mapping(index=self.name).values()]
        mapping = mappings[0] if len(mappings) == 1 else {}
        settings = from_note(mapping.get("_meta", {}).get(OWNER), f"The index {self.name!r} of Elasticsearch")
        return replace(settings, width=mapping["properties"].get("dense", {}).get("dims"))

    def _create(self, settings: Settings) -> None:
        mapping = {"dynamic": False, "_meta": {OWNER: note(settings)}, "properties": _fields(settings)}
        self.client.indices.create(index=self.name, mappings=mapping)

    def _change(self, here: Settings, settings: Settings) -> None:
        self.client.indices.put_mapping(index=self.name, meta={OWNER: note(settings)}, properties=_fields(settings))

    def _put(self, rows: Rows) -> None:
        documents = list(self._documents(rows))
        is_small = len(documents) <= PART
        self._bulk(self.client, documents, chunk_size=PART, refresh="wait_for" if is_small else False)
        if not is_small:  # every part would wait for about a second
            self.client.indices.refresh(index=self.name)

    def _documents(self, rows: Rows) -> Iterator[dict[str, Any]]:
        for place, row_id in enumerate(rows.ids):
            metadata = rows.metadata[place]
            source = {"id": row_id, "text": rows.texts[place], "metadata": metadata, "facts": facts(metadata)}
            if rows.dense is not None:
                source["dense"] = rows.dense[place].tolist()
            if rows.sparse is not None and len(rows.sparse[place][0]):
                source["sparse"] = _tokens(*rows.sparse[place])
            yield {"_op_type": "index", "_index": self.name, "_id": row_key(row_id), "_source": source}

    def _delete_ids(self, ids: list[str]) -> int:
        keys = [row_key(one) for one in ids]
        parts = (keys[start : start + PART_OF_IDS] for start in range(0, len(keys), PART_OF_IDS))
        return sum(self._delete({"ids": {"values": part}}) for part in parts)

    def _delete_where(self, condition: Condition) -> int:
        return self._delete(_query(condition))

    def _delete(self, query: Query) -> int:
        if not self._is_there:
            return 0
        return int(self.client.delete_by_query(index=self.name, query=query, refresh=True)["deleted"])

    def _count(self, condition: Condition | None) -> int:
        return int(self.client.count(index=self.name, query=_query(condition))["count"]) if self._is_there else 0

    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        rows = {"bool": {"filter": [{"exists": {"field": "dense"}}, _query(condition)]}}
        found = []
        for query in queries:
            # to a zero query both are 0
            compared = COMPARED[str(self._settings.similarity) if query.any() else "dot"]
            script = {"source": SCRIPT.format(compared), "params": {"query": query.tolist()}}
            hits = self._hits({"script_score": {"query": rows, "script": script}}, limit)
            found.append([match(hit["_source"], _unshifted(hit["_score"])) for hit in hits])
        return found

    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]:
        found = []
        for ids, values in queries:
            # without "prune" newer versions leave out what they think is of little weight
            best = {"sparse_vector": {"field": "sparse", "query_vector": _tokens(ids, values), "prune": False}}
            query = {"bool": {"must": [best], "filter": [_query(condition)]}}
            hits = self._hits(query, limit) if len(ids) else []
            found.append([match(hit["_source"], float(hit["_score"])) for hit in hits])
        return found

    def _hits(self, query: Query, limit: int) -> list[dict[str, Any]]:
        answer = self.client.search(
            index=self.name,
            query=query,
            size=limit,
            sort=[{"_score": "desc"}, {"id": "asc"}],
            source_includes=["id", "text", "metadata"],
            allow_partial_search_results=False,  # a part of the index that does not answer is an error
        )
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits


def _fields(settings: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": {"type": "keyword"},
        "text": {"type": "text"},
        "metadata": {"type": "object", "enabled": False},
        "facts": {"type": "keyword"},
        "sparse": {"type": "sparse_vector"},
    }
    if settings.width is not None:
        # what is compared with every row needs no index
        fields["dense"] = {"type": "dense_vector", "dims": settings.width, "index": False}
    return fields


def _tokens(ids: Array, values: Array) -> dict[str, float]:
    if (values < 0).any():
        raise ValueError(
            f"Elasticsearch takes sparse values above 0 only, got {values.min()}. Use another store for this model."
        )
    return dict(zip(map(str, ids.tolist()), values.tolist(), strict=True))


def _unshifted(score: float) -> float:
    return float(score - 1 if score >= 1 else 1 - 1 / score)


def _query(condition: Condition | None) -> Query:
    if condition is None:
        return {"match_all": {}}
    return fold(
        condition,
        _test,
        lambda parts: {"bool": {"filter": parts}},  # all rows, if there are none
        lambda parts: {"bool": {"should": parts, "minimum_should_match": 1}} if parts else {"match_none": {}},
        lambda part: {"bool": {"must_not": [part]}},
    )


def _test(test: Test) -> Query:
    if test.operator in ("in", "contains", "exists"):
        return {"terms": {"facts": wanted(test)}}
    return {"range": {"facts": span(test)}}
