"""Ids replaced by what they stand for. Values are in tests/parity too."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from sentence_transformers.search.resolve import resolve_ids

datasets = pytest.importorskip("datasets", reason="needs the extra train")


@pytest.fixture
def queries() -> Any:
    return datasets.Dataset.from_dict({"query_id": ["a", "b", "c"], "text": ["first", "second", "third"]})


def test_a_row_of_a_data_set_is_resolved_when_it_is_read(queries: Any) -> None:
    rows = datasets.Dataset.from_dict({"query_id": ["c", "a"], "score": [0.5, 1.0]})
    rows.set_transform(resolve_ids({"query_id": queries}))
    assert rows[0] == {"query": "third", "score": 0.5}


def test_workers_can_be_given_it(queries: Any) -> None:
    transform = pickle.loads(pickle.dumps(resolve_ids({"query_id": queries})))
    assert transform({"query_id": ["b"]}) == {"query": ["second"]}


def test_a_format_of_the_lookup_does_not_matter(queries: Any) -> None:
    numbers = datasets.Dataset.from_dict({"id": [4, 5], "value": [1.5, 2.5]}).with_format("numpy")
    assert resolve_ids({"number_id": numbers})({"number_id": [5, 4, 5]}) == {"number": [2.5, 1.5, 2.5]}


def test_none_is_no_id(queries: Any) -> None:
    with pytest.raises(KeyError, match="ID None from input column 'query_id'"):
        resolve_ids({"query_id": queries})({"query_id": ["a", None]})


def test_of_equal_ids_the_last_counts_and_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    table = datasets.Dataset.from_dict({"id": [1, 2, 1], "text": ["old", "other", "new"]})
    with caplog.at_level(logging.WARNING):
        transform = resolve_ids({"text_id": table})
    assert transform({"text_id": [1]}) == {"text": ["new"]}
    assert "1 rows are not used" in caplog.text


def test_a_missing_column_is_named(queries: Any) -> None:
    with pytest.raises(KeyError, match="no column 'query_id'"):
        resolve_ids({"query_id": queries})({"other": [1]})


@pytest.mark.parametrize("lookup", [{"a": "first"}, ["a"], None])
def test_what_is_no_data_set_is_refused(lookup: Any) -> None:
    with pytest.raises(TypeError, match="must be a Dataset"):
        resolve_ids({"query_id": lookup})


def test_an_empty_batch_stays_empty(queries: Any) -> None:
    assert resolve_ids({"query_id": queries})({"query_id": [], "label": []}) == {"query": [], "label": []}


def test_only_a_consonant_before_y_changes_the_plural(queries: Any) -> None:
    transform = resolve_ids({name: queries for name in ("query_ids", "key_ids", "text_ids")}, output_format="lists")
    found = transform({name: [["a"]] for name in ("query_ids", "key_ids", "text_ids")})
    assert list(found) == ["queries", "keys", "texts"]
