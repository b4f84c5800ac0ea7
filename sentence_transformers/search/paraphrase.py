"""Paraphrase mining: the best pairs within one set, from the nearest neighbours of every row.

Rows are searched a block at a time. Once there are enough pairs, the worst of them is the bar for all later ones, so
nothing but a block and a few times ``max_pairs`` pairs is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import positive
from ..ops.similarity import cos_sim
from .semantic import ScoreFunction, best_rows, embedding_matrix, plan_search, row_blocks

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike
    from ..encoders.dense import SentenceTransformer
    from ..encoders.sparse import SparseEncoder

    Array: TypeAlias = np.ndarray[Any, Any]


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
    chunks = positive("query_chunk_size", query_chunk_size), positive("corpus_chunk_size", corpus_chunk_size)
    most = 0 if max_pairs == 0 else positive("max_pairs", max_pairs)
    rows = embedding_matrix(embeddings)
    limit = 0 if top_k == 0 else min(positive("top_k", top_k), len(rows) - 1)
    if most == 0 or limit < 1:
        return []
    plan = plan_search(rows, rows, score_function, chunks, limit + 1)
    pairs = _BestPairs(len(rows), most)
    with torch.no_grad():
        for block in row_blocks("embeddings", rows, plan.rows):
            corpus = row_blocks("embeddings", rows, plan.width)
            scores, ids = best_rows([block], corpus, plan, limit + 1, pairs.floor)
            pairs.add(*_neighbours(block.first, scores.cpu().numpy(), ids.cpu().numpy()))
    return pairs.result()


def _neighbours(first: int, scores: Array, ids: Array) -> tuple[Array, Array, Array]:
    """Scores, rows and ids, (p,) each, of the hits (q, limit + 1) of the rows from ``first`` on, at most ``limit`` a
    row, none of them the row itself."""
    rows = np.arange(first, first + len(ids))[:, None]
    is_other = ids != rows
    is_other[:, -1] &= ~is_other[:, :-1].all(axis=1)  # one too many where the row is not among its own best
    is_other &= ids >= 0
    places, columns = np.nonzero(is_other)
    return scores[places, columns], places + first, ids[places, columns]


class _BestPairs:
    """The best ``limit`` pairs so far of ``count`` rows, each once; of equal scores those of lower rows.

    Pairs wait until they are half as many as wanted; then all but the best are dropped.
    """

    def __init__(self, count: int, limit: int) -> None:
        self.count = count
        self.limit = limit
        self.parts: list[tuple[Array, Array]] = []
        self.waiting = 0
        self.floor: float | None = None  # what can still be among the best scores higher

    def add(self, scores: Array, left: Array, right: Array) -> None:
        """Take in pairs of rows, (p,) each."""
        # one number for a pair, in order of the first row, then of the second
        self.parts.append((scores, np.minimum(left, right) * self.count + np.maximum(left, right)))
        self.waiting += len(scores)
        if self.waiting * 2 >= self.limit:
            self._drop()

    def result(self) -> list[list[float | int]]:
        """Lists ``[score, i, j]``, best first."""
        self._drop()
        scores, keys = self.parts[0]
        order = np.argsort(-scores, kind="stable")
        first, second = np.divmod(keys[order], self.count)
        return list(map(list, zip(scores[order].tolist(), first.tolist(), second.tolist(), strict=True)))

    def _drop(self) -> None:
        scores, keys = (np.concatenate(values) for values in zip(*self.parts, strict=True))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        scores, keys = np.maximum.reduceat(scores[order], starts), keys[starts]
        if len(keys) >= self.limit:
            lowest = np.partition(scores, len(scores) - self.limit)[len(scores) - self.limit]
            is_kept = scores > lowest
            equal = np.flatnonzero(scores == lowest)
            is_kept[equal[: self.limit - np.count_nonzero(is_kept)]] = True
            scores, keys = scores[is_kept], keys[is_kept]
            # an equal score is good enough for a pair of lower rows
            self.floor = float(np.nextafter(lowest, lowest.dtype.type(-np.inf)))
        self.parts, self.waiting = [(scores, keys)], 0
