"""A process that writes to a store until it is killed: ``python store_writer.py FOLDER``, then a run on its input.

It does ``operations(run)`` and says so after each. Whoever knows the run knows what a store must then hold.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    from sentence_transformers.search.stores.embedded import EmbeddedStore

    Rows: TypeAlias = dict[int, "Row"]

WIDTH, SPARSE_WIDTH = 256, 3
NUMBERS, GROUPS = 3000, 40


@dataclass(frozen=True)
class Row:
    """Its embeddings, text and metadata are made of where it comes from, and of its number, by which it is known."""

    run: int
    step: int
    number: int

    @property
    def id(self) -> str:
        return f"row {self.number}"

    @property
    def text(self) -> str:
        return f"{self.run}/{self.step}/{self.number} " + "and so on " * (self.number % 50)

    @property
    def metadata(self) -> dict[str, Any]:
        return {"group": self.number % GROUPS, "from": [self.run, self.step]}

    @property
    def dense(self) -> list[float]:
        return [self.run, self.step, self.number, 1.0] * (WIDTH // 4)

    @property
    def sparse(self) -> list[float]:
        return [self.run, self.step + 1.0, 0.0]


@dataclass(frozen=True)
class Operation:
    """One call. numbers: of the rows, or of the group if it deletes "where"."""

    kind: str
    run: int
    step: int
    numbers: tuple[int, ...] = ()

    def change(self, rows: Rows) -> Rows:
        """What a store holds afterwards that held these."""
        if self.kind == "add":
            return {**rows, **{number: Row(self.run, self.step, number) for number in self.numbers}}
        if self.kind == "delete":
            return {number: row for number, row in rows.items() if number not in self.numbers}
        if self.kind == "delete where":
            return {number: row for number, row in rows.items() if number % GROUPS != self.numbers[0]}
        return rows

    def do(self, store: EmbeddedStore) -> None:
        import torch

        rows = [Row(self.run, self.step, number) for number in self.numbers]
        if self.kind == "add":
            store.add(
                [row.id for row in rows],
                [row.dense for row in rows],
                sparse_embeddings=torch.tensor([row.sparse for row in rows]).to_sparse(),
                texts=[row.text for row in rows],
                metadata=[row.metadata for row in rows],
            )
        elif self.kind == "delete":
            store.delete([row.id for row in rows])
        elif self.kind == "delete where":
            store.delete(where={"group": self.numbers[0]})
        elif self.kind == "persist":
            store.persist()
        else:
            store.search([1.0] * WIDTH)


def operations(run: int) -> Iterator[Operation]:
    """Without end."""
    source = random.Random(run)
    for step in itertools.count():
        kind = source.choices(["add", "delete", "delete where", "persist", "search"], [12, 2, 1, 2, 1])[0]
        if kind == "delete where":
            yield Operation(kind, run, step, (source.randrange(GROUPS),))
        elif kind in ("add", "delete"):
            count = source.choice([1, 10, 100, 400]) if kind == "add" else source.randint(1, 60)
            yield Operation(kind, run, step, tuple(source.sample(range(NUMBERS), source.randint(1, count))))
        else:
            yield Operation(kind, run, step)


def open_store(folder: Path, run: int) -> EmbeddedStore:
    """A store of either kind, in the same folder."""
    if run % 2:
        from sentence_transformers.search.stores.faiss import FaissStore

        return FaissStore(folder, "HNSW8", similarity="dot", notes={"made by": "writer"})
    from sentence_transformers.search.stores.embedded import EmbeddedStore

    return EmbeddedStore(folder, similarity="dot", notes={"made by": "writer"})


def main() -> None:
    """Import first, so that a kill does not only meet that."""
    import torch  # noqa: F401

    from sentence_transformers.search.stores import embedded, faiss  # noqa: F401

    run = int(sys.stdin.readline())
    with open_store(Path(sys.argv[1]), run) as store:
        for operation in operations(run):
            operation.do(store)
            sys.stdout.write(f"{operation.step}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
