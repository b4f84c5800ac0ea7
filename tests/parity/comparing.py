"""How the tests of the encoders compare ours with what ``record_encoders.py`` wrote down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import encoder_facts
import numpy as np
import pytest
import tiny_heads
import torch
from numpy.testing import assert_allclose

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_encoders.json").read_text(encoding="ascii"))
TOLERANCE = 5e-6
"""Largest difference of one number, as a part of the largest number of its row."""


def rebuilt(build: Callable[[Path], Path], folder: Path, recorded: str) -> Path:
    """Build a small model and make sure that it is the one the numbers were taken from."""
    path = build(folder)
    assert tiny_heads.fingerprint(path) == recorded, "not rebuilt as recorded; run record_encoders.py again"
    return path


def assert_close(ours: Any, golden: Any, tolerance: float = TOLERANCE) -> None:
    """(N,) or (N, D): no number off by more than ``tolerance`` of the largest one of its (last) dimension."""
    found, golden = np.asarray(ours, dtype=np.float64), np.asarray(golden, dtype=np.float64)
    assert found.shape == golden.shape
    scale = np.abs(golden).max(axis=-1, keepdims=True)
    assert_allclose(found / scale, golden / scale, rtol=0, atol=tolerance)


def assert_sparse(rows: torch.Tensor, golden: dict[str, Any]) -> None:
    """(N, V) sparse: the very same indices in each row, and close values."""
    dense = rows.to_dense().reshape(-1, rows.shape[-1])
    assert list(dense.shape) == [len(golden["rows"]), golden["width"]]
    # Below 1e-6 of the row's largest, an index could be there or not by rounding alone: none was recorded.
    assert golden["smallest"] > 1e-6
    for row, (indices, values) in zip(dense, golden["rows"], strict=True):
        assert row.nonzero().ravel().tolist() == indices
        if indices:
            assert_close(row[indices], values)


def assert_vectors(items: list[torch.Tensor], golden: dict[str, Any]) -> None:
    """Token vectors of unit length against shapes, the first two dimensions of each token, and sums."""
    assert [list(item.shape) for item in items] == golden["shapes"]
    for item, head in zip(items, golden["heads"], strict=True):
        assert_allclose(item[:, :2].numpy(), head, rtol=0, atol=TOLERANCE)
    sizes = np.array(golden["absolute_sums"])
    assert_allclose([item.double().abs().sum().item() for item in items], sizes, rtol=TOLERANCE)
    sums = np.array([item.double().sum().item() for item in items])
    assert_allclose(sums / sizes, np.array(golden["sums"]) / sizes, rtol=0, atol=TOLERANCE)


def assert_fact(call: str, says: str, recorded: dict[str, Any], names: dict[str, Any]) -> None:
    """One call of ``encoder_facts``: the same error or the same kind of result."""
    if "raises" not in recorded:
        _assert_same(encoder_facts.described(encoder_facts.evaluated(call, names)), recorded["returns"])
        return
    with pytest.raises(Exception) as caught:
        encoder_facts.evaluated(call, names)
    kinds = {kind.__name__ for kind in caught.type.__mro__}
    if says == encoder_facts.ACCIDENT:
        assert kinds & {recorded["raises"], "TypeError", "ValueError"}, f"{caught.type.__name__}: {caught.value}"
        return
    assert recorded["raises"] in kinds, f"{caught.type.__name__}: {caught.value}"
    assert says in str(caught.value), f"{says!r} is not in: {caught.value}"


def _assert_same(ours: Any, golden: Any) -> None:
    if isinstance(golden, dict):
        assert isinstance(ours, dict)
        assert sorted(ours) == sorted(golden), (ours, golden)
        for name, value in golden.items():
            _assert_same(ours[name], value)
    elif isinstance(golden, list):
        assert isinstance(ours, list)
        assert len(ours) == len(golden), (ours, golden)
        for left, right in zip(ours, golden, strict=True):
            _assert_same(left, right)
    elif isinstance(golden, float):
        assert ours == pytest.approx(golden, rel=1e-5, abs=1e-6)
    else:
        assert type(ours) is type(golden)
        assert ours == golden, (ours, golden)
