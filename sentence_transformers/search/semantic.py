"""Exact search: the best rows of a corpus for every query, from blocked products and one running top-k.

Nothing of the size (queries, corpus) is ever held. Knows nothing of models, and nothing of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

import numpy as np
import torch
from torch import Tensor

from ..errors import positive
from ..ops.similarity import cos_sim, dot_score, pytorch_cos_sim
from ..ops.tensors import is_sparse, normalize_embeddings, to_batch, to_coo, to_tensor

if TYPE_CHECKING:
    from typing import TypeAlias

    from .._types import EmbeddingsLike

    Arrays: TypeAlias = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

ScoreFunction = Callable[[Tensor, Tensor], Tensor]

GROUP = 64
"""Neighbouring scores of which first only the maximum is looked at."""
FIRST_ROWS = 1024
"""So many rows of the corpus are ranked as a whole; then there is a bar for the others."""
BLOCK_ROWS, BLOCK_SCORES = 2**12, 2**22
"""Rows of the corpus, and scores, in a product on a CPU: what is made is read again before it leaves the cache."""
GPU_BLOCK_ROWS, GPU_BLOCK_SCORES = 2**16, 2**26
"""The same on a GPU, where a block must outweigh the start of its kernels."""
MOST_BLOCK_ROWS = 2**17
"""Up to here a block holds ``top_k`` rows, so that there is a bar after the first."""


class Hit(TypedDict):
    """One row of the corpus, and its score for a query."""

    corpus_id: int
    score: float


@overload
def semantic_search(
    query_embeddings: EmbeddingsLike,
    corpus_embeddings: EmbeddingsLike,
    query_chunk_size: int = ...,
    corpus_chunk_size: int = ...,
    top_k: int = ...,
    score_function: ScoreFunction = ...,
    *,
    as_arrays: Literal[False] = ...,
) -> list[list[Hit]]: ...


@overload
def semantic_search(
    query_embeddings: EmbeddingsLike,
    corpus_embeddings: EmbeddingsLike,
    query_chunk_size: int = ...,
    corpus_chunk_size: int = ...,
    top_k: int = ...,
    score_function: ScoreFunction = ...,
    *,
    as_arrays: Literal[True],
) -> Arrays: ...


def semantic_search(
    query_embeddings: EmbeddingsLike,
    corpus_embeddings: EmbeddingsLike,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
    *,
    as_arrays: bool = False,
) -> list[list[Hit]] | Arrays:
    """The ``top_k`` rows of the corpus with the highest scores, for every query, best first.

    Equal scores come in the order of the corpus, whatever the chunk sizes. ``cos_sim`` and ``dot_score`` are computed
    in float32 (float64 if an input is float64), block by block, from any dtype.

    Args:
        query_embeddings: (q, D), or (D,) for one query; dense or sparse; moved to the device of the corpus.
        corpus_embeddings: (n, D), dense or sparse; not copied as a whole, not changed.
        query_chunk_size: at most how many queries ``score_function`` gets at once.
        corpus_chunk_size: at most how many corpus rows it gets at once. ``cos_sim`` and ``dot_score`` choose blocks
            of their own, of at most ``query_chunk_size * corpus_chunk_size`` scores.
        top_k: how many hits for a query, >= 0; a smaller corpus gives all its rows.
        score_function: (q, D), (c, D) -> (q, c), higher is closer. Functions other than ``cos_sim`` and ``dot_score``
            get the embeddings in their own dtype.
        as_arrays: return arrays instead of lists of dicts.

    Returns: one list for each query, of ``{"corpus_id": int, "score": float}``; or (scores, ids) as arrays of shape
        (q, min(top_k, n)), float32 and int64.
    Raises: ValueError for embeddings that differ in width or are not (rows, width), for NaN or infinite embeddings,
        for NaN scores, for scores of another shape, for a chunk size below 1, for a negative ``top_k``.
    """
    rows, width = positive("query_chunk_size", query_chunk_size), positive("corpus_chunk_size", corpus_chunk_size)
    limit = 0 if top_k == 0 else positive("top_k", top_k)
    corpus, queries = embedding_rows(corpus_embeddings), embedding_rows(query_embeddings)
    queries = queries.to(corpus.device)
    limit = min(limit, len(corpus))
    if limit == 0 or len(queries) == 0:
        scores, ids = torch.zeros(len(queries), limit), torch.zeros(len(queries), limit, dtype=torch.int64)
    else:
        plan = plan_search(queries, corpus, score_function, (rows, width), limit)
        with torch.no_grad():
            scores, ids = best_rows(
                row_blocks("query_embeddings", queries, plan.rows),
                row_blocks("corpus_embeddings", corpus, plan.width),
                plan,
                limit,
            )
    if as_arrays:
        return scores.float().cpu().numpy(), ids.cpu().numpy()
    return [
        [{"corpus_id": corpus_id, "score": score} for corpus_id, score in zip(*hits, strict=True)]
        for hits in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


information_retrieval = semantic_search


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of one side: their values, dense or coalesced COO, and where they come from."""

    name: str
    first: int
    values: Tensor


@dataclass(frozen=True)
class Plan:
    """How to score: in which blocks, what is done once to each block of either side, and the function itself."""

    rows: int
    width: int
    prepare: Callable[[Block], Tensor]
    score: ScoreFunction


def is_product(score_function: ScoreFunction) -> bool:
    """Whether the scores are the products of prepared rows."""
    return any(score_function is known for known in (cos_sim, pytorch_cos_sim, dot_score))


def plan_search(
    queries: Tensor, corpus: Tensor, score_function: ScoreFunction, chunks: tuple[int, int], limit: int
) -> Plan:
    """How to score (q, ...) queries and a (n, ...) corpus.

    Args:
        chunks: the chunk sizes of ``semantic_search``. limit: how many hits for a query.

    Raises: ValueError unless ``cos_sim`` and ``dot_score`` get matrices of one width.
    """
    if not is_product(score_function):
        return Plan(*chunks, _finite, _checked(score_function))
    if queries.dim() != 2 or corpus.dim() != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            "query_embeddings and corpus_embeddings must be (rows, width) with the same width, got shapes "
            f"{tuple(queries.shape)} and {tuple(corpus.shape)}. Were they made by the same model, with the same "
            "truncate_dim?"
        )
    dtype = torch.float64 if torch.float64 in (queries.dtype, corpus.dtype) else torch.float32

    def prepare(block: Block) -> Tensor:
        values = block.values.to(dtype)
        wide = replace(block, values=values if is_sparse(corpus) else values.to_dense())
        return _finite(wide) if score_function is dot_score else _unit_rows(wide)

    rows, width = _block_shape(len(queries), corpus, chunks, limit)
    if is_sparse(corpus):
        # with the corpus first only the few queries are sorted anew for each product
        return Plan(rows, width, prepare, lambda some, block: dot_score(block, some).t())
    space = torch.empty(rows * width, dtype=dtype, device=corpus.device)

    def product(some: Tensor, block: Tensor) -> Tensor:
        scores = space[: len(some) * len(block)].view(len(some), len(block))
        torch.mm(some, block.t(), out=scores)
        return scores

    return Plan(rows, width, prepare, product)


def _block_shape(queries: int, corpus: Tensor, chunks: tuple[int, int], limit: int) -> tuple[int, int]:
    """Rows of queries and rows of the corpus in one product."""
    on_cpu = corpus.device.type == "cpu"
    block_rows, block_scores = (BLOCK_ROWS, BLOCK_SCORES) if on_cpu else (GPU_BLOCK_ROWS, GPU_BLOCK_SCORES)
    width = min(max(block_rows, min(limit, MOST_BLOCK_ROWS)), chunks[1], len(corpus))
    rows = min(block_scores, chunks[0] * chunks[1]) // width
    return min(max(1, rows), queries), width


def best_rows(queries: Iterable[Block], corpus: Iterable[Block], plan: Plan, limit: int) -> tuple[Tensor, Tensor]:
    """Scores and ids (q, limit) of the best rows of the corpus, best first, of equal scores the lower id first.

    Args:
        queries: of at most ``plan.rows`` rows each. corpus: all of its n rows in order, at most ``plan.width`` each.
        limit: 1..n.

    Raises: ValueError for NaN or infinite embeddings, and for NaN scores.
    """
    parts = [(plan.prepare(block), _Best(limit)) for block in queries]
    for block in corpus:
        prepared = plan.prepare(block)
        for some, best in parts:
            best.add(plan.score(some, prepared), block.first)
    found = [best.result() for _, best in parts]
    return torch.cat([scores for scores, _ in found]), torch.cat([ids for _, ids in found])


class _Best:
    """The best hits so far of some queries, best first; of equal scores the lower id is better.

    Blocks must come in the order of the corpus: a later row then never replaces one of the same score. Rows that beat
    the bar, the last of the best, wait until they are many enough to be ranked.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.scores = torch.empty(0, 0)  # (q, min(limit, rows seen)), ids likewise
        self.ids = torch.empty(0, 0, dtype=torch.int64)
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, scores: Tensor, first_id: int) -> None:
        """Take in the scores (q, c) of the rows from ``first_id`` on."""
        at, width = 0, scores.shape[1]
        while at < width:
            seen = first_id + at
            # as many as were seen: about ``limit`` of them are among the best
            step = min(max(seen, self.limit, FIRST_ROWS), width - at)
            if self.ids.shape[1] < self.limit or step < GROUP:
                self._rank_all(scores[:, at : at + step], seen)
            else:
                step -= step % GROUP
                self._keep_better(scores[:, at : at + step], seen)
            at += step

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores and ids, (q, min(limit, rows seen))."""
        self._rank_waiting()
        return self.scores, self.ids

    def _keep_better(self, part: Tensor, first_id: int) -> None:
        """Let the scores (q, groups * GROUP) above the bar wait; few, so most groups are skipped."""
        groups = part.view(len(part), -1, GROUP)
        bar = self.scores[:, -1]
        # not "above the bar": NaN, which is neither above nor below, must be found
        rows, places = (groups.amax(-1) <= bar[:, None]).logical_not().nonzero(as_tuple=True)
        near = groups[rows, places]  # (groups with hits, GROUP)
        hits, columns = (near <= bar[rows][:, None]).logical_not().nonzero(as_tuple=True)
        if len(hits) * 4 > part.numel():
            self._rank_all(part, first_id)
            return
        self.waiting.append((rows[hits], near[hits, columns], first_id + places[hits] * GROUP + columns))
        if sum(len(found) for found, _, _ in self.waiting) >= self.scores.numel():
            self._rank_waiting()

    def _rank_all(self, part: Tensor, first_id: int) -> None:
        self._rank_waiting()
        refuse_nan(part.amax(1))
        held = self.scores.shape[1]
        self.scores, columns = _stable_top(torch.cat([self.scores, part], 1) if held else part, self.limit)
        ids = columns + (first_id - held)
        if held:
            ids = torch.where(columns < held, self.ids.gather(1, columns.clamp(max=held - 1)), ids)
        self.ids = ids

    def _rank_waiting(self) -> None:
        if not self.waiting:
            return
        rows, scores, ids = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting = []
        if len(rows) == 0:
            return
        refuse_nan(scores)
        rows, order = rows.sort(stable=True)  # the ids of a row stay in order
        counts = torch.bincount(rows, minlength=len(self.scores))
        columns = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        queries = counts.nonzero().squeeze(1)
        lines = ((counts > 0).cumsum(0) - 1)[rows]
        space = (len(queries), int(counts.max()))
        new_scores, new_ids = scores.new_full(space, -torch.inf), ids.new_zeros(space)
        new_scores[lines, columns], new_ids[lines, columns] = scores[order], ids[order]
        self.scores[queries], best = _stable_top(torch.cat([self.scores[queries], new_scores], 1), self.limit)
        self.ids[queries] = torch.cat([self.ids[queries], new_ids], 1).gather(1, best)


def _stable_top(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Values and columns (q, min(limit, c)) of the highest scores (q, c), of equal ones the lower column first."""
    limit = min(limit, scores.shape[1])
    columns = None
    if scores.shape[1] > 4 * limit:  # narrow ones are sorted as they are
        # which of the scores equal to the last one topk takes is left to chance: its columns are of no use
        lowest = scores.topk(limit, dim=1).values[:, -1:]
        chosen = scores >= lowest
        if int(chosen.count_nonzero()) > len(scores) * limit:
            above = scores > lowest
            equal = chosen ^ above
            spare = limit - above.sum(1, keepdim=True)
            chosen = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= spare))
        columns = chosen.nonzero()[:, 1].view(-1, limit)
        scores = scores.gather(1, columns)
    values, order = scores.sort(dim=1, descending=True, stable=True)
    order = order[:, :limit]
    return values[:, :limit], order if columns is None else columns.gather(1, order)


def embedding_rows(value: EmbeddingsLike) -> Tensor:
    """(rows, ...) tensor; a list without embeddings has no rows."""
    tensor = to_tensor(value).detach()
    if tensor.shape == (0,):
        return tensor.new_zeros(0, 0)
    if tensor.dim() == 0:
        raise ValueError(f"Expected (rows, width) embeddings or one (width,) row, got one number: {tensor.item()!r}.")
    return to_coo(to_batch(tensor)) if is_sparse(tensor) else to_batch(tensor)


def embedding_matrix(value: EmbeddingsLike) -> Tensor:
    """(rows, width) tensor; raises ValueError for other shapes."""
    tensor = embedding_rows(value)
    if tensor.dim() != 2:
        raise ValueError(f"embeddings must be (rows, width), got shape {tuple(tensor.shape)}.")
    return tensor


def row_blocks(name: str, embeddings: Tensor, rows: int) -> Iterator[Block]:
    """The embeddings, (n, ...), ``rows`` at a time; ``name`` is for messages."""
    for first in range(0, len(embeddings), rows):
        if is_sparse(embeddings):
            values = sparse_rows(embeddings, first, min(first + rows, len(embeddings)))
        else:
            values = embeddings[first : first + rows]
        yield Block(name, first, values)


def sparse_rows(coo: Tensor, start: int, stop: int) -> Tensor:
    """Rows of a coalesced COO tensor, without a look at the others."""
    indices = coo.indices()
    first, last = torch.searchsorted(indices[0], torch.tensor([start, stop], device=coo.device)).tolist()
    places = indices[:, first:last].clone()
    places[0] -= start
    shape = (stop - start, *coo.shape[1:])
    return torch.sparse_coo_tensor(places, coo.values()[first:last], shape, is_coalesced=True, check_invariants=False)


def _unit_rows(block: Block) -> Tensor:
    """The rows at unit length; raises ValueError for NaN and infinity."""
    if is_sparse(block.values):
        return normalize_embeddings(_finite(block))
    lengths: Tensor = torch.linalg.vector_norm(block.values, dim=1, keepdim=True)
    off = (lengths - 1).abs()
    is_unit = off <= 4 * torch.finfo(lengths.dtype).eps  # but for rounding: row for row, whatever block it is in
    if bool(is_unit.all()):
        return block.values
    if not bool(lengths.sum().isfinite()):
        _finite(block)
    return block.values / lengths.clamp(min=1e-12).masked_fill_(is_unit, 1)


def _finite(block: Block) -> Tensor:
    """The rows as they are; raises ValueError for NaN and infinity."""
    values = block.values.values() if is_sparse(block.values) else block.values
    if not values.is_floating_point() or bool(values.sum(dtype=torch.float32).isfinite()):
        return block.values
    bad = (~values.isfinite()).nonzero()
    if len(bad):  # else only the sum was too large
        place = int(bad[0, 0])
        row = block.first + (int(block.values.indices()[0, place]) if is_sparse(block.values) else place)
        raise ValueError(
            f"{block.name} must be finite, but row {row} has NaN or infinite values. Leave such rows out, or find out "
            "why the model made them."
        )
    return block.values


def refuse_nan(scores: Tensor) -> None:
    """Raise ValueError if there is NaN among the scores."""
    if bool(scores.isnan().any()):
        raise ValueError(
            "The scores must be numbers, got NaN. Does score_function divide by zero, or are the embeddings so large "
            "that their products overflow?"
        )


def _checked(score_function: ScoreFunction) -> ScoreFunction:
    """The function, with its result made a dense floating tensor; raises ValueError if it has another shape."""

    def score(queries: Tensor, corpus: Tensor) -> Tensor:
        scores = to_tensor(score_function(queries, corpus)).to_dense().to(corpus.device)
        if scores.shape != (len(queries), len(corpus)):
            raise ValueError(
                f"score_function must give (queries, corpus rows) = ({len(queries)}, {len(corpus)}) scores, got "
                f"shape {tuple(scores.shape)}. It is called with blocks of both, not with pairs."
            )
        return scores if scores.dtype == torch.float64 else scores.float()

    return score
