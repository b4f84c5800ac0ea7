"""Static token vectors out of a transformer: encode each token alone, reduce the width, weigh by rank.

Source: Tulkens and van Dongen 2024 (Model2Vec), https://github.com/MinishLab/model2vec. Knows nothing of files.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from sentence_transformers.errors import one_of
from sentence_transformers.modules.module import module_device
from sentence_transformers.modules.parts import rust_tokenizer, table_of
from sentence_transformers.modules.processing import TextProcessor
from sentence_transformers.modules.token_tensors import take
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.tokens import Packed

logger = logging.getLogger(__name__)

BATCH = 256
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Recipe:
    """What to make; the arguments of ``StaticEmbedding.from_distillation``. sif_coefficient: None for no weights."""

    vocabulary: tuple[str, ...] = ()
    pca_dims: int | None = 256
    sif_coefficient: float | None = 1e-4
    token_remove_pattern: str | None = r"\[unused\d+\]"
    dtype: str = "float32"
    use_subword: bool = True


@dataclass(frozen=True)
class Entry:
    """A token of the new tokenizer: its number there, and the input of the transformer that stands for it."""

    row: int
    input_ids: tuple[int, ...]


def distill(
    model: Any, recipe: Recipe, device: str | None = None, trust_remote_code: bool = False
) -> tuple[Tokenizer, Tensor]:
    """A tokenizer and its (V, D) vectors. Arguments and errors: see ``StaticEmbedding.from_distillation``."""
    dtype = DTYPES[one_of("quantize_to", recipe.dtype, tuple(DTYPES))]
    if not recipe.use_subword and not recipe.vocabulary:
        raise ValueError("use_subword=False leaves only the words of `vocabulary`; pass some.")
    transformer = _transformer(model, trust_remote_code)
    if device is not None:
        transformer.to(device)
    source = rust_tokenizer(transformer.tokenizer)
    kept = (transformer.tokenizer.unk_token, transformer.tokenizer.pad_token)
    tokenizer, entries = _entries(source, recipe, kept)
    vectors = encode_tokens(transformer, [entry.input_ids for entry in entries]).double()
    if recipe.pca_dims is not None:
        vectors = principal_components(vectors, recipe.pca_dims)
    if recipe.sif_coefficient is not None:
        vectors = vectors * sif_weights(len(vectors), recipe.sif_coefficient)[:, None]
    weights = torch.zeros(tokenizer.get_vocab_size(), vectors.shape[1], dtype=dtype)
    weights[torch.tensor([entry.row for entry in entries])] = vectors.to(dtype)
    return tokenizer, weights


def _transformer(model: Any, trust_remote_code: bool) -> Transformer:
    if isinstance(model, str):
        return Transformer(model, model_kwargs={"trust_remote_code": trust_remote_code})
    first = model[0] if isinstance(model, nn.Sequential) else model
    if not isinstance(first, Transformer):
        raise ValueError(
            "model_name must be the name of a model, a Transformer, or a model whose first part is one; "
            f"got {type(model).__name__} with a {type(first).__name__}."
        )
    return first


def _entries(source: Tokenizer, recipe: Recipe, kept: Sequence[str]) -> tuple[Tokenizer, list[Entry]]:
    """The tokenizer that will be used, and its tokens in order of rank.

    Of the special tokens, which no text has, only ``kept`` count.
    """
    processor = TextProcessor(source)
    subwords = source.get_vocab(with_added_tokens=True)
    words = list(dict.fromkeys(word for word in recipe.vocabulary if not (recipe.use_subword and word in subwords)))
    entries: list[Entry] = []
    if recipe.use_subword:
        tokenizer = Tokenizer.from_str(source.to_str())
        tokenizer.no_truncation()
        tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
        before, after = processor.single.before, processor.single.after
        special = {token.content for token in source.get_added_tokens_decoder().values() if token.special}
        removed = re.compile(recipe.token_remove_pattern or r"(?!)")  # (?!) matches nothing
        for token, row in sorted(subwords.items(), key=lambda item: item[1]):
            if not removed.match(token) and (token not in special or token in kept):
                entries.append(Entry(row, (*before, row, *after)))
    else:
        tokenizer = _word_tokenizer(source, words)
    rows = tokenizer.get_vocab(with_added_tokens=True)
    inputs = processor(words)
    for number, word in enumerate(words):
        ids = take(inputs, np.array([number])).ids
        entries.append(Entry(rows[word], tuple(ids.tolist())))
    return tokenizer, entries


def _word_tokenizer(source: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Whole words only; all others are ``[UNK]``, whose vector is zero. Text is normalised as the transformer's."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if source.normalizer is not None:
        tokenizer.normalizer = source.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    return tokenizer


def encode_tokens(transformer: Transformer, inputs: Sequence[Sequence[int]]) -> Tensor:
    """(n, D): the mean over the transformer's output for each input, special tokens included."""
    table = table_of(inputs)
    device = module_device(transformer)
    training = transformer.training
    transformer.eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH):
            tokens = take(table, np.arange(start, min(start + BATCH, len(inputs)))).to(device)
            output = transformer({"tokens": tokens})[transformer.module_output_name]
            assert isinstance(output, Packed)
            total, count = output.sum()
            vectors.append((total / count).float().cpu())
    transformer.train(training)
    return torch.cat(vectors)


def principal_components(vectors: Tensor, dims: int) -> Tensor:
    """(n, D) -> (n, min(dims, D)): the centred vectors along the directions of most variance, in that order.

    Each direction points to where its largest coordinate is positive. With n <= dims, the vectors stay as they are.
    """
    count, width = vectors.shape
    if dims >= count:
        logger.warning(
            "pca_dims is %d, but there are only %d tokens: the vectors keep their width %d.", dims, count, width
        )
        return vectors
    if dims > width:
        logger.warning("pca_dims is %d, but the vectors have only %d numbers: they keep this width.", dims, width)
    centred = vectors - vectors.mean(0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :dims]  # (D, dims), largest first
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))  # (1, dims)
    projected: Tensor = centred @ (directions * largest.sign())
    return projected


def sif_weights(count: int, coefficient: float) -> Tensor:
    """(count,) float64: a / (a + p) for the probability p that Zipf's law gives to each rank, most frequent first.

    Source: Arora et al. 2017 (SIF), https://openreview.net/forum?id=SyK00v5xx
    """
    inverse_rank = 1 / torch.arange(2, count + 2, dtype=torch.float64)
    return coefficient / (coefficient + inverse_rank / inverse_rank.sum())
