"""The small models of ``encoder_cases``, built once and opened once; and the stores of ``store_cases``, opened anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from sentence_transformers.search.stores.base import Store
from tests.contracts import store_cases
from tests.contracts.encoder_cases import CASES, Opened
from tests.contracts.slow_store import SlowStore
from tests.unit.search.stores import fake_elastic
from tests.unit.search.stores.conftest import postgres, postgres_place  # noqa: F401 (fixtures)


@pytest.fixture(scope="session")
def open_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """``open_case(name)``; don't change the model, or write into the folder."""
    root = tmp_path_factory.mktemp("cases")
    return cache(lambda name: Opened.of(CASES[name], CASES[name].build(root / name)))


@pytest.fixture(params=CASES)
def opened(request: pytest.FixtureRequest, open_case: Callable[[str], Opened]) -> Opened:
    """Each case in turn."""
    return open_case(request.param)


@pytest.fixture(params=store_cases.ASKED)
def case(request: pytest.FixtureRequest) -> store_cases.Case:
    """Each in turn; of some tests only those that are KEPT, or THREADED."""
    found = store_cases.CASES[request.param]
    if (reason := found.missing()) is not None:
        pytest.skip(reason)
    return found


@pytest.fixture
def elasticsearch_address() -> Iterator[str]:
    with fake_elastic.running() as server:
        yield server.address


@pytest.fixture
def open_store(case: store_cases.Case, request: pytest.FixtureRequest) -> Iterator[Callable[..., Store]]:
    """``open_store(**settings)``, always at the same place; what was opened before is closed."""
    place, opened = request.getfixturevalue(case.fixture), list[Store]()

    def close() -> None:
        while opened:
            opened.pop().close()

    def open_it(**settings: Any) -> Store:
        close()
        opened.append(case.open(place, **settings))
        return opened[0]

    yield open_it
    close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture
def slow() -> SlowStore:
    return SlowStore()
