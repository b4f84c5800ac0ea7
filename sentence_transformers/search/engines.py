"""Sparse embeddings in a search engine: put a corpus in, if there is none yet, and ask for the best of every query.

Four engines behind one flow (``_answer``). Their clients are imported only when asked for. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from ..errors import need, positive
from ..ops.sparse import to_indices_values
from ..ops.tensors import to_batch
from .semantic import Hit

if TYPE_CHECKING:
    from typing import TypeAlias

    Index = TypeVar("Index")
    Decoded: TypeAlias = list[list[tuple[str, float]]]
    Found: TypeAlias = tuple[list[list[Hit]], float] | tuple[list[list[Hit]], float, Index]

EXTRA = "engines"
MAPPINGS = {"properties": {"tokens": {"type": "rank_features"}, "id": {"type": "keyword"}}}
"""What a document is, for Elasticsearch and OpenSearch."""


def semantic_search_qdrant(
    query_embeddings: Tensor,
    corpus_embeddings: Tensor | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found[tuple[Any, str]]:
    """Search with Qdrant; a score is the dot product.

    Args:
        query_embeddings: (n, V), or (V,) = one query, sparse COO.
        corpus_embeddings: (m, V), sparse COO: put into a new collection, as the sparse vector ``"text"`` of the points
            0 to m - 1. Not looked at when there is a ``corpus_index``.
        corpus_index: a ``QdrantClient`` and the name of such a collection.
        top_k: at most so many hits for a query.
        output_index: whether to return the client and the name of the collection too.
        kwargs: for the ``QdrantClient`` that is made when there is no ``corpus_index``; it is that of
            ``http://localhost:6333`` unless they say where (``location=":memory:"`` needs no server).

    Returns: for each query its hits, best first; the seconds that the search took, without putting the corpus in; and
        ``(client, collection)`` if ``output_index``.
    Raises: ValueError if neither corpus nor index is given, or embeddings are not sparse COO; ImportError without
        qdrant-client; what the client raises.
    """
    qdrant = need("qdrant_client", extra=EXTRA, what="semantic_search_qdrant()")
    models = qdrant.models
    queries = _sparse_vectors("Query", query_embeddings, models.SparseVector)

    def build() -> tuple[Any, str]:
        rows = _sparse_vectors("Corpus", _given("corpus_embeddings", corpus_embeddings), models.SparseVector)
        places = {"location", "url", "host", "path"} & kwargs.keys()
        client = qdrant.QdrantClient(**({} if places else {"url": "http://localhost:6333"}), **kwargs)
        name = f"sparse_collection_{uuid4().hex}"
        client.create_collection(
            collection_name=name,
            vectors_config={},
            sparse_vectors_config={"text": models.SparseVectorParams(index=models.SparseIndexParams(on_disk=False))},
        )
        client.upload_collection(
            collection_name=name, vectors=[{"text": row} for row in rows], ids=range(len(rows)), wait=True
        )
        return client, name

    def ask(index: tuple[Any, str]) -> Iterator[list[Hit]]:
        client, name = index
        for query in queries:
            found = client.query_points(collection_name=name, query=query, limit=top_k, using="text")
            yield [_hit(point.id, point.score) for point in found.points]

    return _answer(ask, build, corpus_index, top_k, output_index)


def semantic_search_elasticsearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found[tuple[Any, str]]:
    """Search with Elasticsearch: a ``rank_feature`` query for each token.

    A score is the sum of ``weight in the query * w / (w + pivot)`` with ``w`` the weight in the document and a pivot
    that Elasticsearch chooses for the token (function ``saturation``): not the dot product.
    https://www.elastic.co/docs/reference/query-languages/query-dsl/query-dsl-rank-feature-query

    Args:
        query_embeddings_decoded: what ``SparseEncoder.decode`` gives for n queries: their tokens and weights, which
            must be above 0. Full stops, which Elasticsearch does not take in a token, become underscores; of tokens
            that are the same then, the one with the largest weight counts.
        corpus_embeddings_decoded: the same for m documents: put into a new index, with the ids 0 to m - 1. Not looked
            at when there is a ``corpus_index``.
        corpus_index: an ``Elasticsearch`` client and the name of such an index.
        top_k: at most so many hits for a query.
        output_index: whether to return the client and the name of the index too.
        kwargs: for the client that is made when there is no ``corpus_index``; it is that of ``http://localhost:9200``
            unless they have ``hosts`` or ``cloud_id``.

    Returns: for each query its hits, best first; the seconds that the search took, without putting the corpus in; and
        ``(client, index)`` if ``output_index``.
    Raises: ValueError if neither corpus nor index is given, or they are not lists of lists; ImportError without
        elasticsearch; what the client raises.
    """
    queries = [_features(query) for query in _token_lists("Query", query_embeddings_decoded)]

    def build() -> tuple[Any, str]:
        corpus = _token_lists("Corpus", _given("corpus_embeddings_decoded", corpus_embeddings_decoded))
        elasticsearch = need("elasticsearch", extra=EXTRA, what="semantic_search_elasticsearch()")
        helpers = need("elasticsearch.helpers", extra=EXTRA, what="semantic_search_elasticsearch()")
        client = elasticsearch.Elasticsearch(**_at_port_9200(kwargs))
        name = f"sparse_index_{uuid4().hex}"
        client.indices.create(index=name, mappings=MAPPINGS)
        helpers.bulk(client, _documents(name, map(_features, corpus)))
        client.indices.refresh(index=name)
        return client, name

    def ask(index: tuple[Any, str]) -> Iterator[list[Hit]]:
        client, name = index
        for query in queries:
            clauses = [
                {"rank_feature": {"field": f"tokens.{token}", "saturation": {}, "boost": weight}}
                for token, weight in query.items()
            ]
            body = {"bool": {"should": clauses, "minimum_should_match": 1}}
            # a query without clauses would match everything
            yield _hits(client.search(index=name, query=body, size=top_k, source=False)) if clauses else []

    return _answer(ask, build, corpus_index, top_k, output_index)


def semantic_search_opensearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> Found[tuple[Any, str]]:
    """Search with OpenSearch: a ``neural_sparse`` query, which needs its plugin neural-search; a score is the dot
    product, in the precision in which OpenSearch keeps weights.

    https://docs.opensearch.org/latest/query-dsl/specialized/neural-sparse/

    Args:
        query_embeddings_decoded: what ``SparseEncoder.decode`` gives for n queries: their tokens and weights, which
            must be above 0.
        corpus_embeddings_decoded: the same for m documents: put into a new index, with the ids 0 to m - 1. Not looked
            at when there is a ``corpus_index``.
        corpus_index: an ``OpenSearch`` client and the name of such an index.
        top_k: at most so many hits for a query.
        output_index: whether to return the client and the name of the index too.
        kwargs: for the client that is made when there is no ``corpus_index``; it is that of ``http://localhost:9200``
            unless they have ``hosts``.

    Returns: for each query its hits, best first; the seconds that the search took, without putting the corpus in; and
        ``(client, index)`` if ``output_index``.
    Raises: ValueError if neither corpus nor index is given, or they are not lists of lists; ImportError without
        opensearch-py; what the client raises.
    """
    queries = [dict(query) for query in _token_lists("Query", query_embeddings_decoded)]

    def build() -> tuple[Any, str]:
        corpus = _token_lists("Corpus", _given("corpus_embeddings_decoded", corpus_embeddings_decoded))
        opensearch = need("opensearchpy", extra=EXTRA, what="semantic_search_opensearch()")
        client = opensearch.OpenSearch(**_at_port_9200(kwargs))
        name = f"sparse_index_{uuid4().hex}"
        client.indices.create(index=name, body={"mappings": MAPPINGS})
        opensearch.helpers.bulk(client, _documents(name, map(dict, corpus)))
        client.indices.refresh(index=name)
        return client, name

    def ask(index: tuple[Any, str]) -> Iterator[list[Hit]]:
        client, name = index
        for query in queries:
            body = {"size": top_k, "_source": False, "query": {"neural_sparse": {"tokens": {"query_tokens": query}}}}
            yield _hits(client.search(index=name, body=body)) if query else []

    return _answer(ask, build, corpus_index, top_k, output_index)


def semantic_search_seismic(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: Any | None = None,
    top_k: int = 10,
    output_index: bool = False,
    index_kwargs: dict[str, Any] | None = None,
    search_kwargs: dict[str, Any] | None = None,
) -> Found[Any]:
    """Search with Seismic, an approximate index in memory (https://doi.org/10.1145/3626772.3657769); a score is the dot
    product of the tokens that are looked at.

    Args:
        query_embeddings_decoded: what ``SparseEncoder.decode`` gives for n queries: their tokens and weights.
        corpus_embeddings_decoded: the same for m documents: put into a new index, with the ids 0 to m - 1. Not looked
            at when there is a ``corpus_index``.
        corpus_index: a ``SeismicIndex`` of such documents.
        top_k: at most so many hits for a query.
        output_index: whether to return the index too.
        index_kwargs: for ``SeismicIndex.build_from_dataset``.
        search_kwargs: for ``SeismicIndex.batch_search``, such as ``query_cut`` (how many tokens of a query count, those
            of the largest weight; 10) and ``heap_factor`` (below 1: the larger, the more exact and slow; 0.7).

    Returns: for each query its hits, best first; the seconds that the search took, without building the index; and the
        index if ``output_index``.
    Raises: ValueError if neither corpus nor index is given, or they are not lists of lists; ImportError without
        pyseismic-lsr; TypeError for options that Seismic does not have.
    """
    seismic = need("seismic", extra=EXTRA, what="semantic_search_seismic()")
    text = seismic.get_seismic_string()
    queries = [_arrays(query, text) for query in _token_lists("Query", query_embeddings_decoded)]
    options = {"query_cut": 10, "heap_factor": 0.7, **(search_kwargs or {})}

    def build() -> Any:
        corpus = _token_lists("Corpus", _given("corpus_embeddings_decoded", corpus_embeddings_decoded))
        dataset = seismic.SeismicDataset()
        for number, document in enumerate(corpus):
            dataset.add_document(str(number), *_arrays(document, text))
        return seismic.SeismicIndex.build_from_dataset(dataset, **(index_kwargs or {}))

    def ask(index: Any) -> Iterator[list[Hit]]:
        if not queries:
            return
        hits: list[list[Hit]] = [[] for _ in queries]
        answers = index.batch_search(
            queries_ids=np.array([str(number) for number in range(len(queries))], dtype=text),
            query_components=[tokens for tokens, _ in queries],
            query_values=[weights for _, weights in queries],
            k=top_k,
            **options,
        )
        for query, score, document in chain.from_iterable(answers):  # the answers are not in the order of the queries
            hits[int(query)].append(_hit(document, score))
        yield from hits

    return _answer(ask, build, corpus_index, top_k, output_index)


def _answer(
    ask: Callable[[Index], Iterator[list[Hit]]],
    build: Callable[[], Index],
    index: Index | None,
    top_k: int,
    output_index: bool,
) -> Found[Index]:
    """The flow of all engines: an index, then the hits of all queries by the clock."""
    positive("top_k", top_k)
    if index is None:
        index = build()
    started = perf_counter()
    hits = list(ask(index))
    seconds = perf_counter() - started
    return (hits, seconds, index) if output_index else (hits, seconds)


def _given(name: str, corpus: Any) -> Any:
    if corpus is None:
        raise ValueError(f"Either {name} or corpus_index must be provided: there is nothing to search in.")
    return corpus


def _sparse_vectors(name: str, embeddings: Tensor, vector: Callable[..., Any]) -> list[Any]:
    """Each row, in the class of Qdrant for sparse vectors."""
    if not isinstance(embeddings, Tensor) or embeddings.layout != torch.sparse_coo:
        raise ValueError(
            f"{name} embeddings must be a sparse COO tensor, got {getattr(embeddings, 'layout', type(embeddings))}: "
            "encode with convert_to_sparse_tensor=True, or call .to_sparse()."
        )
    rows = to_indices_values(to_batch(embeddings))
    return [vector(indices=indices.tolist(), values=values.tolist()) for indices, values in rows]


def _token_lists(name: str, decoded: Decoded) -> Decoded:
    if not isinstance(decoded, list) or not all(isinstance(item, list) for item in decoded):
        raise ValueError(
            f"{name} embeddings must be a list of lists in the format [[('token', value), ...], ...], got "
            f"{decoded!r:.80}: pass what SparseEncoder.decode() gives for several embeddings."
        )
    return decoded


def _features(tokens: Sequence[tuple[str, float]]) -> dict[str, float]:
    features: dict[str, float] = {}
    for token, weight in tokens:
        name = token.replace(".", "_")
        features[name] = max(weight, features.get(name, weight))
    return features


def _arrays(tokens: Sequence[tuple[str, float]], text: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The tokens, as text of the width that Seismic wants, and the weights, float32."""
    names = np.array([token for token, _ in tokens], dtype=text)
    return names, np.array([weight for _, weight in tokens], dtype=np.float32)


def _at_port_9200(options: dict[str, Any]) -> dict[str, Any]:
    return options if {"hosts", "cloud_id"} & options.keys() else {"hosts": "http://localhost:9200", **options}


def _documents(index: str, corpus: Iterator[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for number, tokens in enumerate(corpus):
        yield {"_index": index, "_id": str(number), "_source": {"id": str(number), "tokens": tokens}}


def _hits(answer: Any) -> list[Hit]:
    """Those in an answer of Elasticsearch or OpenSearch."""
    return [_hit(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]


def _hit(corpus_id: int | str, score: float) -> Hit:
    return {"corpus_id": int(corpus_id), "score": float(score)}
