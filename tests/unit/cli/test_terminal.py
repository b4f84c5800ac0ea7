"""What a terminal is sent."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.cli.terminal import PLAIN_WIDTH, Look, clean, columns, wrap


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")


def test_a_pipe_gets_plain_text_of_a_fixed_width() -> None:
    look = Look.of(io.StringIO())
    assert look == Look(False, PLAIN_WIDTH)
    assert look.style("x", "bold") == "x"


def test_a_terminal_gets_colours_and_its_own_width() -> None:
    look = Look.of(Terminal())
    assert look == Look(True, 70)
    assert look.style("x", "bold") == "\x1b[1mx\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_switched_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert not Look.of(Terminal()).colour


def test_whole_words_are_marked_in_any_case() -> None:
    assert Look(True, 70).mark("Red redder", ["red"]) == "\x1b[1mRed\x1b[0m redder"


def test_control_characters_do_not_get_through() -> None:
    assert clean("a\x1b[31m\tb\x07\nc\u202e") == "a[31m b c"


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1


def test_lines_break_between_words() -> None:
    assert wrap("one two three four", 9, 5) == ["one two", "three", "four"]


def test_what_does_not_fit_ends_in_an_ellipsis() -> None:
    assert wrap("one two three four", 9, 2) == ["one two", "three …"]


@given(st.text(max_size=60), st.integers(min_value=4, max_value=20), st.integers(min_value=1, max_value=4))
def test_no_line_is_wider_than_asked_for(text: str, width: int, most: int) -> None:
    lines = wrap(clean(text), width, most)
    assert len(lines) <= most
    assert all(columns(line) <= width for line in lines)
