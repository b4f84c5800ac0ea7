"""Paraphrase mining: the best pairs within one set, from the nearest neighbours of every row.

Where only some of the neighbours can be among the best pairs, a sample of the rows tells from which score on, and one
look at each pair above it is enough. Otherwise the neighbours of all rows are searched. Either way nothing but a block
and a few times ``max_pairs`` pairs is held.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import positive
from ..ops.similarity import cos_sim
from .pairs import RowPairs
from .semantic import Plan, ScoreFunction, best_rows, embedding_matrix, is_product, plan_search, row_blocks

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike
    from ..encoders.dense import SentenceTransformer
    from ..encoders.sparse import SparseEncoder

    Array: TypeAlias = np.ndarray[Any, Any]
    Scored: TypeAlias = tuple[Array, Array]
    """Scores of pairs, and the pairs: i * n + j for rows i < j of n, which is their order."""

SAMPLE = 512
"""So many rows, or up to twice as many, tell which score a pair must have,"""
SAMPLED_PAIRS = 64
"""from so many of their pairs at least."""
SPARE = 1.25
"""Times ``max_pairs`` pairs are hoped for above it: the sample may be off."""
ROOM = 4
"""Times as many pairs as are wanted, or hoped for, are held at most."""


def paraphrase_mining(
    model: SentenceTransformer | SparseEncoder,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Encode the sentences and find the pairs that are closest in meaning.

    Args:
        model: encodes all sentences, as ``truncate_dim`` (or ``max_active_dims``, of a sparse one), ``prompt_name`` and
            ``prompt`` say; see ``encode``.
        sentences: n texts.
        show_progress_bar: of the encoding. batch_size: of the encoding.
        query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function: see ``paraphrase_mining_embeddings``.

    Returns: lists ``[score, i, j]``, i < j; see ``paraphrase_mining_embeddings``.
    Raises: ValueError for a chunk size below 1, a negative ``max_pairs`` or ``top_k``; what ``encode`` raises.
    """
    width: dict[str, Any] = {} if truncate_dim is None else {"truncate_dim": truncate_dim}
    embeddings = model.encode(
        sentences,
        prompt_name=prompt_name,
        prompt=prompt,
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
        convert_to_tensor=True,
        **width,
    )
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: EmbeddingsLike,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[float | int]]:
    """The best pairs of rows, of those where one row is among the ``top_k`` nearest to the other.

    Each pair comes once, even if the function gives (i, j) and (j, i) different scores: with the higher. Of equal
    neighbours of a row those with the lower index count as nearer; of equal pairs those with the lower i, then j, come
    first.

    Args:
        embeddings: (n, D), dense or sparse.
        query_chunk_size: at most how many rows ``score_function`` gets at once on its left side.
        corpus_chunk_size: the same on its right side. ``cos_sim`` and ``dot_score`` choose blocks of their own.
        max_pairs: at most how many pairs are returned, >= 0.
        top_k: how many neighbours of each row are candidates, without the row itself, >= 0.
        score_function: (q, D), (c, D) -> (q, c), higher is closer.

    Returns: lists ``[score, i, j]``, i < j, highest score first.
    Raises: ValueError for embeddings that are not (rows, width), for NaN or infinite ones, for NaN scores, for scores
        of another shape, for a chunk size below 1, for a negative ``max_pairs`` or ``top_k``.
    """
    scores, first, second = paraphrase_pairs(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )
    return [[score, i, j] for score, i, j in zip(scores.tolist(), first.tolist(), second.tolist(), strict=True)]


def paraphrase_pairs(
    embeddings: EmbeddingsLike,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> tuple[Array, Array, Array]:
    """What ``paraphrase_mining_embeddings`` finds, as arrays: scores, i and j, (p,) each."""
    chunks = positive("query_chunk_size", query_chunk_size), positive("corpus_chunk_size", corpus_chunk_size)
    most = 0 if max_pairs == 0 else positive("max_pairs", max_pairs)
    rows = embedding_matrix(embeddings)
    limit = 0 if top_k == 0 else min(positive("top_k", top_k), len(rows) - 1)
    if most == 0 or limit < 1:
        return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    with torch.no_grad():
        found = _above_a_bar(rows, score_function, chunks, limit, most) if is_product(score_function) else None
        if found is None:
            found = _nearest(rows, plan_search(rows, rows, score_function, chunks, limit + 1), limit, most)
    scores, keys = found
    return scores, *np.divmod(keys, len(rows))


def _above_a_bar(
    rows: Tensor, score_function: ScoreFunction, chunks: tuple[int, int], limit: int, most: int
) -> Scored | None:
    """The best ``most`` pairs of those where one row is among the ``limit`` nearest of the other, best first; None
    where no bar can be told, or so many pairs are above it that few of them are wanted, or too few."""
    count = len(rows)
    sample = np.arange(0, count, max(1, count // SAMPLE))
    # a pair of two near rows is found twice, once from each side
    needed = max(SAMPLED_PAIRS, ceil(2 * SPARE * most * len(sample) / count))
    if needed > len(sample) * limit or count < 4 * SAMPLE:
        return None
    pairs = RowPairs.of(rows, score_function, chunks)
    found = pairs.highest(sample, limit)
    bar = float(np.partition(found, len(found) - needed)[len(found) - needed])
    parts: list[Scored] = []
    room = ROOM * needed * count // len(sample)
    for left, right, values in pairs.at_least(bar):
        parts.append((values, left * count + right))
        room -= len(values)
        if room < 0:
            return None
    scores, keys = _among_nearest(*_ranked(parts), count, limit) if parts else (found[:0], sample[:0])
    return (scores[:most], keys[:most]) if len(keys) >= most else None


def _nearest(rows: Tensor, plan: Plan, limit: int, most: int) -> Scored:
    """The best ``most`` pairs of a row and one of the ``limit`` nearest to it, best first."""
    parts: list[Scored] = []
    for block in row_blocks("embeddings", rows, plan.rows):
        scores, ids = best_rows([block], row_blocks("embeddings", rows, plan.width), plan, limit + 1)
        values, left, right = _neighbours(block.first, scores.cpu().numpy(), ids.cpu().numpy())
        parts.append((values, np.minimum(left, right) * len(rows) + np.maximum(left, right)))
        if sum(len(keys) for _, keys in parts) > ROOM * most:
            parts = [_best_once(*_ranked(parts), most)]
    return _best_once(*_ranked(parts), most)


def _neighbours(first: int, scores: Array, ids: Array) -> tuple[Array, Array, Array]:
    """Scores, rows and ids, (p,) each, of the hits (q, limit + 1) of the rows from ``first`` on: ``limit`` a row, none
    the row itself."""
    rows = np.arange(first, first + len(ids))
    is_other = ids != rows[:, None]
    is_other[:, -1] &= ~is_other[:, :-1].all(axis=1)  # one too many where the row is not among its own best
    places, columns = np.nonzero(is_other)
    return scores[places, columns], rows[places], ids[places, columns]


def _ranked(parts: list[Scored]) -> Scored:
    """All pairs, best first, of equal ones the first row's first."""
    scores, keys = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((keys, -scores))
    return scores[order], keys[order]


def _best_once(scores: Array, keys: Array, most: int) -> Scored:
    """The first ``most`` pairs, without those that came before."""
    _, firsts = np.unique(keys, return_index=True)
    firsts.sort()
    return scores[firsts[:most]], keys[firsts[:most]]


def _among_nearest(scores: Array, keys: Array, count: int, limit: int) -> Scored:
    """The pairs of ``count`` rows, each given once and best first, where one row is among the ``limit`` nearest of the
    other."""
    sides, places = np.divmod(keys, count), np.arange(len(keys))
    sizes = np.bincount(np.concatenate(sides), minlength=count)
    last = np.full(count, len(keys))  # the place of the last pair that a row wants
    is_crowded = sizes > limit
    # row after row, the places of all its pairs
    entries = np.concatenate([(side * len(keys) + places)[is_crowded[side]] for side in sides])
    entries.sort()
    starts = np.cumsum(sizes[is_crowded]) - sizes[is_crowded]
    last[is_crowded] = entries[starts + limit - 1] % len(keys)
    is_kept = np.logical_or(*(places <= last[side] for side in sides))
    return scores[is_kept], keys[is_kept]
