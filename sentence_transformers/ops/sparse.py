"""What one asks of sparse vectors: how sparse they are, what two share, their largest weights, and other formats.

All functions take dense tensors too. Knows nothing of models or words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import need, positive
from .tensors import is_sparse, to_batch, to_coo, with_values

Array = np.ndarray[Any, Any]


def sparsity(embeddings: Tensor) -> dict[str, float]:
    """How many values of a row are not zero.

    Args:
        embeddings: (V,) or (n, V), of any layout.

    Returns: ``active_dims``, the mean number of values other than zero, and ``sparsity_ratio``, the share of zeros;
        0 and 1 for no embeddings.
    Raises: TypeError unless it is a tensor; ValueError for another number of dimensions.
    """
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"Embeddings must be a torch.Tensor, got {type(embeddings).__name__}.")
    if embeddings.dim() not in (1, 2):
        raise ValueError(f"Expected a 1D or 2D tensor, got {embeddings.dim()}D.")
    rows = to_batch(embeddings)
    if not rows.shape[0] or not rows.shape[1]:
        return {"active_dims": 0.0, "sparsity_ratio": 1.0}
    values = to_coo(rows).values() if is_sparse(rows) else rows
    active = int(values.count_nonzero()) / rows.shape[0]
    return {"active_dims": active, "sparsity_ratio": 1.0 - active / rows.shape[1]}


def intersection(embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
    """What each dimension adds to the dot product, where that is more than 0.

    Args:
        embeddings_1: (V,), of any layout.
        embeddings_2: (V,) or (n, V), of any layout.

    Returns: a coalesced sparse COO tensor of the shape of ``embeddings_2``.
    Raises: TypeError unless both are tensors; ValueError for other shapes.
    """
    for name, value in (("embeddings_1", embeddings_1), ("embeddings_2", embeddings_2)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}.")
    if embeddings_1.dim() != 1:
        raise ValueError(f"Expected 1D tensor for embeddings_1, but got {embeddings_1.shape} shape.")
    if embeddings_2.dim() not in (1, 2):
        raise ValueError(f"Expected 1D or 2D tensor for embeddings_2, but got {embeddings_2.shape} shape.")
    if embeddings_1.shape[-1] != embeddings_2.shape[-1]:
        raise ValueError(
            f"Vocab dimension mismatch: embeddings_1 has {embeddings_1.shape[-1]}, "
            f"embeddings_2 has {embeddings_2.shape[-1]}."
        )
    first = embeddings_1.to_dense() if is_sparse(embeddings_1) else embeddings_1
    second = to_coo(embeddings_2)
    products = second.values() * first.to(second.device)[second.indices()[-1]]
    kept = products > 0
    return with_values(second, products[kept], kept)


def largest(embeddings: Tensor, top_k: int | None = None) -> list[tuple[Array, Array]]:
    """The dimensions of each row that are not zero, by falling weight; of equal weights the lower dimension is first.

    Args:
        embeddings: (n, V), or (V,) = one row, of any layout.
        top_k: only so many of each row; None for all.

    Returns: for each row the dimensions, (k,) int, and their weights, (k,) float.
    Raises: TypeError unless it is a tensor; ValueError for another number of dimensions, or a ``top_k`` below 1.
    """
    if top_k is not None:
        positive("top_k", top_k)
    found = []
    for ids, values in _pieces(*_stored(embeddings)):
        order = np.argsort(-values, kind="stable")[:top_k]
        found.append((ids[order], values[order]))
    return found


def to_scipy_csr(embeddings: Tensor) -> Any:
    """The embeddings, (n, V), or (V,) = one row, of any layout, as a ``scipy.sparse.csr_matrix`` without zeros.

    Half precision, which scipy does not know, becomes float32.

    Raises: ImportError if scipy is not installed; TypeError and ValueError as ``largest``.
    """
    scipy_sparse = need("scipy.sparse", extra="sparse", what="to_scipy_csr()")
    starts, ids, values = _stored(embeddings)
    return scipy_sparse.csr_matrix((values, ids, starts), shape=tuple(to_batch(embeddings).shape))


def to_indices_values(embeddings: Tensor) -> list[tuple[Array, Array]]:
    """The form in which search engines take sparse vectors.

    Args:
        embeddings: (n, V), or (V,) = one row, of any layout.

    Returns: for each row the dimensions that are not zero, (k,) int32, ascending, and their values, (k,) float32.
    Raises: TypeError and ValueError as ``largest``.
    """
    starts, ids, values = _stored(embeddings)
    return list(_pieces(starts, ids.astype(np.int32), values.astype(np.float32, copy=False)))


def _stored(embeddings: Tensor) -> tuple[Array, Array, Array]:
    """Where each row starts, (n + 1,); and of all rows one behind the other the dimensions, ascending, and values."""
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"Expected torch.Tensor, got {type(embeddings)}")
    if embeddings.dim() not in (1, 2):
        raise ValueError(f"Input tensor must be 1D or 2D, got {embeddings.dim()}D.")
    rows = to_coo(to_batch(embeddings.detach())).cpu()
    kept = rows.values() != 0
    indices = rows.indices()[:, kept]
    values = rows.values()[kept]
    values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    starts = np.zeros(rows.shape[0] + 1, dtype=np.int64)
    np.cumsum(torch.bincount(indices[0], minlength=rows.shape[0]).numpy(), out=starts[1:])
    return starts, indices[1].numpy(), values.numpy()


def _pieces(starts: Array, ids: Array, values: Array) -> list[tuple[Array, Array]]:
    bounds = starts.tolist()
    return [(ids[begin:end], values[begin:end]) for begin, end in zip(bounds[:-1], bounds[1:], strict=True)]
