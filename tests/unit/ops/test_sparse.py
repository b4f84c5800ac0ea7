"""Questions to sparse vectors: the answer does not depend on the layout of the tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers.ops import sparse
from sentence_transformers.ops.tensors import is_sparse

ROWS = torch.tensor([[0.0, 1.0, 3.0, -2.0, 0.0, 1.0], [0.0] * 6, [5.0, 0.0, 0.0, 0.0, 0.0, 4.0]])
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": lambda x: x,
    "coo": lambda x: x.to_sparse(),
    "uncoalesced": lambda x: _uncoalesced(x),
    "explicit zeros": lambda x: _with_zeros(x),
}
layouts = pytest.mark.parametrize("layout", list(LAYOUTS))


def _uncoalesced(x: Tensor) -> Tensor:
    coo = x.to_sparse()
    return torch.sparse_coo_tensor(coo.indices().repeat(1, 2), coo.values().repeat(2) / 2, x.shape)


def _with_zeros(x: Tensor) -> Tensor:
    places = torch.ones_like(x).nonzero().T
    return torch.sparse_coo_tensor(places, x[tuple(places)], x.shape)


@layouts
def test_sparsity_is_the_mean_over_rows(layout: str) -> None:
    assert sparse.sparsity(LAYOUTS[layout](ROWS)) == {"active_dims": 2.0, "sparsity_ratio": 1 - 2 / 6}


@layouts
def test_sparsity_of_one_vector(layout: str) -> None:
    assert sparse.sparsity(LAYOUTS[layout](ROWS[0])) == {"active_dims": 4.0, "sparsity_ratio": 1 - 4 / 6}


@pytest.mark.parametrize("rows", [torch.empty(0), torch.empty(0, 4), torch.empty(2, 0), torch.empty(0, 4).to_sparse()])
def test_sparsity_of_nothing(rows: Tensor) -> None:
    assert sparse.sparsity(rows) == {"active_dims": 0.0, "sparsity_ratio": 1.0}


def test_sparsity_of_csr_and_of_integers() -> None:
    expected = sparse.sparsity(ROWS)
    assert sparse.sparsity(ROWS.to_sparse_csr()) == sparse.sparsity(ROWS.int()) == expected


@pytest.mark.parametrize("wrong", [[1.0], np.ones(3)])
def test_sparsity_takes_tensors_only(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor"):
        sparse.sparsity(wrong)


@pytest.mark.parametrize(("shape", "words"), [((), "0D"), ((1, 1, 2), "3D")])
def test_sparsity_of_another_shape(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=f"Expected a 1D or 2D tensor, got {words}"):
        sparse.sparsity(torch.ones(shape))


@layouts
@pytest.mark.parametrize("other", list(LAYOUTS))
def test_intersection_has_the_products_above_zero(layout: str, other: str) -> None:
    found = sparse.intersection(LAYOUTS[layout](ROWS[0]), LAYOUTS[other](ROWS[[0, 1, 2]]))
    assert is_sparse(found)
    assert found.is_coalesced()
    expected = [[0.0, 1.0, 9.0, 4.0, 0.0, 1.0], [0.0] * 6, [0.0, 0.0, 0.0, 0.0, 0.0, 4.0]]
    assert found.to_dense().tolist() == expected
    assert found.values().tolist() == [1.0, 9.0, 4.0, 1.0, 4.0]


def test_intersection_of_two_vectors() -> None:
    found = sparse.intersection(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0, -1.0]))
    assert (found.shape, found.indices().tolist(), found.values().tolist()) == ((3,), [[1]], [3.0])


def test_intersection_with_no_rows() -> None:
    assert sparse.intersection(ROWS[0], torch.empty(0, 6)).shape == (0, 6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.ones(4), torch.ones(3), "Vocab dimension mismatch: embeddings_1 has 4, embeddings_2 has 3."),
        (torch.ones(2, 4), torch.ones(4), "Expected 1D tensor for embeddings_1"),
        (torch.ones(4), torch.ones(1, 1, 4), "Expected 1D or 2D tensor for embeddings_2"),
    ],
)
def test_intersection_of_other_shapes(first: Tensor, second: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparse.intersection(first, second)


def test_intersection_takes_tensors_only() -> None:
    with pytest.raises(TypeError, match="embeddings_2 must be"):
        sparse.intersection(torch.ones(1), [1.0])  # type: ignore[arg-type]


def as_lists(rows: list[tuple[Any, Any]]) -> list[tuple[list[float], list[float]]]:
    return [(ids.tolist(), values.tolist()) for ids, values in rows]


@layouts
def test_largest_weights_come_first_and_ties_by_number(layout: str) -> None:
    found = sparse.largest(LAYOUTS[layout](ROWS))
    assert as_lists(found) == [([2, 1, 5, 3], [3.0, 1.0, 1.0, -2.0]), ([], []), ([0, 5], [5.0, 4.0])]


def test_many_ties() -> None:
    ids, _ = sparse.largest(torch.tensor([1.0, 2.0, 3.0] * 100))[0]
    assert ids.tolist() == [*range(2, 300, 3), *range(1, 300, 3), *range(0, 300, 3)]


@pytest.mark.parametrize(("top_k", "ids"), [(1, [2]), (2, [2, 1]), (9, [2, 1, 5, 3]), (None, [2, 1, 5, 3])])
def test_only_so_many_of_each_row(top_k: int | None, ids: list[int]) -> None:
    assert sparse.largest(ROWS, top_k)[0][0].tolist() == ids


@layouts
def test_one_vector_is_one_row(layout: str) -> None:
    assert as_lists(sparse.largest(LAYOUTS[layout](ROWS[2]))) == [([0, 5], [5.0, 4.0])]


def test_no_rows() -> None:
    assert sparse.largest(torch.empty(0, 6)) == sparse.to_indices_values(torch.empty(0, 6)) == []


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5])
def test_a_wrong_number_of_weights(top_k: Any) -> None:
    with pytest.raises(ValueError, match="top_k must be a positive integer"):
        sparse.largest(ROWS, top_k)


@pytest.mark.parametrize("function", [sparse.largest, sparse.to_indices_values, sparse.to_scipy_csr])
def test_wrong_embeddings(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"Expected torch\.Tensor, got <class 'list'>"):
        function([1.0])
    with pytest.raises(ValueError, match="Input tensor must be 1D or 2D, got 3D"):
        function(torch.ones(1, 1, 1))


@layouts
def test_indices_and_values(layout: str) -> None:
    found = sparse.to_indices_values(LAYOUTS[layout](ROWS))
    assert as_lists(found) == [([1, 2, 3, 5], [1.0, 3.0, -2.0, 1.0]), ([], []), ([0, 5], [5.0, 4.0])]
    assert {(ids.dtype, values.dtype) for ids, values in found} == {(np.dtype("int32"), np.dtype("float32"))}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_of_other_types_become_float32(dtype: torch.dtype) -> None:
    assert sparse.to_indices_values(ROWS.to(dtype))[0][1].dtype == np.float32


def test_embeddings_with_a_gradient() -> None:
    assert as_lists(sparse.largest(ROWS.clone().requires_grad_(), 1))[2] == ([0], [5.0])


@layouts
def test_scipy_matrix(layout: str) -> None:
    pytest.importorskip("scipy")
    found = sparse.to_scipy_csr(LAYOUTS[layout](ROWS))
    assert (found.format, found.shape, found.nnz, found.dtype) == ("csr", (3, 6), 6, np.float32)
    assert found.toarray().tolist() == ROWS.tolist()
    assert found.has_sorted_indices


def test_scipy_matrix_of_half_precision_and_of_one_vector() -> None:
    pytest.importorskip("scipy")
    assert sparse.to_scipy_csr(ROWS.bfloat16()).dtype == np.float32
    assert sparse.to_scipy_csr(ROWS[0]).toarray().tolist() == [ROWS[0].tolist()]
    assert sparse.to_scipy_csr(torch.empty(0, 6)).shape == (0, 6)
