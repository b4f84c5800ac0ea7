"""What the encoders whose results are compared have in common: a similarity, a width, queries and documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from sentence_transformers.encoders.encoder import Encoder
from sentence_transformers.encoders.signatures import arguments_and_those_of
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.ops.similarity import SimilarityFunction

# how modules say how wide their output is; the others are names of before version 5.4
WIDTH_METHODS = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")


class EmbeddingEncoder(Encoder):
    """An encoder that maps every input to an embedding of its own.

    Args: those of ``Encoder``, and
        similarity_fn_name: how embeddings are compared, one of ``similarities``; ``default_similarity`` unless the
            model says otherwise.
    """

    similarities: ClassVar[tuple[str, ...]]
    default_similarity: ClassVar[str]
    _default_prompts: ClassVar[dict[str, str | None]] = {"query": None, "document": None}

    @arguments_and_those_of(Encoder.__init__)
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        similarity_fn_name: str | SimilarityFunction | None = None,
        **kwargs: Any,
    ) -> None:
        self._similarity_fn_name: str | None = None
        self._saved_similarity: str | None = None
        super().__init__(model_name_or_path, **kwargs)
        chosen = similarity_fn_name or self._saved_similarity
        if chosen is not None:
            self.similarity_fn_name = chosen

    def _take_config(self, config: dict[str, Any]) -> None:
        super()._take_config(config)
        saved = config.get("similarity_fn_name")
        self._saved_similarity = saved if saved in self.similarities else None

    def _config_to_save(self) -> dict[str, Any]:
        return {**super()._config_to_save(), "similarity_fn_name": self._similarity_fn_name}

    # --- similarity --------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """How ``similarity`` compares: one of ``similarities``."""
        return self._similarity_fn_name or self.default_similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        name = value.value if isinstance(value, SimilarityFunction) else value
        if name is not None and name not in self.similarities:
            raise ValueError(
                f"{type(self).__name__} only supports similarity_fn_name in {self.similarities}, got {value!r}."
                f"{self._similarity_hint(name)}"
            )
        self._similarity_fn_name = name

    def _similarity_hint(self, name: Any) -> str:
        """What else to do for a similarity that this encoder does not have."""
        return " Late-interaction scores belong to MultiVectorEncoder." if "maxsim" in str(name) else ""

    def _similarity(self) -> Callable[..., Tensor]:
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)

    def _similarity_pairwise(self) -> Callable[..., Tensor]:
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare every embedding of one set with every one of another: n, m -> (n, m); higher is closer."""
        return self._similarity()(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare embeddings one to one: n, n -> (n,); higher is closer."""
        return self._similarity_pairwise()(embeddings1, embeddings2)

    # --- properties --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """The width of the embeddings; None where no module knows it."""
        return width_of(list(self))

    def get_sentence_embedding_dimension(self) -> int | None:
        """The old name of ``get_embedding_dimension``."""
        warnings.warn("get_sentence_embedding_dimension is now get_embedding_dimension.", FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether the prompt's tokens count in the first ``Pooling`` module."""
        for module in self:
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt
                return


def width_of(modules: Sequence[nn.Module]) -> int | None:
    """The width of what the last module writes that knows it; None where none does."""
    for module in reversed(modules):
        ask = next((method for name in WIDTH_METHODS if (method := getattr(module, name, None)) is not None), None)
        width: int | None = None if ask is None else ask()
        if width is not None:
            return width
    return None
