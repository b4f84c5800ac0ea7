"""The embedded store with a FAISS index instead of exact search: for more rows than can be compared one by one.

The SQLite file is still the truth; the index follows it, and can always be built again.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import need
from .embedded import EmbeddedStore
from .held import HeldDense, best_rows_of, dense_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from types import ModuleType
    from typing import TypeAlias

    from .base import Settings

    Array: TypeAlias = np.ndarray[Any, Any]

ROWS_PER_CENTROID = 39
"""So many rows for each centroid does FAISS want to learn from, or it warns."""
CODE_CENTROIDS = 256
"""Centroids of a product quantiser with 8 bits."""
MOST_GONE = 0.5
"""Most kinds of indexes cannot remove a row; it is only hidden, until this share of them is and all is built again."""

logger = logging.getLogger(__name__)


class FaissStore(EmbeddedStore):
    """An ``EmbeddedStore`` whose dense embeddings are searched with FAISS.

    Rows are as safe as there. The index is in memory; ``persist`` writes it beside the rows, otherwise it is built
    anew the next time. Except for "Flat" the search is approximate. One search or change at a time.

    Args:
        path, create, similarity, width, sparse_width, notes: see ``EmbeddedStore``.
        factory: what ``faiss.index_factory`` makes (https://github.com/facebookresearch/faiss/wiki/The-index-factory),
            such as "Flat", "HNSW32" or "IVF1024,PQ48". One that must be trained is, with the first rows, once there
            are 39 for each centroid; until then search is exact.
        search_width: candidates that HNSW looks at for a query (efSearch), or lists that IVF visits (nprobe); None
            for the index's own. Larger is slower and finds more.

    Raises: ImportError without faiss; ValueError for an index that FAISS cannot make, as soon as the width is known;
        as ``EmbeddedStore``.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        factory: str = "HNSW32",
        *,
        search_width: int | None = None,
        create: bool = True,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._faiss = need("faiss", extra="search", what="FaissStore")
        self.factory, self.search_width = factory, search_width
        super().__init__(
            path, create=create, similarity=similarity, width=width, sparse_width=sparse_width, notes=notes
        )
        try:
            self._prepare(self.settings)
            self._index().load(self._index_file())
            self._refresh()
            if self._index().count() != self.file.count_vectors("dense"):
                logger.warning("The index in %s does not belong to the rows: it is built again.", self.path)
                self._index().forget()
                self._version = None
                self._refresh()
        except BaseException:
            self.close()
            raise

    def persist(self) -> None:
        """Write the index beside the rows, and make the file of these complete in itself."""
        self._refresh()
        with self.file.alone():
            self._index().save(self._index_file())
        super().persist()

    def _prepare(self, settings: Settings) -> None:
        if settings.width is not None:
            self._index().empty_index(settings.width)  # before any row is kept that could not be searched
        super()._prepare(settings)

    def _index(self) -> HeldFaiss:
        assert isinstance(self._dense, HeldFaiss)
        return self._dense

    def _new_dense(self) -> HeldFaiss:
        return HeldFaiss(self._faiss, self.factory, self._settings.similarity == "cosine", self.search_width)

    def _index_file(self) -> Path:
        return self.path / f"dense-{re.sub(r'[^A-Za-z0-9]+', '_', self.factory)}.faiss"


class HeldFaiss:
    """Dense embeddings in a FAISS index; see ``held.Held``.

    Args:
        is_cosine: compare at unit length.
    """

    def __init__(self, faiss: ModuleType, factory: str, is_cosine: bool, search_width: int | None) -> None:
        self.faiss, self.factory, self.is_cosine, self.search_width = faiss, factory, is_cosine, search_width
        self._lock = RLock()
        self.forget()

    def forget(self) -> None:
        """Be empty, as at first: the next refresh brings all rows again."""
        self.last = 0
        self._index: Any = None
        self._young = HeldDense("cosine" if self.is_cosine else "dot")  # rows until the index is trained
        self._gone = np.empty(0, dtype=np.int64)  # rows that stay in the index and are not to be found, ascending

    def count(self) -> int:
        """How many rows can be found."""
        with self._lock:
            return self._total() - len(self._gone) + self._young.count()

    def empty_index(self, width: int) -> Any:
        """A new index. Raises: ValueError if FAISS cannot make it."""
        try:
            made = self.faiss.index_factory(width, self.factory, self.faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ValueError(
                f"FAISS cannot make an index {self.factory!r} for embeddings of width {width}: "
                f"{str(error).rpartition(': ')[2]}"
            ) from error
        numbered = self.faiss.IndexIDMap2(made)
        numbered.own_fields, _ = True, made.this.disown()
        return numbered

    def extend(self, numbers: Array, blobs: list[bytes]) -> None:
        rows = dense_rows(blobs)
        with self._lock:
            if self._index is None:
                self._index = self.empty_index(rows.shape[1])
            if self._index.is_trained:
                self._index.add_with_ids(unit_rows(rows) if self.is_cosine else rows, numbers)
            else:
                self._young.extend(numbers, blobs)
                self._train()
            self.last = int(numbers[-1])

    def drop(self, numbers: Array) -> None:
        with self._lock:
            self._young.drop(numbers)
            if self._total() == 0:
                return
            present = np.intersect1d(numbers, self.faiss.vector_to_array(self._index.id_map))
            present = np.setdiff1d(present, self._gone)
            if len(present) == 0:
                return
            self._gone = np.union1d(self._gone, present)
            if len(self._gone) > MOST_GONE * self._total():
                self.forget()

    def search(self, queries: Array, limit: int, allowed: Array | None) -> tuple[Array, Array]:
        with self._lock:
            if self._total() == 0:
                return self._young.search(queries, limit, allowed)
            asked = unit_rows(queries) if self.is_cosine else queries
            wanted = None if allowed is None else self._present(allowed)
            limit = min(limit, self._total() - len(self._gone) if wanted is None else len(wanted))
            if limit == 0:
                return np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
            scores, numbers = self._ask(asked, limit, wanted, self.search_width)
            if (numbers < 0).any():  # the graph, or the lists that were visited, have too few
                return self._all(asked, limit, self._present(None) if wanted is None else wanted)
            return scores, numbers

    def load(self, path: Path) -> None:
        """Begin with an index that was saved, if there is one and it can be read."""
        if not path.is_file():
            return
        try:
            index = self.faiss.read_index(str(path))
        except RuntimeError as error:
            logger.warning("The index %s cannot be read (%s): it is built again.", path, str(error).splitlines()[0])
            return
        self._index = index
        self.last = int(self.faiss.vector_to_array(index.id_map).max(initial=0))

    def save(self, path: Path) -> None:
        """Write all or nothing; an index without rows is not written. One process may do it at a time."""
        with self._lock:
            if self._total() == 0:
                return
            part = path.with_suffix(".part")
            self.faiss.write_index(self._index, str(part))
            os.replace(part, path)

    def _ask(self, asked: Array, limit: int, wanted: Array | None, search_width: int | None) -> tuple[Array, Array]:
        """The search among wanted numbers, or all that are not gone; -1 stands for a number where there are too few."""
        hidden = self.faiss.IDSelectorBatch(self._gone)  # named, since what refers to it does not keep it
        given: dict[str, Any] = {}
        if wanted is not None:
            given["sel"] = self.faiss.IDSelectorBatch(wanted)
        elif len(self._gone):
            given["sel"] = self.faiss.IDSelectorNot(hidden)
        if graph := self._inner(self.faiss.IndexHNSW):
            width = max(search_width or graph.hnsw.efSearch, limit)
            parameters = self.faiss.SearchParametersHNSW(efSearch=width, **given)
        elif lists := self._inner(self.faiss.IndexIVF):
            parameters = self.faiss.SearchParametersIVF(nprobe=search_width or lists.nprobe, **given)
        else:
            parameters = self.faiss.SearchParameters(**given)
        scores, numbers = self._index.search(asked, limit, params=parameters)
        return scores, numbers

    def _all(self, asked: Array, limit: int, wanted: Array) -> tuple[Array, Array]:
        """The search among wanted numbers without a shortcut."""
        if lists := self._inner(self.faiss.IndexIVF):
            return self._ask(asked, limit, wanted, int(lists.nlist))
        return best_rows_of(asked, self._index.reconstruct_batch(wanted), wanted, limit)

    def _total(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    def _train(self) -> None:
        """Train the index and move the young rows into it, once they are enough."""
        lists = self._inner(self.faiss.IndexIVF)
        centroids = max(CODE_CENTROIDS, 1 if lists is None else int(lists.nlist))
        if self._young.count() >= ROWS_PER_CENTROID * centroids:
            numbers, rows = self._young.view()
            self._index.train(rows)
            self._index.add_with_ids(rows, numbers)
            self._young = HeldDense("cosine" if self.is_cosine else "dot")

    def _present(self, allowed: Array | None) -> Array:
        """The numbers in the index that may be found, ascending."""
        there = np.sort(self.faiss.vector_to_array(self._index.id_map))
        there = there if allowed is None else np.intersect1d(there, allowed, assume_unique=True)
        return np.setdiff1d(there, self._gone, assume_unique=True)

    def _inner(self, kind: type) -> Any:
        """The index under the numbers, if it is of this kind."""
        index = self.faiss.downcast_index(self._index.index)
        return index if isinstance(index, kind) else None
