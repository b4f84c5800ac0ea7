"""Products of chosen pairs of rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from sentence_transformers.ops.chosen import chosen_products


@pytest.mark.parametrize("width", [1, 15, 16, 17, 384])
def test_products_are_those_of_float64(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    left, right = torch.randn(5, width, generator=generator), torch.randn(9, width, generator=generator)
    starts, columns = np.array([0, 2, 2, 5, 6, 6]), np.array([1, 8, 0, 1, 2, 4])
    found = chosen_products(left, right, starts, columns)
    expected = (left.double() @ right.double().t())[[0, 0, 2, 2, 2, 3], columns]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_equal_rows_have_equal_products_wherever_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(1, 100, generator=generator), torch.randn(1, 100, generator=generator)
    found = chosen_products(left.repeat(64, 1), right.repeat(37, 1), np.arange(65) * 37, np.tile(np.arange(37), 64))
    assert len(found.unique()) == 1


def test_nothing_chosen_gives_nothing() -> None:
    assert chosen_products(torch.ones(2, 3), torch.ones(4, 3), np.zeros(3, int), np.empty(0, int)).shape == (0,)


def test_nobody_hears_that_csr_is_new() -> None:
    code = (
        "import numpy as np, torch; from sentence_transformers.ops.chosen import chosen_products as of; "
        "of(torch.ones(1, 3), torch.ones(1, 3), np.array([0, 1]), np.array([0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
