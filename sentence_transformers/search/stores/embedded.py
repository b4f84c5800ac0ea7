"""The store that needs nothing else: a folder with one SQLite file, and exact search in memory.

The file is the truth. What is searched is a copy of its embeddings, brought up to date before every search.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Match, Rows, Settings, Store
from .held import Held, HeldDense, HeldSparse
from .sqlite import READ_ROWS, RowFile
from .where import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike
    from typing import TypeAlias

    import numpy as np

    from .base import SparseRows
    from .where import Condition, Where

    Array: TypeAlias = np.ndarray[Any, Any]

FILE = "store.sqlite"


class EmbeddedStore(Store):
    """Rows in a folder, searched exactly.

    A call of ``add`` or ``delete`` is on the disk as a whole when it returns, and not at all if the process is killed
    before. Several threads may use a store; they take turns. Several processes may use a folder (not over a network);
    each of them holds the embeddings in memory. Of rows with equal scores those that were added earlier come first.

    Args:
        path: of the folder.
        create: make what is missing; otherwise there must be a store.
        similarity: "cosine" (for a new store the default) or "dot".
        width, sparse_width: of embeddings; by default those of the first ones that are added.
        notes: kept with the store, see ``Settings``.

    Raises: FileNotFoundError; ValueError if the store there has other settings; StoreError if it is damaged.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        create: bool = True,
        similarity: str | None = None,
        width: int | None = None,
        sparse_width: int | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        if create:
            self.path.mkdir(parents=True, exist_ok=True)
        self.file = RowFile(self.path / FILE, create)
        try:
            super().__init__(self.file.agree(Settings(similarity, width, sparse_width, notes or {})))
        except BaseException:
            self.file.close()
            raise
        self._version: tuple[int, int] | None = None
        self._deletions = 0
        self._dense, self._sparse = self._new_dense(), HeldSparse()

    @property
    def settings(self) -> Settings:
        """What holds for all rows, also where another process has just said so."""
        if self._settings.width is None or self._settings.sparse_width is None:
            self._settings = self.file.settings()
        return self._settings

    def rows(self, where: Where | None = None) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Id, text and metadata of the rows for which the condition holds, in the order of adding, as they are now."""
        numbers = self.file.numbers(parse(where)).tolist()
        for start in range(0, len(numbers), READ_ROWS):
            found = self.file.texts(numbers[start : start + READ_ROWS])
            yield from (found[number] for number in sorted(found))

    def persist(self) -> None:
        """Make the file complete in itself, so that it can be copied; rows are kept without this."""
        self.file.persist()

    def check(self) -> None:
        """Read the whole file. Raises: StoreError if anything in it is damaged."""
        self.file.check()

    def close(self) -> None:
        """Close the file, and forget the embeddings."""
        self.file.close()
        self._dense, self._sparse = self._new_dense(), HeldSparse()

    def _new_dense(self) -> Held:
        """What dense embeddings are searched with, empty."""
        return HeldDense(self._settings.similarity or "cosine")

    def _prepare(self, settings: Settings) -> None:
        self.file.agree(settings)

    def _put(self, rows: Rows) -> None:
        self.file.put(rows)

    def _delete_ids(self, ids: list[str]) -> int:
        return self.file.delete_ids(ids)

    def _delete_where(self, condition: Condition) -> int:
        return self.file.delete_where(condition)

    def _count(self, condition: Condition | None) -> int:
        return self.file.count(condition)

    def _search_dense(self, queries: Array, limit: int, condition: Condition | None) -> list[list[Match]]:
        return self._search(self._dense, queries, limit, condition)

    def _search_sparse(self, queries: SparseRows, limit: int, condition: Condition | None) -> list[list[Match]]:
        return self._search(self._sparse, queries, limit, condition)

    def _search(
        self, held: Held, queries: Array | SparseRows, limit: int, condition: Condition | None
    ) -> list[list[Match]]:
        with self.file.reading():
            self._refresh()
            allowed = None if condition is None else self.file.numbers(condition)
            scores, numbers = held.search(queries, limit, allowed)
            known = self.file.texts(sorted(set(numbers.ravel().tolist())))
        return [
            [
                Match(known[number][0], score, known[number][1], deepcopy(known[number][2]))
                for number, score in zip(found, given, strict=True)
            ]
            for found, given in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]

    def _refresh(self) -> None:
        """Take in what happened to the file."""
        with self.file.reading():
            version = self.file.version()
            if version == self._version:
                return
            gone, self._deletions = self.file.deleted(self._deletions)
            for table, held in (("dense", self._dense), ("sparse", self._sparse)):
                if len(gone):
                    held.drop(gone)
                for numbers, blobs in self.file.vectors(table, held.last):
                    held.extend(numbers, blobs)
            self._version = version
