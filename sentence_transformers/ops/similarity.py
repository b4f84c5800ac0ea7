"""How alike embeddings are: every function for all pairs (n, m), and for one pair a row (n,). Higher is closer.

All take tensors, arrays or lists of them, dense or sparse, and give a dense tensor, float64 if an input is, else
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .maxsim import maxsim, maxsim_pairwise, mean_maxsim, mean_maxsim_pairwise
from .tensors import (
    is_sparse,
    normalize_embeddings,
    sparse_row_sums,
    to_batch,
    to_coo,
    to_tensor,
    with_values,
)

if TYPE_CHECKING:
    from .._types import EmbeddingsLike

BLOCK_ELEMENTS = 2**24
"""How many intermediate values the blocked computations hold at once."""


class SimilarityFunction(Enum):
    """The names of the similarity functions. ``SimilarityFunction("cosine")``; unknown values raise ``ValueError``."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # the same member
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MAXSIM = "maxsim"
    MEAN_MAXSIM = "meanmaxsim"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[..., Tensor]:
        """The function for all pairs: (n, D), (m, D) -> (n, m)."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Callable[..., Tensor]:
        """The function for pairs of rows: (n, D), (n, D) -> (n,)."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        return [member.value for member in SimilarityFunction]


def cos_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Cosine of the angle between all rows, -1..1; 0 where a row is zero.

    Args:
        a: (n, D), or (D,) for one row.
        b: (m, D), or (D,) for one row.

    Returns: (n, m). Raises: ValueError if the widths differ.
    """
    left, right = _matrices(a, b)
    return _products(normalize_embeddings(left), normalize_embeddings(right))


def pytorch_cos_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """``cos_sim`` under its old name."""
    return cos_sim(a, b)


def dot_score(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Dot product of all rows: (n, D), (m, D) -> (n, m). Raises: ValueError if the widths differ."""
    return _products(*_matrices(a, b))


def euclidean_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Negative Euclidean distance of all rows: (n, D), (m, D) -> (n, m), <= 0.

    Raises: ValueError if the widths differ.
    """
    left, right = _matrices(a, b)
    if not is_sparse(left) and not is_sparse(right):
        return -torch.cdist(left, right, p=2.0)
    return -_sparse_euclidean(left, right)


def manhattan_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Negative sum of absolute differences of all rows: (n, D), (m, D) -> (n, m), <= 0.

    No (n, m, D) tensor is made, for sparse input neither a dense copy. Raises: ValueError if the widths differ.
    """
    left, right = _matrices(a, b)
    if is_sparse(left) or is_sparse(right):
        return -_sparse_manhattan(left, right)
    if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad) and len(left):
        # the gradient of cdist on CUDA makes (n, m, D) values: do few rows at a time
        rows = max(1, BLOCK_ELEMENTS // max(1, right.numel()))
        blocks = [left[at : at + rows] for at in range(0, len(left), rows)]
        return -torch.cat([torch.cdist(block, right, p=1.0) for block in blocks])
    return -torch.cdist(left, right, p=1.0)


def pairwise_cos_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Cosine of the angle between a[i] and b[i].

    Args:
        a: (n, D), or (D,) for one pair; one row is compared with every row of ``b``.
        b: as ``a``.

    Returns: (n,); () if both are (D,). Raises: ValueError if the shapes do not fit.
    """
    left, right = _pairs(a, b)
    return _pair_dot(normalize_embeddings(left), normalize_embeddings(right))


def pairwise_dot_score(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Dot product of a[i] and b[i]: (n, D), (n, D) -> (n,). Raises: ValueError if the shapes do not fit."""
    return _pair_dot(*_pairs(a, b))


def pairwise_euclidean_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Negative Euclidean distance of a[i] and b[i]: (n, D), (n, D) -> (n,). Raises: ValueError if shapes do not fit."""
    left, right = _pairs(a, b)
    if not is_sparse(left):
        distances: Tensor = torch.linalg.vector_norm(left - right, dim=-1)
        return -distances
    return -_square_roots(_row_sums(_coo_map(left - right, torch.square)))


def pairwise_manhattan_sim(a: EmbeddingsLike, b: EmbeddingsLike) -> Tensor:
    """Negative sum of |a[i] - b[i]|: (n, D), (n, D) -> (n,). Raises: ValueError if the shapes do not fit."""
    left, right = _pairs(a, b)
    if not is_sparse(left):
        return -(left - right).abs().sum(-1)
    return -_row_sums(_coo_map(left - right, torch.abs))


def pairwise_angle_sim(x: EmbeddingsLike, y: EmbeddingsLike) -> Tensor:
    """Angle similarity of AnglE: both rows read as complex numbers, first half real, second half imaginary.

    After both rows are scaled to unit length: |sum over dimensions of Re(x conj(y)) + Im(x conj(y))|. An odd width
    gets one zero more.

    Args:
        x: (n, D), or (D,) for one pair.
        y: as ``x``.

    Returns: (n,), >= 0. Raises: ValueError if the shapes do not fit.
    Source: Li and Li 2023, https://arxiv.org/abs/2309.12871
    """
    left, right = (side.to_dense() for side in _pairs(x, y))
    pad = (0, left.shape[-1] % 2)
    left = torch.nn.functional.pad(normalize_embeddings(left), pad)
    right = torch.nn.functional.pad(normalize_embeddings(right), pad)
    a, b = left.chunk(2, dim=-1)  # x = a + bi
    c, d = right.chunk(2, dim=-1)  # y = c + di
    sums: Tensor = ((a * c + b * d) + (b * c - a * d)).sum(-1)
    return sums.abs()


_FUNCTIONS: dict[SimilarityFunction, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
    SimilarityFunction.MAXSIM: (maxsim, maxsim_pairwise),
    SimilarityFunction.MEAN_MAXSIM: (mean_maxsim, mean_maxsim_pairwise),
}


def _operands(a: EmbeddingsLike, b: EmbeddingsLike) -> tuple[Tensor, Tensor]:
    """Both as tensors of one floating dtype on one device; sparse ones as coalesced COO; equally wide."""
    left, right = to_tensor(a), to_tensor(b)
    if left.dim() == 0 or right.dim() == 0:
        raise ValueError(f"Embeddings need at least one dimension, got shapes {_shapes(left, right)}.")
    dtype = torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32
    device = right.device if left.device.type == "cpu" else left.device
    left, right = left.to(device, dtype), right.to(device, dtype)
    # a list without embeddings has no width of its own
    if left.shape == (0,):
        left = left.new_zeros(0, right.shape[-1])
    if right.shape == (0,):
        right = right.new_zeros(0, left.shape[-1])
    if left.shape[-1] != right.shape[-1]:
        raise ValueError(
            f"Both embeddings must have the same width (last dimension), got shapes {_shapes(left, right)}. "
            "Were they made by the same model, with the same truncate_dim?"
        )
    return (to_coo(left) if is_sparse(left) else left), (to_coo(right) if is_sparse(right) else right)


def _matrices(a: EmbeddingsLike, b: EmbeddingsLike) -> tuple[Tensor, Tensor]:
    """The operands as (n, D) and (m, D)."""
    left, right = _operands(a, b)
    if left.dim() > 2 or right.dim() > 2:
        raise ValueError(f"Expected (rows, width) embeddings or one (width,) row, got shapes {_shapes(left, right)}.")
    return _rows(left), _rows(right)


def _pairs(a: EmbeddingsLike, b: EmbeddingsLike) -> tuple[Tensor, Tensor]:
    """The operands in shapes that go together row by row; both sparse if one is."""
    left, right = _operands(a, b)
    try:
        shape = np.broadcast_shapes(tuple(left.shape), tuple(right.shape))
    except ValueError as error:
        raise ValueError(f"Pairwise scores need as many rows on both sides, got {_shapes(left, right)}.") from error
    if not is_sparse(left) and not is_sparse(right):
        return left, right
    if len(shape) > 2:
        raise ValueError(f"Sparse embeddings must be (rows, width) or (width,), got shapes {_shapes(left, right)}.")
    left, right = to_coo(left), to_coo(right)
    return (left, right) if len(shape) == 1 else (_with_rows(left, shape[0]), _with_rows(right, shape[0]))


def _rows(tensor: Tensor) -> Tensor:
    return to_batch(tensor).coalesce() if is_sparse(tensor) else to_batch(tensor)


def _shapes(left: Tensor, right: Tensor) -> str:
    return f"{tuple(left.shape)} and {tuple(right.shape)}"


def _with_rows(coo: Tensor, rows: int) -> Tensor:
    """COO (D,), (1, D) or (rows, D) -> coalesced COO (rows, D)."""
    batch = to_batch(coo)
    if batch.shape[0] != rows:
        batch = batch.index_select(0, torch.zeros(rows, dtype=torch.int64, device=coo.device))
    return batch.coalesce()


def _products(left: Tensor, right: Tensor) -> Tensor:
    """(n, D), (m, D) -> (n, m) dense."""
    if is_sparse(left):
        product: Tensor = torch.sparse.mm(left, right.t())
        return product.to_dense() if is_sparse(product) else product
    if is_sparse(right):
        transposed: Tensor = torch.sparse.mm(right, left.t())
        return transposed.t()
    return left @ right.t()


def _pair_dot(left: Tensor, right: Tensor) -> Tensor:
    return _row_sums(to_coo(left * right)) if is_sparse(left) else (left * right).sum(-1)


def _coo_map(coo: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The function, which must map 0 to 0, on every value of a sparse tensor."""
    coalesced = to_coo(coo)
    return with_values(coalesced, function(coalesced.values()))


def _row_sums(tensor: Tensor) -> Tensor:
    """Sums over the last dimension of a dense tensor, or of a coalesced COO one of one or two dimensions."""
    if not is_sparse(tensor):
        return tensor.sum(-1)
    return tensor.values().sum() if tensor.dim() == 1 else sparse_row_sums(tensor)


def _wide(tensor: Tensor) -> Tensor:
    """In float64 where the device has it: distances computed as differences of sums lose digits."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _square_roots(squared: Tensor) -> Tensor:
    """Square roots of values >= 0 but for rounding; the gradient at 0 is 0, not infinite."""
    above = squared > 0
    return torch.where(above, squared, torch.ones_like(squared)).sqrt() * above


def _sparse_euclidean(left: Tensor, right: Tensor) -> Tensor:
    """Distances (n, m) by |x|^2 + |y|^2 - 2xy; at least one side is sparse."""
    dtype = left.dtype
    left, right = _wide(left), _wide(right)
    lengths = [_row_sums(_coo_map(side, torch.square) if is_sparse(side) else side.square()) for side in (left, right)]
    return _square_roots(lengths[0][:, None] + lengths[1] - 2 * _products(left, right)).to(dtype)


def _sparse_manhattan(left: Tensor, right: Tensor) -> Tensor:
    """Distances (n, m); at least one side is sparse.

    The sum of |x - y| over all dimensions is |x|_1 + |y|_1 less the sum of |x| + |y| - |x - y|, which is 0 wherever x
    or y is 0: only stored values that meet in one dimension count, as in a sparse matrix product.
    """
    dtype = left.dtype
    left, right = to_coo(_wide(left)), to_coo(_wide(right))
    total = _row_sums(_coo_map(left, torch.abs))[:, None] + _row_sums(_coo_map(right, torch.abs))
    (left_rows, left_columns), (right_rows, right_columns) = left.indices(), right.indices()
    by_column = right_columns.argsort()
    stored = torch.bincount(right_columns, minlength=right.shape[1])
    starts = stored.cumsum(0) - stored
    shared = total.new_zeros(total.numel())
    for at, stop in _runs(stored[left_columns], BLOCK_ELEMENTS // 8):
        columns = left_columns[at:stop]
        meets = stored[columns]
        x = torch.arange(at, stop, device=columns.device).repeat_interleave(meets)  # places in left's values, ...
        first = (starts[columns] - meets.cumsum(0) + meets).repeat_interleave(meets)
        y = by_column[first + torch.arange(len(x), device=columns.device)]  # ... and whom they meet in right's
        a, b = left.values()[x], right.values()[y]
        shared.index_add_(0, left_rows[x] * total.shape[1] + right_rows[y], a.abs() + b.abs() - (a - b).abs())
    return (total - shared.view_as(total)).clamp(min=0).to(dtype)


def _runs(sizes: Tensor, limit: int) -> Iterator[tuple[int, int]]:
    """Cut positions into neighbours whose sizes sum to at most ``limit``; a larger one stands alone."""
    sums = sizes.cumsum(0)
    at = done = 0
    while at < len(sizes):
        stop = max(at + 1, int(torch.searchsorted(sums, done + limit, right=True)))
        yield at, stop
        at, done = stop, int(sums[stop - 1])
