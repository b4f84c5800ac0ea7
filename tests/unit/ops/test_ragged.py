"""Items of different length in one block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sentence_transformers.ops.maxsim import maxsim
from sentence_transformers.ops.ragged import Ragged


def items(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 4, generator=generator) for length in lengths]


def test_it_holds_the_items_of_the_list() -> None:
    listed = items(3, 0, 5, 1)
    ragged = Ragged.of(listed)
    assert ragged.values.shape == (9, 4)
    assert ragged.offsets.tolist() == [0, 3, 3, 8, 9]
    assert len(ragged) == 4
    for found in (ragged.to_list(), list(ragged), [ragged[at] for at in range(4)], [ragged[at - 4] for at in range(4)]):
        assert all(torch.equal(a, b) for a, b in zip(found, listed, strict=True))


def test_items_are_views() -> None:
    ragged = Ragged.of(items(3, 2))
    ragged[1][0, 0] = 7
    assert ragged.values[3, 0] == 7


def test_arrays_stay_arrays() -> None:
    ragged = Ragged.of([item.numpy() for item in items(3, 2)])
    assert isinstance(ragged.values, np.ndarray)
    assert isinstance(ragged[0], np.ndarray)


@pytest.mark.parametrize("at", [slice(1, 3), slice(None), slice(-2, None), slice(3, 1), slice(4, 9), slice(0, 0)])
def test_a_slice_holds_the_items_of_the_sliced_list(at: slice) -> None:
    listed = items(3, 0, 5, 1)
    part = Ragged.of(listed)[at]
    assert part.offsets[0] == 0
    assert len(part) == len(listed[at])
    assert all(torch.equal(a, b) for a, b in zip(part, listed[at], strict=True))


def test_maxsim_takes_it_for_the_list() -> None:
    queries, documents = items(3, 2), items(4, 9, 1, 4)
    assert torch.equal(maxsim(Ragged.of(queries), Ragged.of(documents)), maxsim(queries, documents))


def test_an_index_that_is_too_large_is_an_error() -> None:
    with pytest.raises(IndexError, match="There are 2 items, got the index 2"):
        Ragged.of(items(3, 2))[2]


def test_a_slice_with_another_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="step 1"):
        Ragged.of(items(3, 2))[::-1]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], [], [[0, 3]]])
def test_offsets_that_do_not_fit_are_an_error(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must ascend from 0 to the number of rows, 3"):
        Ragged(torch.zeros(3, 2), np.array(offsets))


@pytest.mark.parametrize("bad", [[], [torch.ones(2, 3), torch.ones(2, 4)], [torch.ones(3)]])
def test_items_without_one_width_are_an_error(bad: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="one width|at least one item"):
        Ragged.of(bad)
