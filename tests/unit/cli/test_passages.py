"""Passages: which lines, under which headings, of which size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.cli.passages import LARGEST_CODE, TARGET, Passage, size, split

MARKDOWN = """\
---
title: settings, no text
---
# Guide

Intro of the
guide.

## Install `it`

<!-- a note for
the editor -->
Run this:

```sh
# no heading

make install
```

Use
---

- one
- two

# Other #
"""


def places(passages: list[Passage]) -> list[tuple[tuple[str, ...], int, int]]:
    return [(passage.headings, passage.first_line, passage.last_line) for passage in passages]


def words(count: int, word: str = "word") -> str:
    return " ".join([word] * count)


def test_markdown_is_cut_along_its_headings_with_true_lines() -> None:
    assert places(split("guide.md", MARKDOWN)) == [
        (("Guide",), 6, 7),
        (("Guide", "Install it"), 13, 19),
        (("Guide", "Use"), 24, 25),
    ]


def test_code_stays_with_the_sentence_before_it_and_keeps_its_lines() -> None:
    text = split("guide.md", MARKDOWN)[1].text
    assert text == "Run this:\n\n```sh\n# no heading\n\nmake install\n```"


def test_the_headings_are_part_of_what_is_encoded() -> None:
    assert split("a.md", "# A\n\n## B\n\ntext")[0].with_headings == "A > B\ntext"


def test_a_higher_heading_ends_the_lower_ones() -> None:
    found = split("a.md", "# A\n### C\nx\n## B\ny\n# D\nz")
    assert [passage.headings for passage in found] == [("A", "C"), ("A", "B"), ("D",)]


def test_paragraphs_share_a_passage_until_it_is_full() -> None:
    text = "\n\n".join([words(50)] * 5)  # lines 1, 3, 5, 7, 9: two paragraphs have 100 words, three 150
    assert places(split("a.md", text)) == [((), 1, 3), ((), 5, 7), ((), 9, 9)]


def test_a_long_line_is_cut_between_sentences_and_keeps_its_number() -> None:
    sentence = words(39) + " end."  # three of these fill a passage
    found = split("a.txt", "first\n\n" + " ".join([sentence] * 4))
    assert [(passage.first_line, len(passage.text.split())) for passage in found] == [(1, 1), (3, 120), (3, 40)]


def test_a_long_paragraph_is_cut_between_lines() -> None:
    found = split("a.txt", "\n".join([words(30)] * 6))
    assert places(found) == [((), 1, 4), ((), 5, 6)]


def test_a_word_without_end_is_cut() -> None:
    found = split("a.txt", "x" * 10_000)
    assert "".join(passage.text for passage in found) == "x" * 10_000
    assert max(size(passage.text) for passage in found) <= TARGET


def test_code_up_to_the_limit_is_whole_and_longer_code_is_cut() -> None:
    inside = "\n".join(["one two three four five"] * 40)  # 200 words
    assert len(split("a.md", f"```\n{inside}\n```")) == 1
    assert len(split("a.md", f"```\n{inside}\n{inside}\n```")) > 1


def test_an_open_fence_reaches_to_the_end() -> None:
    assert places(split("a.md", "text\n\n~~~~\n~~~\n# no heading")) == [((), 1, 5)]


def test_rst_headings_get_their_levels_from_the_order_of_their_marks() -> None:
    text = "=====\nGuide\n=====\n\nIntro.\n\nUse\n---\n\nText.\n\nMore\n====\n\nEnd."
    assert places(split("a.rst", text)) == [(("Guide",), 5, 5), (("Guide", "Use"), 10, 10), (("More",), 15, 15)]


def test_python_is_cut_at_definitions_that_keep_their_decorators() -> None:
    text = "import os\n\n@cache\ndef one():\n    return 1\n\nclass Two:\n    def three(self):\n        return 3\n"
    found = split("a.py", text)
    assert places(found) == [
        ((), 1, 1),
        (("one",), 3, 5),
        (("Two",), 7, 7),
        (("Two", "three"), 8, 9),
    ]
    assert found[1].text == "@cache\ndef one():\n    return 1"


def test_a_row_of_a_table_is_a_passage_that_names_its_columns() -> None:
    found = split("a.csv", 'name,say\nann,"two\nlines"\nbob,\n')
    assert [passage.text for passage in found] == ["name: ann\nsay: two\nlines", "name: bob"]
    assert places(found) == [((), 2, 3), ((), 4, 4)]


def test_a_line_of_json_is_the_strings_in_it() -> None:
    found = split("a.jsonl", '{"a": "one", "n": 5, "b": ["two", {"c": "three"}]}\n\nnot json\n')
    assert [(passage.text, passage.first_line) for passage in found] == [("one\ntwo\nthree", 1), ("not json", 3)]


def test_html_shows_its_text_under_its_headings_with_true_lines() -> None:
    page = (
        "<html><head><title>no</title><style>no</style></head>\n<body><h1>Big <em>news</em></h1>\n"
        "<p>First &amp;\nsecond <b>line</b>.</p>\n<script>no()</script><p>Other</p></body></html>"
    )
    found = split("a.html", page)
    assert places(found) == [(("Big news",), 3, 5)]
    assert found[0].text == "First &\nsecond line.\nOther"


@pytest.mark.parametrize("name", ["a.md", "a.rst", "a.py", "a.csv", "a.jsonl", "a.html", "a.txt"])
@pytest.mark.parametrize("text", ["", "\n\n", "#", "---", "```", "<!--", "<", "\ufeff", "\0"])
def test_odd_files_are_no_problem(name: str, text: str) -> None:
    assert len(split(name, text)) <= 1


@given(st.text(alphabet="ab .#`~=-\n<>!\t", max_size=400), st.sampled_from(["a.md", "a.rst", "a.txt", "a.py"]))
def test_passages_are_in_order_within_the_file_and_never_too_large(text: str, name: str) -> None:
    count = len(text.split("\n"))
    before = 1
    for passage in split(name, text):
        assert before <= passage.first_line <= passage.last_line <= count
        assert passage.text.strip()
        assert size(passage.text) <= LARGEST_CODE + TARGET
        before = passage.last_line


@given(st.lists(st.text(alphabet="ab .", max_size=30), max_size=30))
def test_plain_text_loses_nothing_but_white_space(lines: list[str]) -> None:
    found = split("a.txt", "\n".join(lines))
    assert "".join("".join(passage.text.split()) for passage in found) == "".join("".join(lines).split())
