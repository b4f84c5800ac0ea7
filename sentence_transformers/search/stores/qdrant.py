"""A store in Qdrant: on a server, in a folder, or in memory.

The names of its parts: vectors "dense" and "sparse"; payload "id", "text", "metadata", and "facts" (see there).
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import need
from .base import Match, Rows, Settings
from .facts import facts, is_number, is_string, wanted
from .remote import RemoteStore, connection, from_note, match, note, refuse_options, row_key
from .where import Condition, Test, fold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    import numpy as np

    from .base import SparseRows

    Array: TypeAlias = np.ndarray[Any, Any]

OWNER = "sentence_transformers"
"""Under this name the settings are in the metadata of the collection."""
PLACES = ("location", "url", "host", "path")
DEFAULT = {"url": "http://localhost:6333"}
DISTANCES = {"Cosine": "cosine", "Dot": "dot"}
PART = 256
"""So many rows, or queries, go in one request: a server takes 32 MB."""
TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?")
"""A full-date or a date-time of RFC 3339, https://www.rfc-editor.org/rfc/rfc3339#section-5.6"""


class QdrantStore(RemoteStore):
    """Rows in a collection of Qdrant, version 1.16 or newer, searched exactly, or with its index (``is_exact``).

    ``add`` sends rows in parts of 256. A part is kept as a whole or not at all; if one fails, those before it stay,
    and the same call again completes it. How many rows ``delete`` deletes is counted just before.

    What differs from other stores: a string range ("$gt", ...) takes dates and times of RFC 3339 only, compares them
    as points in time, and holds for no other strings; a range does not take a key with a double quote in it. A sparse
    search finds only rows that share a dimension with the query. Numbers in conditions are compared as float64. Of
    equal scores, Qdrant chooses the order. Dense embeddings that come after sparse ones alone need a server that can
    add a vector to a collection (1.18), unless ``width`` was given.

    Args:
        collection: its name. What is there must have been made by this class.
        client: a ``QdrantClient``; the store does not close it.
        similarity: "cosine" (for a new store the default), where a zero embedding is 0 from everything, or "dot".
        width, sparse_width: of embeddings; by default those of the first ones that are added.
        notes: kept with the store, see ``Settings``.
        options: for the ``QdrantClient`` that is made otherwise: ``url`` (by default http://localhost:6333),
            ``path`` of a folder, ``location=":memory:"``, ...

    Attributes:
        is_exact: True at first. False: dense embeddings are searched with the index of the server, fast, but some of
            the closest rows may be missing.

    Raises: ValueError if the store there has other settings; StoreError if it is none; ImportError without
        qdrant-client; what the client raises.
    """

    def __init__(
        self,
        collection: str = "embeddings",
        *,
        client: Any | None = None,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        qdrant = need("qdrant_client", extra="engines", what="QdrantStore")
        refuse_options(client, options)
        self.models = qdrant.models
        self.is_exact = True

        def connect() -> Any:
            return qdrant.QdrantClient(**connection(options, PLACES, DEFAULT))

        super().__init__(collection, client, connect, Settings(similarity, width, sparse_width, notes or {}))

    @property
    def _is_local(self) -> bool:
        """Whether there is no server: searches are always exact then, and it warns when it is told so."""
        options = self.client.init_options
        return options.get("path") is not None or options.get("location") == ":memory:"

    def _turn(self) -> AbstractContextManager[Any]:
        """Threads take turns where there is no server, whose code does not expect several."""
        return self._lock if self._is_local else nullcontext()

    def _read(self) -> Settings | None:
        if not self.client.collection_exists(self.name):
            return None
        config = self.client.get_collection(self.name).config
        settings = from_note((config.metadata or {}).get(OWNER), f"The collection {self.name!r} of Qdrant")
        dense = (config.params.vectors or {}).get("dense")
        if dense is None:
            return replace(settings, width=None)
        return replace(settings, width=dense.size, similarity=DISTANCES[str(dense.distance.value)])

    def _create(self, settings: Settings) -> None:
        self.client.create_collection(
            self.name,
            vectors_config=self._schema(settings),
            sparse_vectors_config={"sparse": self.models.SparseVectorParams()},
            metadata={OWNER: note(settings)},
        )
        self._read()  # a server that does not know of metadata is noticed now, not when it is opened again
        if not self._is_local:
            self.client.create_payload_index(self.name, "facts", field_schema="keyword")

    def _change(self, here: Settings, settings: Settings) -> None:
        if here.width != settings.width:
            schema = self._schema(settings)["dense"]
            dense = self.models.DenseVectorConfig(size=schema.size, distance=schema.distance)
            self.client.create_vector_name(self.name, "dense", self.models.DenseVectorNameConfig(dense=dense))
        self.client.update_collection(self.name, metadata={OWNER: note(settings)})

    def _schema(self, settings: Settings) -> dict[str, Any]:
        if settings.width is None:
            return {}
        distance = next(name for name, similarity in DISTANCES.items() if similarity == settings.similarity)
        return {"dense": self.models.VectorParams(size=settings.width, distance=distance)}

    def _put(self, rows: Rows) -> None:
        points = [
            self.models.PointStruct(
                id=row_key(row_id),
                vector=self._vectors(rows, place),
                payload={
                    "id": row_id,
                    "text": rows.texts[place],
                    "metadata": rows.metadata[place],
                    "facts": facts(rows.metadata[place]),
                },
            )
            for place, row_id in enumerate(rows.ids)
        ]
        with self._turn():
            for start in range(0, len(points), PART):
                self.client.upsert(self.name, points[start : start + PART], wait=True)

    def _vectors(self, rows: Rows, place: int) -> dict[str, Any]:
        vectors: dict[str, Any] = {}
        if rows.dense is not None:
            vectors["dense"] = rows.dense[place].tolist()
        if rows.sparse is not None and len(rows.sparse[place][0]):
            vectors["sparse"] = self._sparse(*rows.sparse[place])
        return vectors

    def _sparse(self, ids: Array, values: Array) -> Any:
        return self.models.SparseVector(indices=ids.tolist(), values=values.tolist())

    def _delete_ids(self, ids: list[str]) -> int:
        keys = [row_key(one) for one in ids]
        parts = (keys[start : start + PART] for start in range(0, len(keys), PART))
        return sum(self._delete(self.models.HasIdCondition(has_id=part)) for part in parts)

    def _delete_where(self, condition: Condition) -> int:
        return self._delete(self._filter(condition))

    def _delete(self, condition: Any) -> int:
        if not self._is_there:
            return 0
        selected = self.models.Filter(must=[condition])
        with self._turn():
            count = int(self.client.count(self.name, count_filter=selected, exact=True).count)
            self.client.delete(self.name, points_selector=self.models.FilterSelector(filter=selected), wait=True)
        return count

    def _count(self, condition: Condition | None) -> int:
        if not self._is_there:
            return 0
        with self._turn():
            return int(self.client.count(self.name, count_filter=self._selected(condition), exact=True).count)

    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        return self._search(queries.tolist(), "dense", limit, condition)

    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]:
        # a query without values is refused, and finds nothing
        asked = [self._sparse(ids, values) for ids, values in queries if len(ids)]
        found = iter(self._search(asked, "sparse", limit, condition))
        return [next(found) if len(ids) else [] for ids, _ in queries]

    def _search(self, queries: list[Any], using: str, limit: int, condition: Condition | None) -> list[list[Match]]:
        params = None if self._is_local else self.models.SearchParams(exact=self.is_exact)
        requests = [
            self.models.QueryRequest(
                query=query,
                using=using,
                limit=limit,
                filter=self._selected(condition),
                params=params,
                with_payload=["id", "text", "metadata"],
            )
            for query in queries
        ]
        parts = (requests[start : start + PART] for start in range(0, len(requests), PART))
        with self._turn():
            answers = [answer for part in parts for answer in self.client.query_batch_points(self.name, part)]
        return [[match(point.payload, float(point.score)) for point in answer.points] for answer in answers]

    def _selected(self, condition: Condition | None) -> Any:
        return None if condition is None else self.models.Filter(must=[self._filter(condition)])

    def _filter(self, condition: Condition) -> Any:
        models = self.models
        return fold(
            condition,
            self._test,
            lambda parts: models.Filter(must=parts),
            # what should hold may be empty, and then everything does
            lambda parts: models.Filter(should=parts) if parts else self._has([]),
            lambda part: models.Filter(must_not=[part]),
        )

    def _test(self, test: Test) -> Any:
        if test.operator in ("in", "contains", "exists"):
            return self._has(wanted(test))
        if '"' in test.key:
            raise ValueError(f"QdrantStore takes no range over a key with a double quote in it, got {test.key!r}.")
        # without the fact, a list with such an item would do
        if isinstance(test.operand, str):
            if not TIME.fullmatch(test.operand):
                raise ValueError(
                    f"QdrantStore takes a range over strings only for dates and times of RFC 3339, such as "
                    f'"2024-12-31" or "2024-12-31T23:59:59Z"; got {test.operand!r} for {test.key!r}. Keep a number.'
                )
            kind, limits = is_string(test.key), self.models.DatetimeRange(**{test.operator: test.operand})
        else:
            kind, limits = is_number(test.key), self.models.Range(**{test.operator: test.operand})
        path = f'metadata."{test.key}"'
        return self.models.Filter(must=[self._has([kind]), self.models.FieldCondition(key=path, range=limits)])

    def _has(self, any_of: list[str]) -> Any:
        """That a row has one of these facts. None is empty, so the empty one stands for what no row has."""
        return self.models.FieldCondition(key="facts", match=self.models.MatchAny(any=any_of or [""]))
