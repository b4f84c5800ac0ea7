"""Rows come back in the order of the inputs, in an ordinary tensor, whatever the order of the batches."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sentence_transformers.inference.collect import Matrix, Rows


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
