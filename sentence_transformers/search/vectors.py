"""Embeddings, also quantised ones, in an index of FAISS or USearch: find candidates, then score these anew.

Two libraries behind one flow (``_answer``); they are imported only when asked for. Knows nothing of models.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from ..errors import need, one_of, positive
from ..ops.quantize import pack_binary, quantize_embeddings
from .semantic import Hit, embedding_matrix

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike

    Array: TypeAlias = np.ndarray[Any, Any]
    Found: TypeAlias = tuple[list[list[Hit]], float] | tuple[list[list[Hit]], float, Any]

EXTRA = "search"
DTYPES = {"float32": np.float32, "uint8": np.uint8, "int8": np.int8, "ubinary": np.uint8, "binary": np.int8}
"""What embeddings of a precision are made of. Both binary ones are kept as in "ubinary"."""
LINKS = 16
"""Neighbours of a row in the graphs that FAISS searches (its M)."""
BLOCK_NUMBERS = 2**22
"""So many numbers of candidates are widened to float64 at once: 32 MiB."""

logger = logging.getLogger(__name__)


def semantic_search_faiss(
    query_embeddings: EmbeddingsLike,
    corpus_embeddings: EmbeddingsLike | None = None,
    corpus_index: Any | None = None,
    corpus_precision: Literal["float32", "uint8", "ubinary"] = "float32",
    top_k: int = 10,
    ranges: EmbeddingsLike | None = None,
    calibration_embeddings: EmbeddingsLike | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> Found:
    """Search with FAISS (https://arxiv.org/abs/2401.08281): a flat index, or a graph (HNSW,
    https://arxiv.org/abs/1603.09320).

    A score is the dot product, of the steps for "uint8"; for "ubinary" the number of bits that differ, where the lowest
    is the best. With ``rescore``, of quantised embeddings, it is the dot product of the query with what the row stands
    for: "uint8" ``minimum + value * step``, "ubinary" 0 or 1. Of hits with equal scores the lower id comes first.

    Args:
        query_embeddings: (q, D), or (D,) = one query, floats; or quantised as the corpus, which is then not rescored.
        corpus_embeddings: (n, D), quantised as ``corpus_precision`` says; "ubinary" (n, ceil(D / 8)).
        corpus_index: an index of such rows instead of the corpus, for "ubinary" a ``faiss.IndexBinary``; to rescore,
            one that can reconstruct its rows.
        corpus_precision: of the corpus, or of the rows in the index.
        top_k: how many hits for a query, >= 0; a smaller corpus gives all its rows.
        ranges: for "uint8", (2, D) smallest and largest value of each dimension: those the corpus was quantised with.
        calibration_embeddings: for "uint8", (m, D) embeddings to take the ranges from, when there are none. Without
            both they come from the queries, which seldom fits the corpus.
        rescore: find ``top_k * rescore_multiplier`` rows with the quantised query, keep those that score best with the
            query itself.
        rescore_multiplier: >= 1; does not matter without rescoring.
        exact: compare all rows. Otherwise a graph is built, which finds most of the best rows and needs time to build.
            Does not matter for an index that is given.
        output_index: whether to return the index too, for ``corpus_index``.

    Returns: for each query its hits ``{"corpus_id": int, "score": float}``, best first; the seconds that the search
        took, without building the index; and the index if ``output_index``.
    Raises: ValueError unless there is either a corpus or an index, for embeddings that differ in width, that are not of
        ``corpus_precision``, or that are NaN or infinite, for a negative ``top_k``; ImportError without faiss-cpu.
    """
    asked = _Asked(
        *(corpus_precision, top_k, ranges, calibration_embeddings),
        *(rescore, rescore_multiplier, exact, output_index),
    )
    return _answer(_Faiss, asked, query_embeddings, corpus_embeddings, corpus_index)


def semantic_search_usearch(
    query_embeddings: EmbeddingsLike,
    corpus_embeddings: EmbeddingsLike | None = None,
    corpus_index: Any | None = None,
    corpus_precision: Literal["float32", "int8", "ubinary", "binary"] = "float32",
    top_k: int = 10,
    ranges: EmbeddingsLike | None = None,
    calibration_embeddings: EmbeddingsLike | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> Found:
    """Search with USearch (https://github.com/unum-cloud/usearch): compare all rows, or use a graph (HNSW).

    A score is a DISTANCE, so that the lowest is the best: "float32" 1 - cosine, "int8" 1 - dot product of the steps,
    "ubinary" and "binary" the number of bits that differ. With ``rescore``, of quantised embeddings, it is the dot
    product of the query with what the row stands for, where the highest is the best: "int8"
    ``minimum + (value + 128) * step``, bits 0 or 1. Of hits with equal scores the lower id comes first.

    Args:
        query_embeddings: (q, D), or (D,) = one query, floats; or quantised as the corpus, which is then not rescored.
        corpus_embeddings: (n, D), quantised as ``corpus_precision`` says; "ubinary" (n, ceil(D / 8)); "binary" either
            packed, int8 (n, ceil(D / 8)), or (n, D) of -1 and +1.
        corpus_index: a ``usearch.index.Index`` instead of the corpus; its keys are the ids. Both binary precisions are
            kept in it as "ubinary", as type b1.
        corpus_precision: of the corpus, or of the rows in the index.
        top_k: how many hits for a query, >= 0; a smaller corpus gives all its rows.
        ranges: for "int8", (2, D) smallest and largest value of each dimension: those the corpus was quantised with.
        calibration_embeddings: for "int8", (m, D) embeddings to take the ranges from, when there are none. Without
            both they come from the queries, which seldom fits the corpus.
        rescore: find ``top_k * rescore_multiplier`` rows with the quantised query, keep those that score best with the
            query itself.
        rescore_multiplier: >= 1; does not matter without rescoring.
        exact: compare all rows. Otherwise the graph is used, which finds most of the best rows.
        output_index: whether to return the index too, for ``corpus_index``. Building it takes far longer than an exact
            search, which does not need it.

    Returns: for each query its hits ``{"corpus_id": int, "score": float}``, best first; the seconds that the search
        took, without building the index; and the index if ``output_index``.
    Raises: ValueError unless there is either a corpus or an index, for embeddings that differ in width, that are not of
        ``corpus_precision``, or that are NaN or infinite, for a negative ``top_k``; ImportError without usearch.
    """
    asked = _Asked(
        *(corpus_precision, top_k, ranges, calibration_embeddings),
        *(rescore, rescore_multiplier, exact, output_index),
    )
    return _answer(_Usearch, asked, query_embeddings, corpus_embeddings, corpus_index)


@dataclass(frozen=True)
class _Asked:
    """What both functions take, but for the queries and what is searched."""

    precision: str
    top_k: int
    ranges: EmbeddingsLike | None
    calibration: EmbeddingsLike | None
    rescore: bool
    multiplier: int
    exact: bool
    keep: bool

    @property
    def is_binary(self) -> bool:
        return self.precision in ("binary", "ubinary")


class _Place(Protocol):
    """Rows to search in: (n, W) float32, int8 or uint8; bits are uint8, 8 to a column.

    Args of the constructor, which imports the library: index: one that was given; ValueError if it has not such rows.
    """

    NAME: str
    PRECISIONS: tuple[str, ...]
    index: Any
    count: int
    width: int
    higher_is_better: bool

    def __init__(self, asked: _Asked, index: Any) -> None: ...

    def fill(self, rows: Array) -> None:
        """Search in these from now on."""

    def nearest(self, queries: Array, limit: int) -> tuple[Array, Array]:
        """Scores of the best rows for (q, W) queries, and their ids, (q, limit) int64; -1 where there are too few."""

    def rows(self, ids: Array) -> Array:
        """(m, W) of the ids (m,)."""


class _Faiss:
    NAME = "semantic_search_faiss"
    PRECISIONS: tuple[str, ...] = ("float32", "uint8", "ubinary")

    def __init__(self, asked: _Asked, index: Any) -> None:
        self.faiss = need("faiss", extra=EXTRA, what=f"{self.NAME}()")
        self.asked, self.index = asked, index
        self.dtype = np.uint8 if asked.is_binary else np.float32
        self.higher_is_better = not asked.is_binary
        if index is not None:
            kind = "IndexBinary" if asked.is_binary else "Index"
            if not isinstance(index, getattr(self.faiss, kind)):
                raise ValueError(
                    f"corpus_index must be a faiss.{kind} with corpus_precision={asked.precision!r}, got "
                    f"{type(index).__name__}."
                )
            self.count, self.width = int(index.ntotal), int(index.d) // (8 if asked.is_binary else 1)
            self.higher_is_better = not asked.is_binary and index.metric_type == self.faiss.METRIC_INNER_PRODUCT

    def fill(self, rows: Array) -> None:
        self.count, self.width = rows.shape
        faiss, bits = self.faiss, 8 * self.width
        if self.asked.is_binary:
            self.index = faiss.IndexBinaryFlat(bits) if self.asked.exact else faiss.IndexBinaryHNSW(bits, LINKS)
        elif self.asked.exact:
            self.index = faiss.IndexFlatIP(self.width)
        else:
            self.index = faiss.IndexHNSWFlat(self.width, LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.add(np.ascontiguousarray(rows, dtype=self.dtype))

    def nearest(self, queries: Array, limit: int) -> tuple[Array, Array]:
        values, ids = self.index.search(np.ascontiguousarray(queries, dtype=self.dtype), limit)
        return values, ids

    def rows(self, ids: Array) -> Array:
        if not self.asked.is_binary:
            found: Array = self.index.reconstruct_batch(ids)
            return found
        # indexes of bits give one row at a time
        unique, places = np.unique(ids, return_inverse=True)
        return np.stack([self.index.reconstruct(row) for row in unique.tolist()])[places]


class _Usearch:
    NAME = "semantic_search_usearch"
    PRECISIONS: tuple[str, ...] = ("float32", "int8", "ubinary", "binary")

    def __init__(self, asked: _Asked, index: Any) -> None:
        self.usearch = need("usearch.index", extra=EXTRA, what=f"{self.NAME}()")
        self.asked, self.index = asked, index
        self.higher_is_better = False
        self.filled: Array | None = None
        kinds = self.usearch.MetricKind
        self.metric = {"float32": kinds.Cos, "int8": kinds.IP}.get(asked.precision, kinds.Hamming)
        if index is not None:
            if (index.dtype == self.usearch.ScalarKind.B1) != asked.is_binary:
                raise ValueError(
                    f"corpus_index must hold {'bits (b1)' if asked.is_binary else 'numbers'} with "
                    f"corpus_precision={asked.precision!r}, got {index.dtype}."
                )
            self.count, self.width = len(index), int(index.ndim) // (8 if asked.is_binary else 1)

    def fill(self, rows: Array) -> None:
        self.count, self.width = rows.shape
        if self.asked.exact and not self.asked.keep:  # then nobody needs the graph, which takes long to build
            self.filled = rows
            return
        dtype = {"float32": "f32", "int8": "i8"}.get(self.asked.precision, "b1")
        width = self.width * (8 if self.asked.is_binary else 1)
        self.index = self.usearch.Index(ndim=width, metric=self.metric, dtype=dtype)
        self.index.add(np.arange(self.count), rows)

    def nearest(self, queries: Array, limit: int) -> tuple[Array, Array]:
        if self.filled is None:
            found = self.index.search(queries, limit, exact=self.asked.exact)
        else:
            found = self.usearch.search(self.filled, queries, limit, metric=self.metric, exact=True)
        # several queries give (q, limit), and how many of each count; one gives only those that there are
        ids, values = np.atleast_2d(found.keys).astype(np.int64), np.atleast_2d(found.distances)
        if len(queries) > 1:
            ids[np.arange(ids.shape[1]) >= np.asarray(found.counts)[:, None]] = -1
        return values, ids

    def rows(self, ids: Array) -> Array:
        unique, places = np.unique(ids, return_inverse=True)
        return np.vstack(self.index.get(unique))[places]


def _answer(library: type[_Place], asked: _Asked, queries: Any, corpus: Any, index: Any) -> Found:
    """The flow of both libraries: a place to search in, then the hits of all queries by the clock."""
    one_of("corpus_precision", asked.precision, library.PRECISIONS)
    limit = 0 if asked.top_k == 0 else positive("top_k", asked.top_k)
    positive("rescore_multiplier", asked.multiplier)
    if (corpus is None) == (index is None):
        raise ValueError(
            f"Either corpus_embeddings or corpus_index should be used in {library.NAME}(), got "
            f"{'neither' if corpus is None else 'both'}."
        )
    place = library(asked, index)
    queries = _numbers("query_embeddings", queries)
    rows = None if corpus is None else _corpus_rows(_numbers("corpus_embeddings", corpus), asked.precision, queries)
    if rows is not None:
        place.fill(rows)
    started = perf_counter()
    if len(queries) and place.count and limit:
        hits = _best(place, asked, queries, rows, min(limit, place.count))
    else:
        hits = [[] for _ in queries]
    seconds = perf_counter() - started
    return (hits, seconds, place.index) if asked.keep else (hits, seconds)


def _best(place: _Place, asked: _Asked, queries: Array, rows: Array | None, limit: int) -> list[list[Hit]]:
    """The best hits of (q, D) queries. ``rows``: the whole corpus, if it is at hand."""
    rescored = asked.rescore and _can_be_rescored(place.NAME, asked.precision, queries)
    limits = _limits(asked, queries)
    stored = _stored(queries, asked, limits, place.width)
    values, ids = place.nearest(stored, min(limit * asked.multiplier, place.count) if rescored else limit)
    higher_is_better = place.higher_is_better
    if rescored and ids.max(initial=-1) >= 0:
        values, higher_is_better = _rescored(place, queries, limits, rows, ids), True
    costs = np.where(ids < 0, np.inf, -values if higher_is_better else values)
    order = np.lexsort((ids, costs), axis=-1)[:, :limit]
    best = np.take_along_axis(ids, order, -1), np.take_along_axis(values.astype(np.float64), order, -1)
    return [
        [{"corpus_id": corpus_id, "score": score} for corpus_id, score in zip(*found, strict=True) if corpus_id >= 0]
        for found in zip(*(part.tolist() for part in best), strict=True)
    ]


def _can_be_rescored(name: str, precision: str, queries: Array) -> bool:
    if precision != "float32" and queries.dtype == np.float32:
        return True
    if precision == "float32":
        logger.warning(
            "Rescoring is enabled but the corpus is not quantized. Either pass `rescore=False`, or quantize the corpus "
            "with `quantize_embeddings` and tell `%s` its `corpus_precision`.",
            name,
        )
    else:
        logger.warning(
            "Rescoring is enabled but the query embeddings are quantized. Either pass `rescore=False`, or don't "
            "quantize the query embeddings."
        )
    return False


def _rescored(place: _Place, queries: Array, limits: Array | None, rows: Array | None, ids: Array) -> Array:
    """Dot products (q, k), float64, of the queries (q, D) with what the rows of the ids (q, k) stand for.

    ``x @ (low + level * step) = x @ low + (x * step) @ level``. Where an id is -1 there is any number.
    """
    weights, offsets = queries.astype(np.float64), np.zeros((len(queries), 1))
    if limits is not None:
        step = (limits[1] - limits[0]) / np.float32(255)
        offsets = weights @ limits[0, :, None].astype(np.float64)
        weights *= np.where(step == 0, np.float32(1), step)
    scores, width = np.empty(ids.shape), queries.shape[1]
    together = max(1, BLOCK_NUMBERS // (ids.shape[1] * width))
    for first in range(0, len(queries), together):
        some = slice(first, first + together)
        wanted = np.where(ids[some] < 0, ids.max(), ids[some]).ravel()
        found = place.rows(wanted) if rows is None else rows[wanted]
        levels = (np.unpackbits(found, axis=-1, count=width) if limits is None else found).astype(np.float64)
        if found.dtype == np.int8:
            levels += 128
        scores[some] = np.matmul(levels.reshape(-1, ids.shape[1], width), weights[some, :, None])[..., 0]
    return scores + offsets


def _limits(asked: _Asked, queries: Array) -> Array | None:
    """The smallest and the largest value of each dimension, (2, D) float32; None for precisions without steps."""
    if asked.is_binary or asked.precision == "float32":
        return None
    if asked.ranges is not None:
        return _numbers("ranges", asked.ranges).astype(np.float32)
    rows = queries if asked.calibration is None else _numbers("calibration_embeddings", asked.calibration)
    if len(rows) == 0:
        raise ValueError("calibration_embeddings must have a row or more to take ranges from, got none.")
    return np.stack([rows.min(0), rows.max(0)]).astype(np.float32)


def _stored(queries: Array, asked: _Asked, limits: Array | None, width: int) -> Array:
    """The queries (q, D) as the rows of the corpus are, (q, width)."""
    if queries.dtype == np.float32 and asked.is_binary:
        stored = pack_binary(queries)
    elif queries.dtype == np.float32 and limits is not None:
        is_known = asked.ranges is not None or asked.calibration is not None
        # from the queries themselves only as far as quantize_embeddings finds them enough
        stored = quantize_embeddings(queries, asked.precision, ranges=limits if is_known else None)  # type: ignore[arg-type]
    elif asked.precision == "float32":
        stored = queries.astype(np.float32, copy=False)
    else:
        stored = _as_dtype("query_embeddings", queries, asked.precision)
        if asked.precision == "binary":
            stored = _unsigned_bits(stored) if stored.shape[1] == width else pack_binary(stored)
    if stored.shape[1] != width:
        raise ValueError(
            f"query_embeddings must be as wide as the corpus, got shape {queries.shape}: with corpus_precision="
            f"{asked.precision!r} they have the width {stored.shape[1]}, and the corpus {width}. Were both made by the "
            "same model, with the same truncate_dim, and is the precision that of the corpus?"
        )
    return stored


def _corpus_rows(corpus: Array, precision: str, queries: Array) -> Array:
    """The corpus as it is searched; packed bits as "ubinary"."""
    if precision == "float32":
        return corpus.astype(np.float32, copy=False)
    rows = _as_dtype("corpus_embeddings", corpus, precision)
    if precision != "binary":
        return rows
    wide, width = rows.shape[1], queries.shape[1]
    is_as_wide = wide == width or (wide > width and queries.dtype != np.float32)
    return pack_binary(rows) if is_as_wide and bool((np.abs(rows) == 1).all()) else _unsigned_bits(rows)


def _as_dtype(name: str, array: Array, precision: str) -> Array:
    """The array in the dtype of the precision; lists come in a wider one."""
    dtype = np.dtype(DTYPES[precision])
    if array.dtype == dtype:
        return array
    with np.errstate(invalid="ignore"):
        narrow = array.astype(dtype)
    if array.dtype != np.float32 or not np.array_equal(narrow, array):
        raise ValueError(
            f"{name} must be {dtype} with corpus_precision={precision!r}, got {array.dtype}. Quantize them first: "
            f"quantize_embeddings(embeddings, precision={precision!r})."
        )
    return narrow


def _unsigned_bits(packed: Array) -> Array:
    """Packed "binary", int8, as "ubinary"."""
    return packed.view(np.uint8) ^ np.uint8(128)


def _numbers(name: str, embeddings: EmbeddingsLike) -> Array:
    """(rows, width): int8 and uint8 as they are, all others as finite float32."""
    tensor = embedding_matrix(embeddings).to_dense().cpu()
    if tensor.dtype in (torch.int8, torch.uint8):
        narrow: Array = tensor.numpy()
        return narrow
    array: Array = tensor.float().numpy()
    if not np.isfinite(array.sum(dtype=np.float64)):
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(
            f"{name} must be finite, but row {row} has NaN or infinite values. Leave such rows out, or find out why "
            "the model made them."
        )
    return array
