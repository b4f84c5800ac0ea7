"""Metadata as strings to look up."""

from __future__ import annotations

import itertools

import pytest

from sentence_transformers.search.stores.facts import facts, span, wanted
from sentence_transformers.search.stores.where import Test as Question

NUMBERS = [-1e300, -2.5, -2, -1e-300, 0, 1e-300, 0.5, 1, 2, 10, 1e300]


def test_the_facts_of_a_row() -> None:
    assert facts({"a": "x", "b": True, "l": ["x", "x"], "e": []}) == [
        '"a"?s', '"a"=sx', '"b"?b', '"b"=btrue', '"l"?l', '"l"-sx', '"e"?l',
    ]  # fmt: skip


def test_one_is_one_point_zero_but_not_true() -> None:
    assert facts({"a": 1}) == facts({"a": 1.0}) != facts({"a": True})
    assert facts({"a": 0.0}) == facts({"a": -0.0})


def test_a_key_cannot_pass_for_another_one() -> None:
    assert facts({'a"=sx': "y"})[1] not in facts({"a": 'x"=sy'})
    assert facts({"a": "?s"})[0] != facts({'a"?s': ""})[0]


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("values", [NUMBERS, ["", "A", "B", "a", "aa", "é", "\uffff", "\U0001f600"]])
def test_a_span_has_the_facts_of_a_range(operator: str, values: list[float] | list[str]) -> None:
    for value, limit in itertools.product(values, values):
        holds = {"gt": value > limit, "gte": value >= limit, "lt": value < limit, "lte": value <= limit}  # type: ignore[operator]
        limits = span(Question("k", operator, limit))
        found = [one for one in facts({"j": value, "k": value, "l": value}) if _inside(one, limits)]
        assert len(found) == holds[operator], (value, operator, limit)


@pytest.mark.parametrize("other", [True, False, [1, "a"], []])
def test_a_span_has_no_values_of_other_kinds(other: object) -> None:
    for operand, operator in itertools.product([-1e300, 1e300, "", "\U0001f600"], ["gt", "lt"]):
        limits = span(Question("k", operator, operand))
        assert not any(_inside(one, limits) for one in facts({"k": other}))


def test_what_a_question_wants() -> None:
    assert wanted(Question("k", "in", ("a", False))) == ['"k"=sa', '"k"=bfalse']
    assert wanted(Question("k", "contains", "a")) == ['"k"-sa']
    assert wanted(Question("k", "exists", None)) == ['"k"?b', '"k"?n', '"k"?s', '"k"?l']
    assert wanted(Question("k", "in", ())) == []


def _inside(one: str, limits: dict[str, str]) -> bool:
    by_bytes = {name: (one.encode(), limit.encode()) for name, limit in limits.items()}
    compared = {"gt": bytes.__gt__, "gte": bytes.__ge__, "lt": bytes.__lt__, "lte": bytes.__le__}
    return all(compared[name](*pair) for name, pair in by_bytes.items())
