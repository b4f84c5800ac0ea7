"""Parts that work with whole words: BoW, WordEmbeddings, WordWeights."""

from __future__ import annotations

import gzip
import logging
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.http import http_get
from sentence_transformers.hub.trust import fullname, module_class
from sentence_transformers.modules import tokenizers
from sentence_transformers.modules.modality import texts_of
from sentence_transformers.modules.module import InputModule, hub_arguments
from sentence_transformers.modules.parts import ModuleWithWeights, PreparedTable, WithDimension, table_of
from sentence_transformers.modules.processing import TokenTable
from sentence_transformers.modules.token_tensors import pad_rows, take
from sentence_transformers.modules.tokenizers import TransformersTokenizerWrapper, WhitespaceTokenizer, WordTokenizer
from sentence_transformers.ops.tokens import Packed, TokenIds

logger = logging.getLogger(__name__)

PADDING = "PADDING_TOKEN"
SERVER = "https://public.ukp.informatik.tu-darmstadt.de/reimers/embeddings/"
CLASSIC = "sentence_transformers.models.tokenizer."
"""What configs call the home of our tokenizers: every version of every reader understands it."""


class BoW(WithDimension, InputModule):
    """A bag of words: one number for each word of the list.

    Reads texts, split at white space. Writes ``sentence_embedding``: (B, len(vocab)) float32, for each word the sum of
    its weight over all its occurrences.

    Args:
        vocab: the words; a word that is listed twice counts once.
        word_weights: the weight of a word, or of its lower-case form.
        unknown_word_weight: the weight of the other words of the list.
        cumulative_term_frequency: False counts a word once, however often it occurs.
    """

    config_keys: ClassVar[Sequence[str]] = (
        "vocab",
        "word_weights",
        "unknown_word_weight",
        "cumulative_term_frequency",
    )
    save_in_root: ClassVar[bool] = False
    accepts_packed: ClassVar[bool] = True

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float] | None = None,
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        self.vocab = list(dict.fromkeys(vocab))
        self.word_weights = dict(word_weights or {})
        self.unknown_word_weight = unknown_word_weight
        self.cumulative_term_frequency = cumulative_term_frequency
        self.weights = _weights_of(self.vocab, self.word_weights, unknown_word_weight)
        self.tokenizer = WhitespaceTokenizer(self.vocab, stop_words=(), do_lower_case=False)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """The vectors themselves: ``sentence_embedding`` (B, len(vocab))."""
        return self._features(take(self._tabulate(inputs, prompt), np.arange(len(inputs))))

    def prepare(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> PreparedTable:
        """Look up all words of a call at once."""
        return PreparedTable(self._tabulate(inputs, prompt), self._features)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Nothing is left to do."""
        return features

    def get_sentence_features(self, tokenized_texts: Sequence[Sequence[int]], pad_seq_length: int = 0) -> Features:
        """The vectors of texts that are already numbers of words."""
        return self._features(take(table_of(tokenized_texts), np.arange(len(tokenized_texts))))

    def _tabulate(self, inputs: Sequence[Any], prompt: str | None) -> TokenTable:
        return _tabulate(self.tokenizer, inputs, prompt, None)

    def _features(self, tokens: TokenIds) -> Features:
        weights = torch.tensor(self.weights, dtype=torch.float32)[tokens.ids]
        rows = torch.repeat_interleave(
            torch.arange(len(tokens.lengths)), torch.tensor(tokens.lengths, dtype=torch.int64)
        )
        vectors = torch.zeros(len(tokens.lengths), len(self.vocab))
        vectors.index_put_((rows, tokens.ids), weights, accumulate=self.cumulative_term_frequency)
        return {"sentence_embedding": vectors}

    def get_embedding_dimension(self) -> int:
        """How many words there are."""
        return len(self.vocab)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config, which has all words; there are no weights."""
        self.save_config(output_path)


class WordEmbeddings(WithDimension, InputModule):
    """A fixed vector for each word.

    Reads texts. Writes ``token_embeddings``: (B, T, D), or ``Packed`` within ``encode``; and None as
    ``cls_token_embeddings``.

    Args:
        tokenizer: a ``WordTokenizer``, or a tokenizer of transformers.
        embedding_weights: (V, D) float, one row for each number of the tokenizer; row 0 is used for padding.
        update_embeddings: whether training changes them.
        max_seq_length: the most words of one text; the others are dropped.
    """

    config_file_name: ClassVar[str] = "wordembedding_config.json"
    config_keys: ClassVar[Sequence[str]] = ("tokenizer_class", "update_embeddings", "max_seq_length")
    accepts_packed: ClassVar[bool] = True

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: Any,
        update_embeddings: bool = False,
        max_seq_length: int = 1000000,
    ) -> None:
        super().__init__()
        known = isinstance(tokenizer, WordTokenizer)
        self.tokenizer: WordTokenizer = tokenizer if known else TransformersTokenizerWrapper(tokenizer)
        weights = torch.as_tensor(embedding_weights, dtype=torch.float32)
        self.update_embeddings = update_embeddings
        self.max_seq_length = max_seq_length
        self.embeddings_dimension = weights.shape[1]
        self.emb_layer: nn.Embedding = nn.Embedding.from_pretrained(weights, freeze=not update_embeddings)  # type: ignore[no-untyped-call]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Texts -> ``input_ids`` and ``attention_mask`` (B, T), ``sentence_lengths`` (B,); T is at least 1."""
        tokens = take(self._tabulate(inputs, prompt), np.arange(len(inputs)))
        lengths = torch.tensor(tokens.lengths, dtype=torch.int64)
        ids = pad_rows(tokens.ids, tokens.lengths, 0)
        if ids.shape[1] == 0:
            ids = ids.new_zeros(len(lengths), 1)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(torch.int64)
        return {"input_ids": ids, "attention_mask": mask, "sentence_lengths": lengths}

    def prepare(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> PreparedTable:
        """Look up all words of a call at once."""
        return PreparedTable(self._tabulate(inputs, prompt), _packed_features)

    def _tabulate(self, inputs: Sequence[Any], prompt: str | None) -> TokenTable:
        return _tabulate(self.tokenizer, inputs, prompt, self.max_seq_length)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        tokens = features.get("tokens")
        if tokens is None:
            features["token_embeddings"] = self.emb_layer(features["input_ids"])
        else:
            features["token_embeddings"] = Packed(self.emb_layer(tokens.ids), tokens.lengths)
        features["cls_token_embeddings"] = None
        return features

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.embeddings_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """The constructor's settings and the class of the tokenizer, whose own file has the words."""
        name = type(self.tokenizer).__name__
        own = getattr(tokenizers, name, None) is type(self.tokenizer)
        return {
            "tokenizer_class": f"{CLASSIC}{name}" if own else fullname(self.tokenizer),
            "update_embeddings": self.update_embeddings,
            "max_seq_length": self.max_seq_length,
        }

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config, vectors and words."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)
        self.tokenizer.save(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read config, vectors and words.

        Raises:
            ModelFileError: a file is missing or damaged.
            UntrustedCodeError: the tokenizer is not ours, and its code is not trusted.
        """
        where = {"subfolder": subfolder, **hub_arguments(kwargs)}
        config = cls.load_config(model_name_or_path, **where)
        folder = cls.load_dir_path(model_name_or_path, **where)
        if folder is None or "tokenizer_class" not in config:
            raise ModelFileError(
                f"{model_name_or_path}/{subfolder}: expected {cls.config_file_name} with a key 'tokenizer_class'. "
                "Save or download the model again."
            )
        kind = _tokenizer_class(config.pop("tokenizer_class"), Path(folder), bool(kwargs.get("trust_remote_code")))
        weights = cls.load_torch_weights(model_name_or_path, **where)
        return cls(kind.load(folder), checkpoint.tensor(weights, "emb_layer.weight", (None, None), folder), **config)

    @classmethod
    def from_text_file(
        cls,
        embeddings_file_path: str,
        update_embeddings: bool = False,
        item_separator: str = " ",
        tokenizer: WordTokenizer | None = None,
        max_vocab_size: int | None = None,
    ) -> Self:
        """Read vectors in the text format of GloVe or word2vec: a word and D numbers on each line.

        A first line of two items is a header and is skipped. Lines with another number of items are skipped with a
        warning. Row 0 is a zero vector for padding.

        Args:
            embeddings_file_path: the file, perhaps ``.gz``. A bare name that does not exist is downloaded from the
                server of the UKP lab, which has ``glove.6B.300d.txt.gz`` and others.
            update_embeddings: whether training changes the vectors.
            item_separator: what stands between the items of a line.
            tokenizer: gets the words; default a ``WhitespaceTokenizer``.
            max_vocab_size: the most words to read; the first lines count.

        Raises:
            ValueError: no such file, or something that is not a number.
            OSError: the download failed.
        """
        path = _existing(str(embeddings_file_path))
        logger.info("Reading word embeddings from %s.", path)
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as file:
            vocab, weights = _read_vectors(file, path, item_separator, max_vocab_size)
        chosen = WhitespaceTokenizer() if tokenizer is None else tokenizer
        chosen.set_vocab(vocab)
        return cls(chosen, weights, update_embeddings=update_embeddings)


class WordWeights(ModuleWithWeights):
    """Multiply every token vector by the weight of its word, such as an inverse document frequency.

    Reads ``input_ids``; reads and writes ``token_embeddings``, (B, T, D) with ``attention_mask`` or ``Packed``; writes
    ``token_weights_sum`` (B,), by which the mean of ``Pooling`` divides.

    Args:
        vocab: the words, in the order of the tokenizer's numbers.
        word_weights: the weight of a word, or of its lower-case form.
        unknown_word_weight: the weight of all other words.
    """

    config_keys: ClassVar[Sequence[str]] = ("vocab", "word_weights", "unknown_word_weight")
    accepts_packed: ClassVar[bool] = True

    def __init__(self, vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float = 1) -> None:
        super().__init__()
        self.vocab = list(vocab)
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        weights = _weights_of(self.vocab, self.word_weights, unknown_word_weight)
        column = torch.tensor(weights, dtype=torch.float32)[:, None]
        self.emb_layer: nn.Embedding = nn.Embedding.from_pretrained(column, freeze=False)  # type: ignore[no-untyped-call]

    def forward(self, features: Features, **kwargs: Any) -> Features:
        values = features["token_embeddings"]
        if isinstance(values, Packed):
            weights = self.emb_layer(features["tokens"].ids)  # (N, 1)
            features["token_embeddings"] = values.replace(values.values * weights)
            features["token_weights_sum"] = values.replace(weights).sum()[0].squeeze(1)
        else:
            weights = self.emb_layer(features["input_ids"]).squeeze(-1)  # (B, T)
            weights = weights * features["attention_mask"].to(weights.dtype)
            features["token_embeddings"] = values * weights[..., None]
            features["token_weights_sum"] = weights.sum(1)
        return features


def _weights_of(vocab: Sequence[str], weights: Mapping[str, float], default: float) -> list[float]:
    found = [weights.get(word, weights.get(word.lower())) for word in vocab]
    missing = sum(weight is None for weight in found)
    if missing:
        logger.info("%d of %d words have no weight of their own; they weigh %s.", missing, len(vocab), default)
    return [default if weight is None else weight for weight in found]


def _tabulate(tokenizer: WordTokenizer, inputs: Sequence[Any], prompt: str | None, limit: int | None) -> TokenTable:
    texts = InputModule._prepend_prompt(texts_of(inputs), prompt)
    if texts and not isinstance(texts[0], str):
        texts = [" ".join(pair) for pair in texts]
    return table_of([tokenizer.tokenize(text) for text in texts], limit)


def _packed_features(tokens: TokenIds) -> Features:
    return {"tokens": tokens, "sentence_lengths": torch.tensor(tokens.lengths, dtype=torch.int64)}


def _tokenizer_class(name: str, folder: Path, trust_remote_code: bool) -> type[WordTokenizer]:
    """The class a config names: ours by its last name alone, under whatever path a version had it."""
    if name.startswith("sentence_transformers."):
        own = getattr(tokenizers, name.rpartition(".")[2], None)
        if not isinstance(own, type) or not issubclass(own, WordTokenizer):
            raise ModelFileError(f"{folder}: there is no word tokenizer {name!r}.")
        return own
    return module_class(name, folder, trust_remote_code)


def _existing(path: str) -> str:
    """The path of a file of vectors, downloaded if it is a bare name."""
    if os.path.exists(path):
        return path
    if "/" in path or "\\" in path:
        raise ValueError(f"Embeddings file not found: {path}. Pass an existing file, or a bare name to download.")
    logger.info("There is no file %s: downloading it from %s.", path, SERVER)
    http_get(SERVER + path, path)
    return path


def _read_vectors(file: TextIO, path: str, separator: str, limit: int | None) -> tuple[list[str], Tensor]:
    """The words, after ``PADDING``, and their (V, D) vectors."""
    vocab: list[str] = []
    numbers = array("f")
    width = skipped = 0
    for line_number, line in enumerate(file, start=1):
        items = line.rstrip().split(separator)
        if (line_number == 1 and len(items) == 2) or not items[0]:
            continue
        if not vocab:
            width = len(items) - 1
        if len(items) != width + 1:
            skipped += 1
            continue
        try:
            numbers.extend(map(float, items[1:]))
        except ValueError as error:
            raise ValueError(f"{path}, line {line_number}: expected a word and {width} numbers ({error}).") from error
        vocab.append(items[0])
        if len(vocab) == limit:
            break
    if not vocab:
        raise ValueError(f"{path} has no vectors: expected lines of a word and numbers, separated by {separator!r}.")
    if skipped:
        logger.warning("%s: skipped %d lines that have not one word and %d numbers.", path, skipped, width)
    weights = torch.zeros(len(vocab) + 1, width)
    weights[1:] = torch.frombuffer(numbers, dtype=torch.float32).view(len(vocab), width)
    return [PADDING, *vocab], weights
