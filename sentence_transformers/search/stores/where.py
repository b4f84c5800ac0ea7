"""Conditions on metadata: from the dictionaries that users write to a small tree that each store translates.

    {"lang": "en", "year": {"$gte": 2000, "$lt": 2010}, "$or": [{"tags": {"$contains": "a"}}, {"draft": False}]}

Knows no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from sys import float_info
from typing import Any, TypeAlias, TypeVar

from ...errors import one_of

Value: TypeAlias = str | int | float | bool
Where: TypeAlias = Mapping[str, Any]
"""Key -> value, or key -> {operator: operand, ...}; ``$and``, ``$or``, ``$not``. All of it must hold."""

RANGES = ("$gt", "$gte", "$lt", "$lte")
OPERATORS = ("$eq", "$ne", "$in", "$nin", *RANGES, "$contains", "$exists")
JOINTS = ("$and", "$or", "$not")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Test:
    """One question about one key. A row without the key fails all of them.

    operator, operand: "in": the value is one of these (a tuple), where 1 equals 1.0 and neither equals True;
        "gt", "gte", "lt", "lte": the value compares so with a number, or with a string by code points; other kinds of
        values fail; "contains": the value is a list, and has this item; "exists": None.
    """

    key: str
    operator: str
    operand: Any


@dataclass(frozen=True)
class All:
    """All parts hold; true without parts."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Any_:
    """At least one part holds; false without parts."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition: TypeAlias = Test | All | Any_ | Not


def parse(where: Where | None) -> Condition | None:
    """The tree of a condition; None for none.

    Raises: ValueError for an unknown operator or an operand that does not suit it; TypeError for what is no mapping.
    """
    if not where:
        if where is None or isinstance(where, Mapping):
            return None
        raise TypeError(f"where must be a dictionary of conditions, got {type(where).__name__}.")
    return _all(where)


def fold(
    condition: Condition,
    test: Callable[[Test], Result],
    all_of: Callable[[list[Result]], Result],
    any_of: Callable[[list[Result]], Result],
    negated: Callable[[Result], Result],
) -> Result:
    """The tree in another language, from the inside out: four functions say how its kinds are written there."""

    def walk(one: Condition) -> Result:
        if isinstance(one, Test):
            return test(one)
        if isinstance(one, Not):
            return negated(walk(one.part))
        return (all_of if isinstance(one, All) else any_of)([walk(part) for part in one.parts])

    return walk(condition)


def check_metadata(metadata: Any) -> dict[str, Any]:
    """A copy of the metadata of one row.

    Raises: TypeError or ValueError unless it maps strings, not starting with ``$``, to strings, finite numbers, bools
        or lists of these; ValueError for the character NUL, which not every place can keep.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"The metadata of a row must be a dictionary, got {type(metadata).__name__}.")
    found = {}
    for key, value in metadata.items():
        _check_key(key)
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        found[key] = [_value(key, item) for item in value] if is_list else _value(key, value)
    return found


def _all(where: Any) -> Condition:
    if not isinstance(where, Mapping):
        raise TypeError(f"A condition must be a dictionary, got {type(where).__name__}: {where!r}.")
    parts = [part for key, value in where.items() for part in _parts(key, value)]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _parts(key: Any, value: Any) -> list[Condition]:
    """What one entry of a condition says."""
    if key == "$not":
        return [Not(_all(value))]
    if key in JOINTS:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise ValueError(f"{key} takes a list of conditions, got {value!r}.")
        parts = tuple(_all(part) for part in value)
        return [All(parts) if key == "$and" else Any_(parts)]
    _check_key(key)
    if not isinstance(value, Mapping):
        return [Test(key, "in", (_operand(key, "$eq", value),))]
    if not value:
        raise ValueError(f"The condition on {key!r} has no operator; expected some of {', '.join(OPERATORS)}.")
    return [_operation(key, operator, operand) for operator, operand in value.items()]


def _operation(key: str, operator: str, operand: Any) -> Condition:
    one_of(f"The operator on {key!r}", operator, OPERATORS)
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise ValueError(f"$exists on {key!r} takes True or False, got {operand!r}.")
        test = Test(key, "exists", None)
        return test if operand else Not(test)
    if operator in RANGES:
        value = _operand(key, operator, operand)
        if isinstance(value, bool):
            raise ValueError(f"{operator} on {key!r} takes a number or a string, got {operand!r}.")
        return Test(key, operator[1:], value)
    if operator == "$contains":
        return Test(key, "contains", _operand(key, operator, operand))
    if operator in ("$eq", "$ne"):
        values: tuple[Value, ...] = (_operand(key, operator, operand),)
    else:
        if not isinstance(operand, Sequence) or isinstance(operand, (str, bytes)):
            raise ValueError(f"{operator} on {key!r} takes a list of values, got {operand!r}.")
        values = tuple(_operand(key, operator, item) for item in operand)
    test = Test(key, "in", values)
    return Not(test) if operator in ("$ne", "$nin") else test


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise TypeError(f"Keys of metadata must be strings, got {key!r}.")
    if not key or key.startswith("$"):
        raise ValueError(f"Keys of metadata must not be empty or start with $, got {key!r}; the joints are {JOINTS}.")
    _refuse_nul(key)


def _value(key: str, value: Any) -> Value:
    if isinstance(value, str):
        _refuse_nul(value)
        return value
    if isinstance(value, (bool, int, float)):
        if not abs(value) <= float_info.max:  # NaN too
            raise ValueError(f"Numbers of metadata must be finite, and fit a float64, got {value!r:.80} for {key!r}.")
        return value
    raise TypeError(
        f"Values of metadata must be strings, numbers, bools or lists of these, got {value!r} for {key!r}. Leave a key "
        "out where there is no value."
    )


def _operand(key: str, operator: str, value: Any) -> Value:
    if isinstance(value, (str, bool, int, float)):
        return _value(key, value)
    raise TypeError(
        f"{operator} on {key!r} compares with a string, a number or a bool, got {value!r}. For one of several values "
        "there is $in, for an item of a list $contains, for a missing key $exists."
    )


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        raise ValueError(f"Metadata must not have the character NUL in them, got {text!r:.80}.")
