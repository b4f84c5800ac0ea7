"""Markdown: texts of others are no markup, and tables keep their shape."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from sentence_transformers.cards import markdown

ODD = [
    "a | b",
    "**x** __y__ _z_",
    "`c`",
    "[a](b)",
    "<script>",
    "\\| \\",
    "~~a~~",
    "$x$",
    "&amp;",
    "a\r\nb\nc",
    "a\x00b\x1b",
    "*_[`|",
]


@pytest.mark.parametrize("text", ODD)
def test_nothing_in_a_text_is_markup(text: str) -> None:
    shown = re.sub(r"&[#\w]+;|<br>", "", markdown.escape(text))
    assert not re.search(r"[|`*\[<>\\~$\n\r\x00\x1b]|\b_|_\b", shown)


@pytest.mark.parametrize("text", [one for one in ODD if one.isprintable()])
def test_a_text_can_be_read_as_it_was(text: str) -> None:
    assert html.unescape(markdown.escape(text)) == text


def test_names_stay_as_they_are() -> None:
    assert markdown.escape("sts-dev_spearman_cosine@10") == "sts-dev_spearman_cosine@10"


def test_a_fence_is_longer_than_any_inside() -> None:
    assert markdown.fence("a\n````\nb", "python") == "`````python\na\n````\nb\n`````"
    assert markdown.fence("a `b`") == "```\na `b`\n```"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.959318, "0.9593"),
        (1.0, "1.0"),
        (3, "3"),
        (np.float32(0.25), "0.25"),
        (True, "True"),
        ("x", "x"),
        (None, "None"),
        (1e-9, "0.0"),
        (float("nan"), "nan"),
    ],
)
def test_numbers(value: object, shown: str) -> None:
    assert markdown.number(value) == shown


@pytest.mark.parametrize(
    ("value", "finite"),
    [(1, True), (0.5, True), (float("inf"), False), (float("nan"), False), (True, False), ("1", False), (None, False)],
)
def test_what_is_a_finite_number(value: object, finite: bool) -> None:
    assert markdown.is_finite(value) is finite


def test_a_table() -> None:
    assert markdown.table(["a", "long"], [["1", "2"], ["300", "4"]]) == (
        "| a   | long |\n| :-- | :--- |\n| 1   | 2    |\n| 300 | 4    |"
    )


def test_a_centred_table_without_rows() -> None:
    assert markdown.table(["a"], [], ":-:") == "| a   |\n| :-: |"


def test_a_listing() -> None:
    assert [markdown.listing(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
