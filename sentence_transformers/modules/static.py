"""Static embeddings: one vector for each token, and a text is the mean of its tokens' vectors. No transformer runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import checkpoint
from sentence_transformers.modules import distillation
from sentence_transformers.modules.modality import texts_of
from sentence_transformers.modules.module import InputModule, hub_arguments
from sentence_transformers.modules.parts import PreparedTable, WithDimension, rust_tokenizer
from sentence_transformers.modules.processing import TokenTable
from sentence_transformers.modules.token_tensors import take
from sentence_transformers.ops.tokens import TokenIds

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
CHUNK = 8192  # texts tokenised at a time: enough for all cores, little enough to hold what the tokenizer returns
OLD_FOLDER = "0_StaticEmbedding"


class StaticEmbedding(WithDimension, InputModule):
    """The mean of token vectors.

    Reads texts; pairs count as one text. Writes ``sentence_embedding``: (B, D), zero for a text without tokens. There
    are no special tokens, and nothing is truncated unless the tokenizer itself was told to.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``, or a fast tokenizer of transformers. Its padding is switched off.
        embedding_weights: (V, D) array or tensor, one row for each token; integers become float32.
        embedding_dim: D, for random vectors.

    Raises:
        ValueError: neither weights nor D, or a tokenizer written in Python.
    """

    accepts_packed: ClassVar[bool] = True

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: np.ndarray[Any, Any] | Tensor | None = None,
        embedding_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = rust_tokenizer(tokenizer)
        self.tokenizer.no_padding()
        if embedding_weights is not None:
            weights = torch.as_tensor(embedding_weights)
            if weights is not embedding_weights:
                weights = weights.clone()  # training must not write into the caller's array
            weights = weights if weights.is_floating_point() else weights.float()
            self.embedding = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean")
        elif embedding_dim is not None:
            self.embedding = nn.EmbeddingBag(self.tokenizer.get_vocab_size(), embedding_dim, mode="mean")
        else:
            raise ValueError("Either `embedding_weights` or `embedding_dim` must be provided.")
        self.num_embeddings = self.embedding.num_embeddings
        self.embedding_dim = self.embedding.embedding_dim
        if self.num_embeddings < self.tokenizer.get_vocab_size():
            logger.warning(
                "There are %d vectors for the %d tokens of the tokenizer: a text with one of the last tokens fails.",
                self.num_embeddings,
                self.tokenizer.get_vocab_size(),
            )

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Texts -> ``input_ids`` (N,), all tokens one behind the other; ``offsets`` (B,), where each text starts."""
        return _features(take(self._tabulate(inputs, prompt), np.arange(len(inputs))))

    def prepare(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> PreparedTable:
        """Tokenise all inputs of a call at once."""
        return PreparedTable(self._tabulate(inputs, prompt), _features)

    def _tabulate(self, inputs: Sequence[Any], prompt: str | None) -> TokenTable:
        texts = self._prepend_prompt(texts_of(inputs), prompt)
        cut = self.tokenizer.truncation
        lengths = np.zeros(len(texts) + 1, dtype=np.int64)
        parts: list[np.ndarray[Any, Any]] = []
        too_long: list[int] = []
        for start in range(0, len(texts), CHUNK):
            encodings = self.tokenizer.encode_batch_fast(
                [_encodable(text) for text in texts[start : start + CHUNK]], add_special_tokens=False
            )
            rows = [encoding.ids for encoding in encodings]
            sizes = [len(row) for row in rows]
            lengths[start + 1 : start + 1 + len(rows)] = sizes
            parts.append(np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(sizes)))
            if cut is not None:
                too_long += [start + i for i, encoding in enumerate(encodings) if encoding.overflowing]
        flat = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return TokenTable(flat, lengths.cumsum(), None, too_long, cut["max_length"] if cut else None)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        features["sentence_embedding"] = self.embedding(features["input_ids"], features["offsets"])
        return features

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.embedding_dim

    @property
    def max_seq_length(self) -> float:
        """Infinite: texts may have any length."""
        return math.inf

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write vectors and tokenizer; there is no config."""
        self.save_torch_weights(output_path, safe_serialization)
        self.tokenizer.save(str(Path(output_path) / TOKENIZER))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read vectors and tokenizer: our own files or those of model2vec, in the folder or in ``0_StaticEmbedding/``.

        Raises:
            ModelFileError: a file is missing or damaged, or holds no vectors.
        """
        hub = hub_arguments(kwargs)
        for folder in (subfolder, f"{subfolder}/{OLD_FOLDER}".lstrip("/")):
            path = cls.load_file_path(model_name_or_path, TOKENIZER, subfolder=folder, **hub)
            if path is not None:
                weights = cls.load_torch_weights(model_name_or_path, subfolder=folder, **hub)
                return cls(_read_tokenizer(path), _vectors(weights, str(Path(path).parent)))
        raise ModelFileError(
            f"{model_name_or_path}/{subfolder}: expected {TOKENIZER}, found none. Save or download the model again."
        )

    @classmethod
    def from_model2vec(cls, model_id_or_path: str) -> Self:
        """Read a model of model2vec, from a folder or the Hub. The package model2vec is not needed."""
        return cls.load(model_id_or_path)

    @classmethod
    def from_distillation(
        cls,
        model_name: Any,
        vocabulary: Sequence[str] | None = None,
        device: str | None = None,
        pca_dims: int | None = 256,
        apply_zipf: bool = True,
        sif_coefficient: float | None = 1e-4,
        token_remove_pattern: str | None = r"\[unused\d+\]",
        quantize_to: str = "float32",
        use_subword: bool = True,
        trust_remote_code: bool = False,
    ) -> Self:
        """Make static vectors of a transformer: each token is encoded alone. The package model2vec is not needed.

        Args:
            model_name: the name or folder of a model, a ``Transformer``, or a model whose first part is one.
            vocabulary: words or phrases to add as tokens.
            device: where to encode; default: where the model is.
            pca_dims: the width to reduce the vectors to, by principal components; None keeps them.
            apply_zipf: scale vectors by how rare their token is, taking the order of tokens for that of frequency.
            sif_coefficient: a of the weight a / (a + probability).
            token_remove_pattern: tokens that match this regular expression get a zero vector and no rank.
            quantize_to: the type of the vectors, "float16", "float32" or "float64".
            use_subword: False leaves only the words of ``vocabulary``.
            trust_remote_code: whether code that comes with the model may run.

        Raises:
            ValueError: no vocabulary although ``use_subword`` is off, or an unknown type.
        Source: Tulkens and van Dongen 2024 (Model2Vec), https://github.com/MinishLab/model2vec
        """
        tokenizer, weights = distillation.distill(
            model_name,
            distillation.Recipe(
                vocabulary=tuple(vocabulary or ()),
                pca_dims=pca_dims,
                sif_coefficient=(1e-4 if sif_coefficient is None else sif_coefficient) if apply_zipf else None,
                token_remove_pattern=token_remove_pattern,
                dtype=quantize_to,
                use_subword=use_subword,
            ),
            device=device,
            trust_remote_code=trust_remote_code,
        )
        return cls(tokenizer, weights)


def _features(tokens: TokenIds) -> Features:
    offsets = np.zeros(len(tokens.lengths), dtype=np.int64)
    np.cumsum(tokens.lengths[:-1], out=offsets[1:])
    return {"input_ids": tokens.ids, "offsets": torch.from_numpy(offsets)}


def _encodable(text: Any) -> Any:
    """A text, or a pair as a tuple, without lone surrogates, for which UTF-8 has no bytes."""
    if not isinstance(text, str):
        return tuple(_encodable(part) for part in text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _read_tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the Rust library raises nothing narrower
        raise ModelFileError(
            f"{path} is damaged: expected a tokenizer, but {error}. Download the model again."
        ) from error


def _vectors(weights: Mapping[str, Tensor], folder: str) -> Tensor:
    """(V, D) from our own weights, or from those of model2vec: rows that tokens share, and a scale for each token."""
    if "embedding.weight" in weights:
        return checkpoint.tensor(weights, "embedding.weight", (None, None), folder)
    if "embeddings" not in weights:
        raise ModelFileError(
            f"{folder}: expected the tensor 'embedding.weight', or 'embeddings' as in model2vec; found "
            f"{', '.join(sorted(weights)) or 'nothing'}."
        )
    vectors = checkpoint.tensor(weights, "embeddings", (None, None), folder)
    if "mapping" in weights:
        vectors = vectors[weights["mapping"].to(torch.int64)]
    if "weights" in weights:
        scale = checkpoint.tensor(weights, "weights", (len(vectors),), folder)
        vectors = vectors * scale.float()[:, None]
    return vectors
