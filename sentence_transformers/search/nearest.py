"""The rows of one corpus with the highest dot products, for one block of queries after another.

The scores of some queries are computed at once, and their maxima in groups say where to look. A large corpus, or one on
a GPU, is left to ``semantic_search``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.similarity import dot_score
from .semantic import semantic_search

GROUP = 64
"""Neighbouring scores of which first only the maximum is looked at."""
MOST_ROWS = 2**16
"""Up to here a corpus is scored as a whole; in blocks, what is best so far must be kept and merged."""
BLOCK_SCORES = 2**22
"""So many scores are computed at once: 16 MiB in float32."""


class Nearest:
    """Searches one corpus of (n, D) float32 embeddings.

    Args:
        corpus: not copied, not changed; finite.
    """

    def __init__(self, corpus: Tensor) -> None:
        self.corpus = corpus
        self.is_whole = corpus.device.type == "cpu" and len(corpus) <= MOST_ROWS

    def __call__(self, queries: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Scores and ids of the best ``limit`` rows for (q, D) queries, best first, of equal ones the lower id first.

        Returns: (q, limit) float32, (q, limit) int64. Raises: ValueError for embeddings that are not finite, where
            the corpus is large or on a GPU.
        """
        queries = queries.to(self.corpus.device)
        if not self.is_whole:
            scores, ids = semantic_search(queries, self.corpus, top_k=limit, score_function=dot_score, as_arrays=True)
            return torch.from_numpy(scores), torch.from_numpy(ids)
        rows = max(1, BLOCK_SCORES // len(self.corpus))
        found = [top(some @ self.corpus.t(), limit) for some in torch.split(queries, rows)]
        return torch.cat([scores for scores, _ in found]), torch.cat([ids for _, ids in found])


def top(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Values and columns (q, limit) of the highest scores (q, c), of equal ones the lower column first; limit <= c.

    The ``limit`` groups with the highest maxima hold them: one that is in another has as many before it.
    """
    groups = scores.shape[1] // GROUP
    if groups < 2 * limit:
        return stable_top(scores, limit)
    whole = groups * GROUP
    split = scores[:, :whole].reshape(len(scores), groups, GROUP)
    _, best = stable_top(split.amax(dim=2), limit)
    best = best.sort(dim=1).values  # so that columns stay in order
    inside = torch.arange(GROUP, device=scores.device)
    columns = (best[:, :, None] * GROUP + inside).flatten(1)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, places = stable_top(scores.gather(1, columns), limit)
    return values, columns.gather(1, places)


def stable_top(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """As ``top``, without the groups."""
    values, columns = scores.topk(min(limit + 1, scores.shape[1]), dim=1)
    # topk leaves to chance which of equal scores it takes and in which order; equal neighbours show where
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    values, columns = values[:, :limit], columns[:, :limit]
    if len(tied):
        order = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], columns[tied] = order.values[:, :limit], order.indices[:, :limit]
    return values, columns
