"""Metadata as strings that a search service looks up without knowing their types, so that conditions mean everywhere
what ``where`` says: 1 is not True, a list is not its only item, an empty list is there.

    {"year": 2024, "tags": ["a"]}  ->  '"year"?n', '"year"=nc09fa00000000000', '"tags"?l', '"tags"-sa'

A fact is the key as JSON, which says itself where it ends; a sign: ``?`` the key is there, ``=`` it has this value,
``-`` its list has this item; and the kind of the value, with the value. Numbers are compared as float64.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from struct import pack, unpack
from typing import Any

from .where import Test, Value

KINDS = "bnsl"
"""Bools, numbers, strings, lists."""


def facts(metadata: Mapping[str, Any]) -> list[str]:
    """All that is to be looked up about one row; without what is said twice."""
    found: dict[str, None] = {}
    for key, value in metadata.items():
        if isinstance(value, list):
            found[fact(key, "?", "l")] = None
            found.update((fact(key, "-", _kind(item) + _text(item)), None) for item in value)
        else:
            found[fact(key, "?", _kind(value))] = None
            found[fact(key, "=", _kind(value) + _text(value))] = None
    return list(found)


def fact(key: str, sign: str, rest: str) -> str:
    """One fact."""
    return json.dumps(key, ensure_ascii=False) + sign + rest


def wanted(test: Test) -> list[str]:
    """The facts of which a row must have one to pass a test that is no range; none for a test that no row passes."""
    if test.operator == "exists":
        return [fact(test.key, "?", kind) for kind in KINDS]
    values = test.operand if test.operator == "in" else (test.operand,)
    sign = "=" if test.operator == "in" else "-"
    return [fact(test.key, sign, _kind(value) + _text(value)) for value in values]


def is_number(key: str) -> str:
    """The fact that a key has one number."""
    return fact(key, "?", "n")


def is_string(key: str) -> str:
    """The fact that a key has one string."""
    return fact(key, "?", "s")


def span(test: Test) -> dict[str, str]:
    """Between which strings, by code points, a row must have a fact to pass a range: "gt" or "gte", "lt" or "lte"."""
    kind = _kind(test.operand)
    whole = {"gte": fact(test.key, "=", kind), "lt": fact(test.key, "=", chr(ord(kind) + 1))}  # all of that kind
    del whole["gte" if test.operator in ("gt", "gte") else "lt"]
    return {**whole, test.operator: fact(test.key, "=", kind + _text(test.operand))}


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "b"
    return "s" if isinstance(value, str) else "n"


def _text(value: Value) -> str:
    """The value; numbers so that the order of the texts is that of the numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    # + 0.0 makes 0.0 of -0.0. The bits of a float64 are in order but for the sign: negative ones run backwards.
    [bits] = unpack(">Q", pack(">d", float(value) + 0.0))
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"
