"""Conditions on metadata in PostgreSQL, with a private server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sentence_transformers.search.stores.postgres import PostgresStore
from tests.unit.search.stores.conditions import CASES, METADATA


@pytest.fixture(scope="module")
def store_of_cases(postgres: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres, "cases") as store:
        store.add(list(METADATA), [[1.0]] * len(METADATA), metadata=list(METADATA.values()))
        yield store


@pytest.fixture
def store(postgres_place: tuple[str, str]) -> Iterator[PostgresStore]:
    with PostgresStore(*postgres_place) as made:
        yield made


@pytest.mark.parametrize("where, expected", CASES)
def test_conditions(store_of_cases: PostgresStore, where: Any, expected: str) -> None:
    assert store_of_cases.count(where) == len(expected)
    assert sorted(match.id for match in store_of_cases.search([1.0], where=where)[0]) == list(expected)


@pytest.mark.parametrize(
    "where, expected",
    [
        ({"lang": {"$gt": "Z"}}, "ab"),  # code points: "EN" < "Z" < "de"
        ({"lang": {"$lt": "en"}}, "bc"),
        ({"lang": {"$gte": "EN", "$lte": "de"}}, "bc"),
        ({"draft": {"$gt": ""}}, "c"),
        ({"year": {"$in": [2000, *range(20)]}}, "b"),
        ({"draft": {"$in": [True, *map(str, range(20))]}}, "a"),
        ({"tags": {"$nin": ["x", *range(20)]}}, "acde"),
        ({"$not": {"lang": {"$gt": ""}}}, "de"),
        ({"$not": {"$not": {"missing": 1}}}, ""),
        ({"$or": [{"$not": {"missing": {"$in": list(range(20))}}}]}, "abcde"),
    ],
)
def test_conditions_on_code_points_many_values_and_missing_keys(
    store_of_cases: PostgresStore, where: Any, expected: str
) -> None:
    assert sorted(match.id for match in store_of_cases.search([1.0], where=where)[0]) == list(expected)


def test_large_numbers_are_not_rounded(store: PostgresStore) -> None:
    store.add(["a", "b", "c"], [[1.0]] * 3, metadata=[{"n": 2**53}, {"n": 2**53 + 1}, {"n": 1e23}])
    assert [store.count({"n": value}) for value in (2**53, 2.0**53, 2**53 + 1, 1e23, 10**23)] == [1, 1, 1, 1, 0]
    assert store.count({"n": {"$gt": 2**53, "$lt": 10**23}}) == 2


def test_conditions_of_many_parts(store: PostgresStore) -> None:
    store.add(["a", "b"], [[1.0]] * 2, metadata=[{"n": 5}, {"n": 50_000}])
    assert store.count({"$or": [{"n": number} for number in range(5000)]}) == 1
    assert store.count({"n": {"$in": list(range(40_000))}}) == 1
