"""What all stores share: settings that must agree, arguments that are checked before a hook is called, two searches
fused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.base import FUSED, Match, Rows, Settings, Store

# --- settings


def test_what_is_not_said_comes_from_the_other() -> None:
    here = Settings("dot", 4, None, {"model": "a", "by": "x"})
    asked = Settings(None, None, 30, {"model": "b", "at": "y"})
    assert here.agree(asked) == Settings("dot", 4, 30, {"model": "b", "by": "x", "at": "y"})


@pytest.mark.parametrize("asked, similarity", [(None, "cosine"), ("dot", "dot"), ("cosine", "cosine")])
def test_a_new_store_compares_by_cosine_unless_asked_otherwise(asked: str | None, similarity: str) -> None:
    assert Settings().agree(Settings(asked)) == Settings(similarity)


def test_equal_settings_agree() -> None:
    both = Settings("dot", 4, 30, {"a": "b"})
    assert both.agree(both) == both


@pytest.mark.parametrize(
    "asked, message",
    [
        (Settings("cosine"), "This store has similarity 'dot', but was opened with similarity='cosine'. Open it with"),
        (Settings(width=5), "This store has width 4, but was opened with width=5."),
        (Settings(sparse_width=5), "This store has sparse_width 30, but was opened with sparse_width=5."),
    ],
)
def test_settings_that_differ(asked: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings("dot", 4, 30).agree(asked)


def test_an_unknown_similarity() -> None:
    with pytest.raises(ValueError, match="similarity must be one of 'cosine', 'dot'; got 'cosin'. Did you mean 'cosin"):
        Settings().agree(Settings("cosin"))


def test_widths_become_known_with_the_first_rows() -> None:
    new = Settings("dot", notes={"a": "b"})
    assert new.widened(4, None) == Settings("dot", 4, None, {"a": "b"})
    assert new.widened(4, None).widened(None, 30) == Settings("dot", 4, 30, {"a": "b"})
    assert new.widened(None, None) == new


@pytest.mark.parametrize(
    "widths, message",
    [
        ((5, None), "This store holds embeddings of width 4, got width 5."),
        ((4, 31), "This store holds sparse embeddings of width 30, got width 31."),
    ],
)
def test_rows_of_another_width(widths: tuple[int | None, int | None], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)} Were they made by another model"):
        Settings("dot", 4, 30).widened(*widths)


# --- what hooks are asked


class Told(Store):
    """Keeps nothing: writes down which hooks were called with what, and finds what it was given."""

    def __init__(self, settings: Settings | None = None, dense: str = "", sparse: str = "") -> None:
        super().__init__(settings or Settings("cosine"))
        self.calls: list[tuple[Any, ...]] = []
        self.dense, self.sparse = dense, sparse

    def _tell(self, *call: Any) -> int:
        self.calls.append(call)
        return 7

    def persist(self) -> None:
        self._tell("persist")

    def close(self) -> None:
        self._tell("close")

    def _prepare(self, settings: Settings) -> None:
        self._tell("prepare", settings)

    def _put(self, rows: Rows) -> None:
        self._tell("put", rows)

    def _delete_ids(self, ids: list[str]) -> int:
        return self._tell("delete ids", ids)

    def _delete_where(self, condition: Any) -> int:
        return self._tell("delete where", condition)

    def _search_dense(self, queries: Any, limit: int, condition: Any) -> list[list[Match]]:
        self._tell("dense", queries, limit, condition)
        return [_matches(self.dense) for _ in queries]

    def _search_sparse(self, queries: Any, limit: int, condition: Any) -> list[list[Match]]:
        self._tell("sparse", queries, limit, condition)
        return [_matches(self.sparse) for _ in queries]

    def _count(self, condition: Any) -> int:
        return self._tell("count", condition)


def _matches(ids: str) -> list[Match]:
    return [Match(one, 0.5, f"text of {one}", {"id": one}) for one in ids]


@pytest.fixture
def store() -> Told:
    return Told()


def test_rows_reach_the_store_as_arrays(store: Told) -> None:
    sparse = torch.tensor([[0.0, 2.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64).to_sparse()
    store.add(("a", "b"), [[1, 2], [3, 4]], sparse_embeddings=sparse, texts=["x", None], metadata=[None, {"k": (1,)}])
    (_, settings), (_, rows) = store.calls
    assert settings == store.settings == Settings("cosine", 2, 3)
    assert (rows.ids, rows.texts, rows.metadata) == (["a", "b"], ["x", None], [{}, {"k": [1]}])
    assert (rows.dense.dtype, rows.dense.tolist()) == (np.float32, [[1, 2], [3, 4]])
    assert [(ids.tolist(), values.tolist()) for ids, values in rows.sparse] == [([1, 2], [2.0, 0.5]), ([], [])]
    assert {(ids.dtype.name, values.dtype.name) for ids, values in rows.sparse} == {("int32", "float32")}


def test_rows_without_texts_or_metadata(store: Told) -> None:
    store.add(["a", "b"], torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))
    rows = store.calls[-1][1]
    assert (rows.dense.dtype, rows.sparse, rows.texts, rows.metadata) == (np.float32, None, [None, None], [{}, {}])


def test_one_row_may_be_one_vector(store: Told) -> None:
    store.add(["a"], [1.0, 2.0])
    assert store.calls[-1][1].dense.tolist() == [[1.0, 2.0]]


def test_the_store_is_prepared_once_for_a_width(store: Told) -> None:
    for number in range(3):
        store.add([f"a{number}"], np.ones((1, 2)))
    store.add(["b"], sparse_embeddings=torch.ones(1, 3).to_sparse())
    assert [call[0] for call in store.calls] == ["prepare", "put", "put", "put", "prepare", "put"]


def test_settings_stay_where_preparing_fails(store: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings) -> None:
        raise OSError("full")

    monkeypatch.setattr(store, "_prepare", fail)
    with pytest.raises(OSError, match="full"):
        store.add(["a"], np.ones((1, 2)))
    assert (store.settings, store.calls) == (Settings("cosine"), [])


@pytest.mark.parametrize(
    "arguments", [{"embeddings": np.empty((0, 2))}, {"embeddings": []}, {}, {"texts": [], "metadata": []}]
)
def test_no_rows_reach_no_hook(store: Told, arguments: dict[str, Any]) -> None:
    store.add([], **arguments)
    assert store.calls == []


ONE = np.ones((1, 2))
TWO = np.ones((2, 2))
SPARSE = torch.ones(2, 3).to_sparse()
BAD_ROWS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ids": ["a", "b"], "embeddings": ONE}, ValueError, "add() got 2 ids, but 1 embeddings. Nothing was added."),
    ({"ids": [], "embeddings": ONE}, ValueError, "add() got 0 ids, but 1 embeddings."),
    ({"ids": ["a"], "sparse_embeddings": SPARSE}, ValueError, "add() got 1 ids, but 2 sparse_embeddings."),
    ({"ids": [], "sparse_embeddings": SPARSE}, ValueError, "add() got 0 ids, but 2 sparse_embeddings."),
    ({"ids": ["a"], "embeddings": ONE, "texts": []}, ValueError, "add() got 1 ids, but 0 texts."),
    ({"ids": ["a"], "embeddings": ONE, "metadata": [{}, {}]}, ValueError, "add() got 1 ids, but 2 metadata."),
    ({"ids": ["a"]}, ValueError, "add() needs embeddings, sparse_embeddings, or both."),
    ({"ids": ["a", "b", "a"], "embeddings": TWO}, ValueError, "Ids must differ from each other, got 'a' twice."),
    ({"ids": "ab", "embeddings": TWO}, TypeError, "ids must be a list of strings, got one string: 'ab'."),
    ({"ids": [1], "embeddings": ONE}, TypeError, "Ids must be strings that are not empty, got 1."),
    ({"ids": [""], "embeddings": ONE}, TypeError, "Ids must be strings that are not empty, got ''."),
    ({"ids": [None], "embeddings": ONE}, TypeError, "Ids must be strings that are not empty, got None."),
    ({"ids": ["a"], "embeddings": ONE, "texts": "x"}, TypeError, "texts must be a list of strings, got one string."),
    ({"ids": ["a"], "embeddings": ONE, "texts": [1]}, TypeError, "Texts must be strings or None, got int."),
    (
        {"ids": ["a"], "embeddings": ONE, "metadata": ["x"]},
        TypeError,
        "metadata of a row must be a dictionary, got str",
    ),
    ({"ids": ["a"], "embeddings": np.ones((1, 2, 2))}, ValueError, "must be (rows, width), got shape (1, 2, 2)."),
    ({"ids": ["a"], "embeddings": np.ones((1, 0))}, ValueError, "must be (rows, width), got shape (1, 0)."),
    ({"ids": ["a"], "embeddings": "text"}, TypeError, "got text: 'text'"),
    ({"ids": ["a", "b"], "embeddings": SPARSE}, TypeError, "pass sparse ones as sparse_embeddings=..."),
    ({"ids": ["a"], "sparse_embeddings": ONE}, TypeError, "Expected torch.Tensor, got <class 'numpy.ndarray'>"),
    ({"ids": ["a", "b"], "embeddings": [[1, 2], [3, np.nan]]}, ValueError, "row 1 has NaN or infinite values."),
    ({"ids": ["a"], "embeddings": [[-np.inf, 1]]}, ValueError, "row 0 has NaN or infinite values."),
    ({"ids": ["a"], "embeddings": [[1e39, 1]]}, ValueError, "row 0 has NaN or infinite values."),
    (
        {"ids": ["a"], "sparse_embeddings": torch.tensor([[0.0, np.inf]]).to_sparse()},
        ValueError,
        "row 0 has NaN or inf",
    ),
    ({"ids": ["a"], "embeddings": np.ones((1, 3))}, ValueError, "holds embeddings of width 2, got width 3."),
    ({"ids": ["a", "b"], "sparse_embeddings": SPARSE}, ValueError, "holds sparse embeddings of width 9, got width 3."),
]


@pytest.mark.parametrize("arguments, error, message", BAD_ROWS, ids=[message[:40] for *_, message in BAD_ROWS])
def test_bad_rows_reach_no_hook(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    store = Told(Settings("cosine", 2, 9))
    with pytest.raises(error, match=re.escape(message)):
        store.add(**arguments)
    assert (store.calls, store.settings) == ([], Settings("cosine", 2, 9))


# --- delete and count


def test_delete_by_ids(store: Told) -> None:
    assert store.delete(("a", "b")) == 7
    assert store.calls == [("delete ids", ["a", "b"])]


def test_delete_of_no_ids_reaches_no_hook(store: Told) -> None:
    assert store.delete([]) == 0
    assert store.calls == []


def test_delete_and_count_by_a_condition(store: Told) -> None:
    assert [store.delete(where={"a": 1}), store.count({"a": 1}), store.count(), store.count({})] == [7, 7, 7, 7]
    assert [call[0] for call in store.calls] == ["delete where", "count", "count", "count"]
    assert store.calls[0][1] == store.calls[1][1] is not None
    assert (store.calls[2][1], store.calls[3][1]) == (None, None)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({}, ValueError, "delete() takes either ids or a condition (where=...) that is not empty, exactly one."),
        ({"where": {}}, ValueError, "a condition (where=...) that is not empty, exactly one."),
        ({"ids": ["a"], "where": {"a": 1}}, ValueError, "exactly one."),
        ({"ids": [], "where": {"a": 1}}, ValueError, "exactly one."),
        ({"ids": "abc"}, TypeError, "ids must be a list of strings, got one string: 'abc'."),
        ({"ids": ["a", "a"]}, ValueError, "Ids must differ from each other, got 'a' twice."),
        ({"ids": [3]}, TypeError, "Ids must be strings that are not empty, got 3."),
        ({"where": "a"}, TypeError, "A condition must be a dictionary, got str: 'a'."),
    ],
)
def test_a_bad_delete_reaches_no_hook(
    store: Told, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        store.delete(**arguments)
    assert store.calls == []


# --- search


def known(**found: str) -> Told:
    return Told(Settings("cosine", 2, 3), **found)


def test_a_search_of_one_kind_is_what_its_hook_found() -> None:
    store = known(dense="ab")
    assert store.search([1, 2], top_k=5) == [_matches("ab")]
    [(_, queries, limit, condition)] = store.calls
    assert (queries.dtype, queries.tolist(), limit, condition) == (np.float32, [[1, 2]], 5, None)


def test_a_sparse_query_may_be_one_vector() -> None:
    store = known(sparse="ab")
    assert store.search(sparse_embeddings=torch.tensor([0.0, 0.0, 4.0])) == [_matches("ab")]
    [(_, [(ids, values)], limit, _)] = store.calls
    assert (ids.tolist(), values.tolist(), limit) == ([2], [4.0], 10)


def test_two_searches_are_fused_by_ranks() -> None:
    [found] = known(dense="abc", sparse="dca").search([1, 2], sparse_embeddings=torch.ones(1, 3), top_k=3)
    assert [(match.id, match.text, match.metadata) for match in found] == [
        (one, f"text of {one}", {"id": one}) for one in "acd"
    ]
    expected = [1 / 61 + 1 / 63, 1 / 63 + 1 / 62, 1 / 61]
    assert [match.score for match in found] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("top_k, asked", [(3, FUSED), (FUSED, FUSED), (FUSED + 1, FUSED + 1)])
def test_more_rows_are_fused_than_wanted(top_k: int, asked: int) -> None:
    store = known(dense="a", sparse="b")
    store.search([1, 2], sparse_embeddings=torch.ones(1, 3), top_k=top_k, where={"a": 1})
    assert [call[2] for call in store.calls] == [asked, asked]
    assert store.calls[0][3] == store.calls[1][3] is not None


def test_each_query_is_fused_for_itself() -> None:
    found = known(dense="ab", sparse="b").search(np.ones((2, 2)), sparse_embeddings=torch.ones(2, 3))
    assert [[match.id for match in one] for one in found] == [["b", "a"], ["b", "a"]]


def test_a_kind_that_the_store_does_not_hold_finds_nothing() -> None:
    store = Told(Settings("cosine", 2, None), dense="ab")
    assert store.search(sparse_embeddings=torch.ones(2, 3)) == [[], []]
    assert store.calls == []
    assert [match.id for match in store.search([1, 2], sparse_embeddings=torch.ones(1, 3))[0]] == ["a", "b"]
    assert store.settings.sparse_width is None


@pytest.mark.parametrize("queries", [{"embeddings": np.empty((0, 2))}, {"sparse_embeddings": torch.empty(0, 3)}])
def test_no_queries_find_nothing(queries: dict[str, Any]) -> None:
    store = known(dense="ab", sparse="ab")
    assert store.search(**queries) == []
    assert store.calls == []


BAD_QUERIES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "search() needs embeddings, sparse_embeddings, or both."),
    ({"embeddings": [1, 2, 3]}, ValueError, "holds embeddings of width 2, got width 3."),
    ({"sparse_embeddings": torch.ones(1, 2)}, ValueError, "holds sparse embeddings of width 3, got width 2."),
    ({"embeddings": TWO, "sparse_embeddings": torch.ones(1, 3)}, ValueError, "Got 2 dense and 1 sparse queries;"),
    ({"embeddings": [1, np.nan]}, ValueError, "row 0 has NaN or infinite values."),
    ({"embeddings": ONE, "top_k": 0}, ValueError, "top_k must be a positive integer, got 0."),
    ({"embeddings": ONE, "top_k": 2.0}, ValueError, "top_k must be a positive integer, got 2.0."),
    ({"embeddings": ONE, "where": [1]}, TypeError, "A condition must be a dictionary, got list: [1]."),
    ({"embeddings": ONE, "where": {"a": {"$like": "x"}}}, ValueError, "The operator on 'a' must be one of"),
    ({"embeddings": torch.ones(1, 2).to_sparse()}, TypeError, "pass sparse ones as sparse_embeddings=..."),
]


@pytest.mark.parametrize("arguments, error, message", BAD_QUERIES, ids=[message[:40] for *_, message in BAD_QUERIES])
def test_a_bad_search_reaches_no_hook(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    store = known(dense="ab", sparse="ab")
    with pytest.raises(error, match=re.escape(message)):
        store.search(**arguments)
    assert store.calls == []


def test_a_with_block_closes_the_store_even_after_an_error(store: Told) -> None:
    with pytest.raises(KeyError), store as inside:
        assert inside is store
        raise KeyError("x")
    assert store.calls == [("close",)]
