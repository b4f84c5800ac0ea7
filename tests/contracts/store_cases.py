"""The places where a store may keep rows, what each of them can, and random rows and conditions to ask them about."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.search.stores.base import Match, Store
from sentence_transformers.search.stores.elastic import ElasticsearchStore
from sentence_transformers.search.stores.embedded import EmbeddedStore
from sentence_transformers.search.stores.faiss import FaissStore
from sentence_transformers.search.stores.postgres import PostgresStore
from sentence_transformers.search.stores.qdrant import QdrantStore
from sentence_transformers.search.stores.where import OPERATORS, RANGES
from tests.contracts.slow_store import SlowStore

Where: TypeAlias = dict[str, Any]

WIDTH, SPARSE_WIDTH = 8, 12
ODD_IDS = ["it's", 'a "b"', "50%", "a.b", "a b", " ", "_", "\\", "a/b", "Zoë", "zoë", "😀", "0", "00", "r1; --", "x$"]
TIE = 1e-6
"""How close two scores are when either row may come first."""

WORDS = [
    "",
    "a",
    "B",
    "de",
    "it's",
    'say "x"',
    "100%",
    "_",
    "\\",
    "Zoë",
    "ß",
    "\ue000",
    "😀",
    "$x",
    "1",
    "true",
    "null",
]
KEYS = ["lang", "year", "draft", "tags", "mixed", "a.b \"c\" % 'd' \\", "größe 😀"]


def answers_all(key: str, operator: str, operand: Any) -> bool:
    """Most stores answer all conditions."""
    return True


@dataclass(frozen=True)
class Case:
    """One kind of store.

    Attributes:
        open: makes one, or opens what is there, at a place of its own; settings are those of ``EmbeddedStore``.
        needs: packages without which it cannot be tested.
        fixture: of pytest, gives the place; by default it is a new folder.
        is_kept: whether rows are still there when it is opened again; "only" to ask nothing else, as it is too slow.
        recall: the least share of the truly closest rows that it must find; 1 for exact search.
        tolerance: how far scores may be off, both absolute and relative.
        is_threaded: whether threads may use one of them at once.
        finds_unrelated: whether sparse rows that share no dimension with a query are found, with score 0.
        answers: whether it answers a test of a key, an operator and an operand, or says in its documentation that it
            raises a ValueError.
    """

    open: Callable[..., Store]
    needs: tuple[str, ...] = ()
    fixture: str = "tmp_path"
    is_kept: bool | Literal["only"] = True
    recall: float = 1.0
    tolerance: float = 1e-5
    is_threaded: bool = True
    finds_unrelated: bool = True
    answers: Callable[[str, str, Any], bool] = answers_all

    def missing(self) -> str | None:
        """Why it cannot be tested here."""
        absent = [package for package in self.needs if find_spec(package) is None]
        return f"not installed: {', '.join(absent)}" if absent else None


def _slow(path: Path, **settings: Any) -> Store:
    return SlowStore(**settings)


def _faiss(factory: str) -> Callable[..., Store]:
    return lambda path, **settings: FaissStore(path, factory, **settings)


def _qdrant(path: Path, **settings: Any) -> Store:
    return QdrantStore("rows", location=":memory:", **settings)


def _qdrant_folder(path: Path, **settings: Any) -> Store:
    return QdrantStore("rows", path=str(path), **settings)


def _elasticsearch(address: str, **settings: Any) -> Store:
    return ElasticsearchStore("rows", hosts=address, **settings)


def _postgres(place: tuple[str, str], **settings: Any) -> Store:
    return PostgresStore(*place, **settings)


def _qdrant_answers(key: str, operator: str, operand: Any) -> bool:
    return operator not in RANGES or not (isinstance(operand, str) or '"' in key)


QDRANT: dict[str, Any] = {"finds_unrelated": False, "answers": _qdrant_answers}

CASES = {
    "slow": Case(_slow, is_kept=False),  # tests the tests
    "embedded": Case(EmbeddedStore),
    "faiss-flat": Case(_faiss("Flat"), needs=("faiss",)),
    "faiss-hnsw": Case(_faiss("HNSW16"), needs=("faiss",), recall=0.8),
    "qdrant": Case(_qdrant, needs=("qdrant_client",), is_kept=False, **QDRANT),
    "qdrant-folder": Case(_qdrant_folder, needs=("qdrant_client",), is_kept="only", **QDRANT),
    # against a server of one page; the rounding of a real one is not seen
    "elasticsearch": Case(
        _elasticsearch,
        needs=("elasticsearch",),
        fixture="elasticsearch_address",
        finds_unrelated=False,
    ),
    "postgres": Case(_postgres, needs=("psycopg",), fixture="postgres_place"),
}


ASKED = [name for name, case in CASES.items() if case.is_kept != "only"]
KEPT = [name for name, case in CASES.items() if case.is_kept]
THREADED = [name for name, case in CASES.items() if case.is_threaded]


@dataclass(frozen=True)
class Batch:
    """Arguments of ``add``; see ``arguments``."""

    ids: list[str]
    embeddings: Any
    sparse_embeddings: Any
    texts: list[str | None]
    metadata: list[dict[str, Any] | None]

    def __len__(self) -> int:
        return len(self.ids)

    def into(self, *stores: Store) -> None:
        for store in stores:
            store.add(
                self.ids,
                self.embeddings,
                sparse_embeddings=self.sparse_embeddings,
                texts=self.texts,
                metadata=self.metadata,
            )


def dense(seed: int, count: int, width: int = WIDTH) -> np.ndarray[Any, Any]:
    """(count, width) float32."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def sparse(seed: int, count: int) -> Tensor:
    """(count, SPARSE_WIDTH) COO. About half of the values are not 0; the first dimension never is, so that all rows
    have something in common."""
    source = np.random.default_rng(seed)
    values = source.uniform(0.1, 2.0, (count, SPARSE_WIDTH)) * (source.random((count, SPARSE_WIDTH)) < 0.5)
    values[:, 0] = source.uniform(0.1, 2.0, count)
    return torch.from_numpy(values.astype(np.float32)).to_sparse()


def batch(
    seed: int, count: int, ids: list[str] | None = None, with_dense: bool = True, with_sparse: bool = True
) -> Batch:
    """Random rows; ids are "r0", "r1", ... if none are given."""
    source = random.Random(seed)
    return Batch(
        ids or [f"r{number}" for number in range(count)],
        dense(seed, count) if with_dense else None,
        sparse(seed, count) if with_sparse else None,
        [source.choice([None, "", "a text", "Ünï\n\tçødé 😀 \"'%_\\"]) for _ in range(count)],
        [random_metadata(source) for _ in range(count)],
    )


def random_scalar(source: random.Random) -> Any:
    return source.choice(
        [
            source.choice(WORDS),
            source.randint(-3, 3),
            float(source.randint(-3, 3)),
            source.randint(-30, 30) / 10,
            source.choice([2**53, -(2**40), 1e300, 1e-300]),
            source.random() < 0.5,
        ]
    )


def random_value(source: random.Random, key: str) -> Any:
    """Such as a row may have; "lang", "year" and "draft" have values of one kind, or none at all."""
    if key == "lang":
        return source.choice(WORDS)
    if key == "year":
        return source.choice([source.randint(1998, 2003), 2000.0, 2000.5])
    if key == "draft":
        return source.random() < 0.5
    if key == "tags" or source.random() < 0.2:
        return [random_scalar(source) for _ in range(source.randint(0, 3))]
    return random_scalar(source)


def random_metadata(source: random.Random) -> dict[str, Any] | None:
    return {key: random_value(source, key) for key in KEYS if source.random() < 0.7} or None


def random_operand(source: random.Random, key: str) -> Any:
    """Of the kind of the key's values, seldom of another; never a list."""
    value = random_scalar(source) if source.random() < 0.2 else random_value(source, key)
    return random_scalar(source) if isinstance(value, list) else value


def random_operation(source: random.Random, key: str) -> dict[str, Any]:
    operator = source.choice(OPERATORS)
    if operator == "$exists":
        return {operator: source.random() < 0.5}
    if operator in ("$in", "$nin"):
        return {operator: [random_operand(source, key) for _ in range(source.randint(0, 4))]}
    operand = random_operand(source, key)
    return {operator: 0 if operator in RANGES and isinstance(operand, bool) else operand}


def random_where(source: random.Random, depth: int = 2) -> Where:
    """A condition, as users write them."""
    kind = source.choice(["value", "operations", "operations", "and", "or", "not", "keys"] if depth else ["operations"])
    key = source.choice(KEYS)
    if kind == "value":
        return {key: random_operand(source, key)}
    if kind == "operations":
        return {key: {**random_operation(source, key), **random_operation(source, key)}}
    if kind == "not":
        return {"$not": random_where(source, depth - 1)}
    parts = [random_where(source, depth - 1) for _ in range(source.randint(0, 3))]
    if kind == "keys":
        return {key: value for part in parts for key, value in part.items()}
    return {f"${kind}": parts}


def all_operations() -> Iterator[Where]:
    """Every operator with every kind of operand, on every key."""
    operands = ["a", "", 2000, 2000.0, 0.5, True, False, 2**53]
    for key in KEYS:
        for operator in ("$eq", "$ne", *RANGES, "$contains"):
            for operand in operands:
                if not (isinstance(operand, bool) and operator in RANGES):
                    yield {key: {operator: operand}}
        for operator in ("$in", "$nin"):
            yield {key: {operator: operands}}
            yield {key: {operator: []}}
        yield {key: {"$exists": True}}
        yield {key: {"$exists": False}}


def random_wheres(case: Case, seed: int, count: int) -> list[Where]:
    """Conditions that the store answers."""
    source, found = random.Random(seed), list[Where]()
    while len(found) < count:
        where = random_where(source)
        if is_answered(case, where):
            found.append(where)
    return found


def is_answered(case: Case, where: Where) -> bool:
    """Whether the store answers all tests of a condition."""
    return all(_is_answered(case, key, value) for key, value in where.items())


def _is_answered(case: Case, key: str, value: Any) -> bool:
    if key == "$not":
        return is_answered(case, value)
    if key in ("$and", "$or"):
        return all(is_answered(case, part) for part in value)
    return not isinstance(value, dict) or all(case.answers(key, *operation) for operation in value.items())


QUERIES, SPARSE_QUERIES = dense(100, 3), sparse(101, 3)
SEARCHES: dict[str, dict[str, Any]] = {
    "dense": {"embeddings": QUERIES},
    "sparse": {"sparse_embeddings": SPARSE_QUERIES},
    "hybrid": {"embeddings": QUERIES, "sparse_embeddings": SPARSE_QUERIES},
}
ALL = 1000
"""More than there are rows."""


def assert_found(found: list[list[Match]], ranked: list[list[Match]], top_k: int, case: Case) -> None:
    """Whether these are the best ``top_k`` of all rows, which the slow formula has ``ranked`` for each query; where
    scores are closer than ``TIE`` in any order."""
    assert len(found) == len(ranked)
    for matches, all_rows in zip(found, ranked, strict=True):
        wanted = min(top_k, len(all_rows))
        true = {row.id: row for row in all_rows}
        assert len(matches) == wanted == len({match.id for match in matches})
        for match in matches:
            assert match.id in true, f"{match.id} is not one of {sorted(true)}"
            row = true[match.id]
            np.testing.assert_allclose(match.score, row.score, rtol=case.tolerance, atol=case.tolerance)
            assert (match.text, match.metadata) == (row.text, row.metadata)
            assert all(type(value) is type(row.metadata[key]) for key, value in match.metadata.items())
        scores = [true[match.id].score for match in matches]
        assert all(later <= earlier + TIE for earlier, later in zip(scores, scores[1:], strict=False))
        if wanted:
            among_best = [score for score in scores if score >= all_rows[wanted - 1].score - TIE]
            assert len(among_best) >= case.recall * wanted


def assert_agree(store: Store, slow: SlowStore, case: Case) -> None:
    """Both have the same rows, and find them alike."""
    assert store.count() == len(slow.rows)
    for asked in (SEARCHES["dense"], SEARCHES["sparse"]):
        ranked = slow.search(**asked, top_k=ALL)
        for top_k in (3, ALL):
            assert_found(store.search(**asked, top_k=top_k), ranked, top_k, case)
