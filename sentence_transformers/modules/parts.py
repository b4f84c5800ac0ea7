"""What several parts of a model share: saving with weights, old names of arguments and methods, tables of token ids.

Knows both layouts of token embeddings (see ``ops.tokens``), but no part in particular.
"""

from __future__ import annotations

import functools
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor
from typing_extensions import Self

from sentence_transformers._types import Features
from sentence_transformers.modules.module import Module, hub_arguments
from sentence_transformers.modules.processing import Ints, TokenTable
from sentence_transformers.modules.token_tensors import take
from sentence_transformers.ops.tokens import Packed, TokenIds

P = ParamSpec("P")
R = TypeVar("R")


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: still take keyword arguments under their old names, with a ``FutureWarning``.

    Where both names are given, the old one is dropped.

    Args:
        new_names: ``old="new"``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                warnings.warn(f"{called}({old}=...) is now {called}({new}=...).", FutureWarning, stacklevel=2)
                kwargs.setdefault(new, kwargs.pop(old))
            return function(*args, **kwargs)

        call.__dict__["renamed"] = new_names
        return call

    return decorate


class WithDimension(Module):
    """A part that knows the width of what it writes."""

    @abstractmethod
    def get_embedding_dimension(self) -> int | None:
        """The width of the embeddings that come out."""

    def get_sentence_embedding_dimension(self) -> int | None:
        """The old name of ``get_embedding_dimension``."""
        warnings.warn("Use get_embedding_dimension().", FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

    def get_word_embedding_dimension(self) -> int | None:
        """The old name of ``get_embedding_dimension``."""
        warnings.warn("Use get_embedding_dimension().", FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()


class ModuleWithWeights(Module):
    """A part whose folder holds a config, which its constructor takes, and its state dict."""

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config and weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read config and weights.

        Raises:
            ModelFileError: weights that are missing, damaged, or do not fit the config.
        """
        where = {"subfolder": subfolder, **hub_arguments(kwargs)}
        config = cls.load_config(model_name_or_path, **where)
        made = cls._from_config(config, f"{model_name_or_path}/{subfolder}", bool(kwargs.get("trust_remote_code")))
        cls.load_torch_weights(model_name_or_path, model=made, **where)
        return made

    @classmethod
    def _from_config(cls, config: dict[str, Any], folder: str, trust_remote_code: bool) -> Self:
        """Make the part of its saved config; ``folder`` is for messages."""
        return cls.from_config(config, folder)


def over_vectors(value: Tensor | Packed, function: Callable[[Tensor], Tensor]) -> Tensor | Packed:
    """Apply a function of (..., D) to every vector, in either layout."""
    if isinstance(value, Packed):
        return value.replace(function(value.values))
    return function(value)


def table_of(rows: Sequence[Sequence[int]], limit: int | None = None) -> TokenTable:
    """Ragged token ids as one table; each row keeps its first ``limit`` ids, and cut rows are counted."""
    cut = [] if limit is None else [i for i, row in enumerate(rows) if len(row) > limit]
    rows = [row[:limit] for row in rows] if cut else rows
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(starts[-1]))
    return TokenTable(flat, starts, None, cut, limit)


class PreparedTable:
    """All inputs of a call as token ids (see ``Prepared``); ``build`` turns those of one batch into features."""

    def __init__(self, table: TokenTable, build: Callable[[TokenIds], Features]) -> None:
        self.table, self.build = table, build
        self.sizes, self.cut, self.limit = table.sizes, table.cut, table.limit

    def batch(self, rows: Ints) -> Features:
        return self.build(take(self.table, rows))


def rust_tokenizer(tokenizer: Any) -> Tokenizer:
    """The Rust tokenizer itself, or the one inside a fast tokenizer of transformers.

    Raises:
        ValueError: neither.
    """
    found = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise ValueError(
            "The tokenizer must be fast (i.e. Rust-backed): a tokenizers.Tokenizer, or a fast one of transformers; "
            f"got {type(tokenizer).__name__}. Try tokenizers.Tokenizer.from_pretrained(...)."
        )
    return found
