"""Rows, and of which of them a condition holds, worked out by hand: the same for every store."""

from __future__ import annotations

from typing import Any

METADATA: dict[str, dict[str, Any]] = {
    "a": {"year": 1999, "lang": "en", "tags": ["x", 1], "draft": True, "on": "2020-01-01T00:00:00Z"},
    "b": {"year": 2000.0, "lang": "de", "tags": "x", "draft": 1, "on": "2021-01-01T00:00:00Z"},
    "c": {"year": [2000], "lang": "EN", "tags": [], 'a".b[0]': "v", "draft": "true"},
    "d": {"year": -2.5, "lang": ["en"], "tags": [True, ""]},
    "e": {},
}

CASES: list[tuple[dict[str, Any], str]] = [
    ({"lang": "en"}, "a"),
    ({"year": 2000}, "b"),
    ({"year": -2.5}, "d"),
    ({"draft": True}, "a"),
    ({"draft": 1}, "b"),
    ({"draft": 1.0}, "b"),
    ({"draft": "true"}, "c"),
    ({'a".b[0]': "v"}, "c"),
    ({"lang": {"$ne": "en"}}, "bcde"),
    ({"lang": {"$in": ["en", "de"]}}, "ab"),
    ({"lang": {"$in": []}}, ""),
    ({"lang": {"$nin": ["en", "de"]}}, "cde"),
    ({"year": {"$gt": 1999}}, "b"),
    ({"year": {"$gte": 1999}}, "ab"),
    ({"year": {"$lt": 1999}}, "d"),
    ({"year": {"$lte": 1999.0}}, "ad"),
    ({"year": {"$gt": -3, "$lt": 0}}, "d"),
    ({"draft": {"$gte": 0}}, "b"),
    ({"tags": {"$contains": "x"}}, "a"),
    ({"tags": {"$contains": 1}}, "a"),
    ({"tags": {"$contains": True}}, "d"),
    ({"tags": {"$contains": ""}}, "d"),
    ({"tags": "x"}, "b"),
    ({"tags": {"$exists": True}}, "abcd"),
    ({"draft": {"$exists": False}}, "de"),
    ({"$not": {"year": {"$gt": 0}}}, "cde"),
    ({"$or": [{"lang": "en"}, {"year": {"$lt": 0}}]}, "ad"),
    ({"$or": []}, ""),
    ({"$and": []}, "abcde"),
    ({"$and": [{"lang": "en"}, {"draft": False}]}, ""),
    ({"lang": "de", "$not": {"$and": [{"draft": 1}, {"tags": "y"}]}}, "b"),
]
