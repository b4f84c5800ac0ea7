"""Inference-free queries for sparse retrieval: every token of a text has a fixed weight. No transformer runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.json_files import read_json
from sentence_transformers.modules import tokenizer_files
from sentence_transformers.modules.modality import texts_of
from sentence_transformers.modules.module import InputModule, hub_arguments
from sentence_transformers.modules.parts import PreparedTable, WithDimension, rust_tokenizer
from sentence_transformers.modules.processing import TextProcessor, TokenTable
from sentence_transformers.modules.text_tokenizer import TextTokenizer
from sentence_transformers.modules.token_tensors import pad, take
from sentence_transformers.ops.tokens import TokenIds

logger = logging.getLogger(__name__)

WEIGHTS = "idf.json"


class SparseStaticEmbedding(WithDimension, InputModule):
    """The weight of every token that a text has, such as its inverse document frequency; 0 for all others.

    Reads texts. Writes ``sentence_embedding``: (B, V), multiplied with the one that is there already, if any. How often
    a token occurs does not matter; there are no special tokens.

    Args:
        tokenizer: a fast tokenizer of transformers, or a ``tokenizers.Tokenizer``.
        weight: (V,) tensor, array or list, one number for each token; default all 1.
        frozen: whether training leaves the weights as they are.

    Raises: ValueError for weights of another shape, or a tokenizer written in Python.
    Source: Geng et al. 2024, https://arxiv.org/abs/2411.04403
    """

    config_keys: ClassVar[Sequence[str]] = ("frozen",)
    accepts_packed: ClassVar[bool] = True

    def __init__(self, tokenizer: Any, weight: Any = None, frozen: bool = False) -> None:
        super().__init__()
        self.text: TextTokenizer | GivenTokenizer
        self.text = tokenizer if isinstance(tokenizer, TextTokenizer) else GivenTokenizer(tokenizer)
        self._bare: tuple[TextProcessor | None, TextProcessor | None] = (None, None)
        size = self._processor().tokenizer.get_vocab_size()
        values = torch.ones(size) if weight is None else torch.as_tensor(weight).detach().clone()
        if values.dim() != 1:
            raise ValueError(f"weight must have one number for each token, shape (V,); got {tuple(values.shape)}.")
        self.frozen = frozen
        values = values if values.is_floating_point() else values.float()
        self.weight = nn.Parameter(values, requires_grad=not frozen)
        self.num_dimensions = len(values)
        if len(values) < size:
            logger.warning(
                "There are %d weights for the %d tokens of the tokenizer: a text with one of the last tokens fails.",
                len(values),
                size,
            )

    @classmethod
    def from_json(cls, json_path: str | os.PathLike[str], tokenizer: Any, **config: Any) -> Self:
        """Read weights from JSON, ``{token: weight}``; tokens that are not in it weigh 0, unknown ones are skipped.

        Args:
            json_path: a file, a folder with ``idf.json``, or the name of a model on the Hub that has one.
            tokenizer, config: as for the constructor.

        Raises:
            ValueError: there is no such file.
            ModelFileError: the file is damaged, or has something else than numbers.
        """
        path = _find_json(str(json_path))
        found = cls(tokenizer, **config)
        known = found._processor().tokenizer
        with torch.no_grad():
            found.weight.zero_()
            for token, weight in read_json(path).items():
                number = known.token_to_id(token)
                if isinstance(weight, bool) or not isinstance(weight, (int, float)):
                    raise ModelFileError(f"{path}: expected a number as the weight of {token!r}, got {weight!r}.")
                if number is not None:
                    found.weight[number] = weight
        return found

    # --- texts to tokens ---------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; built on first use."""
        return self.text.transformers

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self.text = GivenTokenizer(value)

    @property
    def max_seq_length(self) -> int | None:
        """The most tokens of one text; longer ones are truncated. None: no limit."""
        return self.text.limit

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.text.limit = value

    def _processor(self) -> TextProcessor:
        """The tokenizer, without the special tokens that it puts around a text."""
        whole, (known, bare) = self.text.processor, self._bare
        if bare is None or known is not whole:
            if whole is None:
                raise ValueError(
                    "The tokenizer must be fast (i.e. Rust-backed), got one written in Python. Save the model with the "
                    "fast tokenizer of the same name."
                )
            copy = Tokenizer.from_str(whole.tokenizer.to_str())
            copy.post_processor = None
            bare = TextProcessor(copy, None, whole.truncation_side, whole.padding_side, whole.padding_id)
            self._bare = (whole, bare)
        return bare

    def _tabulate(self, inputs: Sequence[Any], prompt: str | None) -> TokenTable:
        return self._processor()(self._prepend_prompt(texts_of(inputs), prompt), self.text.limit)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Features:
        """Texts -> ``input_ids`` and ``attention_mask``, (B, T)."""
        return pad(self._processor(), take(self._tabulate(inputs, prompt), np.arange(len(inputs))))

    def prepare(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> PreparedTable:
        """Tokenise all inputs of a call at once."""
        return PreparedTable(self._tabulate(inputs, prompt), lambda tokens: {"tokens": tokens})

    # --- tokens to vectors -------------------------------------------------------------------------------------------

    def forward(self, features: Features, **kwargs: Any) -> Features:
        count, rows, ids = _present(features)
        device = self.weight.device
        rows, ids = rows.to(device), ids.to(device)
        vectors = self.weight.new_zeros(count, self.num_dimensions)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            vectors[rows, ids] = 1
            vectors = vectors * self.weight
        else:
            vectors[rows, ids] = self.weight.detach()[ids]
        present = features.get("sentence_embedding")
        features["sentence_embedding"] = vectors if present is None else vectors * present
        return features

    def get_embedding_dimension(self) -> int:
        """V."""
        return self.num_dimensions

    # --- saving and loading ------------------------------------------------------------------------------------------

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config, weights and tokenizer."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)
        self.text.save(Path(output_path))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read config, weights and tokenizer; the config of old models names a JSON file of weights instead.

        Raises:
            ModelFileError: a file is missing or damaged.
        """
        where = {"subfolder": subfolder, **hub_arguments(kwargs)}
        config = cls.load_config(model_name_or_path, **where)
        folder = cls.load_dir_path(model_name_or_path, **where)
        if folder is None:
            raise ModelFileError(f"There is no folder {subfolder!r} in {model_name_or_path}. Save the model again.")
        tokenizer = TextTokenizer(
            Path(folder),
            {},
            with_types=False,
            limit=None,
            positions=None,
            lower=False,
            trust_remote_code=bool(kwargs.get("trust_remote_code")),
        )
        listed = config.pop("path", None)
        if listed is not None:
            beside = cls.load_file_path(model_name_or_path, Path(listed).name, **where)
            return cls.from_json(beside or listed, tokenizer, **config)
        weights = cls.load_torch_weights(model_name_or_path, **where)
        return cls(tokenizer, checkpoint.tensor(weights, "weight", (None,), folder), **config)


class GivenTokenizer:
    """A tokenizer that somebody made, used as ``TextTokenizer`` is. A ``tokenizers.Tokenizer`` is wrapped first."""

    def __init__(self, tokenizer: Any) -> None:
        rust_tokenizer(tokenizer)
        if isinstance(tokenizer, Tokenizer):
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
        self.transformers = tokenizer
        found = tokenizer_files.from_transformers(tokenizer, with_types=False)
        assert found is not None
        self.processor = TextProcessor(
            found.tokenizer, None, found.truncation_side, found.padding_side, found.padding_id
        )

    @property
    def limit(self) -> int | None:
        return tokenizer_files.as_limit(self.transformers.model_max_length)

    @limit.setter
    def limit(self, value: int | None) -> None:
        self.transformers.model_max_length = tokenizer_files.NO_LIMIT + 1 if value is None else value

    def save(self, target: Path) -> None:
        self.transformers.save_pretrained(str(target))


def _present(features: Features) -> tuple[int, Tensor, Tensor]:
    """B, and for each token the number of its row, (N,), and its id, (N,)."""
    tokens = features.get("tokens")
    if isinstance(tokens, TokenIds):
        count = len(tokens.lengths)
        lengths = torch.tensor(tokens.lengths, dtype=torch.int64, device=tokens.ids.device)
        rows = torch.arange(count, device=lengths.device).repeat_interleave(lengths, output_size=len(tokens.ids))
        return count, rows, tokens.ids
    ids = features["input_ids"]
    mask = features.get("attention_mask")
    rows, places = (torch.ones_like(ids) if mask is None else mask.to(ids.device)).nonzero(as_tuple=True)
    return len(ids), rows, ids[rows, places]


def _find_json(name: str) -> str:
    """The file itself, or the ``idf.json`` of a folder or of a model on the Hub."""
    if Path(name).is_file():
        return name
    found = None if name.endswith(".json") else InputModule.load_file_path(name, WEIGHTS)
    if found is None:
        raise ValueError(
            f"IDF JSON file not found at {name}. Pass a JSON file, a folder with {WEIGHTS}, or a model that has one."
        )
    return found
