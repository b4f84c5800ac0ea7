"""What a store of embeddings is, and the half that all stores share: checks, and the fusion of two searches.

A row has an id, an embedding (dense, sparse or both), perhaps a text, and metadata to filter by. A new place to keep
rows is a class with the hooks of ``Store``. Knows nothing of models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ...errors import one_of, positive
from ...ops.sparse import to_indices_values
from ...ops.tensors import is_sparse, to_batch, to_tensor
from ..fusion import reciprocal_rank_fusion
from .where import All, Condition, Where, check_metadata, parse

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypeAlias

    from torch import Tensor

    from ..._types import EmbeddingsLike

    Array: TypeAlias = np.ndarray[Any, Any]
    SparseRows: TypeAlias = list[tuple[Array, Array]]
    """For each row its dimensions, ascending, int32, and their values, float32, none of them 0."""

SIMILARITIES = ("cosine", "dot")
FUSED = 100
"""So many rows of each kind of search are fused, or ``top_k`` if that is more."""

Some = TypeVar("Some", bound="Store")


class StoreError(RuntimeError):
    """A store cannot be opened, or what it holds is damaged."""


@dataclass(frozen=True)
class Match:
    """A row that was found. score: higher is closer."""

    id: str
    score: float
    text: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What holds for all rows of a store.

    Attributes:
        similarity: of dense embeddings, "cosine" or "dot"; of sparse ones it is always the dot product. None: not said.
        width: D, once there is a dense embedding. sparse_width: V, likewise.
        notes: anything its owner wants to find again, such as the name of the model.
    """

    similarity: str | None = None
    width: int | None = None
    sparse_width: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def agree(self, asked: Settings) -> Settings:
        """The settings of a store that has these, opened with the ``asked`` ones: where both say something, they must
        say the same; "cosine" if neither names a similarity. ``Settings()`` are those of a new store.

        Raises: ValueError if they differ, or for an unknown similarity.
        """
        for name in ("similarity", "width", "sparse_width"):
            here, there = getattr(self, name), getattr(asked, name)
            if None not in (here, there) and here != there:
                raise ValueError(
                    f"This store has {name} {here!r}, but was opened with {name}={there!r}. Open it with the model "
                    "that filled it, or choose another place."
                )
        return Settings(
            one_of("similarity", self.similarity or asked.similarity or "cosine", SIMILARITIES),
            self.width or asked.width,
            self.sparse_width or asked.sparse_width,
            {**self.notes, **asked.notes},
        )

    def widened(self, width: int | None, sparse_width: int | None) -> Settings:
        """The settings once there are rows, or queries, of these widths. Raises: ValueError for other widths."""
        for kind, known, given in (
            ("embeddings", self.width, width),
            ("sparse embeddings", self.sparse_width, sparse_width),
        ):
            if None not in (known, given) and known != given:
                raise ValueError(
                    f"This store holds {kind} of width {known}, got width {given}. Were they made by another model, or "
                    "with another truncate_dim?"
                )
        return replace(self, width=width or self.width, sparse_width=sparse_width or self.sparse_width)


@dataclass(frozen=True)
class Rows:
    """Rows to be kept: n of everything.

    dense: (n, D) float32, or None. sparse: or None. texts: None where a row has none.
    """

    ids: list[str]
    dense: Array | None
    sparse: SparseRows | None
    texts: list[str | None]
    metadata: list[dict[str, Any]]


class VectorStore(Protocol):
    """Keeps rows, and finds those that are close to a query; what each method does is said at ``Store``."""

    @property
    def settings(self) -> Settings: ...

    def add(
        self,
        ids: Sequence[str],
        embeddings: EmbeddingsLike | None = None,
        *,
        sparse_embeddings: Tensor | None = None,
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None: ...

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int: ...

    def search(
        self,
        embeddings: EmbeddingsLike | None = None,
        *,
        sparse_embeddings: Tensor | None = None,
        top_k: int = 10,
        where: Where | None = None,
    ) -> list[list[Match]]: ...

    def count(self, where: Where | None = None) -> int: ...

    def persist(self) -> None: ...

    def close(self) -> None: ...


class Store(ABC):
    """A ``VectorStore`` once the hooks below are there. Hooks get what was checked, and at least one row or query.

    Args:
        settings: what ``Settings.agree`` gave for what is there already and what is asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """What holds for all rows."""
        return self._settings

    def add(
        self,
        ids: Sequence[str],
        embeddings: EmbeddingsLike | None = None,
        *,
        sparse_embeddings: Tensor | None = None,
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Keep rows; one whose id is there already replaces that one as a whole.

        Args:
            ids: of n rows, all different.
            embeddings: (n, D) finite numbers, kept as float32.
            sparse_embeddings: (n, V) sparse tensor of finite numbers.
            texts: n of them. metadata: n dictionaries of strings, numbers, bools, or lists of these.

        Raises: ValueError, and nothing is kept, for arguments of different lengths, for embeddings of another width
            than those that are here, for NaN or infinite ones, for no embeddings at all, for an id given twice;
            TypeError for ids or metadata of other types.
        """
        rows = self._rows(ids, embeddings, sparse_embeddings, texts, metadata)
        if not rows.ids:
            return
        settings = self.settings.widened(_width(rows.dense), _width(sparse_embeddings))
        if settings != self.settings:
            self._prepare(settings)
            self._settings = settings
        self._put(rows)

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Delete the rows of these ids, or those for which the condition holds; ids that are not there are left alone.

        Returns: how many rows were deleted. Raises: ValueError unless exactly one of the two is given.
        """
        condition = parse(where)
        if condition == All(()):
            condition = None  # all rows, which nobody deletes by an empty list of conditions
        if (ids is None) == (condition is None):
            raise ValueError("delete() takes either ids or a condition (where=...) that is not empty, exactly one.")
        if condition is not None:
            return self._delete_where(condition)
        wanted = _ids(ids if ids is not None else ())
        return self._delete_ids(wanted) if wanted else 0

    def search(
        self,
        embeddings: EmbeddingsLike | None = None,
        *,
        sparse_embeddings: Tensor | None = None,
        top_k: int = 10,
        where: Where | None = None,
    ) -> list[list[Match]]:
        """The closest rows to every query, best first; by both kinds of embeddings if both are given.

        Two searches are fused by their ranks (``fusion.reciprocal_rank_fusion``); a score is then the sum of
        reciprocal ranks.

        Args:
            embeddings: (q, D), or (D,) for one query.
            sparse_embeddings: (q, V) sparse tensor, or (V,).
            top_k: at most so many for a query, >= 1.
            where: only rows whose metadata fulfil this, see ``where``.

        Returns: a list for each query, shorter than ``top_k`` where there are fewer rows.
        Raises: ValueError for another width than that of the rows, for NaN or infinite numbers, for no query at all.
        """
        limit, condition = positive("top_k", top_k), parse(where)
        queries = None if embeddings is None else _dense(embeddings)
        sparse = None if sparse_embeddings is None else _sparse(sparse_embeddings)
        if queries is None and sparse is None:
            raise ValueError("search() needs embeddings, sparse_embeddings, or both.")
        asked = self.settings.widened(_width(queries), _width(sparse_embeddings))
        if queries is not None and sparse is not None and len(queries) != len(sparse):
            raise ValueError(f"Got {len(queries)} dense and {len(sparse)} sparse queries; they go in pairs.")
        count = len(queries) if queries is not None else len(sparse or ())
        if count == 0:
            return []
        each = limit if queries is None or sparse is None else max(limit, FUSED)
        found: list[list[list[Match]]] = []
        if queries is not None:
            there = asked.width == self.settings.width
            found.append(self._search_dense(queries, each, condition) if there else [[] for _ in range(count)])
        if sparse is not None:
            there = asked.sparse_width == self.settings.sparse_width
            found.append(self._search_sparse(sparse, each, condition) if there else [[] for _ in range(count)])
        return found[0] if len(found) == 1 else [_fused(both, limit) for both in zip(*found, strict=True)]

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, of those for which the condition holds."""
        return self._count(parse(where))

    @abstractmethod
    def persist(self) -> None:
        """Keep for good what is not yet."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections and memory; the store cannot be used afterwards."""

    def __enter__(self: Some) -> Some:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _prepare(self, settings: Settings) -> None:
        """Get ready for rows of widths that were not known before, and keep the settings."""

    @abstractmethod
    def _put(self, rows: Rows) -> None:
        """Keep the rows: all, or none if it fails. They are there for good once it returns, or after ``persist``."""

    @abstractmethod
    def _delete_ids(self, ids: list[str]) -> int: ...

    @abstractmethod
    def _delete_where(self, condition: Condition) -> int: ...

    @abstractmethod
    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        """For (q, D) float32 queries, of the width of the store."""

    @abstractmethod
    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]: ...

    @abstractmethod
    def _count(self, condition: Condition | None) -> int: ...

    def _rows(
        self,
        ids: Sequence[str],
        embeddings: EmbeddingsLike | None,
        sparse_embeddings: Tensor | None,
        texts: Sequence[str | None] | None,
        metadata: Sequence[Mapping[str, Any] | None] | None,
    ) -> Rows:
        keys = _ids(ids)
        if keys and embeddings is None and sparse_embeddings is None:
            raise ValueError("add() needs embeddings, sparse_embeddings, or both.")
        dense = None if embeddings is None or not keys else _dense(embeddings)
        sparse = None if sparse_embeddings is None or not keys else _sparse(sparse_embeddings)
        lengths = {
            "embeddings": dense if keys else embeddings,
            "sparse_embeddings": sparse if keys else sparse_embeddings,
            "texts": texts,
            "metadata": metadata,
        }
        for name, values in lengths.items():
            if values is not None and len(values) != len(keys):
                raise ValueError(f"add() got {len(keys)} ids, but {len(values)} {name}. Nothing was added.")
        checked = [check_metadata(one) for one in metadata] if metadata is not None else [{} for _ in keys]
        return Rows(keys, dense, sparse, _texts(texts, len(keys)), checked)


def _ids(ids: Sequence[str]) -> list[str]:
    if isinstance(ids, str):
        raise TypeError(f"ids must be a list of strings, got one string: {ids!r}.")
    found = list(ids)
    for one in found:
        if not isinstance(one, str) or not one:
            raise TypeError(f"Ids must be strings that are not empty, got {one!r}.")
    if len(set(found)) < len(found):
        [(twice, _)] = Counter(found).most_common(1)
        raise ValueError(f"Ids must differ from each other, got {twice!r} twice. Nothing was changed.")
    return found


def _texts(texts: Sequence[str | None] | None, count: int) -> list[str | None]:
    if isinstance(texts, str):
        raise TypeError("texts must be a list of strings, got one string.")
    found: list[str | None] = [None] * count if texts is None else list(texts)
    for text in found:
        if text is not None and not isinstance(text, str):
            raise TypeError(f"Texts must be strings or None, got {type(text).__name__}.")
    return found


def _dense(embeddings: EmbeddingsLike) -> Array:
    """(n, D) float32 from (n, D) or (D,)."""
    tensor = to_tensor(embeddings).detach()
    if is_sparse(tensor):
        raise TypeError("embeddings must be dense; pass sparse ones as sparse_embeddings=...")
    rows = to_batch(tensor)
    if rows.dim() != 2 or (rows.shape[1] == 0 and len(rows)):
        raise ValueError(f"Embeddings must be (rows, width), got shape {tuple(tensor.shape)}.")
    array = np.ascontiguousarray(rows.float().cpu().numpy())
    _refuse_infinite(np.isfinite(array).all(axis=1))
    return array


def _sparse(embeddings: Tensor) -> SparseRows:
    rows = to_indices_values(embeddings)
    _refuse_infinite(np.array([np.isfinite(values).all() for _, values in rows], dtype=bool))
    return rows


def _refuse_infinite(is_finite: Array) -> None:
    if not is_finite.all():
        row = int(np.flatnonzero(~is_finite)[0])
        raise ValueError(
            f"Embeddings must be finite, but row {row} has NaN or infinite values. Leave such rows out, or find out "
            "why the model made them."
        )


def _width(embeddings: Array | Tensor | None) -> int | None:
    return None if embeddings is None else int(embeddings.shape[-1])


def _fused(both: tuple[list[Match], ...], limit: int) -> list[Match]:
    """Matches of one query, from two searches, in one ranking."""
    by_id = {match.id: match for matches in both for match in matches}
    ranked = reciprocal_rank_fusion([match.id for match in matches] for matches in both)
    return [replace(by_id[one], score=score) for one, score in ranked[:limit]]
