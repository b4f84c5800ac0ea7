"""Conversions and row-wise operations, on dense and on sparse embeddings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.ops import tensors
from sentence_transformers.ops.device import get_device_name
from sentence_transformers.ops.tensors import (
    batch_to_device,
    compute_count_vector,
    normalize_embeddings,
    select_max_active_dims,
    to_batch,
    to_batch_tensor,
    to_scipy_coo,
    to_tensor,
    truncate_embeddings,
)

ROWS = torch.tensor([[3.0, 4, 0], [0, 0, 0]])
MIXED = torch.tensor([[1.0, -5, 2, 0], [0, 0, 0, 0], [3, 4, 6, 5]])
FORMS = [Tensor.to_dense, Tensor.to_sparse, Tensor.to_sparse_csr]
Form = Callable[[Tensor], Tensor]


def test_a_tensor_is_handed_back() -> None:
    assert to_tensor(ROWS) is ROWS


@pytest.mark.parametrize(
    "value",
    [
        ROWS.numpy(),
        ROWS.tolist(),
        list(ROWS),
        tuple(ROWS),
        list(ROWS.numpy()),
        [ROWS[0], ROWS[1].numpy()],
        [ROWS[0].numpy(), ROWS[1]],
        ROWS.numpy()[::-1][::-1],
        ROWS.numpy().astype(">f4"),
        np.broadcast_to(ROWS.numpy(), (2, 3)),
    ],
)
def test_every_container_becomes_the_same_tensor(value: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns about read-only memory and about slow lists of arrays
        assert_close(to_tensor(value), ROWS)


def test_arrays_that_run_backwards_are_read_in_their_order() -> None:
    assert to_tensor(np.array([1, 2, 3])[::-1]).tolist() == [3, 2, 1]


def test_a_list_of_sparse_rows_becomes_one_sparse_tensor() -> None:
    result = to_tensor([row.to_sparse() for row in ROWS])
    assert result.is_sparse
    assert_close(result.to_dense(), ROWS)


def test_dtypes_are_kept() -> None:
    assert to_tensor(np.ones(3)).dtype == torch.float64
    assert to_tensor(np.ones(3, np.float16)).dtype == torch.float16
    assert to_tensor([1, 2]).dtype == torch.int64
    assert to_tensor([]).shape == (0,)
    assert to_tensor(1.5).item() == 1.5


def test_what_is_no_embedding_is_an_error() -> None:
    with pytest.raises(TypeError, match="got text: 'hello'"):
        to_tensor("hello")
    with pytest.raises(ValueError, match=r"must have one shape, got \[\(2,\), \(3,\)\]"):
        to_tensor([ROWS[0], ROWS[0][:2]])


def test_a_batch_has_two_dimensions() -> None:
    assert to_batch(ROWS[0]).shape == (1, 3)
    assert to_batch(ROWS) is ROWS
    assert to_batch_tensor([1.0, 2.0]).shape == (1, 2)
    assert to_batch_tensor(ROWS[0].to_sparse()).is_sparse


def test_the_names_of_the_reference_are_the_same_functions() -> None:
    assert tensors._convert_to_tensor is to_tensor
    assert tensors._convert_to_batch is to_batch
    assert tensors._convert_to_batch_tensor is to_batch_tensor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_rows_become_unit_length_and_zero_stays(dtype: torch.dtype, form: Form) -> None:
    result = normalize_embeddings(form(ROWS.to(dtype)))
    assert result.dtype == dtype
    assert result.is_sparse == (form is not Tensor.to_dense)
    assert_close(result.to_dense(), torch.tensor([[0.6, 0.8, 0], [0, 0, 0]], dtype=dtype))


def test_vectors_and_batches_of_tokens_are_normalised() -> None:
    assert_close(normalize_embeddings(ROWS[0]), torch.tensor([0.6, 0.8, 0]))
    assert_close(normalize_embeddings(ROWS[0].to_sparse()).to_dense(), torch.tensor([0.6, 0.8, 0]))
    assert_close(normalize_embeddings(ROWS[None])[0], normalize_embeddings(ROWS))


def test_values_stored_twice_are_added_before_normalising() -> None:
    twice = torch.sparse_coo_tensor([[0, 0, 0], [1, 1, 0]], [1.0, 2.0, 4.0], (1, 3), check_invariants=True)
    assert_close(normalize_embeddings(twice).to_dense(), torch.tensor([[0.8, 0.6, 0]]))


@pytest.mark.parametrize("form", FORMS)
def test_truncation_keeps_the_first_dimensions(form: Form) -> None:
    assert_close(truncate_embeddings(form(ROWS), 2).to_dense(), ROWS[:, :2])
    assert_close(truncate_embeddings(form(ROWS), 9).to_dense(), ROWS)
    assert truncate_embeddings(ROWS, None) is ROWS


def test_truncation_leaves_arrays_arrays() -> None:
    result = truncate_embeddings(ROWS.numpy(), np.int64(1))
    assert isinstance(result, np.ndarray)
    assert result.tolist() == [[3.0], [0.0]]
    with pytest.raises(ValueError, match="truncate_dim must be a positive integer, got -1"):
        truncate_embeddings(ROWS, -1)


@pytest.mark.parametrize("form", FORMS)
def test_the_largest_values_stay_active(form: Form) -> None:
    expected = torch.tensor([[0.0, -5, 2, 0], [0, 0, 0, 0], [0, 0, 6, 5]])
    result = select_max_active_dims(form(MIXED), 2)
    assert result.is_sparse == (form is not Tensor.to_dense)
    assert_close(result.to_dense(), expected)
    assert_close(select_max_active_dims(form(MIXED), 9).to_dense(), MIXED)


def test_active_dims_of_a_large_sparse_tensor_equal_those_of_the_dense_one() -> None:
    dense = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    dense = dense * (dense.abs() > 0.5)
    sparse = select_max_active_dims(dense.to_sparse(), 7)
    assert_close(sparse.to_dense(), select_max_active_dims(dense, 7))
    assert (sparse.to_dense() != 0).sum(1).tolist() == [7] * 30


def test_selecting_active_dims_leaves_the_input_alone() -> None:
    before = MIXED.clone()
    select_max_active_dims(before, 1)
    assert torch.equal(before, MIXED)
    assert select_max_active_dims(before, None) is before
    assert_close(select_max_active_dims(MIXED[0], 1), torch.tensor([0.0, -5, 0, 0]))
    assert_close(select_max_active_dims(MIXED[0].to_sparse(), 1).to_dense(), torch.tensor([0.0, -5, 0, 0]))
    assert isinstance(select_max_active_dims(MIXED.numpy(), 1), Tensor)


@pytest.mark.parametrize("count", [0, -1, True])
def test_active_dims_must_be_positive(count: int) -> None:
    with pytest.raises(ValueError, match=f"max_active_dims must be a positive integer, got {count}"):
        select_max_active_dims(MIXED, count)


def test_gradients_reach_the_active_dims_only() -> None:
    values = MIXED.clone().requires_grad_()
    select_max_active_dims(values, 1).sum().backward()
    assert values.grad is not None
    assert values.grad[[0, 2]].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("form", FORMS)
def test_counts_are_of_values_other_than_zero(form: Form) -> None:
    result = compute_count_vector(form(MIXED))
    assert result.dtype == torch.int32
    assert result.tolist() == [2, 2, 2, 1]


def test_counts_of_one_vector_and_of_stored_zeros() -> None:
    assert compute_count_vector(MIXED[0]).tolist() == [1, 1, 1, 0]
    assert compute_count_vector(MIXED[0].to_sparse()).tolist() == [1, 1, 1, 0]
    assert compute_count_vector(torch.sparse_coo_tensor([[0], [1]], [0.0], (2, 3), check_invariants=True)).tolist() == [
        0,
        0,
        0,
    ]
    with pytest.raises(ValueError, match="Expected 1D or 2D tensor, got 3D"):
        compute_count_vector(MIXED[None])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scipy_gets_the_same_matrix(form: Form, dtype: torch.dtype) -> None:
    pytest.importorskip("scipy.sparse")
    matrix = to_scipy_coo(form(MIXED.to(dtype)))
    assert matrix.format == "coo"
    np.testing.assert_array_equal(matrix.toarray(), MIXED.numpy())
    assert to_scipy_coo(MIXED[0].to_sparse()).shape == (1, 4)


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="to_scipy_coo\\(\\) needs scipy"):
        to_scipy_coo(MIXED.to_sparse())


def test_a_batch_moves_in_place_and_only_its_tensors() -> None:
    words = ["a"]
    batch = {"input_ids": ROWS, "text": words, "none": None}
    assert batch_to_device(batch, torch.device("meta")) is batch
    assert batch["input_ids"].device.type == "meta"
    assert batch["text"] is words
    assert batch["none"] is None


def fake_cuda(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("local_rank", "count", "expected"),
    [(None, 4, "cuda:0"), ("", 4, "cuda:0"), ("3", 4, "cuda:3"), ("-1", 4, "cuda:0"), ("3", 1, "cuda:0")],
)
def test_the_cuda_index_is_the_local_rank(
    local_rank: str | None, count: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda(monkeypatch, count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert get_device_name() == expected


def test_without_a_local_rank_the_process_group_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 6)
    assert get_device_name() == "cuda:2"  # the third of the second node


def test_without_any_accelerator_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert get_device_name() == "cpu"


def test_mps_comes_before_xpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert get_device_name() == "xpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert get_device_name() == "mps"
