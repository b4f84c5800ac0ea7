"""What every store promises: the rows that were added, each once, found as the slow formula finds them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.base import Store
from tests.contracts.slow_store import SlowStore
from tests.contracts.store_cases import (
    ALL,
    KEYS,
    ODD_IDS,
    QUERIES,
    SEARCHES,
    SPARSE_WIDTH,
    WIDTH,
    Case,
    all_operations,
    assert_agree,
    assert_found,
    batch,
    dense,
    is_answered,
    random_wheres,
    sparse,
)

# --- searches


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("top_k", [1, 7, ALL])
def test_the_closest_rows_are_found_best_first(
    case: Case, open_store: Callable[..., Store], similarity: str, kind: str, top_k: int
) -> None:
    store, slow = open_store(similarity=similarity), SlowStore(similarity=similarity)
    batch(0, 60).into(store, slow)
    asked = SEARCHES[kind]
    assert_found(store.search(**asked, top_k=top_k), slow.search(**asked, top_k=ALL), top_k, case)


@pytest.mark.parametrize("kind", SEARCHES)
def test_each_of_several_queries_is_answered_as_if_alone(case: Case, store: Store, kind: str) -> None:
    batch(1, 40).into(store)
    alone = [
        store.search(**{name: values[place] for name, values in SEARCHES[kind].items()}, top_k=5)[0]
        for place in range(len(QUERIES))
    ]
    together = store.search(**SEARCHES[kind], top_k=5)
    assert [[match.id for match in found] for found in together] == [[match.id for match in found] for found in alone]


def test_many_queries_are_answered(case: Case, store: Store, slow: SlowStore) -> None:
    batch(2, 30).into(store, slow)
    queries = dense(3, 300)
    assert_found(store.search(queries, top_k=4), slow.search(queries, top_k=ALL), 4, case)


@pytest.mark.parametrize("kind", SEARCHES)
def test_rows_of_one_kind_of_embeddings_are_found_by_that_kind_alone(
    case: Case, store: Store, slow: SlowStore, kind: str
) -> None:
    batch(4, 15, ids=[f"d{number}" for number in range(15)], with_sparse=False).into(store, slow)
    batch(5, 15, ids=[f"s{number}" for number in range(15)], with_dense=False).into(store, slow)
    batch(6, 15, ids=[f"b{number}" for number in range(15)]).into(store, slow)
    asked = SEARCHES[kind]
    assert_found(store.search(**asked, top_k=ALL), slow.search(**asked, top_k=ALL), ALL, case)


def test_sparse_rows_may_come_first_and_dense_ones_later(case: Case, open_store: Callable[..., Store]) -> None:
    store, slow = open_store(width=WIDTH), SlowStore()
    batch(7, 10, ids=[f"s{number}" for number in range(10)], with_dense=False).into(store, slow)
    batch(8, 10, ids=[f"d{number}" for number in range(10)], with_sparse=False).into(store, slow)
    assert_agree(store, slow, case)


def test_equal_rows_are_different_matches(case: Case, store: Store) -> None:
    ids = [f"same{number}" for number in range(9)]
    store.add(
        ids, np.repeat(dense(9, 1), 9, axis=0), sparse_embeddings=sparse(9, 1).to_dense().repeat(9, 1).to_sparse()
    )
    for asked in SEARCHES.values():
        for top_k, wanted in ((4, 4), (ALL, 9)):
            found = [match.id for match in store.search(**asked, top_k=top_k)[0]]
            assert len(found) == len(set(found)) == wanted
            assert set(found) <= set(ids)


def test_equal_rows_have_equal_scores(case: Case, store: Store) -> None:
    store.add(["a", "b", "c"], np.repeat(dense(9, 1), 3, axis=0))
    scores = [match.score for match in store.search(QUERIES)[0]]
    np.testing.assert_allclose(scores, scores[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_zero_is_zero_from_everything(case: Case, open_store: Callable[..., Store], similarity: str) -> None:
    store = open_store(similarity=similarity)
    store.add(["zero", "one"], np.stack([np.zeros(WIDTH), np.ones(WIDTH)]))
    found = store.search(np.stack([np.ones(WIDTH), np.zeros(WIDTH)]))
    assert [match.id for match in found[0]] == ["one", "zero"]
    assert [found[0][1].score, found[1][0].score, found[1][1].score] == [0, 0, 0]


def test_sparse_rows_that_share_no_dimension_with_the_query(case: Case, store: Store) -> None:
    store.add(["first", "second"], sparse_embeddings=torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]).to_sparse())
    [found] = store.search(sparse_embeddings=torch.tensor([0.0, 0.5, 0.0]).to_sparse())
    assert [(match.id, match.score) for match in found] == [("second", 1.5), ("first", 0.0)][: 1 + case.finds_unrelated]


def test_sparse_rows_and_queries_may_be_empty(case: Case, store: Store) -> None:
    store.add(["nothing", "some"], sparse_embeddings=torch.tensor([[0.0, 0.0], [0.0, 3.0]]).to_sparse())
    empty, some = store.search(sparse_embeddings=torch.tensor([[0.0, 0.0], [0.0, 1.0]]).to_sparse())
    assert [(match.id, match.score) for match in some] == [("some", 3.0), ("nothing", 0.0)][: 1 + case.finds_unrelated]
    assert [match.score for match in empty] == [0.0, 0.0] * case.finds_unrelated
    assert store.count() == 2


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows.tolist(),
        lambda rows: rows.astype(np.float64),
        lambda rows: torch.from_numpy(rows).requires_grad_(),
        lambda rows: list(torch.from_numpy(rows)),
        lambda rows: np.asfortranarray(rows),
    ],
    ids=["lists", "float64", "gradients", "tensors", "columns"],
)
def test_embeddings_may_come_in_any_form(case: Case, store: Store, slow: SlowStore, form: Callable[..., Any]) -> None:
    rows = dense(10, 12)
    ids = [f"r{number}" for number in range(12)]
    store.add(ids, form(rows))
    slow.add(ids, rows)
    assert_found(store.search(form(QUERIES)), slow.search(QUERIES, top_k=ALL), 10, case)


# --- stores with nothing in them


@pytest.mark.parametrize("settings", [{}, {"width": WIDTH, "sparse_width": SPARSE_WIDTH}], ids=["new", "with widths"])
@pytest.mark.parametrize("kind", SEARCHES)
def test_an_empty_store_finds_nothing_for_each_query(
    case: Case, open_store: Callable[..., Store], settings: dict[str, int], kind: str
) -> None:
    store = open_store(**settings)
    assert store.search(**SEARCHES[kind]) == [[], [], []]
    assert store.search(**SEARCHES[kind], where={"lang": "en"}) == [[], [], []]


def test_an_empty_store_counts_and_deletes_none(case: Case, store: Store) -> None:
    assert [store.count(), store.count({"a": 1}), store.delete(["a"]), store.delete(where={"a": 1})] == [0, 0, 0, 0]


def test_a_store_whose_rows_are_all_deleted_finds_nothing(case: Case, store: Store, slow: SlowStore) -> None:
    batch(11, 20).into(store)
    assert store.search(QUERIES)[0] != []
    store.delete([f"r{number}" for number in range(20)])
    assert store.count() == 0
    assert store.search(**SEARCHES["hybrid"]) == [[], [], []]
    batch(12, 20).into(store, slow)
    assert_agree(store, slow, case)


def test_no_rows_and_no_queries_are_no_error(case: Case, store: Store) -> None:
    store.add([], np.empty((0, WIDTH)))
    store.add([])
    assert store.count() == 0
    assert store.search(np.empty((0, WIDTH))) == []
    assert store.delete([]) == 0


# --- adding, replacing, deleting


def test_a_row_that_is_added_again_is_replaced_as_a_whole(case: Case, store: Store) -> None:
    batch(13, 20).into(store)
    new = dense(14, 1)
    store.add(["r7"], new)  # no text, no metadata, no sparse embedding
    assert store.count() == 20
    found = [match for match in store.search(new, top_k=ALL)[0] if match.id == "r7"]
    assert [(match.text, match.metadata) for match in found] == [(None, {})]
    assert found[0].score == pytest.approx(1.0, abs=case.tolerance)
    assert "r7" not in {match.id for match in store.search(**SEARCHES["sparse"], top_k=ALL)[0]}


def test_conditions_follow_a_row_that_is_replaced(case: Case, store: Store) -> None:
    store.add(["a", "b"], dense(15, 2), metadata=[{"year": 1}, {"year": 1}])
    store.add(["a"], dense(16, 1), metadata=[{"year": 2}])
    assert [store.count({"year": 1}), store.count({"year": 2})] == [1, 1]
    assert [match.id for match in store.search(QUERIES, where={"year": 2})[0]] == ["a"]


def test_delete_says_how_many_rows_there_were(case: Case, store: Store, slow: SlowStore) -> None:
    batch(17, 20).into(store, slow)
    wanted = ["r3", "r5", "never", "r7"]
    assert [store.delete(wanted), store.delete(wanted)] == [3, 0]
    slow.delete(wanted)
    assert_agree(store, slow, case)


@pytest.mark.parametrize("where", [{"draft": True}, {"draft": {"$ne": True}}, {"$not": {"nothing": 1}}, {"nothing": 1}])
def test_delete_where_deletes_those_and_no_others(
    case: Case, store: Store, slow: SlowStore, where: dict[str, Any]
) -> None:
    batch(18, 40).into(store, slow)
    assert store.delete(where=where) == slow.delete(where=where)
    assert_agree(store, slow, case)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_long_history_leaves_each_row_once(case: Case, store: Store, slow: SlowStore, seed: int) -> None:
    source = random.Random(seed)
    for step in range(40):
        some = [f"r{number}" for number in source.sample(range(50), source.randint(1, 12))]
        if source.random() < 0.6:
            kinds = source.choice([(True, True), (True, False), (False, True)])
            batch(1000 * seed + step, len(some), some, *kinds).into(store, slow)
        elif source.random() < 0.7:
            assert store.delete(some) == slow.delete(some)
        else:
            [where] = random_wheres(case, 1000 * seed + step, 1)
            where = {"$and": [where, {"year": {"$exists": True}}]}
            assert store.delete(where=where) == slow.delete(where=where)
        if step % 4 == 3:
            assert_agree(store, slow, case)


def test_many_rows_at_once(case: Case, store: Store, slow: SlowStore) -> None:
    count = 600  # more than goes in one part anywhere
    ids, rows = [f"r{number}" for number in range(count)], dense(19, count)
    for one in (store, slow):
        one.add(ids, rows, metadata=[{"number": number} for number in range(count)])
        one.add(ids[250:], rows[:350])
        assert one.delete(ids[:240]) == 240
    assert store.count() == 360
    assert store.count({"number": {"$gte": 0}}) == 10
    assert_found(store.search(QUERIES, top_k=20), slow.search(QUERIES, top_k=count), 20, case)


# --- conditions


def test_every_operator_with_every_kind_of_value(case: Case, store: Store, slow: SlowStore) -> None:
    batch(20, 60).into(store, slow)
    answered = [where for where in all_operations() if is_answered(case, where)]
    wrong = [(where, store.count(where), slow.count(where)) for where in answered]
    assert [one for one in wrong if one[1] != one[2]] == []
    assert sum(0 < count < 60 for _, _, count in wrong) > 50, "conditions that tell rows apart"


def test_conditions_that_it_documents_to_refuse_are_refused(case: Case, store: Store) -> None:
    batch(21, 10).into(store)
    for where in all_operations():
        if not is_answered(case, where):
            with pytest.raises(ValueError, match="range"):
                store.count(where)


def test_random_conditions(case: Case, store: Store, slow: SlowStore) -> None:
    batch(22, 60).into(store, slow)
    wheres = random_wheres(case, 23, 150)
    assert sum(0 < slow.count(where) < 60 for where in wheres) > 40, "conditions that tell rows apart"
    wrong = [(where, store.count(where), slow.count(where)) for where in wheres]
    assert [one for one in wrong if one[1] != one[2]] == []


@pytest.mark.parametrize("kind", SEARCHES)
def test_only_rows_that_fulfil_the_condition_are_found(case: Case, store: Store, slow: SlowStore, kind: str) -> None:
    batch(24, 60).into(store, slow)
    asked = SEARCHES[kind]
    for where in random_wheres(case, 25, 20):
        assert_found(store.search(**asked, top_k=5, where=where), slow.search(**asked, top_k=ALL, where=where), 5, case)


def test_odd_keys_and_values_of_metadata(case: Case, store: Store) -> None:
    keys = [*KEYS, *ODD_IDS, "metadata", "id", "text", "facts", "value", "a\nb", "[0]", "*"]
    ids = [f"r{place}" for place in range(len(keys))]
    store.add(ids, dense(26, len(keys)), metadata=[{key: key, "other": [key]} for key in keys])
    for one, key in zip(ids, keys, strict=True):
        for where in ({key: key}, {key: {"$exists": True}}, {"other": {"$contains": key}}, {key: {"$in": ["y", key]}}):
            assert [(match.id, match.metadata) for match in store.search(QUERIES, where=where)[0]] == [
                (one, {key: key, "other": [key]})
            ]


def test_conditions_over_many_values(case: Case, store: Store) -> None:
    store.add(["a", "b", "c"], dense(27, 3), metadata=[{"n": 5}, {"n": "5"}, {"n": 50_000}])
    assert store.count({"n": {"$in": [*range(1500), *map(str, range(1500))]}}) == 2
    assert store.count({"n": {"$nin": list(range(1500))}}) == 2


def test_conditions_of_many_parts(case: Case, store: Store) -> None:
    store.add(["a", "b", "c"], dense(28, 3), metadata=[{"n": 5}, {"n": "5"}, {"n": 50_000}])
    assert store.count({"$or": [{"n": number} for number in range(600)]}) == 1
    assert store.count({"$and": [{"n": {"$ne": number}} for number in range(600)]}) == 2
