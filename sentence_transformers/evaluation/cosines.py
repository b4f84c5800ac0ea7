"""The rows of a corpus with the highest cosines to queries, where the corpus is not at unit length.

As ``search.nearest``, but without a float32 copy of the corpus at unit length. The memory for such a copy, asked for
anew with every model that is evaluated, would take longer than the search.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ops.screen import Rounded
from ..ops.tensors import normalize_embeddings
from ..search.nearest import Nearest

if TYPE_CHECKING:
    from ..ops.screen import Shortlist

ROWS = 512
"""So many rows are brought to unit length at once: they stay in the caches of the cores."""
SHORTEST = 1e-12
"""Lengths below count as this one, so that zero stays zero."""


def nearest_cosines(
    queries: Tensor, corpus: Tensor, limit: int, is_screened: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Scores and places of the best rows of a corpus, best first, of equal scores the lower place first.

    Args:
        queries: (q, D) float32. corpus: (n, D) float32. limit: 1..n.
        is_screened: look in bfloat16 first. Default: where the processor is made for it. The rows found are the same.

    Returns: (q, limit) float32, (q, limit) int64.
    """
    nearest = _Cosines(corpus, is_screened)
    if nearest.is_whole:
        return nearest(queries, limit)
    return Nearest(normalize_embeddings(corpus), is_screened)(normalize_embeddings(queries), limit)


class _Cosines(Nearest):
    """Searches a corpus as a whole; neither it nor the queries are at unit length."""

    @cached_property
    def lengths(self) -> Tensor:
        """(n,), > 0."""
        found: Tensor = torch.linalg.vector_norm(self.corpus, dim=1)
        return found.clamp_(min=SHORTEST)

    @cached_property
    def rounded(self) -> Rounded:
        rounded, self.lengths = rounded_units(self.corpus)
        return rounded

    def prepared(self, queries: Tensor) -> Tensor:
        return normalize_embeddings(queries)

    def products(self, queries: Tensor) -> Tensor:
        return super().products(queries).div_(self.lengths)

    def chosen(self, queries: Tensor, listed: Shortlist) -> Tensor:
        return super().chosen(queries, listed).div_(self.lengths[torch.from_numpy(listed.columns)])


def rounded_units(rows: Tensor) -> tuple[Rounded, Tensor]:
    """Rows (n, D) float32 at unit length and in half precision, and (n,) their lengths before, > 0."""
    values = torch.empty_like(rows, dtype=torch.bfloat16)
    lengths, losses = rows.new_empty(len(rows)), rows.new_empty(len(rows))

    space = rows.new_empty(min(ROWS, len(rows)), rows.shape[1])
    for start in range(0, len(rows), ROWS):  # on all cores: threads of Python would wait for each other between steps
        at = slice(start, min(start + ROWS, len(rows)))
        torch.linalg.vector_norm(rows[at], dim=1, out=lengths[at])
        lengths[at].clamp_(min=SHORTEST)
        unit = torch.div(rows[at], lengths[at, None], out=space[: at.stop - start])
        values[at] = unit
        unit -= values[at]
        torch.linalg.vector_norm(unit, dim=1, out=losses[at])
    return Rounded(values, torch.ones_like(lengths), losses), lengths
