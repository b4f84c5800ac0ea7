"""Conversions and row-wise operations on embeddings, dense or sparse. Knows nothing of models or scores."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import need, positive

ArrayOrTensor = TypeVar("ArrayOrTensor", "np.ndarray[Any, Any]", Tensor)


def to_tensor(value: Any) -> Tensor:
    """The value as one tensor, of the dtype it came in.

    Args:
        value: a tensor (returned as it is), an array, a number, or an iterable: of numbers, of equally long lists, of
            arrays, of tensors, or of sparse tensors, which are stacked into one sparse tensor.

    Raises: TypeError for text; ValueError if the items of an iterable differ in shape.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return _from_array(value)
    if isinstance(value, (str, bytes)):
        raise TypeError(f"Expected embeddings (a tensor, an array, or a list of them), got text: {value!r:.80}.")
    if not isinstance(value, Iterable):
        return torch.as_tensor(value)
    items = list(value)
    if not any(isinstance(item, (Tensor, np.ndarray)) for item in items):
        return torch.tensor(items)
    rows = [to_tensor(item) for item in items]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"All embeddings of a list must have one shape, got {sorted({tuple(r.shape) for r in rows})}.")
    device = next((row.device for row in rows if row.device.type != "cpu"), rows[0].device)
    return torch.stack([row.to(device) for row in rows])


def to_batch(tensor: Tensor) -> Tensor:
    """(D,) -> (1, D); everything else as it is."""
    return tensor.unsqueeze(0) if tensor.dim() == 1 else tensor


def to_batch_tensor(value: Any) -> Tensor:
    """``to_tensor``, then ``to_batch``."""
    return to_batch(to_tensor(value))


def is_sparse(tensor: Tensor) -> bool:
    """Whether the tensor has any sparse layout (``Tensor.is_sparse`` is true for COO alone)."""
    return tensor.layout != torch.strided


def to_coo(tensor: Tensor) -> Tensor:
    """The tensor, of any layout, as a coalesced sparse COO tensor."""
    return tensor.to_sparse(layout=torch.sparse_coo).coalesce()


def sparse_row_sums(coo: Tensor) -> Tensor:
    """Sums over the last dimension: coalesced COO (N, D) -> dense (N,)."""
    sums = torch.zeros(coo.shape[0], dtype=coo.dtype, device=coo.device)
    return sums.index_add(0, coo.indices()[0], coo.values())


def with_values(coo: Tensor, values: Tensor, kept: Tensor | None = None) -> Tensor:
    """A coalesced COO tensor with other values at the places of ``coo``.

    Args:
        coo: coalesced COO tensor with K stored values.
        values: (K,) new values, or as many as ``kept`` is true.
        kept: (K,) bool, the places to keep; None keeps all.
    """
    indices = coo.indices() if kept is None else coo.indices()[:, kept]
    # a subset of coalesced places is coalesced; checked once when ``coo`` was made
    return torch.sparse_coo_tensor(indices, values, coo.shape, is_coalesced=True, check_invariants=False)


def normalize_embeddings(embeddings: Tensor) -> Tensor:
    """Scale to unit length: (..., D) -> (..., D), L2 length 1 over the last dimension; zero stays zero.

    Half precision is computed in float32 and handed back in its own dtype. A sparse (D,) or (N, D) tensor gives a
    coalesced sparse COO tensor.
    """
    wide = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    if not is_sparse(wide):
        return F.normalize(wide, p=2, dim=-1).to(embeddings.dtype)
    rows = to_coo(to_batch(wide))
    lengths = sparse_row_sums(with_values(rows, rows.values().square())).sqrt().clamp(min=1e-12)
    scaled = with_values(rows, rows.values() / lengths[rows.indices()[0]])
    scaled = scaled if embeddings.dim() == 2 else scaled[0].coalesce()
    return scaled.to(embeddings.dtype)


def truncate_embeddings(embeddings: ArrayOrTensor, truncate_dim: int | None) -> ArrayOrTensor:
    """The first ``truncate_dim`` dimensions: (..., D) -> (..., min(D, truncate_dim)); None keeps all.

    Raises: ValueError unless ``truncate_dim`` is a positive integer.
    """
    if truncate_dim is None:
        return embeddings
    width = positive("truncate_dim", index(truncate_dim))
    if isinstance(embeddings, Tensor) and is_sparse(embeddings):
        kept: Tensor = to_coo(embeddings).narrow_copy(embeddings.dim() - 1, 0, min(width, embeddings.shape[-1]))
        return kept
    return embeddings[..., :width]


def select_max_active_dims(embeddings: Any, max_active_dims: int | None) -> Tensor:
    """Keep the values of largest magnitude in each row and set the others to zero.

    Args:
        embeddings: (..., D) tensor, array or list, which is not changed; a sparse (D,) or (N, D) tensor gives a sparse
            one.
        max_active_dims: how many values to keep in a row, >= 1; None keeps all.

    Raises: ValueError unless ``max_active_dims`` is a positive integer.
    """
    tensor = to_tensor(embeddings)
    if max_active_dims is None:
        return tensor
    count = min(positive("max_active_dims", max_active_dims), tensor.shape[-1])
    if is_sparse(tensor):
        rows = _largest_of_sparse_rows(to_coo(to_batch(tensor)), count)
        return rows if tensor.dim() == 2 else rows[0].coalesce()
    places = tensor.abs().topk(count, dim=-1).indices
    return torch.zeros_like(tensor).scatter(-1, places, tensor.gather(-1, places))


def to_scipy_coo(x: Tensor) -> Any:
    """The tensor, (N, D) or (D,) = one row, of any layout, as a ``scipy.sparse.coo_matrix``.

    Half precision, which scipy does not know, becomes float32.

    Raises: ImportError if scipy is not installed.
    """
    sparse = need("scipy.sparse", extra="sparse", what="to_scipy_coo()")
    rows = to_coo(to_batch(x.detach())).cpu()
    values = rows.values().float() if rows.dtype in (torch.float16, torch.bfloat16) else rows.values()
    return sparse.coo_matrix((values.numpy(), tuple(rows.indices().numpy())), shape=tuple(rows.shape))


def compute_count_vector(embeddings: Tensor) -> Tensor:
    """How many rows have a value other than zero in each dimension: (N, D) or (D,) -> (D,) int32.

    Raises: ValueError for any other number of dimensions.
    """
    if embeddings.dim() not in (1, 2):
        raise ValueError(f"Expected 1D or 2D tensor, got {embeddings.dim()}D.")
    if not is_sparse(embeddings):
        return (to_batch(embeddings) != 0).sum(0, dtype=torch.int32)
    rows = to_coo(embeddings)
    active = rows.indices()[-1][rows.values() != 0]
    return torch.bincount(active, minlength=rows.shape[-1]).to(torch.int32)


def batch_to_device(batch: dict[str, Any], target_device: torch.device | str) -> dict[str, Any]:
    """Move the tensors of a features dict to a device. The dict itself is changed, and returned."""
    for name, value in batch.items():
        if isinstance(value, Tensor):
            batch[name] = value.to(target_device)
    return batch


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    # torch cannot share memory that is read-only, runs backwards, or is in foreign byte order
    if not array.flags.writeable or not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def _largest_of_sparse_rows(rows: Tensor, count: int) -> Tensor:
    """Coalesced COO (N, D) with at most ``count`` values in each row, those of largest magnitude."""
    places = rows.indices()[0]
    by_size = rows.values().abs().argsort(descending=True)
    by_row = by_size[places[by_size].argsort(stable=True)]  # row after row, in each the largest first
    stored = torch.bincount(places, minlength=rows.shape[0])
    starts = stored.cumsum(0) - stored
    rank = torch.empty_like(places)
    rank[by_row] = torch.arange(len(places), device=places.device) - starts[places[by_row]]
    kept = rank < count
    return with_values(rows, rows.values()[kept], kept)


# the names under which the reference exports these
_convert_to_tensor = to_tensor
_convert_to_batch = to_batch
_convert_to_batch_tensor = to_batch_tensor
