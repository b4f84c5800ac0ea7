"""How a network is run, whoever computes it: packed token ids in, packed hidden states out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import TokenIds

BACKENDS = ("torch", "onnx", "openvino")
DTYPES = ("float32", "float16", "bfloat16", "float64")


class Network(Protocol):
    """A loaded text network, for inference."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""

    @property
    def threads_safe(self) -> bool:
        """Whether ``run`` may be called from several threads at once."""

    @property
    def position_limit(self) -> int | None:
        """The most tokens of one sequence, where the network has a fixed table of positions."""

    def run(self, tokens: TokenIds, all_layers: bool = False) -> Sequence[Tensor]:
        """Hidden states, each (N, width); the last is the output. ``all_layers``: the embeddings and every layer too.

        Runs without gradients.
        """

    def logits(self, tokens: TokenIds) -> Tensor | Projected:
        """The output of the head of the network.

        Returns: (B, labels) for sequence classification; (B, words) of the last token for text generation; (N, words)
            for masked words, perhaps not computed yet. Runs without gradients.
        """

    def apply_(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace every weight by ``change(weight)`` (a move or a cast)."""


def as_dtype(value: object) -> torch.dtype:
    """A torch dtype from itself or its name ("float16", "torch.float16").

    Raises: ValueError for anything else.
    """
    if isinstance(value, torch.dtype):
        return value
    found = getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f"dtype must be 'auto', a torch.dtype or one of {', '.join(map(repr, DTYPES))}; got {value!r}."
        )
    return found
