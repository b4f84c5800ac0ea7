"""Names for the shapes of data that pass between layers. Imports nothing of ours and nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    EmbeddingsLike: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[Any]

Features: TypeAlias = dict[str, Any]
"""What modules hand on: ``input_ids``, ``attention_mask``, ``token_embeddings``, ``sentence_embedding``, ..."""

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
OnTruncate = Literal["warn", "error", "ignore"]


class HubArguments(TypedDict, total=False):
    """The arguments that say where and how a model is fetched; every loader hands them on unchanged."""

    token: bool | str | None
    cache_folder: str | None
    revision: str | None
    local_files_only: bool
