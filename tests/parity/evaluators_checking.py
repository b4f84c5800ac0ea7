"""How tests of evaluators compare ours with what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def assert_same(found: Any, golden: Any, tolerance: float = 1e-6) -> None:
    """The same names in the same order, and numbers that differ by ``tolerance`` at most: scores are float32."""
    if isinstance(golden, dict):
        assert list(found) == list(golden)
        for name, value in golden.items():
            assert_same(found[name], value, tolerance)
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for left, right in zip(found, golden, strict=True):
            assert_same(left, right, tolerance)
    elif isinstance(golden, float):
        assert found == pytest.approx(golden, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert found == golden


def use_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in it stand for repositories of the same names, as they did for the reference."""
    datasets = pytest.importorskip("datasets", reason="NanoBEIR's data is loaded with it")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.chdir(folder)
