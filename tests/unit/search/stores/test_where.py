"""Conditions and metadata as users write them: the trees they become, and what is said of mistakes."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from sentence_transformers.search.stores.where import (
    OPERATORS,
    All,
    Any_,
    Condition,
    Not,
    check_metadata,
    fold,
    parse,
)
from sentence_transformers.search.stores.where import (
    Test as Asked,
)
from tests.contracts.slow_store import holds
from tests.contracts.store_cases import random_metadata, random_where

X = Asked("x", "in", (1,))
Y = Asked("y", "in", ("a",))

TREES: list[tuple[dict[str, Any], Condition]] = [
    ({"x": 1}, X),
    ({"x": {"$eq": 1}}, X),
    ({"x": {"$ne": 1}}, Not(X)),
    ({"x": {"$in": [1, "a", True, 2.5]}}, Asked("x", "in", (1, "a", True, 2.5))),
    ({"x": {"$in": ()}}, Asked("x", "in", ())),
    ({"x": {"$nin": [1]}}, Not(X)),
    ({"x": {"$gt": 1}}, Asked("x", "gt", 1)),
    ({"x": {"$gte": 1.5}}, Asked("x", "gte", 1.5)),
    ({"x": {"$lt": "a"}}, Asked("x", "lt", "a")),
    ({"x": {"$lte": ""}}, Asked("x", "lte", "")),
    ({"x": {"$contains": False}}, Asked("x", "contains", False)),
    ({"x": {"$exists": True}}, Asked("x", "exists", None)),
    ({"x": {"$exists": False}}, Not(Asked("x", "exists", None))),
    ({"x": {"$gte": 1, "$lt": 2}}, All((Asked("x", "gte", 1), Asked("x", "lt", 2)))),
    ({"x": 1, "y": "a"}, All((X, Y))),
    ({"x": 1, "y": {"$gt": 0, "$ne": "a"}}, All((X, Asked("y", "gt", 0), Not(Y)))),
    ({"$and": [{"x": 1}, {"y": "a"}]}, All((X, Y))),
    ({"$or": [{"x": 1}, {"y": "a"}]}, Any_((X, Y))),
    ({"$or": ({"x": 1, "y": "a"},)}, Any_((All((X, Y)),))),
    ({"$not": {"x": 1}}, Not(X)),
    ({"$not": {"x": 1, "y": "a"}}, Not(All((X, Y)))),
    ({"$not": {}}, Not(All(()))),
    ({"$and": []}, All(())),
    ({"$or": []}, Any_(())),
    ({"$or": [{}]}, Any_((All(()),))),
    ({"x": 1, "$or": [{"y": "a"}], "$not": {"y": "a"}}, All((X, Any_((Y,)), Not(Y)))),
]


@pytest.mark.parametrize("where, tree", TREES, ids=[str(where) for where, _ in TREES])
def test_a_condition_becomes_a_tree(where: dict[str, Any], tree: Condition) -> None:
    found = parse(where)
    assert found == tree
    assert repr(found) == repr(tree)  # 1 == True


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_condition(nothing: Any) -> None:
    assert parse(nothing) is None


WRONG: list[tuple[Any, type[Exception], str]] = [
    ([{"x": 1}], TypeError, "A condition must be a dictionary, got list: [{'x': 1}]"),
    ([], TypeError, "where must be a dictionary of conditions, got list"),
    ("", TypeError, "where must be a dictionary of conditions, got str"),
    ("x", TypeError, "A condition must be a dictionary, got str: 'x'"),
    (0, TypeError, "where must be a dictionary of conditions, got int"),
    ({"$or": [1]}, TypeError, "A condition must be a dictionary, got int: 1"),
    ({"$not": [{"x": 1}]}, TypeError, "A condition must be a dictionary, got list: [{'x': 1}]"),
    ({"$and": {"x": 1}}, ValueError, "$and takes a list of conditions, got {'x': 1}"),
    ({"$or": "x"}, ValueError, "$or takes a list of conditions, got 'x'"),
    ({"$nor": [{"x": 1}]}, ValueError, "must not be empty or start with $, got '$nor'; the joints are ('$and', '$or',"),
    ({"": 1}, ValueError, "must not be empty or start with $, got ''"),
    ({1: 1}, TypeError, "Keys of metadata must be strings, got 1"),
    ({"x": {}}, ValueError, "The condition on 'x' has no operator; expected some of $eq, $ne, $in"),
    ({"x": {"$gtt": 1}}, ValueError, "got '$gtt'. Did you mean '$gt'?"),
    ({"x": {"gt": 1}}, ValueError, "The operator on 'x' must be one of '$eq', '$ne', '$in'"),
    ({"x": {"y": 1}}, ValueError, "The operator on 'x' must be one of"),
    ({"x": {"$in": "abc"}}, ValueError, "$in on 'x' takes a list of values, got 'abc'"),
    ({"x": {"$nin": 1}}, ValueError, "$nin on 'x' takes a list of values, got 1"),
    ({"x": {"$in": {1}}}, ValueError, "$in on 'x' takes a list of values, got {1}"),
    ({"x": {"$gt": True}}, ValueError, "$gt on 'x' takes a number or a string, got True"),
    ({"x": {"$exists": 1}}, ValueError, "$exists on 'x' takes True or False, got 1"),
    ({"x": {"$exists": None}}, ValueError, "$exists on 'x' takes True or False, got None"),
    ({"x": float("nan")}, ValueError, "Numbers of metadata must be finite, and fit a float64, got nan for 'x'"),
    ({"x": {"$lt": float("inf")}}, ValueError, "must be finite, and fit a float64, got inf for 'x'"),
    ({"x": {"$lt": 10**400}}, ValueError, "must be finite, and fit a float64, got 1000"),
    ({"x": None}, TypeError, "$eq on 'x' compares with a string, a number or a bool, got None"),
    ({"x": ["a"]}, TypeError, "$eq on 'x' compares with a string, a number or a bool, got ['a']. For one of several"),
    ({"x": {"$in": [["a"]]}}, TypeError, "$in on 'x' compares with a string, a number or a bool, got ['a']"),
    ({"x": {"$contains": ["a"]}}, TypeError, "$contains on 'x' compares with a string, a number or a bool, got ['a']"),
    ({"x": {"$gt": None}}, TypeError, "$gt on 'x' compares with a string, a number or a bool, got None"),
    ({"x": b"a"}, TypeError, "$eq on 'x' compares with a string, a number or a bool, got b'a'"),
    ({"x": "a\0b"}, ValueError, r"must not have the character NUL in them, got 'a\x00b'"),
]


@pytest.mark.parametrize("where, error, message", WRONG, ids=[repr(where)[:40] for where, *_ in WRONG])
def test_a_mistake_is_named(where: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        parse(where)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_refused_a_dictionary(operator: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(f"{operator} on 'x'")):
        parse({"x": {operator: {"a": 1}}})


# --- fold


def test_fold_writes_the_tree_from_the_inside_out() -> None:
    tree = Any_((All((X, Not(Y))), Asked("z", "gt", 2), All(()), Any_(())))
    written = fold(
        tree,
        lambda test: f"{test.key}.{test.operator}({test.operand})",
        lambda parts: "(" + " & ".join(parts) + ")",
        lambda parts: "(" + " | ".join(parts) + ")",
        lambda part: f"!{part}",
    )
    assert written == "((x.in((1,)) & !y.in(('a',))) | z.gt(2) | () | ())"


def test_fold_asks_for_every_part_even_if_one_would_decide() -> None:
    asked: list[str] = []

    def test(one: Asked) -> bool:
        asked.append(one.key)
        return one.key == "x"

    assert fold(Any_((X, Y)), test, all, any, lambda part: not part)
    assert asked == ["x", "y"]


def test_fold_of_truth_values_is_what_the_condition_says() -> None:
    source = random.Random(0)
    rows = [random_metadata(source) or {} for _ in range(20)]
    for condition in filter(None, (parse(random_where(source)) for _ in range(100))):
        for row in rows:
            folded = fold(condition, lambda test, row=row: holds(test, row), all, any, lambda part: not part)
            assert folded == holds(condition, row)


# --- metadata


def test_metadata_are_copied() -> None:
    given = {"a": 1, "b": 1.5, "c": True, "d": "x", "e": ["x", 1, False], "f": (1, 2), "g": []}
    found = check_metadata(given)
    assert repr(found) == repr({**given, "f": [1, 2]})
    given["e"].append("y")  # type: ignore[attr-defined]
    assert found["e"] == ["x", 1, False]


def test_no_metadata() -> None:
    assert check_metadata(None) == {}
    assert check_metadata({}) == {}


WRONG_METADATA: list[tuple[Any, type[Exception], str]] = [
    ("a", TypeError, "The metadata of a row must be a dictionary, got str"),
    ([("a", 1)], TypeError, "The metadata of a row must be a dictionary, got list"),
    ({1: "a"}, TypeError, "Keys of metadata must be strings, got 1"),
    ({"": "a"}, ValueError, "must not be empty or start with $, got ''"),
    ({"$a": "a"}, ValueError, "must not be empty or start with $, got '$a'"),
    ({"a": None}, TypeError, "strings, numbers, bools or lists of these, got None for 'a'. Leave a key out"),
    ({"a": {"b": 1}}, TypeError, "strings, numbers, bools or lists of these, got {'b': 1} for 'a'"),
    ({"a": [[1]]}, TypeError, "strings, numbers, bools or lists of these, got [1] for 'a'"),
    ({"a": [None]}, TypeError, "strings, numbers, bools or lists of these, got None for 'a'"),
    ({"a": b"x"}, TypeError, "strings, numbers, bools or lists of these, got b'x' for 'a'"),
    ({"a": {1}}, TypeError, "strings, numbers, bools or lists of these, got {1} for 'a'"),
    ({"a": float("nan")}, ValueError, "Numbers of metadata must be finite, and fit a float64, got nan for 'a'"),
    ({"a": [1.0, float("-inf")]}, ValueError, "must be finite, and fit a float64, got -inf for 'a'"),
    ({"a": -(10**309)}, ValueError, "must be finite, and fit a float64, got -1000"),
    ({"a": "x\0"}, ValueError, r"must not have the character NUL in them, got 'x\x00'"),
    ({"a": ["x\0"]}, ValueError, r"must not have the character NUL in them, got 'x\x00'"),
    ({"a\0": 1}, ValueError, r"must not have the character NUL in them, got 'a\x00'"),
]


@pytest.mark.parametrize("metadata, error, message", WRONG_METADATA, ids=[repr(one)[:40] for one, *_ in WRONG_METADATA])
def test_wrong_metadata_are_named(metadata: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        check_metadata(metadata)
