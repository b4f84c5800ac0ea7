"""Fewer token embeddings for an input: a base for any rule, and pooling by clusters. Knows nothing of token ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers._types import Features
from sentence_transformers.errors import need, one_of
from sentence_transformers.modules.module import Module
from sentence_transformers.ops.tensors import to_tensor
from sentence_transformers.ops.tokens import Packed, Padded


class BaseTokenPooling(Module):
    """A rule that makes fewer token embeddings of those of an input; a subclass defines ``pool_one``.

    Reads and writes ``token_embeddings``: ``Packed``, or (B, T, D) with ``attention_mask`` (B, T), which becomes
    (B, T') bool with padding on the right.

    Args:
        tasks: the tasks whose inputs are pooled; default ``["document"]``. No task counts as "document".
    """

    config_keys: ClassVar[Sequence[str]] = ("tasks",)
    forward_kwargs: ClassVar[set[str]] = {"task"}
    accepts_packed: ClassVar[bool] = True

    def __init__(self, *, tasks: Sequence[str] | None = None) -> None:
        super().__init__()
        chosen = ("document",) if tasks is None else tasks
        self.tasks = [chosen] if isinstance(chosen, str) else list(chosen)

    @property
    def threads_safe(self) -> bool:
        """A rule of a user may keep state."""
        return False

    @abstractmethod
    def pool_one(self, embedding: Tensor) -> Tensor:
        """(t, D), t >= 1 -> (t', D): the embeddings of one input."""

    def applies_to(self, task: str | None) -> bool:
        """Whether the inputs of a task are pooled."""
        return (task or "document") in self.tasks

    def forward(self, features: Features, task: str | None = None, **kwargs: Any) -> Features:
        if not self.applies_to(task or features.get("task")):
            return features
        values = features["token_embeddings"]
        if isinstance(values, Packed):
            features["token_embeddings"] = self._pool_all(values.rows(), values.values)
            return features
        mask = features.get("attention_mask")
        padded = Padded(values, torch.ones(values.shape[:2], device=values.device) if mask is None else mask)
        pooled = self._pool_all(padded.rows(), values).pad()
        features["token_embeddings"], features["attention_mask"] = pooled.values, pooled.mask.bool()
        return features

    def pool(
        self,
        embeddings: Tensor | Sequence[Tensor],
        *,
        task: str | None = None,
        attention_mask: Tensor | None = None,
        padding_side: str = "right",
    ) -> Tensor | list[Tensor]:
        """Pool finished embeddings; those of a task that is not pooled come back as they are.

        Args:
            embeddings: a list of (t_i, D), or one padded (B, T, D).
            attention_mask: (B, T), not zero for the tokens of a padded tensor; None: those that are not all zero.
            padding_side: "left" or "right": where the padded result is filled up with zeros.

        Returns: a list of (t'_i, D), or (B, T', D), as was given.
        Raises: ValueError for another number of dimensions or another ``padding_side``.
        """
        one_of("padding_side", padding_side, ("left", "right"))
        if not self.applies_to(task):
            return embeddings if isinstance(embeddings, Tensor) else list(embeddings)
        if not isinstance(embeddings, (Tensor, np.ndarray)):
            items = [to_tensor(item) for item in embeddings]
            for item in items:
                if item.dim() != 2:
                    raise ValueError(f"list entries must be 2D tensors; got shape {tuple(item.shape)}.")
            return [self._pool(item) for item in items]
        padded = to_tensor(embeddings)
        if padded.dim() != 3:
            raise ValueError(f"Tensor input must be 3D (B, T, D); got shape {tuple(padded.shape)}.")
        mask = (padded != 0).any(-1) if attention_mask is None else attention_mask.to(padded.device)
        pooled = self._pool_all(Padded(padded, mask).rows(), padded).pad()
        return pooled.values if padding_side == "right" else _moved_right(pooled)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the config; there are no weights."""
        self.save_config(output_path)

    def _pool(self, embedding: Tensor) -> Tensor:
        pooled = self.pool_one(embedding) if len(embedding) else embedding
        if pooled.dim() != 2 or pooled.shape[1] != embedding.shape[1]:
            raise ValueError(
                f"{type(self).__name__}.pool_one must return (tokens, {embedding.shape[1]}); got the shape "
                f"{tuple(pooled.shape)} for an input of the shape {tuple(embedding.shape)}."
            )
        return pooled

    def _pool_all(self, items: Sequence[Tensor], like: Tensor) -> Packed:
        """Pool every item, (t_i, D); ``like`` gives dtype and width where there are none."""
        pooled = [self._pool(item) for item in items]
        values = torch.cat(pooled) if pooled else like.new_zeros(0, like.shape[-1])
        return Packed(values, tuple(len(item) for item in pooled))


class HierarchicalTokenPooling(BaseTokenPooling):
    """Replace clusters of similar tokens by their mean, until one of ``pool_factor`` tokens is left.

    Clusters are made by Ward linkage of the distances 1 - x . y, limited to 0 ... 2, so unit vectors are expected. Ties
    may leave fewer clusters than asked for. Needs scipy.

    Args:
        pool_factor: how many tokens become one, >= 1; 1 pools nothing.
        num_protected_tokens: how many tokens at the start are kept as they are, >= 0.
        normalize_embeddings: scale the results to unit length.
        tasks: as of ``BaseTokenPooling``.

    Raises: ValueError for a ``pool_factor`` below 1 or a negative number of protected tokens.
    Source: Clavié et al. 2024, https://arxiv.org/abs/2409.14683
    """

    config_keys: ClassVar[Sequence[str]] = ("pool_factor", "num_protected_tokens", "normalize_embeddings", "tasks")

    def __init__(
        self,
        pool_factor: float = 1.0,
        *,
        num_protected_tokens: int = 1,
        normalize_embeddings: bool = True,
        tasks: Sequence[str] | None = None,
    ) -> None:
        super().__init__(tasks=tasks)
        if not pool_factor >= 1:  # also where it is not a number
            raise ValueError(f"pool_factor must be >= 1, got {pool_factor}.")
        if num_protected_tokens < 0:
            raise ValueError(f"num_protected_tokens must be >= 0, got {num_protected_tokens}.")
        self.pool_factor = pool_factor
        self.num_protected_tokens = num_protected_tokens
        self.normalize_embeddings = normalize_embeddings

    @property
    def threads_safe(self) -> bool:
        """Keeps no state."""
        return True

    def pool_one(self, embedding: Tensor) -> Tensor:
        """(t, D) -> (t', D): the protected tokens, then the means of the clusters."""
        kept, rest = embedding[: self.num_protected_tokens], embedding[self.num_protected_tokens :]
        clusters = max(int(len(rest) // self.pool_factor), 1)
        pooled = embedding if clusters >= len(rest) else torch.cat([kept, _cluster_means(rest, clusters)])
        return F.normalize(pooled, dim=-1) if self.normalize_embeddings else pooled

    @classmethod
    def load_config(
        cls, model_name_or_path: str, subfolder: str = "", config_filename: str | None = None, **hub: Any
    ) -> dict[str, Any]:
        """Read the config; files from before there was ``normalize_embeddings`` mean False."""
        config = super().load_config(model_name_or_path, subfolder, config_filename, **hub)
        return {"normalize_embeddings": False, **config}


class LambdaTokenPooling(BaseTokenPooling):
    """Pool by a function; for use in ``encode(token_pooling=...)``, since a function cannot be saved.

    Args:
        pool_fn: (t, D), t >= 1 -> (t', D).
        tasks: as of ``BaseTokenPooling``.
    """

    def __init__(self, pool_fn: Callable[[Tensor], Tensor], *, tasks: Sequence[str] | None = None) -> None:
        super().__init__(tasks=tasks)
        self.pool_fn = pool_fn

    def pool_one(self, embedding: Tensor) -> Tensor:
        """What ``pool_fn`` makes of it."""
        return self.pool_fn(embedding)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Raises: NotImplementedError."""
        raise NotImplementedError(
            "LambdaTokenPooling holds a Python function and cannot be saved. Use it by itself or in "
            "encode(token_pooling=...); for a part that is saved with a model, subclass BaseTokenPooling."
        )


def _cluster_means(embeddings: Tensor, clusters: int) -> Tensor:
    """(n, D), n >= 2 -> (at most ``clusters``, D): the means of Ward clusters, in the dtype of the embeddings."""
    hierarchy = need("scipy.cluster.hierarchy", extra="sparse", what="HierarchicalTokenPooling")
    rows = embeddings.to(torch.promote_types(torch.float32, embeddings.dtype))
    distances = (1 - rows.detach() @ rows.detach().t()).clamp(0, 2).cpu().double().numpy()
    pairs = distances[np.triu_indices(len(distances), 1)]  # (n * (n - 1) / 2,), as linkage takes them
    numbers = hierarchy.fcluster(hierarchy.linkage(pairs, method="ward"), clusters, criterion="maxclust")
    member = F.one_hot(torch.from_numpy(numbers.astype(np.int64) - 1)).to(rows)  # (n, clusters): 0 or 1
    return (member.t() @ rows / member.sum(0)[:, None]).to(embeddings.dtype)


def _moved_right(pooled: Padded) -> Tensor:
    """The values with their padding on the left."""
    last = pooled.values.shape[1]
    moved = [row.roll(last - int(count), 0) for row, count in zip(pooled.values, pooled.mask.sum(1), strict=True)]
    return torch.stack(moved) if moved else pooled.values
