"""What every store promises to keep: rows as they were, after bad input, when opened again, and for many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.base import Store
from tests.contracts.slow_store import SlowStore
from tests.contracts.store_cases import (
    ALL,
    KEPT,
    ODD_IDS,
    QUERIES,
    SEARCHES,
    SPARSE_WIDTH,
    THREADED,
    WIDTH,
    Batch,
    Case,
    assert_agree,
    batch,
    dense,
    sparse,
)

kept = pytest.mark.parametrize("case", KEPT, indirect=True)
threaded = pytest.mark.parametrize("case", THREADED, indirect=True)

ODD_TEXTS = [
    None,
    "",
    " ",
    "it's",
    'a "b"',
    "50% _ \\",
    "two\nlines\t",
    "Zoë",
    "ZOË",
    "😀",
    "x" * 100_000,
    "null",
    "{}",
]


# --- what comes back


def test_texts_come_back_as_they_were(case: Case, store: Store) -> None:
    ids = [f"r{number}" for number in range(len(ODD_TEXTS))]
    store.add(ids, dense(29, len(ids)), texts=ODD_TEXTS)
    assert {match.id: match.text for match in store.search(QUERIES, top_k=ALL)[0]} == dict(
        zip(ids, ODD_TEXTS, strict=True)
    )


def test_odd_ids_are_different_ids(case: Case, store: Store) -> None:
    store.add(ODD_IDS, dense(30, len(ODD_IDS)), texts=ODD_IDS)
    found = store.search(QUERIES, top_k=ALL)[0]
    assert sorted(match.id for match in found) == sorted(ODD_IDS)
    assert all(match.id == match.text for match in found)
    for place, one in enumerate(ODD_IDS):
        assert store.delete([one]) == 1
        assert store.count() == len(ODD_IDS) - place - 1


def test_metadata_come_back_with_the_types_they_had(case: Case, store: Store) -> None:
    given = {"int": 1, "float": 1.0, "bool": True, "text": "1", "list": [1, 1.5, "1", False], "empty": [], "big": 2**53}
    store.add(["a"], dense(31, 1), metadata=[given])
    found = store.search(QUERIES)[0][0].metadata
    assert {key: repr(value) for key, value in found.items()} == {key: repr(value) for key, value in given.items()}


def test_what_the_caller_changes_later_changes_nothing_here(case: Case, store: Store) -> None:
    rows, metadata = dense(32, 1), {"tags": ["a"]}
    query = rows.copy()
    store.add(["a"], rows, metadata=[metadata])
    rows[:] = -rows
    metadata["tags"].append("b")
    [[first], [beside]] = store.search(np.concatenate([query, query]))
    assert first.score == pytest.approx(1.0, abs=case.tolerance)
    first.metadata["tags"] = "changed"
    assert beside.metadata == {"tags": ["a"]}
    assert store.search(query)[0][0].metadata == {"tags": ["a"]}


# --- bad input


def _bad(rows: Any = None, **changes: Any) -> dict[str, Any]:
    return {"ids": ["r0", "new"], "embeddings": dense(33, 2) if rows is None else rows, **changes}


NAN = np.array([[1.0] * WIDTH, [np.nan] + [1.0] * (WIDTH - 1)])
BAD = {
    "too few ids": _bad(ids=["new"]),
    "an id twice": _bad(ids=["new", "new"]),
    "another width": _bad(dense(33, 2, WIDTH + 1)),
    "another sparse width": _bad(sparse_embeddings=torch.ones(2, SPARSE_WIDTH + 1).to_sparse()),
    "NaN": _bad(NAN),
    "infinite": _bad(np.where(np.isnan(NAN), -np.inf, NAN)),
    "sparse NaN": _bad(sparse_embeddings=torch.tensor([[1.0] * SPARSE_WIDTH, [torch.nan] * SPARSE_WIDTH]).to_sparse()),
    "too few sparse": _bad(sparse_embeddings=sparse(34, 1)),
    "too few texts": _bad(texts=["a"]),
    "too many metadata": _bad(metadata=[{}, {}, {}]),
    "no embeddings": _bad(embeddings=None),
    "NaN in metadata": _bad(metadata=[{}, {"a": float("nan")}]),
    "key with a dollar": _bad(metadata=[{}, {"$a": 1}]),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_rows_change_nothing(case: Case, store: Store, slow: SlowStore, wrong: str) -> None:
    batch(35, 10).into(store, slow)
    with pytest.raises(ValueError):
        store.add(**BAD[wrong])
    assert_agree(store, slow, case)
    batch(36, 10).into(store, slow)
    assert_agree(store, slow, case)


@pytest.mark.parametrize("wrong", BAD)
def test_bad_first_rows_leave_a_new_store_as_it_was(case: Case, store: Store, slow: SlowStore, wrong: str) -> None:
    before = store.settings
    if "width" not in wrong:
        with pytest.raises(ValueError):
            store.add(**BAD[wrong])
        assert store.settings == before
    batch(36, 10).into(store, slow)
    assert_agree(store, slow, case)


@pytest.mark.parametrize(
    "asked",
    [
        {"embeddings": dense(37, 1, WIDTH - 1)},
        {"embeddings": NAN},
        {"sparse_embeddings": torch.ones(1, SPARSE_WIDTH + 1).to_sparse()},
        {"embeddings": dense(37, 2), "sparse_embeddings": sparse(37, 3)},
        {"embeddings": QUERIES, "top_k": 0},
        {"embeddings": QUERIES, "where": {"a": {"$regex": "b"}}},
        {},
    ],
    ids=["width", "NaN", "sparse width", "not in pairs", "top_k", "operator", "nothing"],
)
def test_bad_queries_are_refused(case: Case, store: Store, asked: dict[str, Any]) -> None:
    batch(38, 5).into(store)
    with pytest.raises(ValueError):
        store.search(**asked)


def test_delete_of_everything_by_an_empty_condition_is_refused(case: Case, store: Store) -> None:
    batch(39, 5).into(store)
    for arguments in ({}, {"where": {}}, {"ids": ["r1"], "where": {"a": 1}}):
        with pytest.raises(ValueError, match="exactly one"):
            store.delete(**arguments)
    assert store.count() == 5


# --- settings, and opening again


def test_a_new_store_has_the_settings_that_were_asked_for(case: Case, open_store: Callable[..., Store]) -> None:
    settings = open_store(similarity="dot", width=WIDTH, sparse_width=SPARSE_WIDTH, notes={"model": "a"}).settings
    assert (settings.similarity, settings.width, settings.sparse_width) == ("dot", WIDTH, SPARSE_WIDTH)
    assert settings.notes == {"model": "a"}


def test_the_first_rows_set_the_widths(case: Case, store: Store) -> None:
    assert (store.settings.similarity, store.settings.width, store.settings.sparse_width) == ("cosine", None, None)
    batch(40, 5).into(store)
    assert (store.settings.similarity, store.settings.width, store.settings.sparse_width) == (
        "cosine",
        WIDTH,
        SPARSE_WIDTH,
    )


def _history(store: Store, slow: SlowStore) -> None:
    batch(41, 40).into(store, slow)
    batch(42, 10, ids=[f"r{number}" for number in range(35, 45)]).into(store, slow)
    for one in (store, slow):
        one.delete(["r1", "r2", "r44"])


@kept
@pytest.mark.parametrize("persists", [False, True], ids=["closed", "persisted and closed"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_opened_again_everything_is_there(
    case: Case, open_store: Callable[..., Store], similarity: str, persists: bool
) -> None:
    store, slow = open_store(similarity=similarity, notes={"model": "Zoë"}), SlowStore(similarity=similarity)
    _history(store, slow)
    if persists:
        store.persist()
    before = store.settings
    for settings in ({}, {"similarity": similarity, "width": WIDTH, "sparse_width": SPARSE_WIDTH}):
        again = open_store(**settings)
        assert (again.settings, dict(again.settings.notes)) == (before, {"model": "Zoë"})
        assert_agree(again, slow, case)
    batch(43, 10, ids=[f"r{number}" for number in range(40, 50)]).into(again, slow)
    again.delete(["r45"])
    slow.delete(["r45"])
    assert_agree(again, slow, case)
    assert_agree(open_store(), slow, case)


@kept
def test_rows_added_after_persist_are_there_when_it_is_opened_again(
    case: Case, open_store: Callable[..., Store], slow: SlowStore
) -> None:
    store = open_store()
    batch(44, 30).into(store, slow)
    store.persist()
    batch(45, 10, ids=[f"r{number}" for number in range(25, 35)]).into(store, slow)
    for one in (store, slow):
        one.delete(["r3", "r30"])
    assert_agree(open_store(), slow, case)


@kept
@pytest.mark.parametrize("wrong", [{"width": WIDTH + 1}, {"sparse_width": 5}, {"similarity": "dot"}])
def test_opened_with_other_settings_it_says_so_and_loses_nothing(
    case: Case, open_store: Callable[..., Store], slow: SlowStore, wrong: dict[str, Any]
) -> None:
    _history(open_store(), slow)
    [name] = wrong
    with pytest.raises(ValueError, match=f"^This store has {name} .* {name}="):
        open_store(**wrong)
    assert_agree(open_store(), slow, case)


@kept
def test_notes_may_be_added_later(case: Case, open_store: Callable[..., Store]) -> None:
    batch(46, 3).into(open_store(notes={"model": "a"}))
    open_store(notes={"more": "b"})
    assert open_store().settings.notes == {"model": "a", "more": "b"}


@kept
def test_settings_of_a_store_without_rows_are_kept(case: Case, open_store: Callable[..., Store]) -> None:
    before = open_store(similarity="dot", width=WIDTH, notes={"model": "a"}).settings
    assert open_store().settings == before


@kept
def test_the_end_of_a_with_block_closes_it(case: Case, open_store: Callable[..., Store], slow: SlowStore) -> None:
    with open_store() as store:
        batch(47, 5).into(store, slow)
    assert_agree(open_store(), slow, case)


# --- threads

THREADS, ROUNDS, AT_ONCE = 8, 6, 5


def _part(thread: int, turn: int) -> Batch:
    seed = 2000 + thread * ROUNDS + turn
    return batch(seed, AT_ONCE, ids=[f"t{thread} {turn * AT_ONCE + number}" for number in range(AT_ONCE)])


@threaded
def test_threads_may_add_delete_and_search_at_once(case: Case, store: Store, slow: SlowStore) -> None:
    batch(48, 10).into(store, slow)
    start = threading.Barrier(THREADS)

    def work(thread: int) -> list[str]:
        start.wait()
        wrong = []
        for turn in range(ROUNDS):
            _part(thread, turn).into(store)
            if turn % 2:
                store.delete([f"t{thread} {turn * AT_ONCE}"])
            for asked in (SEARCHES["dense"], SEARCHES["sparse"]):
                found = [match.id for match in store.search(**asked, top_k=ALL)[0]]
                mine = sum(one.startswith(f"t{thread} ") for one in found)
                if len(set(found)) < len(found) or mine != (turn + 1) * AT_ONCE - (turn + 1) // 2:
                    wrong.append(f"{thread} {turn}: {len(found)} found, {mine} of them mine")
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert [line for lines in pool.map(work, range(THREADS)) for line in lines] == []
    for thread in range(THREADS):
        for turn in range(ROUNDS):
            _part(thread, turn).into(slow)
            slow.delete([f"t{thread} {turn * AT_ONCE}"] if turn % 2 else [])
    assert_agree(store, slow, case)


@threaded
def test_threads_may_replace_the_same_rows_at_once(case: Case, store: Store) -> None:
    start = threading.Barrier(THREADS)

    def work(thread: int) -> None:
        start.wait()
        for _ in range(ROUNDS):
            store.add(["a", "b"], dense(thread, 2), texts=[f"{thread}"] * 2)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert store.count() == 2
    for match in store.search(QUERIES, top_k=ALL)[0]:
        row = dense(int(match.text or ""), 2)["ab".index(match.id)].astype(np.float64)
        query = QUERIES[0].astype(np.float64)
        expected = float(query @ row / np.linalg.norm(query) / np.linalg.norm(row))
        assert match.score == pytest.approx(expected, abs=case.tolerance)
