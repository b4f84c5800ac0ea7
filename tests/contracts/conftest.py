"""The small models of ``encoder_cases``, built once and opened once; one of them for each test."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.contracts.encoder_cases import CASES, Opened


@pytest.fixture(scope="session")
def open_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """``open_case(name)``; don't change the model, or write into the folder."""
    root = tmp_path_factory.mktemp("cases")
    return cache(lambda name: Opened.of(CASES[name], CASES[name].build(root / name)))


@pytest.fixture(params=CASES)
def opened(request: pytest.FixtureRequest, open_case: Callable[[str], Opened]) -> Opened:
    """Each case in turn."""
    return open_case(request.param)
