"""Token vectors of several batches in one padded block, and the padded form of a features dict without padding.

Padding stands on the right and is zero, false in a mask. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

FLAT_ONLY = ("position_ids", "seq_idx", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What only describes the form without padding."""


def cat_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Batches of different length one behind the other.

    Args:
        embeddings: tensors (B_i, T_i, D).
        masks: as many tensors (B_i, T_i).

    Returns: (sum of B_i, largest T_i, D), and the mask, (sum of B_i, largest T_i).
    Raises: ValueError if there are none, or not as many of the one as of the other.
    """
    return torch.cat(_widen(embeddings, masks, embeddings, 2)), torch.cat(_widen(embeddings, masks, masks, 1))


def stack_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Batches of different length side by side, such as the candidates of B queries.

    Args:
        embeddings: n tensors (B, T_i, D).
        masks: n tensors (B, T_i).

    Returns: (B, n, largest T_i, D), and the mask, (B, n, largest T_i).
    Raises: ValueError if there are none, or not as many of the one as of the other.
    """
    return torch.stack(_widen(embeddings, masks, embeddings, 2), 1), torch.stack(_widen(embeddings, masks, masks, 1), 1)


def repad_flattened_features(features: dict[str, Any]) -> dict[str, Any]:
    """Give the tokens of B sequences, which stand one behind the other, a row for each sequence.

    Args:
        features: ``input_ids`` (1, N), ``token_embeddings`` (1, N, D) and ``cu_seq_lens_q`` (B + 1,): sequence i is the
            tokens ``[cu_seq_lens_q[i], cu_seq_lens_q[i + 1])``.

    Returns: the same dict, changed: ``input_ids`` (B, T), ``token_embeddings`` (B, T, D), ``attention_mask`` (B, T)
        bool; without the entries that only describe the other form. All else stays.
    Raises: KeyError if one of the three is missing.
    """
    bounds = features["cu_seq_lens_q"].tolist()
    lengths = [stop - start for start, stop in zip(bounds, bounds[1:], strict=False)]
    for name in ("input_ids", "token_embeddings"):
        features[name] = pad_sequence(list(features[name][0].split(lengths)), batch_first=True)
    tokens = features["input_ids"]
    places = torch.arange(tokens.shape[1], device=tokens.device)
    features["attention_mask"] = places < torch.tensor(lengths, device=tokens.device)[:, None]
    for name in FLAT_ONLY:
        features.pop(name, None)
    return features


def move_tensors_to_cpu(value: Any) -> Any:
    """The value with every tensor of it, also in lists, tuples and dicts, on the CPU; the containers are copied."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: move_tensors_to_cpu(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(move_tensors_to_cpu(item) for item in value)
    return [move_tensors_to_cpu(item) for item in value] if isinstance(value, list) else value


def _widen(embeddings: Sequence[Tensor], masks: Sequence[Tensor], tensors: Sequence[Tensor], tail: int) -> list[Tensor]:
    """``tensors`` of the length of the longest; ``tail`` is how many dimensions there are from the tokens on."""
    if not embeddings or len(embeddings) != len(masks):
        raise ValueError(
            f"Expected at least one tensor of embeddings, and a mask for each, got {len(embeddings)} and {len(masks)}."
        )
    longest = max(item.shape[1] for item in embeddings)
    return [F.pad(item, (0, 0) * (tail - 1) + (0, longest - item.shape[1])) for item in tensors]


_move_tensors_to_cpu = move_tensors_to_cpu  # the name under which the reference exports it
