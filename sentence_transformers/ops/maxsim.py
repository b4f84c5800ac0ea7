"""Late interaction scores: every query token finds its closest document token. Knows token vectors only, no models.

Nothing is padded: documents are taken in order of length, a block at a time; a run of equally long ones is one view.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import positive
from .tensors import to_tensor
from .tokens import Packed, Padded, groups_of

if TYPE_CHECKING:
    from .._types import EmbeddingsLike

CHUNK_ELEMENTS = 2**24
"""How many token to token products are held at once, unless the caller says otherwise."""

CPU_CHUNK_ELEMENTS = 2**21
"""The same on a CPU: a block that still is in the cache when its maxima are taken, in memory that is used again."""

NO_TOKENS_SCORE = -1e9
"""The score of a document without any token, before it is divided by the number of query tokens."""

logger = logging.getLogger(__name__)


def maxsim(
    a: EmbeddingsLike,
    b: EmbeddingsLike,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """Sum over query tokens of the largest dot product with a document token, for all queries and documents.

    Args:
        a: the queries: a list of n (t_i, D) tensors or arrays, one padded (n, T, D), or one query (T, D). Without a
            mask, rows of a padded (n, T, D) that are all zero are padding; in lists every row is a token.
        b: the m documents, in the same forms.
        a_mask: (n, T), or a list of n (t_i,): not zero for the tokens that count. For one query (T,) will do.
        b_mask: the same for the documents.
        chunk_elements: how many token to token products to hold at once, >= 1; less needs less memory.
        length_normalize: divide by the number of query tokens that count (at least 1).
        device: where to compute; None is the device of the documents.

    Returns: (n, m) on the documents' device, float64 if both inputs are, else float32. A document without tokens scores
        -1e9, a query without tokens 0. Half precision is multiplied as it is on an accelerator, in float32 on the CPU.
    Raises: ValueError if widths differ, a mask does not fit, or an item is not (tokens, width).
    Source: Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832
    """
    queries, documents = _items(a, a_mask, "a"), _items(b, b_mask, "b")
    home, place, dtype = _setting(queries, documents, device)
    if not queries or not documents:
        return torch.zeros(len(queries), len(documents), device=home)
    budget = element_budget(chunk_elements, place)
    _warn_if_empty(documents)
    order = sorted(range(len(documents)), key=lambda at: len(documents[at]))
    rows = []
    for block in _blocks([len(query) for query in queries], max(1, int(budget**0.5))):
        query = Packed(
            torch.cat([queries[at] for at in block]).to(place, dtype), tuple(len(queries[at]) for at in block)
        )
        limit = max(1, budget // max(1, len(query.values)))
        columns = []
        for places in _blocks([len(documents[at]) for at in order], limit):
            chosen = [documents[order[at]] for at in places]
            best = _best_products(query.values, chosen, place, dtype)
            columns.append(_query_sums(query.replace(best), chosen, length_normalize))
        rows.append(torch.cat(columns, dim=1))
    back = torch.tensor(order, device=place).argsort()
    return torch.cat(rows)[:, back].to(home)


def maxsim_pairwise(
    a: EmbeddingsLike,
    b: EmbeddingsLike,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """``maxsim`` of a[i] with b[i] only.

    Args: as of ``maxsim``.
    Returns: (n,). Raises: as ``maxsim``; ValueError also if the two numbers of items differ.
    """
    queries, documents = _items(a, a_mask, "a"), _items(b, b_mask, "b")
    if len(queries) != len(documents):
        raise ValueError(
            "`a` and `b` must hold the same number of items to score as pairs, "
            f"got {len(queries)} and {len(documents)}."
        )
    home, place, dtype = _setting(queries, documents, device)
    if not queries:
        return torch.zeros(0, device=home)
    budget = element_budget(chunk_elements, place)
    _warn_if_empty(documents)
    shapes = [(len(query), len(document)) for query, document in zip(queries, documents, strict=True)]
    order = sorted(range(len(shapes)), key=shapes.__getitem__)
    scores = []
    for (width, length), run in groupby(order, key=shapes.__getitem__):
        members, count = list(run), max(1, budget // max(1, width * length))
        for chosen in (members[at : at + count] for at in range(0, len(members), count)):
            query = torch.stack([queries[at] for at in chosen]).to(place, dtype)  # (count, width, D)
            document = torch.stack([documents[at] for at in chosen]).to(place, dtype)  # (count, length, D)
            total = _pair_totals(query, document)
            scores.append(total / max(1, width) if length_normalize else total)
    back = torch.tensor(order, device=place).argsort()
    return torch.cat(scores)[back].to(home)


def mean_maxsim(
    a: EmbeddingsLike,
    b: EmbeddingsLike,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """``maxsim`` divided by the number of query tokens that count: (n, m). Args and errors: as of ``maxsim``."""
    return maxsim(a, b, a_mask, b_mask, chunk_elements, True, device)


def mean_maxsim_pairwise(
    a: EmbeddingsLike,
    b: EmbeddingsLike,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """``mean_maxsim`` of a[i] with b[i] only: (n,). Args and errors: as of ``maxsim_pairwise``."""
    return maxsim_pairwise(a, b, a_mask, b_mask, chunk_elements, True, device)


def element_budget(chunk_elements: int | None, device: torch.device) -> int:
    """How many products to hold at once: what the caller says (>= 1), or what suits the device."""
    if chunk_elements is None:
        return CPU_CHUNK_ELEMENTS if device.type == "cpu" else CHUNK_ELEMENTS
    return positive("chunk_elements", chunk_elements)


@cache
def warn_no_tokens() -> None:
    """Say, once, that there are documents without tokens."""
    logger.warning(
        "Encountered documents without any scoreable token, for example because a mask removed all of them. "
        "They score %g (before any division by the query length), below every real document.",
        NO_TOKENS_SCORE,
    )


def _items(value: Any, mask: Any, name: str) -> list[Tensor]:
    """One (t_i, D) tensor for each item, holding only the tokens that count."""
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype != object):
        tensor = to_tensor(value)
        if tensor.dim() == 3:
            return _unpadded(tensor, mask, name)
        items = [tensor]
    else:
        items = [to_tensor(item) for item in value]
    for at, item in enumerate(items):
        if item.dim() != 2:
            raise ValueError(f"Item {at} of `{name}` must be (tokens, width), got shape {tuple(item.shape)}.")
    if mask is None:
        return items
    longest = max(map(len, items), default=0)
    kept = []
    for item, row in zip(items, _mask_rows(mask, len(items), name), strict=True):
        if len(row) not in (len(item), longest):
            raise ValueError(f"`{name}_mask` covers {len(row)} tokens, but the embeddings have {len(item)}.")
        kept.append(item[(row[: len(item)] != 0).to(item.device)])
    return kept


def _unpadded(padded: Tensor, mask: Any, name: str) -> list[Tensor]:
    """(n, T, D) -> the n items without the tokens that are masked, or all zero when there is no mask."""
    if mask is None:
        real = (padded != 0).any(-1)
    else:
        rows = _mask_rows(mask, len(padded), name)
        for row in rows:
            if len(row) != padded.shape[1]:
                raise ValueError(
                    f"`{name}_mask` covers {len(row)} tokens, but the padded embeddings have {padded.shape[1]}."
                )
        real = (torch.stack(rows) if rows else torch.zeros(padded.shape[:2])) != 0
    return Padded(padded, real.to(padded.device)).pack().rows()


def _mask_rows(mask: Any, count: int, name: str) -> list[Tensor]:
    whole = isinstance(mask, (Tensor, np.ndarray))
    tensor = to_tensor(mask) if whole else None
    if tensor is not None and tensor.dim() == 1:
        tensor = tensor.unsqueeze(0)
    rows = list(tensor) if tensor is not None else [to_tensor(row) for row in mask]
    if len(rows) != count:
        raise ValueError(f"`{name}_mask` must have one row for each of the {count} items of `{name}`, got {len(rows)}.")
    return rows


def _setting(
    queries: Sequence[Tensor], documents: Sequence[Tensor], device: str | torch.device | None
) -> tuple[torch.device, torch.device, torch.dtype]:
    """The device of the result, the device and the dtype to compute in. Checks that all widths are one."""
    items = [*documents, *queries]
    widths = {item.shape[1] for item in items}
    if len(widths) > 1:
        raise ValueError(
            f"All token embeddings must have one width, got (tokens, width) items with widths {sorted(widths)}. "
            "Were they made by the same model?"
        )
    home = items[0].device if items else torch.device("cpu")
    place = home if device is None else torch.device(device)
    dtypes = {item.dtype for item in items}
    if torch.float64 in dtypes:
        return home, place, torch.float64
    half = dtypes in ({torch.float16}, {torch.bfloat16}) and place.type != "cpu"
    return home, place, dtypes.pop() if half else torch.float32


def _blocks(lengths: Sequence[int], limit: int) -> Iterator[range]:
    """Cut positions into neighbours whose lengths sum to at most ``limit``; a longer one stands alone."""
    first = total = 0
    for at, length in enumerate(lengths):
        if at > first and total + length > limit:
            yield range(first, at)
            first, total = at, 0
        total += length
    if first < len(lengths):
        yield range(first, len(lengths))


def _best_products(query: Tensor, documents: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(T, D) query tokens, documents in order of length -> (T, documents): the largest product; 0 without tokens."""
    products = torch.cat(list(documents)).to(device, dtype) @ query.t()  # (document tokens, T)
    best = []
    for group in groups_of([len(document) for document in documents]):
        block = products[group.start : group.stop].view(group.count, group.length, len(query))
        best.append(block.amax(1) if group.length else products.new_zeros(group.count, len(query)))
    return torch.cat(best).to(torch.promote_types(torch.float32, dtype)).t()


def _query_sums(best: Packed, documents: Sequence[Tensor], length_normalize: bool) -> Tensor:
    """Best products of all query tokens with each document -> (queries, documents) scores."""
    total, counts = best.sum()
    empty = [len(document) == 0 for document in documents]
    if any(empty):
        total = total.masked_fill(torch.tensor(empty, device=total.device), NO_TOKENS_SCORE)
    return total / counts.clamp(min=1) if length_normalize else total


def _pair_totals(query: Tensor, document: Tensor) -> Tensor:
    """(n, T, D) with (n, L, D) -> (n,) sums over query tokens."""
    result = torch.promote_types(torch.float32, query.dtype)
    if document.shape[1] == 0:
        return torch.full((len(query),), NO_TOKENS_SCORE, dtype=result, device=query.device)
    return (query @ document.transpose(1, 2)).amax(2).to(result).sum(1)


def _warn_if_empty(documents: Sequence[Tensor]) -> None:
    if any(len(document) == 0 for document in documents):
        warn_no_tokens()
