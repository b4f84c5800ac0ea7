"""Index: what goes into the store, what is asked of the models, and in which order answers come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.search import index as page
from sentence_transformers.search.index import Index, text_id
from sentence_transformers.search.stores.base import Match, VectorStore
from sentence_transformers.search.stores.embedded import EmbeddedStore

WORDS = ["sun", "ice", "wind", "sea"]


class Counter:
    """Embeds a text by how often it has each of the WORDS."""

    def __init__(self, is_sparse: bool = False) -> None:
        self.is_sparse = is_sparse
        self.calls: list[tuple[str, int]] = []
        self.batch_sizes: list[int] = []

    similarity_fn_name = "cosine"

    def get_embedding_dimension(self) -> int:
        return len(WORDS)

    def encode_document(self, texts: list[str], **options: Any) -> torch.Tensor:
        return self._encode("document", texts, options)

    def encode_query(self, texts: list[str], **options: Any) -> torch.Tensor:
        return self._encode("query", texts, options)

    def _encode(self, role: str, texts: list[str], options: dict[str, Any]) -> torch.Tensor:
        assert options["convert_to_tensor"] is True
        self.calls.append((role, len(texts)))
        self.batch_sizes.append(options["batch_size"])
        rows = torch.tensor([[float(text.split().count(word)) for word in WORDS] for text in texts])
        return rows.to_sparse() if self.is_sparse else rows


class ByLength:
    """Ranks short texts first."""

    def predict(self, pairs: list[tuple[str, str]], **options: Any) -> np.ndarray:
        return np.array([-len(text) for _, text in pairs], dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path)


def texts(matches: list[Match]) -> list[str | None]:
    return [match.text for match in matches]


def test_texts_are_found_with_ids_of_their_own_and_metadata(store: EmbeddedStore) -> None:
    index = Index(store, Counter())  # type: ignore[arg-type]
    ids = index.add(["sun sun ice", "sea"], metadata=[{"n": 1}, {"n": 2}])
    assert ids == [text_id("sun sun ice"), text_id("sea")]
    [best] = index.search("sun", 1)
    assert best == Match(ids[0], pytest.approx(2 / 5**0.5), "sun sun ice", {"n": 1})


def test_a_text_that_is_added_again_is_kept_once_with_the_last_metadata(store: EmbeddedStore) -> None:
    index = Index(store, Counter())  # type: ignore[arg-type]
    assert len(set(index.add(["sun", "sun"], metadata=[{"n": 1}, {"n": 2}]))) == 1
    index.add(["sun"], metadata=[{"n": 3}])
    assert store.count() == 1
    assert index.search("sun")[0].metadata == {"n": 3}


def test_ids_of_the_caller_replace_rows(store: EmbeddedStore) -> None:
    index = Index(store, Counter())  # type: ignore[arg-type]
    index.add(["sun", "ice"], ids=["a", "b"])
    index.add(["wind"], ids=["a"])
    assert texts(index.search("wind")) == ["wind", "ice"]


def test_many_texts_are_kept_a_window_at_a_time(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "WINDOW", 3)
    model = Counter()
    Index(store, model).add([f"sun {number}" for number in range(8)])  # type: ignore[arg-type]
    assert model.calls == [("document", 3), ("document", 3), ("document", 2)]
    assert store.count() == 8


def test_one_query_gives_a_list_and_several_a_list_of_lists(store: EmbeddedStore) -> None:
    index = Index(store, Counter())  # type: ignore[arg-type]
    index.add(["sun", "ice"])
    assert texts(index.search("ice", 1)) == ["ice"]
    assert [texts(matches) for matches in index.search(["ice", "sun"], 1)] == [["ice"], ["sun"]]
    assert index.search([]) == []


def test_rows_are_encoded_as_documents_and_questions_as_queries(store: EmbeddedStore) -> None:
    dense, sparse = Counter(), Counter(is_sparse=True)
    index = Index(store, dense, sparse_model=sparse)  # type: ignore[arg-type]
    index.add(["sun", "ice", "sea"], batch_size=7)
    index.search(["sun", "ice"], batch_size=5)
    assert dense.calls == sparse.calls == [("document", 3), ("query", 2)]
    assert dense.batch_sizes == sparse.batch_sizes == [7, 5]


def test_a_sparse_model_alone_will_do(store: EmbeddedStore) -> None:
    index = Index(store, sparse_model=Counter(is_sparse=True))  # type: ignore[arg-type]
    index.add(["sun", "sun sun sun ice"])
    assert [(match.text, match.score) for match in index.search("sun", 1)] == [("sun sun sun ice", 3.0)]


@pytest.mark.parametrize("arguments", [{"top_k": 0}, {"candidates": 0}, {"where": {"a": {"$near": 1}}}])
def test_a_search_that_makes_no_sense_is_refused(store: EmbeddedStore, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="top_k|candidates|near"):
        Index(store, Counter()).search("sun", **arguments)  # type: ignore[arg-type]


def test_a_condition_leaves_rows_out(store: EmbeddedStore) -> None:
    index = Index(store, Counter())  # type: ignore[arg-type]
    index.add(["sun sun", "sun ice"], metadata=[{"year": 1999}, {"year": 2001}])
    assert texts(index.search("sun", where={"year": {"$gte": 2000}})) == ["sun ice"]


def test_two_models_are_fused_by_ranks(store: EmbeddedStore) -> None:
    index = Index(store, Counter(), sparse_model=Counter(is_sparse=True))  # type: ignore[arg-type]
    index.add(["sun", "sun sun sun ice", "sea"])
    # dense (cosine): "sun", then "sun sun sun ice"; sparse (dot product) the other way round
    found = index.search("sun")
    assert {match.text: round(match.score, 6) for match in found[:2]} == {
        "sun": round(1 / 61 + 1 / 62, 6),
        "sun sun sun ice": round(1 / 61 + 1 / 62, 6),
    }
    assert found[2].text == "sea"


def test_a_reranker_has_the_last_word_among_the_candidates(store: EmbeddedStore) -> None:
    index = Index(store, Counter(), reranker=ByLength())  # type: ignore[arg-type]
    index.add(["sun sun sun sun", "sun sun", "ice"])
    assert texts(index.search("sun", 2)) == ["ice", "sun sun"]
    assert texts(index.search("sun", 1, candidates=2)) == ["sun sun"]
    assert index.search("sun", 2)[0].score == -3.0


def test_a_reranker_gets_each_question_with_its_own_rows(store: EmbeddedStore) -> None:
    class Echo:
        """Scores 1 where the text has the question in it, and remembers what it was asked."""

        asked: list[list[tuple[str, str]]] = []

        def predict(self, pairs: list[tuple[str, str]], **options: Any) -> np.ndarray:
            self.asked.append(pairs)
            return np.array([float(query in text) for query, text in pairs], dtype=np.float32)

    index = Index(store, Counter(), reranker=Echo())  # type: ignore[arg-type]
    index.add(["ice sun", "sun wind", "sun"])
    assert [texts(matches)[0] for matches in index.search(["sun wind", "ice sun"], 1)] == ["sun wind", "ice sun"]
    assert len(Echo.asked) == 1 and len(Echo.asked[0]) == 6  # all pairs at once


def test_at_least_as_many_rows_are_ranked_as_are_asked_for(store: EmbeddedStore) -> None:
    index = Index(store, Counter(), reranker=ByLength())  # type: ignore[arg-type]
    index.add(["sun", "ice", "sea"])
    assert len(index.search("sun", 3, candidates=1)) == 3


def test_equal_scores_of_a_reranker_keep_the_order_of_the_search(store: EmbeddedStore) -> None:
    index = Index(store, Counter(), reranker=ByLength())  # type: ignore[arg-type]
    index.add(["sea", "sun", "ice"])
    assert texts(index.search("sun")) == ["sun", "sea", "ice"]


def test_a_reranker_needs_texts(store: EmbeddedStore) -> None:
    store.add(["a"], [[1.0, 0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="A reranker reads texts, but some rows have none"):
        Index(store, Counter(), reranker=ByLength()).search("sun")  # type: ignore[arg-type]


def test_an_empty_store_finds_nothing(store: EmbeddedStore) -> None:
    index = Index(store, Counter(), sparse_model=Counter(is_sparse=True), reranker=ByLength())  # type: ignore[arg-type]
    assert index.search("sun") == []
    assert index.add([]) == []
    assert index.search(["sun", "ice"]) == [[], []]


@pytest.mark.parametrize("kind", ["width", "sparse_width"])
def test_a_store_of_another_model_is_refused(tmp_path: Path, kind: str) -> None:
    store: VectorStore = EmbeddedStore(tmp_path, **{kind: 7})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width 7, but .*model makes such of width 4"):
        Index(store, Counter(), sparse_model=Counter(is_sparse=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": "sun"}, TypeError, "got one string"),
        ({"texts": ["sun"], "ids": ["a", "b"]}, ValueError, "1 texts, but 2 ids. Nothing was added"),
        ({"texts": ["sun", "ice"], "ids": ["a", "a"]}, ValueError, "an id twice"),
        ({"texts": ["sun"], "metadata": []}, ValueError, "1 texts, but 0 metadata"),
    ],
)
def test_bad_input_adds_nothing(
    store: EmbeddedStore, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Index(store, Counter()).add(**arguments)  # type: ignore[arg-type]
    assert store.count() == 0


def test_a_model_is_needed(store: EmbeddedStore) -> None:
    with pytest.raises(ValueError, match="needs a model that encodes"):
        Index(store)


def test_another_similarity_than_that_of_the_model_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Index(EmbeddedStore(tmp_path / "same"), Counter())  # type: ignore[arg-type]
    assert caplog.text == ""
    Index(EmbeddedStore(tmp_path / "other", similarity="dot"), Counter())  # type: ignore[arg-type]
    assert "The model compares by cosine, and the store by dot" in caplog.text


def test_a_reranker_with_several_labels_is_refused(store: EmbeddedStore) -> None:
    class Classes:
        def predict(self, pairs: Any, **options: Any) -> np.ndarray:
            return np.zeros((len(pairs), 3), dtype=np.float32)

    index = Index(store, Counter(), reranker=Classes())  # type: ignore[arg-type]
    index.add(["sun"])
    with pytest.raises(ValueError, match="one score for a pair, but this one has 3 labels"):
        index.search("sun")
