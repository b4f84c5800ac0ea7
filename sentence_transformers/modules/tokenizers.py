"""Word tokenizers: text to numbers of words, by looking words up in a list. For the parts in ``words``."""

from __future__ import annotations

import json
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from sentence_transformers.errors import need
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.modules.stop_words import ENGLISH_STOP_WORDS

__all__ = [
    "ENGLISH_STOP_WORDS",
    "PhraseTokenizer",
    "TransformersTokenizerWrapper",
    "WhitespaceTokenizer",
    "WordTokenizer",
]

Step = Callable[[str], str]


def _strip(word: str) -> str:
    return word.strip(string.punctuation)


class WordTokenizer(ABC):
    """What ``WordEmbeddings`` and ``BoW`` need of a tokenizer. A subclass may come from anywhere."""

    @abstractmethod
    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take these words; their numbers are 0, 1, ..."""

    @abstractmethod
    def get_vocab(self) -> Any:
        """The words."""

    @abstractmethod
    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """The numbers of the words of a text that are known."""

    @abstractmethod
    def save(self, output_path: str) -> None:
        """Write the tokenizer into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, input_path: str) -> Self:
        """Read the tokenizer from its folder."""


class _Lookup(WordTokenizer):
    """Words looked up in a list, as they stand and then in simpler and simpler forms.

    At each form a stop word is dropped and a known word gets its number (the last one, for a word listed twice). What
    is not known in any form is dropped.
    """

    config_file_name: ClassVar[str]
    steps: ClassVar[Sequence[Step]]
    """Each makes the next form of a word."""

    def __init__(
        self, vocab: Iterable[str] = (), stop_words: Iterable[str] = ENGLISH_STOP_WORDS, do_lower_case: bool = False
    ) -> None:
        self.stop_words = set(stop_words)
        self.do_lower_case = do_lower_case
        self.set_vocab(vocab)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        self.vocab = list(vocab)
        self.word2idx = {word: number for number, word in enumerate(self.vocab)}

    def get_vocab(self) -> list[str]:
        return self.vocab

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        words = self._split(text.lower() if self.do_lower_case else text)
        return [number for number in map(self._number, words) if number is not None]

    @abstractmethod
    def _split(self, text: str) -> list[str]:
        """A text in words."""

    def _number(self, word: str) -> int | None:
        for form in self._forms(word):
            if form in self.stop_words:
                return None
            if form in self.word2idx:
                return self.word2idx[form]
        return None

    def _forms(self, word: str) -> Iterator[str]:
        yield word
        for step in self.steps:
            word = step(word)
            yield word

    def _config(self) -> dict[str, Any]:
        return {"vocab": self.vocab, "stop_words": sorted(self.stop_words), "do_lower_case": self.do_lower_case}

    def save(self, output_path: str) -> None:
        """Write the words and settings as one JSON file."""
        target = Path(output_path) / self.config_file_name
        target.write_text(json.dumps(self._config()), encoding="utf-8")

    @classmethod
    def load(cls, input_path: str) -> Self:
        """Read the JSON file.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        return cls(**read_json(Path(input_path) / cls.config_file_name))


class WhitespaceTokenizer(_Lookup):
    """Split at white space; look up each word as it stands, then without punctuation around it, then in lower case.

    Args:
        vocab: the words.
        stop_words: words to drop.
        do_lower_case: lower-case the text first.
    """

    config_file_name = "whitespacetokenizer_config.json"
    steps = (_strip, str.lower)

    def _split(self, text: str) -> list[str]:
        return text.split()


class PhraseTokenizer(_Lookup):
    """Split as the Penn Treebank does (with nltk); join neighbours that are a phrase of the list, the longest first.

    Words and phrases are looked up as they stand, then in lower case, then without punctuation around them.

    Args:
        vocab: the words and phrases.
        stop_words: words to drop.
        do_lower_case: lower-case the text first.
        ngram_separator: what stands between the words of a phrase in the list.
        max_ngram_length: longer phrases of the list are not looked for.
    """

    config_file_name = "phrasetokenizer_config.json"
    steps = (str.lower, _strip)

    def __init__(
        self,
        vocab: Iterable[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
        ngram_separator: str = "_",
        max_ngram_length: int = 5,
    ) -> None:
        self.ngram_separator = ngram_separator
        self.max_ngram_length = max_ngram_length
        super().__init__(vocab, stop_words, do_lower_case)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        super().set_vocab(vocab)
        sizes = {word.count(self.ngram_separator) + 1 for word in self.vocab}
        self.ngram_lengths = sorted((size for size in sizes if 1 < size <= self.max_ngram_length), reverse=True)

    def _split(self, text: str) -> list[str]:
        nltk: Any = need("nltk", extra="words", what="PhraseTokenizer")
        return self.join_phrases(nltk.word_tokenize(text, preserve_line=True))

    def join_phrases(self, words: Sequence[str]) -> list[str]:
        """Replace the words of each known phrase by the phrase: all of the longest first, each from left to right."""
        joined = list(words)
        for length in self.ngram_lengths:
            start = 0
            while start + length <= len(joined):
                phrase = self.ngram_separator.join(joined[start : start + length])
                if phrase in self.word2idx or phrase.lower() in self.word2idx:
                    joined[start : start + length] = [phrase]
                start += 1
        return joined

    def _config(self) -> dict[str, Any]:
        more = {"ngram_separator": self.ngram_separator, "max_ngram_length": self.max_ngram_length}
        return {**super()._config(), **more}


class TransformersTokenizerWrapper(WordTokenizer):
    """A tokenizer of transformers, special tokens included. Its words cannot be set."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Nothing: the tokenizer has its own words."""

    def get_vocab(self) -> dict[str, int]:
        return dict(self.tokenizer.get_vocab())

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        return list(self.tokenizer.encode(text))

    def save(self, output_path: str) -> None:
        """Write the files of the tokenizer."""
        self.tokenizer.save_pretrained(output_path)

    @classmethod
    def load(cls, input_path: str) -> Self:
        """Read the files of the tokenizer."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(input_path))
