"""The best rows of a corpus for every query, where the corpus comes in chunks and equal scores have a fixed order.

Which rows are found does not depend on the chunks, nor on the order of the corpus. Knows nothing of texts and models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..ops.similarity import dot_score
from ..ops.tensors import is_sparse, to_tensor
from ..search.nearest import Nearest, top
from ..search.semantic import best_rows, embedding_rows, is_product, plan_search, refuse_nan, row_blocks, sparse_rows
from .cosines import nearest_cosines

Array: TypeAlias = npt.NDArray[Any]
Rows: TypeAlias = Tensor | Sequence[Any]
"""Embeddings, a row each: (n, ...) dense or coalesced COO, or a list, where an embedding has rows of its own."""
Scores: TypeAlias = Callable[[Any, Any], Tensor]
"""q and n embeddings -> (q, n); higher is closer."""

MOST_SCORES = 2**25
"""So many scores are computed at once by a function that is not a product."""


class BestHits:
    """The best rows of a corpus for q queries, best first.

    Args:
        queries: q >= 1 embeddings.
        score_function: (q embeddings, n embeddings) -> (q, n).
        limit: how many rows for a query.
        ranks: -> (n,) int64, of the whole corpus: of rows with equal scores the lower rank is better. Asked for only if
            there are any.

    Attributes:
        scores: (q, min(limit, rows seen)), floating.
        places: likewise, int64: of the rows in the corpus.
    """

    def __init__(self, queries: Rows, score_function: Scores, limit: int, ranks: Callable[[], Array]) -> None:
        self.queries = queries
        self.score_function = score_function
        self.limit = limit
        self.ranks = ranks
        self.scores = np.empty((len(queries), 0), dtype=np.float32)
        self.places = np.empty((len(queries), 0), dtype=np.int64)

    def add(self, chunk: Rows, first: int) -> None:
        """Take in the rows of the corpus from ``first`` on.

        Raises: ValueError for scores that are NaN or of another shape, and for embeddings of different widths.
        """
        scores, places = self._best_of(chunk, first)
        if self.places.size:
            scores = np.concatenate([self.scores, scores], axis=1)
            places = np.concatenate([self.places, places], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")
            scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
            places = self._settled(scores, places)
        self.scores, self.places = scores[:, : self.limit], places[:, : self.limit]

    def _best_of(self, chunk: Rows, first: int) -> tuple[Array, Array]:
        """Scores and places, (q, min(limit, c)), of the best rows of one chunk."""
        count, limit = len(chunk), self.limit
        # one more shows whether it is chance which rows of equal scores are the last
        scores, columns = nearest_rows(self.queries, chunk, self.score_function, min(limit + 1, count))
        places = columns + first
        if count > limit:
            tied = np.flatnonzero(scores[:, limit] == scores[:, limit - 1])
            scores, places = scores[:, :limit], places[:, :limit]
            if len(tied):
                order = np.argsort(self.ranks()[first : first + count], kind="stable")
                some = take_rows(self.queries, tied), take_rows(chunk, order)
                scores[tied], columns = nearest_rows(*some, self.score_function, limit)
                places[tied] = order[columns] + first
        return scores, self._settled(scores, places)

    def _settled(self, scores: Array, places: Array) -> Array:
        """The places (q, k), of which those with equal scores come in the order of their ranks; scores fall."""
        rows = np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1))
        if len(rows):
            order = np.lexsort((self.ranks()[places[rows]], -scores[rows]), axis=1)
            places = places.copy()
            places[rows] = np.take_along_axis(places[rows], order, 1)
        return places


def nearest_rows(queries: Rows, corpus: Rows, score_function: Scores, limit: int) -> tuple[Array, Array]:
    """Scores and places of the best rows of a corpus, best first, of equal scores the lower place first.

    Args:
        queries: q >= 1 embeddings. corpus: n. score_function: see ``BestHits``. limit: 1..n.

    Returns: (q, limit) floating, (q, limit) int64. Raises: ValueError as ``BestHits.add``.
    """
    with torch.no_grad():
        if not isinstance(corpus, Tensor) or not isinstance(queries, Tensor):
            scores, places = _of_items(queries, corpus, score_function, limit)
        elif is_product(score_function) and _is_plain(queries) and _is_plain(corpus):
            scores, places = _of_products(queries, corpus, score_function is dot_score, limit)
        else:
            queries = queries.to(corpus.device)
            chunks = (max(1, MOST_SCORES // len(corpus)), len(corpus))
            plan = plan_search(queries, corpus, score_function, chunks, limit)
            blocks = row_blocks("query embeddings", queries, plan.rows), row_blocks("corpus", corpus, plan.width)
            scores, places = best_rows(*blocks, plan, limit)
        refuse_nan(scores[:, :1])  # NaN would come first
        return scores.cpu().numpy(), places.cpu().numpy()


def _is_plain(rows: Tensor) -> bool:
    """Whether float32 loses nothing."""
    return not is_sparse(rows) and rows.dim() == 2 and rows.dtype != torch.float64


def _of_products(queries: Tensor, corpus: Tensor, is_dot: bool, limit: int) -> tuple[Tensor, Tensor]:
    """Of dot products, or of cosines."""
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"Queries and corpus must be equally wide, got shapes {tuple(queries.shape)} and {tuple(corpus.shape)}. "
            "Were they embedded by the same model, with the same truncate_dim?"
        )
    left, right = queries.to(corpus.device).float(), corpus.float()
    return Nearest(right)(left, limit) if is_dot else nearest_cosines(left, right, limit)


def _of_items(queries: Rows, corpus: Rows, score_function: Scores, limit: int) -> tuple[Tensor, Tensor]:
    """Of lists, by a function that takes lists."""
    found = []
    size = max(1, MOST_SCORES // len(corpus))
    for start in range(0, len(queries), size):
        some = rows_between(queries, start, min(start + size, len(queries)))
        scores = to_tensor(score_function(some, corpus))
        if scores.shape != (len(some), len(corpus)):
            raise ValueError(
                f"A score function must give (queries, documents) = ({len(some)}, {len(corpus)}) scores, got shape "
                f"{tuple(scores.shape)}."
            )
        found.append(top(scores if scores.dtype == torch.float64 else scores.float(), limit))
    return torch.cat([scores for scores, _ in found]), torch.cat([places for _, places in found])


def as_rows(embeddings: Any) -> Rows:
    """What a model gave for n inputs: an array or tensor as a tensor, sparse ones coalesced; a list as it is."""
    if isinstance(embeddings, (Tensor, np.ndarray)):
        return embedding_rows(embeddings)
    rows: Sequence[Any] = embeddings
    return rows


def rows_between(rows: Rows, start: int, stop: int) -> Rows:
    """The rows from ``start`` to before ``stop``."""
    if isinstance(rows, Tensor) and is_sparse(rows):
        return sparse_rows(rows, start, stop)
    return rows[start:stop]


def take_rows(rows: Rows, places: Array) -> Rows:
    """The rows at (m,) places, in their order."""
    if not isinstance(rows, Tensor):
        return [rows[place] for place in places.tolist()]
    some = rows.index_select(0, torch.from_numpy(places).to(rows.device))
    return some.coalesce() if is_sparse(some) else some
