"""The rows of one corpus with the highest dot products, for one block of queries after another.

Where a processor multiplies bfloat16 much faster than float32, the products are looked at in it first, and only those
that may be among the best are computed in float32. Elsewhere all are, and their maxima in groups say where to look. A
large corpus, or one on a GPU, is left to ``semantic_search``.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..inference.workers import on_all_cores
from ..ops.chosen import chosen_products
from ..ops.screen import Rounded, Shortlister, is_worthwhile
from ..ops.similarity import dot_score
from .semantic import semantic_search

if TYPE_CHECKING:
    from typing import TypeAlias

    from ..ops.screen import Shortlist

    Found: TypeAlias = tuple[Tensor, Tensor]

GROUP = 64
"""Neighbouring scores of which first only the maximum is looked at."""
MOST_ROWS = 2**16
"""Up to here a corpus is scored as a whole; in blocks, what is best so far must be kept and merged."""
BLOCK_SCORES, BLOCK_QUERIES = 2**23, 32
"""So many scores are computed at once by all cores together, 32 MiB in float32; of at least so many queries each."""
SCREENED_SCORES = 2**24
"""As many bytes of them in bfloat16."""
SCREENED_ROWS = 2048
"""For a smaller corpus, or a much smaller number of queries, a first look saves nothing."""
SCREENED_SHARE = 64
"""Nor if more than one row in so many is wanted."""


class Nearest:
    """Searches one corpus of (n, D) float32 embeddings.

    Args:
        corpus: not copied, not changed; finite.
        is_screened: look in bfloat16 first. Default: where the processor is made for it. The rows found are the same.
    """

    def __init__(self, corpus: Tensor, is_screened: bool | None = None) -> None:
        self.corpus = corpus
        self.is_whole = corpus.device.type == "cpu" and len(corpus) <= MOST_ROWS
        self.is_screened = is_worthwhile() if is_screened is None else is_screened

    def __call__(self, queries: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Scores and ids of the best ``limit`` rows for (q, D) queries, best first, of equal ones the lower id first.

        Returns: (q, limit) float32, (q, limit) int64. Raises: ValueError for embeddings that are not finite, where
            the corpus is large or on a GPU.
        """
        queries = queries.to(self.corpus.device)
        if not self.is_whole:
            scores, ids = semantic_search(queries, self.corpus, top_k=limit, score_function=dot_score, as_arrays=True)
            return torch.from_numpy(scores), torch.from_numpy(ids)
        count = len(self.corpus)
        pays = count >= max(SCREENED_ROWS, limit * SCREENED_SHARE) and len(queries) * 16 >= SCREENED_ROWS
        if self.is_screened and pays:
            found = self._screened(queries, limit, max(BLOCK_QUERIES, SCREENED_SCORES // count))
        else:
            blocks = torch.split(queries, block_rows(len(queries), count))
            found = on_all_cores(lambda some: top(self.products(self.prepared(some)), limit), blocks)
        return torch.cat([scores for scores, _ in found]), torch.cat([ids for _, ids in found])

    @cached_property
    def rounded(self) -> Rounded:
        """The corpus in half precision, as it is compared."""
        return Rounded.of(self.corpus)

    def prepared(self, queries: Tensor) -> Tensor:
        """The queries, (q, D), as they are compared."""
        return queries

    def products(self, queries: Tensor) -> Tensor:
        """The scores of all rows: (q, D) -> (q, n)."""
        return queries @ self.corpus.t()

    def chosen(self, queries: Tensor, listed: Shortlist) -> Tensor:
        """Those of the rows listed for (q, D) queries: (m,)."""
        return chosen_products(self.corpus, queries, listed.starts, listed.rows)

    def _screened(self, queries: Tensor, limit: int, rows: int) -> list[Found]:
        """As a call, for so many rows after the other, each with all cores."""
        shortlist = Shortlister(self.rounded, min(rows, len(queries)))
        found = []
        for some in torch.split(queries, rows):
            some = self.prepared(some)
            listed = shortlist(Rounded.of(some), limit)
            scores, ids = _best_listed(self.chosen(some, listed), listed, len(some), limit)
            rest = torch.from_numpy(listed.open_rows)
            if len(rest):
                scores[rest], ids[rest] = top(self.products(some[rest]), limit)
            found.append((scores, ids))
        return found


def block_rows(queries: int, corpus: int) -> int:
    """How many queries are scored at once: as many blocks for each core, and all as large as the others."""
    threads = torch.get_num_threads()
    most = max(BLOCK_QUERIES, BLOCK_SCORES // (corpus * threads))
    blocks = ceil(queries / (most * threads)) * threads
    return max(BLOCK_QUERIES, ceil(queries / blocks))


def _best_listed(values: Tensor, listed: Shortlist, queries: int, limit: int) -> tuple[Tensor, Tensor]:
    """The best ``limit`` of the (m,) values of every query, as ``top``; anything for one with fewer."""
    order = np.argsort(listed.rows.astype(np.min_scalar_type(queries)), kind="stable")  # small numbers sort quickly
    rows = listed.rows[order]
    counts = np.bincount(rows, minlength=queries)
    width = max(int(counts.max()), limit)
    # those of query i begin at i * width in the rectangle
    places = torch.from_numpy(np.arange(len(rows)) + (np.arange(queries) * width - counts.cumsum() + counts)[rows])
    scores, ids = torch.full((queries, width), -torch.inf), torch.zeros((queries, width), dtype=torch.int64)
    scores.view(-1)[places] = values[torch.from_numpy(order)]
    ids.view(-1)[places] = torch.from_numpy(listed.columns[order])
    best, columns = stable_top(scores, limit)
    return best, ids.gather(1, columns)


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
