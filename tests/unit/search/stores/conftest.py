"""One PostgreSQL of each version for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.unit.search.stores.postgres_server import NoServerError, running_server

NUMBERS = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Where its database is."""
    yield from _server(18)


@pytest.fixture(scope="session")
def older_postgres() -> Iterator[str]:
    """Where its database is."""
    yield from _server(16)


@pytest.fixture
def postgres_place(postgres: str) -> tuple[str, str]:
    """The database, and the name of a table that is not there yet."""
    return postgres, f"rows {next(NUMBERS)}"


def _server(version: int) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            conninfo = stack.enter_context(running_server(version))
        except NoServerError as error:
            pytest.skip(f"no PostgreSQL {version}: {error}")
        yield conninfo
