"""Which column is the label, what counts as a mistake, and what a setting says of a column."""

from __future__ import annotations

from typing import Any

import pytest

from sentence_transformers.training import columns


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["text", "label"], "label"),
        (["score", "text", "label"], "label"),
        (["scores", "labels"], "labels"),
        (["scores", "text", "score"], "score"),
        (["text", "Label"], None),
        ([], None),
    ],
)
def test_the_label_is_the_first_of_the_known_names_that_is_there(names: list[str], label: str | None) -> None:
    assert columns.label_column(names) == label


def test_other_names_of_labels_go_by_their_own_order() -> None:
    assert columns.label_column(["label", "margin"], ["margin", "label"]) == "margin"
    assert columns.label_column(["label"], []) is None


def test_inputs_are_all_others_in_order() -> None:
    assert columns.input_columns(["b", "label", "a", "dataset_name", "score"], "label") == ["b", "a", "score"]


@pytest.mark.parametrize("taken", ["return_loss", "dataset_name"])
def test_a_reserved_name_is_refused_with_what_was_found_and_the_way_out(taken: str) -> None:
    with pytest.raises(ValueError) as refused:
        columns.check_names(["text", taken], "train")
    message = str(refused.value)
    assert f"The following column names are invalid in your train dataset: ['{taken}']" in message
    assert f"found ['text', '{taken}']" in message and f"rename_column('{taken}'" in message


def test_other_names_are_fine() -> None:
    columns.check_names(["text", "label", "name"], "eval")


def test_examples_with_unequal_columns_are_refused_with_both_lists() -> None:
    with pytest.raises(ValueError, match=r"expected \['a', 'b'\].*found \['a', 'c'\].*select_columns"):
        columns.check_rows([{"a": 1, "b": 2}, {"a": 1, "c": 2}])


def test_the_order_of_columns_within_an_example_does_not_count() -> None:
    columns.check_rows([{"a": 1, "b": 2}, {"b": 1, "a": 2}])


@pytest.mark.parametrize(
    "names",
    [
        ["anchor", "positive", "negative", "negative_2"],
        ["question", "answer"],
        ["query", "response"],
        ["hypothesis", "entailment", "contradiction"],
        ["premise", "hypothesis"],
        ["sentence1", "sentence2"],
        ["query", "positive"],
    ],
)
def test_columns_at_their_place_are_not_remarked_upon(names: list[str]) -> None:
    assert columns.order_remarks(names) == []


def test_a_misplaced_column_is_told_with_both_places_and_the_way_out() -> None:
    [remark] = columns.order_remarks(["negative", "anchor", "positive", "extra"])
    assert "Column 'anchor' is at index 1" in remark and "expected at index 0" in remark
    assert "select_columns(['anchor', 'positive', 'negative', 'extra'])" in remark


def test_each_order_that_is_broken_is_told() -> None:
    assert len(columns.order_remarks(["positive", "anchor", "answer", "question"])) == 2


def test_columns_of_ids_are_known_by_their_names() -> None:
    names = ["id", "doc_id", "doc_ids", "doc_idx", "idx", "ID", "grid", "identity"]
    assert columns.id_like(names) == ["id", "doc_id", "doc_ids", "doc_idx"]
    assert "['doc_id']" in columns.id_remark(["doc_id"]) and "resolve_ids" in columns.id_remark(["doc_id"])


@pytest.mark.parametrize(
    ("setting", "dataset", "expected"),
    [
        (None, None, [None, None]),
        ("p", None, ["p", "p"]),
        ("p", "nli", ["p", "p"]),
        ({"a": "p"}, None, ["p", None]),
        ({"a": "p"}, "nli", ["p", None]),
        ({"nli": "p", "sts": "q"}, "nli", ["p", "p"]),
        ({"nli": {"b": "p"}, "sts": "q"}, "nli", [None, "p"]),
        ({"sts": {"b": "p"}}, "nli", [None, None]),
        ({"nli": {"b": "p"}, "a": "q"}, "sts", ["q", None]),
        ({"nli": ""}, "nli", ["", ""]),
        ({}, None, [None, None]),
    ],
)
def test_what_a_setting_says_of_the_columns_a_and_b(setting: Any, dataset: str | None, expected: list[Any]) -> None:
    found = columns.of_dataset("prompts", setting, dataset)
    assert [columns.of_column(found, column) for column in ("a", "b")] == expected


def test_a_setting_by_datasets_needs_a_name() -> None:
    with pytest.raises(ValueError, match=r"router_mapping maps names of datasets.*\['nli'\].*train_dataset=\{'nli'"):
        columns.of_dataset("router_mapping", {"nli": {"a": "query"}}, None)
