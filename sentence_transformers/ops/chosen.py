"""Dot products of chosen pairs of rows. The rows are not gathered: each product is computed where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing import TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]


def chosen_products(left: Tensor, right: Tensor, starts: Array, columns: Array) -> Tensor:
    """``left[i] @ right[j]`` for every row i and the j that are chosen for it.

    A product does not depend on what else is chosen: equal rows have equal products.

    Args:
        left: (q, D), right: (n, D), float32, on a CPU.
        starts: (q + 1,) int64: for row i, columns from ``starts[i]`` to before ``starts[i + 1]`` are chosen.
        columns: (m,) int64, ascending for each row.

    Returns: (m,) float32.
    """
    places = torch.sparse_csr_tensor(
        torch.from_numpy(starts),
        torch.from_numpy(columns),
        left.new_zeros(len(columns)),
        (len(left), len(right)),
        check_invariants=False,
    )
    products: Tensor = torch.sparse.sampled_addmm(places, left, right.t(), beta=0.0).values()
    return products
