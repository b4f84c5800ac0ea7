"""Which prompt a call uses, and what the model does with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import OLD_MEAN, TEXTS

TEXT = "the cat"
QUERY, PASSAGE = "find this: ", "the text: "


@pytest.fixture
def prompted(bert_folder: Path) -> SentenceTransformer:
    """query and passage; the default is query."""
    prompts = {"query": QUERY, "passage": PASSAGE}
    return SentenceTransformer(str(bert_folder), device="cpu", prompts=prompts, default_prompt_name="query")


def with_prompt(bert: SentenceTransformer, prompt: str) -> Any:
    return bert.encode(prompt + TEXT)


def test_query_and_document_are_always_there(bert: SentenceTransformer) -> None:
    assert (bert.prompts, bert.default_prompt_name) == ({"query": "", "document": ""}, None)


def test_given_prompts_are_added_to_those(prompted: SentenceTransformer) -> None:
    assert prompted.prompts == {"query": QUERY, "document": "", "passage": PASSAGE}


def test_a_prompt_of_none_becomes_empty(bert_folder: Path) -> None:
    model = SentenceTransformer(str(bert_folder), device="cpu", prompts={"query": None, "other": None})  # type: ignore[dict-item]
    assert model.prompts == {"query": "", "document": "", "other": ""}


def test_without_a_default_no_prompt_is_used(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(TEXT, prompt_name="query"), bert.encode(TEXT))


def test_the_default_prompt_is_used(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode(TEXT), with_prompt(bert, QUERY))


def test_a_named_prompt_wins_over_the_default(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode(TEXT, prompt_name="passage"), with_prompt(bert, PASSAGE))


def test_a_given_prompt_wins_over_the_default(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode(TEXT, prompt="a dog "), with_prompt(bert, "a dog "))


def test_an_empty_prompt_switches_the_default_off(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode(TEXT, prompt=""), bert.encode(TEXT))


@pytest.mark.parametrize("name", ["passage", "nobody knows it"])
def test_a_given_prompt_wins_over_a_named_one_with_a_warning(
    name: str, prompted: SentenceTransformer, bert: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    assert_array_equal(prompted.encode(TEXT, prompt_name=name, prompt="a dog "), with_prompt(bert, "a dog "))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "prompt_name is ignored" in caplog.text


@pytest.mark.parametrize("inputs", [TEXT, [TEXT], []])
def test_an_unknown_name_is_refused(inputs: Any, prompted: SentenceTransformer) -> None:
    with pytest.raises(ValueError) as caught:
        prompted.encode(inputs, prompt_name="x")
    assert str(caught.value) == (
        "Prompt name 'x' not found in the configured prompts dictionary with keys ['query', 'document', 'passage']."
    )


def test_every_text_of_a_batch_gets_the_prompt(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode(TEXTS), bert.encode([QUERY + text for text in TEXTS]))


def test_a_pair_gets_the_prompt_before_its_first_text(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode([(TEXT, "a dog")]), bert.encode([(QUERY + TEXT, "a dog")]))


def test_a_dict_gets_the_prompt_before_its_text(prompted: SentenceTransformer, bert: SentenceTransformer) -> None:
    assert_array_equal(prompted.encode({"text": TEXT}), with_prompt(bert, QUERY))


def test_prompts_may_be_replaced_later(changeable: SentenceTransformer, bert: SentenceTransformer) -> None:
    changeable.prompts = {"mine": PASSAGE}
    changeable.default_prompt_name = "mine"
    assert_array_equal(changeable.encode(TEXT), with_prompt(bert, PASSAGE))


def test_a_default_that_was_removed_later_is_no_prompt_and_a_warning(
    prompted: SentenceTransformer, bert: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    """The reference uses no prompt either, and says nothing."""
    prompted.prompts = {"passage": PASSAGE}
    assert_array_equal(prompted.encode(TEXT), bert.encode(TEXT))
    assert "'query' is not in prompts any more" in caplog.text


# --- encode_query and encode_document


def test_a_query_gets_the_query_prompt(bert_folder: Path, bert: SentenceTransformer) -> None:
    model = SentenceTransformer(str(bert_folder), device="cpu", prompts={"query": QUERY})
    assert_array_equal(model.encode_query(TEXT), with_prompt(bert, QUERY))


@pytest.mark.parametrize(
    ("prompts", "used"),
    [
        ({"document": "a: ", "passage": "b: ", "corpus": "c: "}, "a: "),
        ({"passage": "b: ", "corpus": "c: "}, "b: "),
        ({"corpus": "c: "}, "c: "),
        ({"query": QUERY}, ""),
    ],
)
def test_a_document_gets_the_first_of_three_prompts(
    prompts: dict[str, str], used: str, bert_folder: Path, bert: SentenceTransformer
) -> None:
    """Unlike the reference, the placeholder "document" of a model without that prompt does not hide "passage"."""
    model = SentenceTransformer(str(bert_folder), device="cpu", prompts=prompts)
    assert_array_equal(model.encode_document(TEXT), with_prompt(bert, used))


def test_an_empty_role_prompt_switches_the_default_off(
    prompted: SentenceTransformer, bert: SentenceTransformer
) -> None:
    prompted.prompts = {"query": "", "document": "", "other": PASSAGE}
    prompted.default_prompt_name = "other"
    assert_array_equal(prompted.encode_query(TEXT), bert.encode(TEXT))
    assert_array_equal(prompted.encode_document(TEXT), bert.encode(TEXT))


def test_without_a_role_prompt_the_default_is_used(changeable: SentenceTransformer, bert: SentenceTransformer) -> None:
    changeable.prompts, changeable.default_prompt_name = {"mine": PASSAGE}, "mine"
    assert_array_equal(changeable.encode_query(TEXT), with_prompt(bert, PASSAGE))
    assert_array_equal(changeable.encode_document(TEXT), with_prompt(bert, PASSAGE))


@pytest.mark.parametrize("options", [{"prompt_name": "passage"}, {"prompt": PASSAGE}])
def test_a_role_does_not_hide_what_the_call_says(
    options: dict[str, str], prompted: SentenceTransformer, bert: SentenceTransformer
) -> None:
    assert_array_equal(prompted.encode_query(TEXT, **options), with_prompt(bert, PASSAGE))
    assert_array_equal(prompted.encode_document(TEXT, **options), with_prompt(bert, PASSAGE))


def test_a_role_takes_the_arguments_of_encode_in_their_places(bert: SentenceTransformer) -> None:
    placed = bert.encode_query(TEXTS, None, QUERY, 2, False, "sentence_embedding", "float32", True, True)
    assert_allclose(placed.numpy(), bert.encode(TEXTS, prompt=QUERY), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "task"), [("encode_query", "query"), ("encode_document", "document")])
def test_a_role_names_its_task(
    name: str, task: str, changeable: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(type(changeable), "encode", lambda self, *args, **kwargs: seen.update(kwargs))
    getattr(changeable, name)(TEXT)
    assert seen["task"] == task


def test_a_role_goes_through_the_encode_of_a_subclass(bert_folder: Path, bert: SentenceTransformer) -> None:
    class Doubled(SentenceTransformer):
        def encode(self, *args: Any, **kwargs: Any) -> Any:
            return super().encode(*args, **kwargs) * 2

    assert_array_equal(Doubled(str(bert_folder), device="cpu").encode_query(TEXT), bert.encode(TEXT) * 2)


# --- prompts and pooling


def test_the_tokens_of_the_prompt_can_be_left_out_of_the_mean(
    bert: SentenceTransformer, changeable: SentenceTransformer
) -> None:
    changeable.set_pooling_include_prompt(False)
    tokens = bert.encode(QUERY + TEXT, output_value="token_embeddings")
    length = bert.preprocess([TEXT], prompt=QUERY)["prompt_length"]
    assert_allclose(changeable.encode(TEXT, prompt=QUERY), tokens[length:].mean(0).numpy(), rtol=0, atol=2e-6)


def test_leaving_the_prompt_out_changes_nothing_without_a_prompt(
    changeable: SentenceTransformer, bert: SentenceTransformer
) -> None:
    changeable.set_pooling_include_prompt(False)
    assert_array_equal(changeable.encode(TEXT), bert.encode(TEXT))


# --- prompts that were saved with the model


@pytest.fixture
def saved(make_folder: Callable[..., Path]) -> Path:
    config = {"prompts": {"query": QUERY, "mine": PASSAGE}, "default_prompt_name": "mine"}
    return make_folder(config=config, pooling=OLD_MEAN)


def test_saved_prompts_are_read(saved: Path, bert: SentenceTransformer) -> None:
    model = SentenceTransformer(str(saved), device="cpu")
    assert (model.prompts, model.default_prompt_name) == ({"query": QUERY, "document": "", "mine": PASSAGE}, "mine")
    assert_array_equal(model.encode(TEXT), with_prompt(bert, PASSAGE))


def test_given_prompts_win_over_saved_ones_of_the_same_name(saved: Path) -> None:
    model = SentenceTransformer(str(saved), device="cpu", prompts={"query": "a: ", "new": "b: "})
    assert model.prompts == {"query": "a: ", "document": "", "mine": PASSAGE, "new": "b: "}


def test_an_empty_given_prompt_wins_over_a_saved_one(saved: Path) -> None:
    assert SentenceTransformer(str(saved), device="cpu", prompts={"query": ""}).prompts["query"] == ""


def test_the_given_default_wins_over_the_saved_one(saved: Path) -> None:
    assert SentenceTransformer(str(saved), device="cpu", default_prompt_name="query").default_prompt_name == "query"


def test_a_saved_null_stays_a_placeholder(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(config={"prompts": {"query": None}, "default_prompt_name": None})
    assert SentenceTransformer(str(folder), device="cpu").prompts == {"query": "", "document": ""}
