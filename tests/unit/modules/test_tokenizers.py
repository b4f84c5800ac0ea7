"""Word tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules import tokenizers
from sentence_transformers.modules.tokenizers import (
    ENGLISH_STOP_WORDS,
    PhraseTokenizer,
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
)


def words_of(tokenizer: Any, text: str) -> list[str]:
    return [tokenizer.get_vocab()[number] for number in tokenizer.tokenize(text)]


@pytest.fixture
def split_at_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk replaced by splitting at white space."""
    nltk: Any = ModuleType("nltk")
    nltk.word_tokenize = lambda text, preserve_line: text.split()
    monkeypatch.setattr(tokenizers, "need", lambda *args, **kwargs: nltk)


@pytest.mark.parametrize(
    "text, expected",  # the same in reference 6.2.0
    [
        ("Hello world", ["Hello"]),
        ("hello, world. foo! bar!", ["bar!"]),
        ("HELLO new york  ", ["new", "york"]),
        ("(new)\tnew\n'NEW'", ["new", "new", "new"]),
        ("FOO (foo) bar", []),
        ("", []),
    ],
)
def test_words_are_looked_up_as_is_then_stripped_then_in_lower_case(text: str, expected: list[str]) -> None:
    vocab = ["Hello", "world", "new", "york", "Foo", "bar!"]
    assert words_of(WhitespaceTokenizer(vocab, stop_words=["world"]), text) == expected


def test_a_stop_word_in_any_form_drops_a_word() -> None:
    tokenizer = WhitespaceTokenizer(["hello", "world", "the", "The"], stop_words=["the"])
    assert words_of(tokenizer, "Hello THE the. The the") == ["hello", "The"]  # the same in reference 6.2.0


def test_lower_case_comes_first_and_leaves_the_stop_words() -> None:
    tokenizer = WhitespaceTokenizer(["a", "b"], stop_words=["B"], do_lower_case=True)
    assert words_of(tokenizer, "B b A") == ["b", "b", "a"]


def test_the_default_stop_words_are_english() -> None:
    assert WhitespaceTokenizer(["the", "cat"]).tokenize("the cat") == [1]
    assert WhitespaceTokenizer().stop_words == set(ENGLISH_STOP_WORDS)


def test_a_word_listed_twice_has_its_last_number() -> None:
    assert WhitespaceTokenizer(["x", "x", "z"]).tokenize("x z") == [1, 2]


def test_set_vocab_replaces_the_words() -> None:
    tokenizer = WhitespaceTokenizer(["x"])
    tokenizer.set_vocab(iter(["q", "z"]))
    assert tokenizer.get_vocab() == ["q", "z"]
    assert tokenizer.tokenize("z x") == [1]


def test_a_whitespace_tokenizer_is_the_same_after_loading(tmp_path: Path) -> None:
    WhitespaceTokenizer(["x", "é"], stop_words=["q", "a"], do_lower_case=True).save(str(tmp_path))
    saved = json.loads((tmp_path / "whitespacetokenizer_config.json").read_text())
    assert saved == {"vocab": ["x", "é"], "stop_words": ["a", "q"], "do_lower_case": True}
    assert WhitespaceTokenizer.load(str(tmp_path)).tokenize("É q X") == [1, 0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="whitespacetokenizer_config.json"):
        WhitespaceTokenizer.load(str(tmp_path))


@pytest.mark.parametrize(
    "vocab, text, expected",  # the same in reference 6.2.0
    [
        (["new_york", "new", "york"], "NEW YORK new", ["new_york", "new"]),
        (["new_york_city", "new_york", "hall"], "New York City Hall", ["new_york_city", "hall"]),
        (["b_c_d", "a_b", "c_d", "a", "b"], "a b c d", ["a", "b_c_d"]),
        (["b_c_d", "a_b", "c_d", "c"], "a b c", ["a_b", "c"]),
        (["Is_New", "new"], "Is New new", ["Is_New", "new"]),
        (["new_york"], "is new york", ["new_york"]),
        (["a_b_c_d_e_f", "a_b"], "a b c d e f", ["a_b"]),
    ],
)
@pytest.mark.usefixtures("split_at_space")
def test_the_longest_phrases_are_joined_first(vocab: list[str], text: str, expected: list[str]) -> None:
    assert words_of(PhraseTokenizer(vocab, stop_words=["is"]), text) == expected


@pytest.mark.usefixtures("split_at_space")
def test_phrases_have_a_separator_and_a_longest_length() -> None:
    tokenizer = PhraseTokenizer(["a-b-c", "a-b", "c"], (), ngram_separator="-", max_ngram_length=2)
    assert words_of(tokenizer, "a b c") == ["a-b", "c"]


@pytest.mark.usefixtures("split_at_space")
def test_phrase_words_are_lowered_before_they_are_stripped() -> None:
    tokenizer = PhraseTokenizer(["x.", "y"], stop_words=())
    assert words_of(tokenizer, "X. Y.") == ["x.", "y"]


def test_a_phrase_tokenizer_is_the_same_after_loading(tmp_path: Path) -> None:
    PhraseTokenizer(["a-b"], ["q"], True, "-", 3).save(str(tmp_path))
    loaded = PhraseTokenizer.load(str(tmp_path))
    assert (loaded.ngram_separator, loaded.max_ngram_length, loaded.ngram_lengths) == ("-", 3, [2])
    assert (loaded.stop_words, loaded.do_lower_case) == ({"q"}, True)


class Numbers:
    """As much of a transformers tokenizer as the wrapper needs."""

    def encode(self, text: str) -> Iterable[int]:
        return (len(word) for word in text.split())

    def get_vocab(self) -> dict[str, int]:
        return {"a": 1}


def test_the_wrapper_keeps_the_words_of_its_tokenizer() -> None:
    wrapper = TransformersTokenizerWrapper(Numbers())
    wrapper.set_vocab(["other"])
    assert wrapper.get_vocab() == {"a": 1}
    assert wrapper.tokenize("a bb") == [1, 2]
