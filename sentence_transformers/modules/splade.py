"""SPLADE: from what a masked language model says of every token to one weight for each word of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.errors import one_of, positive
from sentence_transformers.modules.parts import WithDimension, renamed_arguments
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import Packed, Padded

HALF = (torch.float16, torch.bfloat16)


class SpladePooling(WithDimension):
    """log(1 + relu(logit)) of every token and word, then the largest or the sum over the tokens.

    Reads ``token_embeddings``, the logits of a masked language model: (B, T, V) with ``attention_mask``, ``Packed`` or
    ``Projected``; writes ``sentence_embedding`` (B, V), >= 0, zero for an input without tokens.

    Args:
        pooling_strategy: "max" or "sum".
        activation_function: "relu", or "log1p_relu" to take log(1 + ...) a second time.
        embedding_dimension: V; None until the first batch shows it.
        chunk_size: how many tokens T of a padded batch are reduced at a time, which bounds memory in training; None
            for all at once.

    Raises: ValueError for an unknown strategy or activation, or a chunk size below 1.
    Source: Formal et al. 2021 (SPLADE v2), https://arxiv.org/abs/2109.10086; "log1p_relu": Shen, Geng and Yang
        2025, https://arxiv.org/abs/2504.14839
    """

    config_keys: ClassVar[Sequence[str]] = ("pooling_strategy", "activation_function", "embedding_dimension")
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        pooling_strategy: str = "max",
        activation_function: str = "relu",
        embedding_dimension: int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.pooling_strategy = one_of("pooling_strategy", pooling_strategy, ("max", "sum"))
        self.activation_function = one_of("activation_function", activation_function, ("relu", "log1p_relu"))
        self.embedding_dimension = embedding_dimension
        self.chunk_size = None if chunk_size is None else positive("chunk_size", chunk_size)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Half types are accumulated in float32 and returned in their own type."""
        logits = features["token_embeddings"]
        if isinstance(logits, Tensor):
            pooled = self._pool_padded(_padded(logits, features.get("attention_mask")))
        else:
            pooled = self._pool_packed(logits)
        if self.embedding_dimension is None:
            self.embedding_dimension = pooled.shape[-1]
        features["sentence_embedding"] = pooled
        return features

    def _pool_packed(self, logits: Packed | Projected) -> Tensor:
        if self.pooling_strategy == "max":
            # nothing up to 0 leaves a trace
            largest = logits.max_above(0.0) if isinstance(logits, Projected) else logits.max()
            return self._activate(largest).to(largest.dtype)
        if isinstance(logits, Packed):
            return logits.replace(self._activate(logits.values)).sum()[0].to(logits.values.dtype)
        out = logits.tokens.values.new_empty(len(logits.lengths), logits.width)
        for columns, block in logits.blocks():
            out[:, columns] = block.replace(self._activate(block.values)).sum()[0].to(out.dtype)
        return out

    def _pool_padded(self, tokens: Padded) -> Tensor:
        """Chunk by chunk; differentiable."""
        pooled = None
        for values in _chunks(tokens, self.chunk_size):
            if self.pooling_strategy == "max":
                largest = values.max(dim=1).values  # for its gradient, amax would keep all of (B, T, V)
                pooled = largest if pooled is None else torch.maximum(pooled, largest)
            else:
                total = self._activate(values).sum(1)
                pooled = total if pooled is None else pooled + total
        if pooled is None:
            return tokens.values.new_zeros(tokens.values.shape[0], tokens.values.shape[2])
        return (self._activate(pooled) if self.pooling_strategy == "max" else pooled).to(tokens.values.dtype)

    def _activate(self, logits: Tensor) -> Tensor:
        """Never falls where the logit grows, so the largest logit may be chosen first; 0 up to 0. In float32 at least.

        On logits that need no gradient, such as those of ``encode``, the memory of one copy is used throughout.
        """
        wide = logits.float() if logits.dtype in HALF else logits
        if logits.requires_grad:
            once = torch.log1p(torch.relu(wide))
            return once if self.activation_function == "relu" else torch.log1p(once)
        once = torch.relu(wide).log1p_()
        return once if self.activation_function == "relu" else once.log1p_()

    def get_embedding_dimension(self) -> int | None:
        """V; None as long as no batch has shown it."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)


def _padded(logits: Tensor, mask: Tensor | None) -> Padded:
    if mask is None or mask.shape != logits.shape[:2]:
        mask = torch.ones(logits.shape[:2], dtype=torch.int64, device=logits.device)
    return Padded(logits, mask.to(logits.device))


def _chunks(tokens: Padded, size: int | None) -> Iterator[Tensor]:
    """So many tokens of all rows at a time, (B, t, V); padding is 0, which adds nothing under either strategy."""
    length = tokens.values.shape[1]
    step = size or max(1, length)
    for start in range(0, length, step):
        at = slice(start, start + step)
        yield tokens.values[:, at].masked_fill(tokens.mask[:, at, None] == 0, 0)
