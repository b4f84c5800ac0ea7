"""What ``encode`` takes: every form of input, every odd one, and every argument."""

from __future__ import annotations

import logging
from collections import UserList
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import TEXTS, WIDTH, WINDOW

TEXT = TEXTS[0]
LONG = "the cat and the dog " * 200


# --- inputs


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "😀", "שלום", "x" * 100_000])
def test_every_text_has_a_finite_vector(text: str, bert: SentenceTransformer) -> None:
    assert np.isfinite(bert.encode(text, on_truncate="ignore")).all()


def test_an_empty_text_has_only_its_special_tokens(bert: SentenceTransformer) -> None:
    assert len(bert.encode("", output_value="token_embeddings")) == 2


@pytest.mark.parametrize(
    "batch",
    [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        UserList(TEXTS),
        [{"text": text} for text in TEXTS],
        [TEXTS[0], {"text": TEXTS[1]}, np.str_(TEXTS[2])],
    ],
    ids=["tuple", "array", "object array", "sequence", "dicts", "mixed"],
)
def test_every_form_of_a_batch(batch: Any, bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(batch), bert.encode(TEXTS))


def test_a_generator_of_texts_is_no_batch(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="Unsupported input type: generator"):
        bert.encode(text for text in TEXTS)


def test_a_column_of_a_data_set_is_a_batch(bert: SentenceTransformer) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    column = datasets.Dataset.from_dict({"text": TEXTS})["text"]
    assert_array_equal(bert.encode(column), bert.encode(TEXTS))


def test_a_dict_with_a_text_is_one_text(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode({"text": TEXT}), bert.encode(TEXT))


@pytest.mark.parametrize(
    "pairs",
    [[("the cat", "a dog")], [["the cat", "a dog"]], np.array([["the cat", "a dog"]])],
    ids=["tuple", "list", "2-D array"],
)
def test_every_form_of_a_pair_is_read_as_one_input(pairs: Any, bert: SentenceTransformer) -> None:
    ids = bert.tokenizer("the cat", "a dog")["input_ids"]
    features = bert.encode(pairs, output_value=None)
    assert [row["input_ids"].tolist() for row in features] == [ids]
    assert bert.encode(pairs).shape == (1, WIDTH)


def test_a_tuple_of_two_texts_is_a_batch_of_two(bert: SentenceTransformer) -> None:
    assert bert.encode(("the cat", "a dog")).shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [(None, "NoneType"), (5, "int"), (1.5, "float"), (b"x", "bytes"), ([None], "NoneType"), ([5], "int"),
     (["a", None], "NoneType"), ([b"x"], "bytes"), ({"a"}, "set")],
)  # fmt: skip
def test_what_is_no_text_is_refused(wrong: Any, name: str, bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError) as caught:
        bert.encode(wrong)
    assert str(caught.value) == (
        f"Unsupported input type: {name}. Expected one of: str, dict, PIL.Image.Image, np.ndarray, torch.Tensor"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [["a", "b", "c"]],
        [["a"]],
        [[["a", "b"]]],
        {},
        {"foo": "a"},
        {"image": "a"},
        {"text": "a", "image": "b"},
        {"role": "user", "content": "hi"},
        [{"role": "user", "content": "hi"}],
        [[{"role": "user", "content": "hi"}]],
        np.zeros(3),
        torch.zeros(3),
        np.array("a"),
    ],
)
def test_what_a_text_model_cannot_read_is_refused(wrong: Any, bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="text"):
        bert.encode(wrong)


@pytest.mark.parametrize(
    ("inputs", "single"),
    [
        ("a", True),
        ({"text": "a"}, True),
        (None, True),
        (5, True),
        (b"x", True),
        (np.array("a"), True),
        (np.zeros(3), True),
        (torch.zeros(3), True),
        ([{"role": "user", "content": "hi"}], True),
        ([], False),
        (["a"], False),
        (("a", "b"), False),
        ([[{"role": "user", "content": "hi"}]], False),
        (np.array(["a"]), False),
        (np.array([["a", "b"]]), False),
        (np.array(["a"], dtype=object), False),
    ],
)
def test_what_counts_as_one_input(inputs: Any, single: bool, bert: SentenceTransformer) -> None:
    assert bert.is_singular_input(inputs) is single


# --- too long texts


def test_a_long_text_is_cut_to_the_limit(bert: SentenceTransformer) -> None:
    assert len(bert.encode(LONG, output_value="token_embeddings", on_truncate="ignore")) == WINDOW


def test_one_warning_a_call_counts_the_cut_texts(bert: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    bert.encode([LONG, TEXT, LONG + "x"], batch_size=1)
    records = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(records) == 1
    assert f"2 of 3 inputs are longer than max_seq_length = {WINDOW} tokens" in records[0]


def test_texts_that_fit_are_no_warning(bert: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    bert.encode(TEXTS)
    assert caplog.text == ""


def test_a_warning_about_cut_texts_can_be_switched_off(
    bert: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    bert.encode(LONG, on_truncate="ignore")
    assert caplog.text == ""


def test_a_cut_text_can_be_an_error(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="1 of 2 inputs are longer than max_seq_length"):
        bert.encode([LONG, TEXT], on_truncate="error")


def test_an_unknown_way_to_treat_cut_texts_is_refused(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="on_truncate must be one of .* got 'crash'"):
        bert.encode(TEXT, on_truncate="crash")  # type: ignore[arg-type]


def test_a_call_may_have_a_limit_of_its_own(bert: SentenceTransformer) -> None:
    options: dict[str, Any] = {"processing_kwargs": {"text": {"max_length": 4}}, "on_truncate": "ignore"}
    assert len(bert.encode(TEXT, output_value="token_embeddings", **options)) == 4


# --- batches


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_the_batch_size_does_not_matter(batch_size: int, bert: SentenceTransformer) -> None:
    texts = [f"{TEXTS[i % 3]} {'and the cat ' * (i % 5)}{i}" for i in range(23)]
    assert_allclose(bert.encode(texts, batch_size=batch_size), bert.encode(texts), rtol=0, atol=2e-6)


def test_the_order_does_not_matter(bert: SentenceTransformer) -> None:
    texts = [f"{TEXTS[i % 3]} {'and the cat ' * (i % 5)}{i}" for i in range(23)]
    assert_allclose(bert.encode(texts[::-1])[::-1], bert.encode(texts), rtol=0, atol=2e-6)


def test_the_other_inputs_do_not_matter(bert: SentenceTransformer) -> None:
    assert_allclose(bert.encode([*TEXTS, "the cat " * 25])[:3], bert.encode(TEXTS), rtol=0, atol=2e-6)


def test_repeated_texts_get_equal_rows(bert: SentenceTransformer) -> None:
    rows = bert.encode([TEXT, TEXTS[1], TEXT, TEXT])
    assert_array_equal(rows[[2, 3]], rows[[0, 0]])


@pytest.mark.parametrize("size", [0, -1, 1.5, "8", None])
def test_a_batch_size_below_one_is_refused(size: Any, bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError) as caught:
        bert.encode([TEXT], batch_size=size)
    assert str(caught.value) == f"batch_size must be a positive integer, got {size!r}."


def test_many_threads_get_the_bits_of_one(bert: SentenceTransformer) -> None:
    alone = bert.encode(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        for rows in threads.map(lambda _: bert.encode(TEXTS), range(24)):
            assert_array_equal(rows, alone)


# --- arguments


def test_an_argument_that_no_module_takes_is_refused(bert: SentenceTransformer) -> None:
    expected = (
        r"SentenceTransformer.encode\(\) has been called with additional keyword arguments that this model does not "
        r"use: \['foo'\]"
    )
    for call in (bert.encode, bert.encode_query, bert.encode_document):
        with pytest.raises(ValueError, match=expected):
            call([TEXT], foo=1)


def test_task_is_always_allowed(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(TEXTS, task="anything"), bert.encode(TEXTS))


def test_the_arguments_keep_their_places(bert: SentenceTransformer) -> None:
    placed = bert.encode(
        TEXTS, None, "find this: ", 2, False, "sentence_embedding", "float32", True, True, "cpu", True, 4, None, None
    )
    named = bert.encode(TEXTS, prompt="find this: ", convert_to_tensor=True, normalize_embeddings=True, truncate_dim=4)
    assert torch.allclose(placed, named, rtol=0, atol=2e-6)


def test_the_old_name_of_inputs_still_works(bert: SentenceTransformer) -> None:
    for call in (bert.encode, bert.encode_query, bert.encode_document):
        with pytest.warns(FutureWarning, match="inputs"):
            assert_array_equal(call(sentences=TEXTS), bert.encode(TEXTS))


def test_the_new_name_wins_over_the_old_one(bert: SentenceTransformer) -> None:
    with pytest.warns(FutureWarning, match="inputs"):
        assert_array_equal(bert.encode(inputs=TEXTS, sentences=["other"]), bert.encode(TEXTS))


def test_the_same_device_changes_nothing(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(TEXTS, device="cpu"), bert.encode(TEXTS))


def test_an_unknown_device_is_refused(bert: SentenceTransformer) -> None:
    with pytest.raises(RuntimeError, match="device"):
        bert.encode(TEXTS, device="nowhere")


def test_a_device_of_the_call_stays(changeable: SentenceTransformer) -> None:
    changeable.encode([], device="meta")
    assert changeable.device.type == "meta"


@pytest.mark.parametrize(("asked", "shown"), [(True, True), (False, False), (None, False)])
def test_the_progress_bar(
    asked: bool | None, shown: bool, bert: SentenceTransformer, capsys: pytest.CaptureFixture[str]
) -> None:
    bert.encode(TEXTS, show_progress_bar=asked)
    assert ("Batches" in capsys.readouterr().err) is shown


def test_the_progress_bar_is_shown_where_information_is_logged(
    bert: SentenceTransformer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sentence_transformers"):
        bert.encode(TEXTS)
    assert "Batches" in capsys.readouterr().err


def test_encoding_ends_training_mode(changeable: SentenceTransformer) -> None:
    changeable.train()
    changeable.encode(TEXT)
    assert not changeable.training


def test_encoding_leaves_the_features_of_a_call_for_gradients(changeable: SentenceTransformer) -> None:
    features = changeable(changeable.preprocess(TEXTS))
    features["sentence_embedding"].sum().backward()
    grown = [name for name, weight in changeable.named_parameters() if weight.grad is not None]
    assert len(grown) > 40
    assert_allclose(features["sentence_embedding"].detach().numpy(), changeable.encode(TEXTS), rtol=0, atol=5e-6)


# --- the features dict


def test_preprocess_of_nothing_is_nothing(bert: SentenceTransformer) -> None:
    assert bert.preprocess([]) == {}


def test_preprocess_gives_what_the_tokenizer_gives(bert: SentenceTransformer) -> None:
    expected = bert.tokenizer(TEXTS, padding=True, return_tensors="pt")
    features = bert.preprocess(TEXTS)
    assert {name: value.tolist() for name, value in expected.items()} == {
        name: value.tolist() for name, value in features.items() if name != "modality"
    }


def test_tokenize_is_the_old_name_of_preprocess(bert: SentenceTransformer) -> None:
    assert torch.equal(bert.tokenize(TEXTS)["input_ids"], bert.preprocess(TEXTS)["input_ids"])


def test_forward_of_preprocess_is_encode(bert: SentenceTransformer) -> None:
    with torch.inference_mode():
        out = bert(bert.preprocess(TEXTS))["sentence_embedding"]
    assert_allclose(out.numpy(), bert.encode(TEXTS), rtol=0, atol=2e-6)


def test_forward_drops_arguments_that_no_module_takes(bert: SentenceTransformer) -> None:
    with torch.inference_mode():
        assert bert(bert.preprocess(TEXTS), foo=1)["sentence_embedding"].shape == (3, WIDTH)
