"""Late interaction scores to train with: padded batches in, differentiable scores out. Knows token vectors, no models.

ColBERT lets every query token find its closest token in each document; XTR first lets it keep only the closest tokens
of all documents together. To search with finished embeddings, ``ops.maxsim`` is faster.

All functions take
    queries_embeddings: (q, t, h) tensor or array, or a list of q (t_i, h).
    documents_embeddings: (d, n, s, h): n candidates, one positive and negatives, for each of d queries; only the
        pairwise functions take (n, s, h), or a list of n (s_i, h).
    queries_mask, documents_mask: the shapes without h, not zero for the tokens that count; a query token is weighted
        by its mask. Without a mask, rows that are all zero are padding.
    chunk_elements: how many token to token products to hold at once, >= 1; less needs less memory.
and return float32, or float64 where both embeddings are; half precision is multiplied as it is. A document without
tokens scores -1e9 (divided by the length of the query, where that is asked for). They raise ValueError where a shape
does not fit.

Sources: ColBERT is Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832; XTR is Lee et al. 2023,
https://arxiv.org/abs/2304.01982
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import positive
from .maxsim import NO_TOKENS_SCORE, element_budget, warn_no_tokens
from .tensors import to_tensor

if TYPE_CHECKING:
    from .._types import EmbeddingsLike

TOP_K = 256


def colbert_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """Sum over query tokens of the largest product with a document token: all queries with all candidates.

    Args: see the head of this file; ``length_normalize`` divides by the number of query tokens that count.
    Returns: (q, d * n); the column of candidate j of query i is ``i * n + j``.
    """
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 4).flat()
    return _colbert(queries, documents, chunk_elements, length_normalize)


def colbert_kd_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """``colbert_scores`` of every query with its own candidates only (d = q): (q, n)."""
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 4)
    return _colbert_own(queries, documents, chunk_elements, length_normalize)


def colbert_scores_pairwise(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """``colbert_scores`` of query i with document i only; documents are (n, s, h): (n,)."""
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 3).one_each()
    return _colbert_own(queries, documents, chunk_elements, length_normalize)[:, 0]


def mean_colbert_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """``colbert_scores`` divided by the number of query tokens: (q, d * n)."""
    return colbert_scores(
        queries_embeddings, documents_embeddings, queries_mask, documents_mask, chunk_elements, length_normalize
    )


def mean_colbert_kd_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """``colbert_kd_scores`` divided by the number of query tokens: (q, n)."""
    return colbert_kd_scores(
        queries_embeddings, documents_embeddings, queries_mask, documents_mask, chunk_elements, length_normalize
    )


def mean_colbert_scores_pairwise(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """``colbert_scores_pairwise`` divided by the number of query tokens: (n,)."""
    return colbert_scores_pairwise(
        queries_embeddings, documents_embeddings, queries_mask, documents_mask, chunk_elements, length_normalize
    )


def xtr_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    top_k: int = TOP_K,
    chunk_elements: int | None = None,
) -> Tensor:
    """Scores from the tokens that a search would retrieve: all queries with all candidates.

    Every query token retrieves the ``top_k`` closest of all document tokens of the batch. A document scores the mean,
    over the query tokens that retrieved any of its tokens, of the largest product; 0 if none did.

    Args: see the head of this file; ``top_k`` >= 1.
    Returns: (q, d * n); the column of candidate j of query i is ``i * n + j``.
    """
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 4).flat()
    return _xtr(queries, documents, top_k, chunk_elements)


def xtr_kd_scores(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    top_k: int = TOP_K,
    chunk_elements: int | None = None,
) -> Tensor:
    """Of ``xtr_scores``, those of every query with its own candidates (d = q): (q, n)."""
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 4)
    _same_number(queries, documents)
    queries_number, candidates = documents.values.shape[:2]
    scores = _xtr(queries, documents.flat(), top_k, chunk_elements).view(queries_number, queries_number, candidates)
    return scores.diagonal().t()


def xtr_scores_pairwise(
    queries_embeddings: EmbeddingsLike,
    documents_embeddings: EmbeddingsLike,
    queries_mask: Tensor | None = None,
    documents_mask: Tensor | None = None,
    top_k: int = TOP_K,
    chunk_elements: int | None = None,
) -> Tensor:
    """Of ``xtr_scores``, those of query i with document i; documents are (n, s, h): (n,)."""
    queries = _side("queries", queries_embeddings, queries_mask, 3)
    documents = _side("documents", documents_embeddings, documents_mask, 3)
    _same_number(queries, documents)
    return _xtr(queries, documents, top_k, chunk_elements).diagonal()


class XTRScores:
    """``xtr_scores`` with its settings, for a loss to call.

    Args:
        top_k: how many document tokens a query token retrieves, >= 1.
        chunk_elements: as of ``xtr_scores``.

    Raises: ValueError unless ``top_k`` is a positive integer.
    """

    def __init__(self, top_k: int = TOP_K, *, chunk_elements: int | None = None) -> None:
        self.top_k = positive("top_k", top_k)
        self.chunk_elements = chunk_elements

    def __call__(
        self,
        queries_embeddings: EmbeddingsLike,
        documents_embeddings: EmbeddingsLike,
        queries_mask: Tensor | None = None,
        documents_mask: Tensor | None = None,
    ) -> Tensor:
        return xtr_scores(
            queries_embeddings, documents_embeddings, queries_mask, documents_mask, self.top_k, self.chunk_elements
        )

    def get_config_dict(self) -> dict[str, Any]:
        """The settings."""
        return {"top_k": self.top_k, "chunk_elements": self.chunk_elements}


class XTRKDScores(XTRScores):
    """``xtr_kd_scores`` with its settings, for a loss to call. Args: as of ``XTRScores``."""

    def __call__(
        self,
        queries_embeddings: EmbeddingsLike,
        documents_embeddings: EmbeddingsLike,
        queries_mask: Tensor | None = None,
        documents_mask: Tensor | None = None,
    ) -> Tensor:
        return xtr_kd_scores(
            queries_embeddings, documents_embeddings, queries_mask, documents_mask, self.top_k, self.chunk_elements
        )


@dataclass(frozen=True)
class _Side:
    """Queries or documents. values: (..., tokens, h); weights: (..., tokens), 0 for padding."""

    values: Tensor
    weights: Tensor

    @property
    def real(self) -> Tensor:
        """(..., tokens) bool: the tokens that count."""
        return self.weights != 0

    def flat(self) -> _Side:
        """(d, n, ...) -> (d * n, ...)."""
        return _Side(self.values.flatten(0, 1), self.weights.flatten(0, 1))

    def one_each(self) -> _Side:
        """(n, ...) -> (n, 1, ...)."""
        return _Side(self.values[:, None], self.weights[:, None])

    def split(self, rows: int) -> list[_Side]:
        """Cut along the first dimension, ``rows`` (at least 1) at a time."""
        step = max(1, rows)
        return [
            _Side(*parts) for parts in zip(torch.split(self.values, step), torch.split(self.weights, step), strict=True)
        ]


def _side(name: str, embeddings: EmbeddingsLike, mask: Tensor | None, dimensions: int) -> _Side:
    values = _padded(embeddings)
    if values.dim() == dimensions - 1 == 2:
        values = values[None]  # one query
    if values.dim() != dimensions:
        form = {3: "(items, tokens, width)", 4: "(queries, candidates, tokens, width)"}[dimensions]
        raise ValueError(f"{name}_embeddings must be {form}, got the shape {tuple(values.shape)}.")
    if mask is None:
        return _Side(values, (values != 0).any(-1))
    weights = to_tensor(mask).to(values.device)
    if weights.shape != values.shape[:-1]:
        raise ValueError(
            f"{name}_mask must have the shape of {name}_embeddings without the width, {tuple(values.shape[:-1])}; "
            f"got {tuple(weights.shape)}."
        )
    return _Side(values, weights)


def _padded(embeddings: EmbeddingsLike) -> Tensor:
    """One tensor; matrices of a list are padded with zero rows where their lengths differ."""
    if isinstance(embeddings, Sequence) and embeddings:
        items = [to_tensor(item) for item in embeddings]
        if all(item.dim() == 2 for item in items):
            return pad_sequence(items, batch_first=True)
        return to_tensor(items)
    return to_tensor(embeddings)


def _same_number(queries: _Side, documents: _Side) -> None:
    if len(queries.values) != len(documents.values):
        raise ValueError(
            "`a` and `b` must hold the same number of items to score as pairs, "
            f"got {len(queries.values)} and {len(documents.values)}."
        )


def _colbert(queries: _Side, documents: _Side, chunk_elements: int | None, length_normalize: bool) -> Tensor:
    """(q, t, h) queries with (m, s, h) documents -> (q, m)."""
    _check(queries, documents)
    per_document = queries.weights.numel() * documents.values.shape[-2]
    rows = element_budget(chunk_elements, queries.values.device) // max(1, per_document)
    columns = [
        _sums(
            torch.einsum("qth,msh->qtms", queries.values, part.values), queries, part.real[None, None], length_normalize
        )
        for part in documents.split(rows)
    ]
    return torch.cat(columns, dim=1)


def _colbert_own(queries: _Side, documents: _Side, chunk_elements: int | None, length_normalize: bool) -> Tensor:
    """(q, t, h) queries, each with its own documents of (q, n, s, h) -> (q, n)."""
    _same_number(queries, documents)
    _check(queries, documents)
    per_query = queries.values.shape[1] * documents.weights[:1].numel()
    rows = element_budget(chunk_elements, queries.values.device) // max(1, per_query)
    scores = [
        _sums(torch.einsum("qth,qnsh->qtns", query.values, own.values), query, own.real[:, None], length_normalize)
        for query, own in zip(queries.split(rows), documents.split(rows), strict=True)
    ]
    return torch.cat(scores)


def _check(queries: _Side, documents: _Side) -> None:
    width, other = queries.values.shape[-1], documents.values.shape[-1]
    if width != other:
        raise ValueError(
            f"Queries and documents must have one width, got {width} and {other}. Were they made by the same model?"
        )
    # on an accelerator, looking at the mask would make the host wait
    if documents.values.device.type == "cpu" and not documents.real.any(-1).all():
        warn_no_tokens()


def _sums(products: Tensor, queries: _Side, real: Tensor, length_normalize: bool) -> Tensor:
    """Products (q, t, m, s), and which document tokens count, (1 or q, 1, m, s) -> (q, m)."""
    if products.shape[-1]:
        # ``max`` keeps only places for the backward pass, where ``amax`` would keep all products
        best = products.masked_fill(~real, torch.finfo(products.dtype).min).max(-1).values
    else:
        best = products.sum(-1)
    best = best.to(torch.promote_types(torch.float32, best.dtype))
    total = (best * queries.weights[..., None].to(best.dtype)).sum(1)
    total = total.masked_fill(~real.any(-1)[:, 0], NO_TOKENS_SCORE)
    return total / queries.real.sum(1, keepdim=True).clamp(min=1) if length_normalize else total


def _xtr(queries: _Side, documents: _Side, top_k: int, chunk_elements: int | None) -> Tensor:
    """(q, t, h) queries with (m, s, h) documents -> (q, m)."""
    _check(queries, documents)
    count = min(positive("top_k", top_k), documents.weights.numel())
    per_query = queries.values.shape[1] * documents.weights.numel()
    rows = element_budget(chunk_elements, queries.values.device) // max(1, per_query)
    return torch.cat([_xtr_block(part, documents, count) for part in queries.split(rows)])


def _xtr_block(queries: _Side, documents: _Side, count: int) -> Tensor:
    width = documents.values.shape[1]
    products = queries.values @ documents.values.flatten(0, 1).t()  # (q, t, m * s)
    products = products.masked_fill(~documents.real.flatten(), -torch.inf)
    kept, places = products.to(torch.promote_types(torch.float32, products.dtype)).topk(count, dim=-1)
    nothing = kept.new_full((*kept.shape[:2], len(documents.values)), -torch.inf)  # (q, t, m)
    best = nothing.scatter_reduce(-1, places // max(1, width), kept, "amax")
    retrieved = (best > -torch.inf) & queries.real[..., None]
    total = (torch.where(retrieved, best, 0.0) * queries.weights[..., None].to(best.dtype)).sum(1)
    scores = total / retrieved.sum(1).clamp(min=1)
    return scores.masked_fill(~documents.real.any(-1), NO_TOKENS_SCORE)
