"""The list of stop words."""

from __future__ import annotations

import string

import pytest

from sentence_transformers.modules.stop_words import ENGLISH_STOP_WORDS


def test_there_are_386_different_stop_words() -> None:
    assert len(ENGLISH_STOP_WORDS) == len(set(ENGLISH_STOP_WORDS)) == 386


def test_every_punctuation_mark_is_a_stop_word() -> None:
    assert {*string.punctuation, "''", "``"} <= set(ENGLISH_STOP_WORDS)


def test_the_words_of_scikit_learn_are_stop_words() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    assert set(ENGLISH_STOP_WORDS) >= text.ENGLISH_STOP_WORDS
