"""Rows come back in the order of the inputs, in an ordinary tensor, whatever the order of the batches."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sentence_transformers.inference import collect
from sentence_transformers.inference.collect import Matrix, Rows, SparseRows


def places(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def test_rows_stand_where_their_inputs_stood() -> None:
    matrix = Matrix(4)
    matrix.put(places(3, 0), torch.tensor([[3.0], [0.0]]))
    matrix.put(places(2, 1), torch.tensor([[2.0], [1.0]]))
    assert matrix.values is not None
    assert matrix.values.tolist() == [[0.0], [1.0], [2.0], [3.0]]


def test_repeated_inputs_get_the_row_of_the_first() -> None:
    matrix = Matrix(3)
    matrix.put(places(1), torch.tensor([[7.0, 8.0]]))
    matrix.repeat(places(1, 1), places(0, 2))
    assert matrix.values is not None
    assert matrix.values.tolist() == [[7.0, 8.0]] * 3


def test_the_result_of_an_inference_is_an_ordinary_tensor() -> None:
    matrix = Matrix(1)
    with torch.inference_mode():
        matrix.put(places(0), torch.ones(1, 2))
    assert matrix.values is not None
    assert not matrix.values.is_inference()
    weight = torch.ones(2, requires_grad=True)
    (matrix.values @ weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("dtype", "widen", "result"),
    [
        (torch.bfloat16, True, torch.float32),
        (torch.bfloat16, False, torch.bfloat16),
        (torch.float16, True, torch.float16),
        (torch.float32, True, torch.float32),
        (torch.float64, True, torch.float64),
    ],
)
def test_type_of_the_result(dtype: torch.dtype, widen: bool, result: torch.dtype) -> None:
    matrix = Matrix(2, widen=widen)
    matrix.put(places(1, 0), torch.tensor([[1.5], [2.5]], dtype=dtype))
    assert matrix.values is not None
    assert matrix.values.dtype is result
    assert matrix.values.flatten().tolist() == [2.5, 1.5]


def test_rows_may_be_scalars_or_matrices() -> None:
    for shape in ((), (2, 3)):
        matrix = Matrix(2)
        matrix.put(places(0, 1), torch.ones(2, *shape))
        assert matrix.values is not None
        assert matrix.values.shape == (2, *shape)


def test_no_inputs_no_tensor() -> None:
    assert Matrix(0).values is None


def test_batches_from_many_threads() -> None:
    matrix, count = Matrix(400), 400
    start = threading.Barrier(8)

    def work(first: int) -> None:
        start.wait()
        for place in range(first, count, 8):
            matrix.put(places(place), torch.full((1, 3), float(place)))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert matrix.values is not None
    assert torch.equal(matrix.values, torch.arange(count).float()[:, None].expand(count, 3))


def test_a_list_of_objects() -> None:
    rows = Rows(3)
    rows.put(places(2, 0), ["c", "a"])
    rows.put(places(1), ["b"])
    assert rows.values == ["a", "b", "c"]


def test_a_repeated_tensor_is_a_copy() -> None:
    rows = Rows(2)
    rows.put(places(0), [torch.ones(2)])
    rows.repeat(places(0), places(1))
    rows.values[1][0] = 5
    assert rows.values[0].tolist() == [1.0, 1.0]


def test_a_batch_of_the_wrong_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        Rows(2).put(places(0, 1), ["only one"])


SPARSE = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0] * 4, [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, -4.0, 0.0]])


def filled(device: torch.device | None = None) -> SparseRows:
    rows = SparseRows(4, device)
    rows.put(places(3, 0), SPARSE[[3, 0]])
    rows.put(places(2, 1), SPARSE[[2, 1]])
    return rows


def test_sparse_rows_stand_where_their_inputs_stood() -> None:
    result = filled().tensor()
    assert torch.equal(result.to_dense(), SPARSE)
    assert result.values().tolist() == [1.0, 2.0, 3.0, -4.0]


def test_the_sparse_tensor_is_coalesced_in_fact() -> None:
    result = filled().tensor()
    assert result.is_coalesced()
    with torch.sparse.check_sparse_tensor_invariants():
        torch.sparse_coo_tensor(result.indices(), result.values(), result.shape, is_coalesced=True)


def test_repeated_sparse_rows_get_the_row_of_the_first() -> None:
    rows = SparseRows(6)
    rows.put(places(1, 4), SPARSE[[0, 1]])
    rows.put(places(5), SPARSE[[2]])
    rows.repeat(places(1, 4, 5), places(0, 2, 3))
    assert torch.equal(rows.tensor().to_dense(), SPARSE[[0, 0, 1, 2, 1, 2]])


def test_sparse_rows_one_by_one() -> None:
    rows = filled().rows()
    assert [row.shape for row in rows] == [(4,)] * 4
    assert all(row.is_coalesced() for row in rows)
    assert [row.to_dense().tolist() for row in rows] == SPARSE.tolist()


def test_one_sparse_row_shares_no_memory_with_the_others() -> None:
    rows = filled()
    single = rows.rows()[0]
    assert single.values().untyped_storage().nbytes() == 2 * 4
    single.values().zero_()
    assert torch.equal(rows.tensor().to_dense(), SPARSE)


def test_batches_may_be_sparse_already() -> None:
    rows = SparseRows(4)
    rows.put(places(1, 0, 3, 2), SPARSE[[1, 0, 3, 2]].to_sparse())
    assert torch.equal(rows.tensor().to_dense(), SPARSE)


def test_the_sparse_result_of_an_inference_is_an_ordinary_tensor() -> None:
    rows = SparseRows(4)
    with torch.inference_mode():
        rows.put(places(0, 1, 2, 3), SPARSE + 0)
        results = [rows.tensor(), *rows.rows()]
    assert not any(result.is_inference() or result.values().is_inference() for result in results)
    weight = torch.ones(4, 1, requires_grad=True)
    torch.sparse.mm(results[0], weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == SPARSE.sum(0).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_type_of_the_sparse_result(dtype: torch.dtype) -> None:
    rows = SparseRows(4, torch.device("cpu"))
    rows.put(places(0, 1, 2, 3), SPARSE.to(dtype))
    assert rows.tensor().dtype == rows.rows()[0].dtype == dtype


def test_no_inputs_give_an_empty_sparse_tensor() -> None:
    rows = SparseRows(0)
    assert (rows.tensor().shape, rows.tensor().is_sparse, rows.rows()) == ((0, 0), True, [])


def test_rows_of_zeros_alone() -> None:
    rows = SparseRows(2)
    rows.put(places(1, 0), torch.zeros(2, 5))
    assert rows.tensor().shape == (2, 5)
    assert rows.tensor().values().numel() == 0
    assert rows.rows()[0].shape == (5,)


def test_sparse_batches_from_many_threads() -> None:
    count = 400
    expected = torch.eye(7)[torch.arange(count) % 7] * (1 + torch.arange(count)[:, None])
    rows = SparseRows(count)
    start = threading.Barrier(8)

    def work(first: int) -> None:
        start.wait()
        for place in range(first, count, 16):
            rows.put(places(place + 8, place), expected[[place + 8, place]])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(rows.tensor().to_dense(), expected)


def test_rows_from_another_device_come_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = Matrix(4, torch.device("meta"))  # a stand-in: rows of the CPU are wanted elsewhere
    stored: list[list[int]] = []
    monkeypatch.setattr(matrix, "_store", lambda places, rows: stored.append([*places.tolist(), len(rows)]))
    matrix.put(np.array([2, 0]), torch.ones(2, 3))
    matrix.put(np.array([1]), torch.ones(1, 3))
    assert stored == []
    _ = matrix.values
    assert stored == [[2, 0, 1, 3]]
    monkeypatch.setattr(collect, "HELD", 1)  # byte: of a large call they come in several
    matrix.put(np.array([3]), torch.ones(1, 3))
    assert stored[1:] == [[3, 1]]
