"""All pairs of rows of one matrix with a score of at least a bar: half of the matrix of scores, a block at a time.

Where a processor multiplies bfloat16 much faster than float32, cosines are first looked at in it, and only pairs that
may reach the bar are computed again. Knows nothing of what is done with the pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..ops.screen import ROUNDING, Rounded, bound, is_worthwhile
from ..ops.similarity import dot_score
from ..ops.tensors import is_sparse
from .semantic import GROUP, Block, Plan, ScoreFunction, plan_search, refuse_nan, row_blocks, sparse_rows

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]
    Pairs: TypeAlias = tuple[Array, Array, Array]

SCREENED_ROWS = 4096
"""For fewer rows a first look saves nothing."""
MOST_SCREENED = 2**-10
"""Above this share of pairs that may reach the bar, it is quicker to compute all of a block."""


@dataclass(frozen=True)
class RowPairs:
    """The pairs of the rows of one matrix.

    values: (n, D), of which scores are dot products, dense or coalesced COO. plan: how to compute them. screen: of the
    values, where a first look pays.
    """

    values: Tensor
    plan: Plan
    screen: CosineScreen | None

    @classmethod
    def of(cls, rows: Tensor, score_function: ScoreFunction, chunks: tuple[int, int]) -> RowPairs:
        """Of (n, D) rows, n >= 1, dense or coalesced COO.

        Args:
            score_function: ``cos_sim`` or ``dot_score``. chunks: a block has at most so many scores as their product.

        Raises: ValueError for NaN or infinite rows.
        """
        plan = plan_search(rows, rows, score_function, chunks, 1)
        values = plan.prepare(Block("embeddings", 0, rows))
        is_plain = values.dtype == torch.float32 and values.device.type == "cpu" and not is_sparse(values)
        pays = is_plain and score_function is not dot_score and len(values) >= SCREENED_ROWS and is_worthwhile()
        return cls(values, plan, CosineScreen.of(values, plan.rows * plan.width) if pays else None)

    def at_least(self, bar: float, show_progress_bar: bool = False) -> Iterator[Pairs]:
        """All pairs i < j with a score >= ``bar``, each once, in blocks of rows i.

        Yields: i, j and scores, (p,) each. Raises: ValueError for NaN scores.
        """
        count, step, width = len(self.values), self.plan.rows, self.plan.width
        bits = None if self.screen is None else self.screen.bits(bar)
        for start in _with_progress(range(0, count, step), show_progress_bar):
            some = slice(start, min(start + step, count))
            for first in range(start, count, width):
                rows, columns, scores = self._found(some, slice(first, min(first + width, count)), bar, bits)
                left, right = rows + start, columns + first
                is_half = slice(None) if first >= some.stop else left < right
                if len(left):
                    yield left[is_half], right[is_half], scores[is_half]

    def near(self, rows: Array, bar: float) -> Pairs:
        """The rows with a score >= ``bar`` to each of some ``rows`` (q,), which have an infinite one to themselves.

        Returns: places in ``rows``, rows and scores, (p,) each. Raises: ValueError for NaN scores.
        """
        found = []
        for place, first, scores in self._scores(rows, torch.inf):
            places, ids, values = reaching(scores, bar)
            found.append((places + place, ids + first, values))
        places, ids, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return places, ids, values

    def highest(self, rows: Array, limit: int) -> Array:
        """The ``limit`` < n highest scores of each of some ``rows`` (q,) to others, in any order: (q * limit,).

        Raises: ValueError for NaN scores.
        """
        found: dict[int, list[Tensor]] = {}
        for place, _, scores in self._scores(rows, -torch.inf):
            found.setdefault(place, []).append(scores.topk(min(limit, scores.shape[1])).values)
        best = torch.cat([torch.cat(parts, dim=1).topk(limit).values.flatten() for parts in found.values()])
        refuse_nan(best)
        return best.cpu().numpy()

    def _scores(self, rows: Array, own: float) -> Iterator[tuple[int, int, Tensor]]:
        """Scores of some ``rows`` (q,) to all, in blocks, each after where it starts; ``own`` for that to itself."""
        for place in range(0, len(rows), self.plan.rows):
            at = torch.from_numpy(rows[place : place + self.plan.rows]).to(self.values.device)
            some = self.values.index_select(0, at)
            for block in row_blocks("embeddings", self.values, self.plan.width):
                scores = self.plan.score(some, block.values)
                inside = ((at >= block.first) & (at < block.first + scores.shape[1])).nonzero()[:, 0]
                scores[inside, at[inside] - block.first] = own
                yield place, block.first, scores

    def _found(self, some: slice, others: slice, bar: float, bits: int | None) -> Pairs:
        """Rows, columns and scores, (p,) each, of a block of scores >= ``bar``."""
        left, right = _part(self.values, some), _part(self.values, others)
        places = None if self.screen is None or bits is None else self.screen.may_reach(some, others, bits)
        if places is None:
            return reaching(self.plan.score(left, right), bar)
        rows, columns = places
        scores = torch.linalg.vecdot(left[torch.from_numpy(rows)], right[torch.from_numpy(columns)]).numpy()
        is_near = scores >= bar
        return rows[is_near], columns[is_near], scores[is_near]


@dataclass(frozen=True)
class CosineScreen:
    """Rows of unit length in half precision: which products may reach a bar, with certainty.

    rounded: (n, D) bfloat16. error: how far the product of two rounded rows is at most from that of the rows, before it
    is rounded itself. space: for the products of a block.
    """

    rounded: Tensor
    error: float
    space: Tensor

    @classmethod
    def of(cls, unit: Tensor, block: int) -> CosineScreen:
        """Of (n, D) float32 rows on a CPU, for blocks of at most so many products."""
        rounded = Rounded.of(unit)
        sizes = rounded.lengths.amax(), rounded.losses.amax()
        return cls(rounded.values, float(bound(sizes, sizes, unit.shape[1])), rounded.values.new_empty(block))

    def bits(self, bar: float) -> int | None:
        """The bar for ``may_reach``; None where every product might reach it."""
        lowest = (bar - self.error) * (1 - ROUNDING)
        # positive numbers are in the order of their bits, of which bfloat16 has the upper half of those of float32
        return int(torch.tensor(lowest, dtype=torch.float32).view(torch.int32)) >> 16 if lowest > 0 else None

    def may_reach(self, some: slice, others: slice, bits: int) -> tuple[Array, Array] | None:
        """Rows and columns, (p,) each, of products of ``some`` rows and the ``others`` that may reach a bar; None where
        they are too many to be worth it."""
        left, right = self.rounded[some], self.rounded[others]
        products = self.space[: len(left) * len(right)].view(len(left), len(right))
        torch.mm(left, right.t(), out=products)
        most, numbers = MOST_SCREENED * products.numel(), products.view(torch.int16)
        groups = _groups(numbers, bits)
        if len(groups) > most:
            return None
        rows, columns, _ = _inside(groups, numbers, bits)
        return (rows, columns) if len(rows) <= most else None


def reaching(scores: Tensor, bar: float) -> Pairs:
    """Rows, columns and values, (p,) each, of the scores (q, c) >= ``bar``. First at the maxima of groups: few pass.

    Raises: ValueError for NaN.
    """
    scores = scores.contiguous()
    rows, columns, values = _inside(_groups(scores, bar), scores, bar)
    refuse_nan(torch.from_numpy(values))
    return rows, columns, values


def _groups(scores: Tensor, bar: float) -> Array:
    """The groups (g,) of GROUP neighbouring scores (q, c), row after row, with one that is not below ``bar``."""
    flat = scores.view(-1)
    highest = flat[: len(flat) - len(flat) % GROUP].view(-1, GROUP).amax(1)
    # not "at least": NaN, which is neither below nor above, must be found
    return np.flatnonzero(~(highest.cpu().numpy() < bar))


def _inside(groups: Array, scores: Tensor, bar: float) -> Pairs:
    """Rows, columns and values, (p,) each, of the scores (q, c) not below ``bar`` in these groups and in the rest."""
    flat = scores.view(-1)
    whole = len(flat) - len(flat) % GROUP
    chosen = flat[:whole].view(-1, GROUP).index_select(0, torch.from_numpy(groups).to(flat.device)).cpu().numpy()
    rest = flat[whole:].cpu().numpy()
    hits, offsets = np.nonzero(~(chosen < bar))
    last = np.flatnonzero(~(rest < bar))
    places = np.concatenate([groups[hits] * GROUP + offsets, last + whole])
    rows, columns = np.divmod(places, scores.shape[1])
    return rows, columns, np.concatenate([chosen[hits, offsets], rest[last]])


def _part(rows: Tensor, part: slice) -> Tensor:
    return sparse_rows(rows, part.start, part.stop) if is_sparse(rows) else rows[part]


def _with_progress(starts: range, show_progress_bar: bool) -> Iterable[int]:
    if not show_progress_bar:
        return starts
    from tqdm.auto import tqdm  # its import costs more than a few thousand rows

    bar: Iterable[int] = tqdm(starts, desc="Comparing", unit="block")
    return bar
