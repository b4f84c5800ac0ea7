"""Parts that mix neighbouring tokens: LSTM and CNN. They work on padded tensors; ``Packed`` is padded and packed again.

Padding never reaches a real token: vectors of padding are taken as zero, so a text gets the same result in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentence_transformers._types import Features
from sentence_transformers.modules.parts import ModuleWithWeights, WithDimension, renamed_arguments
from sentence_transformers.ops.tokens import Packed

TOKENS = "token_embeddings"


class LSTM(WithDimension, ModuleWithWeights):
    """A long short-term memory over the tokens of each text.

    Reads and writes ``token_embeddings``: (B, T, embedding_dimension) -> (B, T, get_embedding_dimension()), or
    ``Packed``. Padded texts end where ``sentence_lengths`` (B,) says, else where the ``attention_mask`` does; padding
    stands on the right and comes out as zeros.

    Args:
        embedding_dimension: the width of what comes in.
        hidden_dim: the width of what comes out, for each direction.
        num_layers, dropout, bidirectional: as in ``torch.nn.LSTM``.
    """

    config_file_name: ClassVar[str] = "lstm_config.json"
    config_keys: ClassVar[Sequence[str]] = (
        "embedding_dimension",
        "hidden_dim",
        "num_layers",
        "dropout",
        "bidirectional",
    )
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        hidden_dim: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.encoder = nn.LSTM(
            embedding_dimension,
            hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            batch_first=True,
        )

    def forward(self, features: Features, **kwargs: Any) -> Features:
        tokens = features[TOKENS]
        if isinstance(tokens, Packed):
            values, real = _padded(tokens)
            out = self._run(values, torch.tensor(tokens.lengths))
            features[TOKENS] = Packed(out[real], tokens.lengths)
        else:
            features[TOKENS] = self._run(tokens, _lengths(features))
        return features

    def _run(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, T, hidden * directions)."""
        if not values.shape[0] or not values.shape[1]:
            return values.new_zeros(*values.shape[:2], self.get_embedding_dimension())
        at_least_one = lengths.clamp(min=1, max=values.shape[1]).cpu()
        packed = pack_padded_sequence(values, at_least_one, batch_first=True, enforce_sorted=False)
        out: Tensor = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=values.shape[1])[0]
        return out

    def get_embedding_dimension(self) -> int:
        """``hidden_dim``, twice if bidirectional."""
        return self.hidden_dim * (2 if self.bidirectional else 1)


class CNN(WithDimension, ModuleWithWeights):
    """Convolutions over the tokens of each text, one for each kernel size, with their channels side by side.

    Reads and writes ``token_embeddings``: (B, T, in_embedding_dimension) -> (B, T', get_embedding_dimension()), or
    ``Packed``. T' is T / stride, rounded up; with a stride over 1 the ``attention_mask`` is thinned out alike.

    Args:
        in_embedding_dimension: the width of what comes in.
        out_channels: the width of what comes out, for each kernel.
        kernel_sizes: tokens under each kernel; odd, so that every kernel has a token in its middle.
        stride_sizes: by how many tokens each kernel moves on, the same for all; default 1.

    Raises:
        ValueError: kernels that would give different numbers of tokens.
    """

    config_file_name: ClassVar[str] = "cnn_config.json"
    config_keys: ClassVar[Sequence[str]] = ("in_embedding_dimension", "out_channels", "kernel_sizes", "stride_sizes")
    config_key_renames: ClassVar[dict[str, str]] = {"in_word_embedding_dimension": "in_embedding_dimension"}
    accepts_packed: ClassVar[bool] = True

    @renamed_arguments(in_word_embedding_dimension="in_embedding_dimension")
    def __init__(
        self,
        in_embedding_dimension: int,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        stride_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_embedding_dimension = in_embedding_dimension
        self.out_channels = out_channels
        self.kernel_sizes = list(kernel_sizes)
        self.stride_sizes = [1] * len(self.kernel_sizes) if stride_sizes is None else list(stride_sizes)
        _check_kernels(self.kernel_sizes, self.stride_sizes)
        self.convs = nn.ModuleList(
            nn.Conv1d(in_embedding_dimension, out_channels, kernel_size=size, stride=stride, padding=size // 2)
            for size, stride in zip(self.kernel_sizes, self.stride_sizes, strict=True)
        )

    def forward(self, features: Features, **kwargs: Any) -> Features:
        tokens, stride = features[TOKENS], self.stride_sizes[0]
        if isinstance(tokens, Packed):
            values, real = _padded(tokens)
            lengths = tuple(-(-length // stride) for length in tokens.lengths)
            features[TOKENS] = Packed(self._run(values)[real[:, ::stride]], lengths)
            return features
        mask = features.get("attention_mask")
        if mask is not None and mask.shape[-1] == tokens.shape[1]:
            tokens = tokens * (mask != 0).to(tokens.dtype)[..., None]
            if stride > 1:
                features["attention_mask"] = mask[:, ::stride]
        features[TOKENS] = self._run(tokens)
        return features

    def _run(self, values: Tensor) -> Tensor:
        """(B, T, D) -> (B, T', channels * kernels)."""
        if not values.shape[0] or not values.shape[1]:
            return values.new_zeros(*values.shape[:2], self.get_embedding_dimension())
        channels_first = values.transpose(1, 2)
        return torch.cat([conv(channels_first) for conv in self.convs], dim=1).transpose(1, 2)

    def get_embedding_dimension(self) -> int:
        """``out_channels`` for every kernel."""
        return self.out_channels * len(self.kernel_sizes)


def _check_kernels(sizes: Sequence[int], strides: Sequence[int]) -> None:
    if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
        raise ValueError(f"kernel_sizes must be odd numbers >= 1, so that no kernel loses a token; got {list(sizes)}.")
    if len(strides) != len(sizes) or len(set(strides)) != 1 or strides[0] < 1:
        raise ValueError(f"stride_sizes must be one number >= 1, repeated for each kernel; got {list(strides)}.")


def _padded(tokens: Packed) -> tuple[Tensor, Tensor]:
    """(B, T, D) with zeros on the right, and (B, T): whether a token is real."""
    padded = tokens.pad()
    return padded.values, padded.mask != 0


def _lengths(features: Features) -> Tensor:
    """(B,) the number of tokens of each text."""
    lengths: Tensor | None = features.get("sentence_lengths")
    if lengths is not None:
        return lengths
    mask: Tensor | None = features.get("attention_mask")
    if mask is not None:
        return mask.to(torch.int64).sum(1)
    batch, tokens = features[TOKENS].shape[:2]
    return torch.full((batch,), tokens)
