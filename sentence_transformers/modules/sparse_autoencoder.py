"""A sparse autoencoder: a dense embedding becomes a wide one of which only the k strongest numbers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentence_transformers._types import Features
from sentence_transformers.errors import positive
from sentence_transformers.hub import checkpoint
from sentence_transformers.modules.parts import ModuleWithWeights, WithDimension

ACTIVE = 1e-5  # a latent above this counts as used
TINY = 1e-5  # added to the standard deviation before it divides
ENCODER, DECODER = "encoder.weight", "decoder.linear.weight"
"""The one matrix of both directions, as it is called here and in files."""


class SparseAutoEncoder(WithDimension, ModuleWithWeights):
    """relu of the k largest of W (x - pre_bias) + latent_bias; decoded by the same W, transposed.

    Reads ``sentence_embedding`` (B, input_dim); writes ``sentence_embedding`` (B, hidden_dim) with at most k numbers
    other than 0, all > 0. Outside ``torch.inference_mode``, thus for the losses, it also writes

        sentence_embedding_backbone: (B, input_dim), what was read.
        sentence_embedding_encoded: (B, hidden_dim), before the choice of the largest.
        sentence_embedding_encoded_4k, auxiliary_embedding: (B, hidden_dim), the 4k largest; the ``k_aux`` largest
            among the latents that have been idle (None with ``k_aux`` 0).
        decoded_embedding_k, _4k, _aux: (B, input_dim), what is decoded from the three choices.
        decoded_embedding_k_pre_bias: (B, input_dim), decoded without ``pre_bias``.

    Args:
        input_dim, hidden_dim: the widths.
        k: how many numbers are kept, unless ``forward`` is told ``max_active_dims``.
        k_aux: how many idle latents the auxiliary loss revives at once.
        normalize: standardise x first: zero mean, unit deviation over its input_dim numbers.
        dead_threshold: a latent is idle that was not used in so many choices; a training step makes two (k and 4k).

    Raises: ValueError for a width or k below 1, or a k above hidden_dim.
    Source: Wen et al. 2025 (CSR), https://arxiv.org/abs/2503.01776; Gao et al. 2024, https://arxiv.org/abs/2406.04093
    """

    config_keys: ClassVar[Sequence[str]] = ("input_dim", "hidden_dim", "k", "k_aux", "normalize", "dead_threshold")
    forward_kwargs: ClassVar[set[str]] = {"max_active_dims"}
    accepts_packed: ClassVar[bool] = True
    stats_last_nonzero: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 512,
        k: int = 8,
        k_aux: int = 512,
        normalize: bool = False,
        dead_threshold: int = 30,
    ) -> None:
        super().__init__()
        self.input_dim = positive("input_dim", input_dim)
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        self.k = positive("k", k)
        if k > hidden_dim:
            raise ValueError(f"k must be at most hidden_dim = {hidden_dim}, got {k}. Raise hidden_dim or lower k.")
        self.k_aux, self.normalize, self.dead_threshold = k_aux, normalize, dead_threshold
        self.pre_bias = nn.Parameter(torch.zeros(input_dim))
        self.encoder = nn.Linear(input_dim, hidden_dim, bias=False)
        self.latent_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.register_buffer("stats_last_nonzero", torch.zeros(hidden_dim, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_one_matrix)  # type: ignore[no-untyped-call]

    def forward(self, features: Features, max_active_dims: int | None = None, **kwargs: Any) -> Features:
        """``max_active_dims`` replaces k. In training mode it is noted which latents are in use."""
        x = features["sentence_embedding"]
        k = max_active_dims or self.k
        standard, mean, deviation = self._standardized(x)
        latents = F.linear(standard - self.pre_bias, self.encoder.weight, self.latent_bias)
        chosen = features["sentence_embedding"] = _largest(latents, k)
        if torch.is_inference_mode_enabled():
            return features
        self._note_use(chosen)
        idle = _largest(latents * (self.stats_last_nonzero > self.dead_threshold), self.k_aux) if self.k_aux else None
        more = _largest(latents, 4 * k)
        self._note_use(more)
        plain = F.linear(chosen, self.encoder.weight.t())
        features["sentence_embedding_backbone"] = x
        features["sentence_embedding_encoded"] = latents
        features["sentence_embedding_encoded_4k"] = more
        features["auxiliary_embedding"] = idle
        features["decoded_embedding_k_pre_bias"] = plain * deviation + mean
        features["decoded_embedding_k"] = (plain + self.pre_bias) * deviation + mean
        features["decoded_embedding_4k"] = self._decode(more) * deviation + mean
        # the auxiliary loss compares with a remainder, which has no mean of its own
        features["decoded_embedding_aux"] = None if idle is None else self._decode(idle) * deviation
        return features

    def _standardized(self, x: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """x, perhaps standardised, with the mean and the deviation (B, 1) that undo it."""
        if not self.normalize:
            return x, 0.0, 1.0
        mean = x.mean(-1, keepdim=True)
        deviation = (x - mean).std(-1, keepdim=True)
        return (x - mean) / (deviation + TINY), mean, deviation

    def _decode(self, latents: Tensor) -> Tensor:
        return F.linear(latents, self.encoder.weight.t()) + self.pre_bias

    @torch.no_grad()
    def _note_use(self, chosen: Tensor) -> None:
        """Count one more choice for every latent, from 0 where some input of the batch used it."""
        if self.training:
            self.stats_last_nonzero *= ~(chosen > ACTIVE).any(0)
            self.stats_last_nonzero += 1

    def get_embedding_dimension(self) -> int:
        """``hidden_dim``."""
        return self.hidden_dim

    def save_torch_weights(self, output_path: str, safe_serialization: bool = True) -> None:
        """Write the state dict; in a pickle, version 6 looks for the one matrix under both names."""
        state = self.state_dict()
        if not safe_serialization:
            state[DECODER] = state[ENCODER]
        checkpoint.write_weights(state, Path(output_path), safe_serialization)


def _largest(latents: Tensor, count: int) -> Tensor:
    """relu of the ``count`` largest numbers of each row, zero elsewhere: (B, hidden_dim)."""
    values, places = latents.topk(min(count, latents.shape[-1]), dim=-1)
    return torch.zeros_like(latents).scatter(-1, places, torch.relu(values))


def _one_matrix(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Files name the matrix as that of the decoder, of the encoder, or of both."""
    decoder = state.pop(prefix + DECODER, None)
    if decoder is not None:
        state.setdefault(prefix + ENCODER, decoder)
