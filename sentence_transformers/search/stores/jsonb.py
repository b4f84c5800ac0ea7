"""Conditions on metadata in a ``jsonb`` column of PostgreSQL. Knows nothing of tables, or of embeddings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .sql import Clause, joined
from .where import Condition, Test, fold

if TYPE_CHECKING:
    from collections.abc import Mapping

FEW = 8
"""Of so many values each is looked up, in an index if there is one; with more of them all rows are read, and their
values looked up among these, which PostgreSQL hashes then."""
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def to_json(metadata: Mapping[str, Any]) -> str:
    """Metadata so that jsonb gives them back with their types, though not in their order.

    jsonb keeps decimal numbers and writes no exponents: 1e20 would come back as an int.
    """
    return f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {_literal(v)}' for key, v in metadata.items())}}}"


def clause_of(condition: Condition | None) -> Clause:
    """The condition on the column "metadata" as SQL that is true or false, never NULL.

    Keys and values are bound; nothing of them is in the SQL. Numbers are compared as decimal numbers, not rounded.
    """
    if condition is None:
        return "TRUE", []
    return fold(
        condition, _test, joined("AND", "TRUE"), joined("OR", "FALSE"), lambda part: (f"(NOT {part[0]})", part[1])
    )


def _test(test: Test) -> Clause:
    # containment (@>) compares kinds, then values: {"a": [1]} has no {"a": 1}, {"a": 1.0} has
    if test.operator == "exists":
        return "(metadata ? %s::text)", [test.key]
    if test.operator == "contains":
        return "(metadata @> %s::jsonb)", [to_json({test.key: [test.operand]})]
    if test.operator == "in":
        if len(test.operand) <= FEW:
            return "(metadata @> ANY(%s::jsonb[]))", [[to_json({test.key: value}) for value in test.operand]]
        return "((metadata -> %s::text = ANY(%s::jsonb[])) IS TRUE)", [test.key, list(map(_literal, test.operand))]
    if isinstance(test.operand, str):  # jsonb would compare strings in the language of the database
        kind, compared, operand = "string", '(metadata ->> %s::text) COLLATE "C" {} %s::text', test.operand
    else:
        kind, compared, operand = "number", "(metadata -> %s::text) {} %s::jsonb", _literal(test.operand)
    comparison = compared.format(SIGNS[test.operator])
    clause = f"((jsonb_typeof(metadata -> %s::text) = '{kind}' AND {comparison}) IS TRUE)"
    return clause, [test.key, test.key, operand]


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and value.is_integer():
        return f"{int(value)}.0"
    return json.dumps(value, ensure_ascii=False)
