"""``CrossEncoder.rank``: order, forms of the result, several queries at once, which text is cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads
import torch

from sentence_transformers import CrossEncoder

QUERY = "where did the cat sit?"
DOCUMENTS = ["on the mat", "the river runs down to the sea", "", "a dog sat by the door", "1 2 3"]
OTHER = "who?"
RAW = torch.nn.Identity()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier of one label; don't write."""
    return tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def model(folder: Path) -> CrossEncoder:
    """Don't change it."""
    return CrossEncoder(str(folder), device="cpu", prompts={"find": "find this: "})


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    return CrossEncoder(str(tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("three"), 3)), device="cpu")


def slow_rank(model: CrossEncoder, query: str, documents: list[str]) -> list[tuple[int, float]]:
    scores = [float(model.predict((query, document))) for document in documents]
    return sorted(enumerate(scores), key=lambda item: -item[1])


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether two results are equal up to rounding of their scores."""
    return len(found) == len(expected) and all(
        a.keys() == b.keys()
        and a["corpus_id"] == b["corpus_id"]
        and a.get("text") == b.get("text")
        and math.isclose(a["score"], b["score"], abs_tol=1e-6)
        for a, b in zip(found, expected, strict=True)
    )


# --- one query


def test_documents_come_in_the_order_of_their_scores(model: CrossEncoder) -> None:
    expected = [{"corpus_id": at, "score": score} for at, score in slow_rank(model, QUERY, DOCUMENTS)]
    assert same(model.rank(QUERY, DOCUMENTS), expected)


def test_items_hold_python_numbers(model: CrossEncoder) -> None:
    found = model.rank(QUERY, DOCUMENTS)
    assert all(list(item) == ["corpus_id", "score"] for item in found)
    assert {(type(item["corpus_id"]), type(item["score"])) for item in found} == {(int, float)}


def test_documents_are_returned_when_asked_for(model: CrossEncoder) -> None:
    found = model.rank(QUERY, DOCUMENTS, return_documents=True)
    assert [item["text"] for item in found] == [DOCUMENTS[item["corpus_id"]] for item in found]


def test_equal_scores_keep_the_order_of_the_documents(model: CrossEncoder) -> None:
    found = model.rank(QUERY, ["x", "the mat", "x", "the mat", "x"])
    places = [item["corpus_id"] for item in found]
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert sorted(place for place in places if place % 2 == 0) == [place for place in places if place % 2 == 0]
    assert [place for place in places if place % 2] == [1, 3]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (5, 5), (50, 5), (None, 5), (np.int64(2), 2)])
def test_top_k_keeps_the_best(top_k: Any, count: int, model: CrossEncoder) -> None:
    assert same(model.rank(QUERY, DOCUMENTS, top_k=top_k), model.rank(QUERY, DOCUMENTS)[:count])


def test_no_documents_are_an_empty_list(model: CrossEncoder) -> None:
    assert model.rank(QUERY, []) == model.rank(QUERY, (), return_documents=True) == []


def test_one_document(model: CrossEncoder) -> None:
    found = model.rank(QUERY, ["on the mat"], return_documents=True)
    score = float(model.predict((QUERY, "on the mat")))
    assert same(found, [{"corpus_id": 0, "score": score, "text": "on the mat"}])


@pytest.mark.parametrize("kind", [tuple, np.array, iter, lambda items: dict.fromkeys(items).keys().__iter__()])
def test_documents_may_come_in_other_forms(kind: Any, model: CrossEncoder) -> None:
    assert same(
        model.rank(QUERY, kind(DOCUMENTS), return_documents=True), model.rank(QUERY, DOCUMENTS, return_documents=True)
    )


def test_the_prompt_stands_before_the_query(model: CrossEncoder) -> None:
    expected = model.rank("find this: " + QUERY, DOCUMENTS)
    assert same(model.rank(QUERY, DOCUMENTS, prompt="find this: "), expected)
    assert same(model.rank(QUERY, DOCUMENTS, prompt_name="find"), expected)


def test_arguments_may_be_positional_in_the_order_of_the_reference(model: CrossEncoder) -> None:
    by_name = model.rank(QUERY, DOCUMENTS, top_k=2, return_documents=True, prompt_name="find", activation_fn=RAW)
    assert same(model.rank(QUERY, DOCUMENTS, 2, True, "find", None, 8, False, RAW), by_name)


def test_the_activation_of_the_call_gives_the_scores(model: CrossEncoder) -> None:
    found = model.rank(QUERY, DOCUMENTS, activation_fn=lambda scores: -scores)
    raw = model.rank(QUERY, DOCUMENTS, activation_fn=RAW)
    assert [item["corpus_id"] for item in found] == [item["corpus_id"] for item in reversed(raw)]


def test_scores_that_are_no_numbers_come_last(model: CrossEncoder) -> None:
    def spoiled(scores: torch.Tensor) -> torch.Tensor:
        return torch.where(scores == scores.max(), torch.nan, scores)

    found = model.rank(QUERY, DOCUMENTS, activation_fn=spoiled)
    assert math.isnan(found[-1]["score"])


# --- several queries


def test_several_queries_give_what_each_gives_alone(model: CrossEncoder) -> None:
    lists = [DOCUMENTS, [], ["a dog", "a cat"]]
    found = model.rank([QUERY, OTHER, OTHER], lists, top_k=3, return_documents=True)
    expected = [model.rank(q, d, 3, True) for q, d in zip([QUERY, OTHER, OTHER], lists, strict=True)]
    assert len(found) == 3
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_list_of_one_query_gives_a_list_of_one_result(kind: Any, model: CrossEncoder) -> None:
    found = model.rank(kind([QUERY]), [DOCUMENTS])
    assert len(found) == 1
    assert same(found[0], model.rank(QUERY, DOCUMENTS))


def test_no_queries_give_no_results(model: CrossEncoder) -> None:
    assert model.rank([], []) == []


def test_documents_of_all_queries_run_together(model: CrossEncoder) -> None:
    sizes: list[int] = []

    def watched(scores: torch.Tensor) -> torch.Tensor:
        sizes.append(len(scores))
        return scores

    model.rank(["a", "b", "a"], [["c"], ["d"], ["c"]], activation_fn=watched, batch_size=32)
    assert sizes == [2]  # one batch across the queries, the pair that comes twice computed once


@pytest.mark.parametrize(
    ("queries", "documents", "says"),
    [
        (["q"], ["a", "b"], "got 1 queries and 2 lists. For one query pass it as a string"),
        (["q", "r"], [["a"]], "got 2 queries and 1 lists"),
        ([], [["a"]], "got 0 queries and 1 lists"),
        (["q"], ["a"], r"documents\[0\] \(query is a list\) is a str"),
        (["q", "r"], [["a"], None], r"documents\[1\] \(query is a list\) is a NoneType"),
        (["q"], None, "documents is a NoneType"),
        (["q"], "a", "documents is a str"),
    ],
)
def test_queries_need_a_list_of_documents_each(queries: Any, documents: Any, says: str, model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=says):
        model.rank(queries, documents)


# --- which text is cut


def scores_of_transformers(folder: Path, query: str, documents: list[str], policy: str) -> list[float]:
    """Logits in float64, one pair at a time, cut by transformers' tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for document in documents:
        with torch.no_grad():
            features = tokenizer([query], [document], truncation=policy, max_length=64, return_tensors="pt")
            found.append(float(network(**features).logits))
    return found


def by_place(found: list[dict[str, Any]]) -> list[float]:
    return [item["score"] for item in sorted(found, key=lambda item: item["corpus_id"])]


@pytest.mark.parametrize(("options", "policy"), [({}, "only_second"), ({"truncation": "longest_first"},) * 2])
def test_the_query_stays_whole_unless_told_otherwise(options: Any, policy: Any, folder: Path, model: Any) -> None:
    policy = policy if isinstance(policy, str) else policy["truncation"]
    query, documents = (
        "the cat sat by the door " * 5,
        ["a dog sat on the mat " * 8, "the river runs " * 30, "a dog " * 25],
    )
    expected = scores_of_transformers(folder, query, documents, policy)
    found = by_place(model.rank(query, documents, activation_fn=RAW, on_truncate="ignore", **options))
    assert found == pytest.approx(expected, abs=2e-6)


def test_the_two_ways_to_cut_differ(model: CrossEncoder) -> None:
    query, document = "the cat sat by the door " * 5, "a dog sat on the mat " * 8
    scores = {
        policy: model.rank(query, [document], truncation=policy, on_truncate="ignore", activation_fn=RAW)[0]["score"]
        for policy in ("only_second", "longest_first")
    }
    assert abs(scores["only_second"] - scores["longest_first"]) > 1e-5


def test_a_query_without_room_for_a_document_is_cut_after_all(folder: Path, model: CrossEncoder) -> None:
    query = "the cat " * 60
    expected = scores_of_transformers(folder, query, ["on the mat"], "longest_first")
    found = by_place(model.rank(query, ["on the mat"], activation_fn=RAW, on_truncate="ignore"))
    assert found == pytest.approx(expected, abs=2e-6)


def test_cut_documents_are_counted(model: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    model.rank(QUERY, ["on the mat", "the sea " * 40, "the sea " * 40])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("2 of 3 inputs are longer than max_seq_length = 64 tokens")
    with pytest.raises(ValueError, match="1 of 1 inputs are longer"):
        model.rank(QUERY, ["the sea " * 40], on_truncate="error")


# --- bad calls


@pytest.mark.parametrize("documents", [["a"], []])
def test_a_model_of_several_labels_cannot_rank(documents: list[str], three: CrossEncoder) -> None:
    says = r"CrossEncoder\.rank\(\) only works for models with num_labels=1; this one has 3"
    with pytest.raises(ValueError, match=says):
        three.rank(QUERY, documents)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "3", True])
@pytest.mark.parametrize("documents", [DOCUMENTS, []])
def test_top_k_below_one_is_refused(top_k: Any, documents: list[str], model: CrossEncoder) -> None:
    """The reference gives nothing for 0, and drops the last for -1."""
    with pytest.raises(ValueError, match=f"top_k must be a positive integer, got {top_k!r}"):
        model.rank(QUERY, documents, top_k=top_k)


@pytest.mark.parametrize(
    ("documents", "kind"), [(None, "NoneType"), ("a text", "str"), (5, "int"), ({"a": 1}, "dict"), ({"a"}, "set"),
                            (b"a", "bytes")],
)  # fmt: skip
def test_documents_must_be_a_list(documents: Any, kind: str, model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=rf"rank\(\) needs a list of documents; documents is a {kind}\."):
        model.rank(QUERY, documents)


@pytest.mark.parametrize(
    ("query", "documents", "kind"),
    [
        (None, ["a"], "NoneType"),
        (1, ["a"], "int"),
        (QUERY, [1, 2], "int"),
        (QUERY, ["a", None], "NoneType"),
        (QUERY, [["a"]], "list"),
        ([QUERY, None], [["a"], ["b"]], "NoneType"),
    ],
)
def test_queries_and_documents_must_be_texts(query: Any, documents: Any, kind: str, model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=rf"^Unsupported input type: {kind}\. Expected (one of: str|a text or a pair)"):
        model.rank(query, documents)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt_name": "nope"}, r"Prompt name 'nope' not found .* with keys \['find'\]\."),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"truncation": "nope"}, "truncation must be one of"),
        ({"activation_fn": "tanh"}, "activation_fn must be"),
    ],
)
@pytest.mark.parametrize("documents", [DOCUMENTS, []])
def test_bad_options_are_refused(options: Any, says: str, documents: list[str], model: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=says):
        model.rank(QUERY, documents, **options)
