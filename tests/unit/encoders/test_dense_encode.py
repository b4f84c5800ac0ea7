"""What ``encode`` takes and gives: every row of the reference's table, every odd input."""

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


def slow_vectors(model: SentenceTransformer, texts: list[str]) -> np.ndarray[Any, Any]:
    """(n, D) float64: one text at a time through transformers' own model, and a mean written out."""
    from transformers import AutoModel, AutoTokenizer

    folder = model[0].pretrained.folder
    network, tokenizer = AutoModel.from_pretrained(folder).double().eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state[0]
        rows.append((states.sum(0) / len(states)).numpy())
    return np.stack(rows)


# --- the table of results


def test_the_vectors_are_those_of_the_slow_formula(bert: SentenceTransformer) -> None:
    assert_allclose(bert.encode(TEXTS), slow_vectors(bert, TEXTS), rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("inputs", "options", "kind", "shape"),
    [
        (TEXT, {}, np.ndarray, (WIDTH,)),
        (TEXTS, {}, np.ndarray, (3, WIDTH)),
        ([TEXT], {}, np.ndarray, (1, WIDTH)),
        (TEXT, {"convert_to_tensor": True}, torch.Tensor, (WIDTH,)),
        (TEXTS, {"convert_to_tensor": True}, torch.Tensor, (3, WIDTH)),
        (TEXT, {"convert_to_numpy": False}, torch.Tensor, (WIDTH,)),
        (TEXTS, {"convert_to_tensor": True, "convert_to_numpy": False}, torch.Tensor, (3, WIDTH)),
    ],
)
def test_kind_and_shape_of_the_result(
    inputs: Any, options: dict[str, Any], kind: type, shape: tuple[int, ...], bert: SentenceTransformer
) -> None:
    result = bert.encode(inputs, **options)
    assert type(result) is kind
    assert (tuple(result.shape), str(result.dtype).removeprefix("torch.")) == (shape, "float32")


def test_neither_array_nor_tensor_is_a_list_of_tensors(bert: SentenceTransformer) -> None:
    rows = bert.encode(TEXTS, convert_to_numpy=False)
    assert type(rows) is list
    assert [tuple(row.shape) for row in rows] == [(WIDTH,)] * 3
    assert_array_equal(torch.stack(rows).numpy(), bert.encode(TEXTS))


def test_a_single_text_gives_the_row_it_gives_in_a_list(bert: SentenceTransformer) -> None:
    assert_allclose(bert.encode(TEXT), bert.encode([TEXT])[0], rtol=0, atol=2e-6)


def test_tensors_are_on_the_device_of_the_model(bert: SentenceTransformer) -> None:
    assert bert.encode(TEXTS, convert_to_tensor=True).device == bert.device


def test_a_tensor_can_be_used_with_gradients(bert: SentenceTransformer) -> None:
    """The reference gives inference tensors, which autograd refuses."""
    vectors = bert.encode(TEXTS, convert_to_tensor=True)
    weight = torch.ones(WIDTH, requires_grad=True)
    (vectors * weight).sum().backward()
    assert weight.grad is not None
    assert_allclose(weight.grad.numpy(), vectors.sum(0).numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_numpy": True, "precision": "int8"},
        {"precision": "ubinary"},
        {"normalize_embeddings": True},
        {"prompt": "find this: "},
    ],
)
@pytest.mark.parametrize("empty", [[], (), np.array([], dtype=str)], ids=["list", "tuple", "array"])
def test_no_inputs_give_an_empty_array(empty: Any, options: dict[str, Any], bert: SentenceTransformer) -> None:
    result = bert.encode(empty, **options)
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype) == ((0,), np.float64)


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_no_inputs_give_an_empty_tensor(precision: Any, bert: SentenceTransformer) -> None:
    result = bert.encode([], convert_to_tensor=True, precision=precision)
    assert (tuple(result.shape), result.dtype, result.device) == ((0,), torch.float32, bert.device)


@pytest.mark.parametrize("options", [{"convert_to_numpy": False}, {"output_value": "token_embeddings"}, {"output_value": None}])
def test_no_inputs_give_an_empty_list(options: dict[str, Any], bert: SentenceTransformer) -> None:
    assert bert.encode([], **options) == []


# --- token embeddings, and all features


def test_token_embeddings_have_a_row_for_every_token_and_none_for_padding(bert: SentenceTransformer) -> None:
    rows = bert.encode(TEXTS, output_value="token_embeddings")
    lengths = [len(bert.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert [tuple(row.shape) for row in rows] == [(length, WIDTH) for length in lengths]


def test_token_embeddings_of_one_text_are_one_tensor(bert: SentenceTransformer) -> None:
    row = bert.encode(TEXT, output_value="token_embeddings")
    assert_allclose(row.mean(0).numpy(), bert.encode(TEXT), rtol=0, atol=1e-6)


def test_token_embeddings_are_neither_normalised_nor_truncated(bert: SentenceTransformer) -> None:
    plain = bert.encode(TEXT, output_value="token_embeddings")
    asked = bert.encode(TEXT, output_value="token_embeddings", normalize_embeddings=True, truncate_dim=4)
    assert torch.equal(plain, asked)


def test_token_embeddings_are_quantised_with_ranges_shared_by_all_texts(bert: SentenceTransformer) -> None:
    rows = [row.numpy() for row in bert.encode(TEXTS, output_value="token_embeddings")]
    flat = np.concatenate(rows)
    low, step = flat.min(0), (flat.max(0) - flat.min(0)) / 255
    quantised = bert.encode(TEXTS, output_value="token_embeddings", precision="uint8")
    assert [row.dtype for row in quantised] == [np.uint8] * 3
    for row, expected in zip(quantised, rows, strict=True):
        assert np.abs(row.astype(int) - (expected - low) / step).max() <= 1.001


def test_all_features_of_an_input_are_a_dict(bert: SentenceTransformer) -> None:
    features = bert.encode(TEXT, output_value=None)
    names = {"input_ids", "token_type_ids", "attention_mask", "modality", "token_embeddings", "sentence_embedding"}
    assert set(features) == names
    assert features["modality"] == "text"
    assert_allclose(features["sentence_embedding"].numpy(), bert.encode(TEXT), rtol=0, atol=2e-6)


def test_all_features_keep_the_padding(bert: SentenceTransformer) -> None:
    rows = bert.encode(TEXTS, output_value=None)
    widest = max(len(bert.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert [len(row["input_ids"]) for row in rows] == [widest] * 3
    assert [int(row["attention_mask"].sum()) for row in rows] == [
        len(bert.tokenizer(text)["input_ids"]) for text in TEXTS
    ]


def test_all_features_tell_the_length_of_the_prompt(bert: SentenceTransformer) -> None:
    features = bert.encode(TEXT, output_value=None, prompt="find this: ")
    assert features["prompt_length"] == len(bert.tokenizer("find this: ")["input_ids"]) - 1


def test_an_unknown_output_value_is_refused(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="output_value must be .* got 'sentence'"):
        bert.encode(TEXT, output_value="sentence")  # type: ignore[arg-type]


# --- precision


@pytest.mark.parametrize(
    ("precision", "width", "dtype"),
    [(None, 32, "float32"), ("float32", 32, "float32"), ("int8", 32, "int8"), ("uint8", 32, "uint8"),
     ("binary", 32, "int8"), ("ubinary", 4, "uint8")],
)  # fmt: skip
def test_width_and_dtype_of_a_precision(precision: Any, width: int, dtype: str, bert: SentenceTransformer) -> None:
    result = bert.encode(TEXTS, precision=precision)
    assert (result.shape, str(result.dtype)) == ((3, width), dtype)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_the_signs(precision: Any, bert: SentenceTransformer) -> None:
    bits = bert.encode(TEXTS) > 0
    expected = np.packbits(bits, axis=1) if precision == "ubinary" else np.where(bits, 1, -1)
    assert_array_equal(bert.encode(TEXTS, precision=precision), expected)


def test_uint8_ranges_are_those_of_all_inputs_of_the_call(bert: SentenceTransformer) -> None:
    vectors = bert.encode(TEXTS).astype(np.float64)
    low, step = vectors.min(0), (vectors.max(0) - vectors.min(0)) / 255
    got = bert.encode(TEXTS, precision="uint8", batch_size=1).astype(int)
    assert np.abs(got - (vectors - low) / step).max() <= 1.001
    assert (got.min(0) == 0).all()


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_one_input_has_no_range(precision: Any, bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match=f"Cannot compute {precision} quantization ranges from a single embedding"):
        bert.encode(TEXT, precision=precision)


def test_few_inputs_for_a_range_are_a_warning(bert: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    bert.encode(TEXTS, precision="int8")
    assert "Computing int8 quantization buckets based on 3 embeddings" in caplog.text


def test_a_quantised_tensor_is_a_tensor(bert: SentenceTransformer) -> None:
    result = bert.encode(TEXTS, precision="ubinary", convert_to_tensor=True)
    assert (tuple(result.shape), result.dtype, result.device.type) == ((3, 4), torch.uint8, "cpu")


def test_a_quantised_list_is_a_list_of_tensors(bert: SentenceTransformer) -> None:
    rows = bert.encode(TEXTS, precision="ubinary", convert_to_numpy=False)
    assert [(tuple(row.shape), row.dtype) for row in rows] == [((4,), torch.uint8)] * 3


def test_an_unknown_precision_is_refused(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="Precision 'int4' is not supported, must be one of"):
        bert.encode(TEXT, precision="int4")  # type: ignore[arg-type]


# --- width and length of the vectors


def test_truncate_dim_keeps_the_first_dimensions(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(TEXTS, truncate_dim=5), bert.encode(TEXTS)[:, :5])


def test_a_truncate_dim_over_the_width_changes_nothing(bert: SentenceTransformer) -> None:
    assert_array_equal(bert.encode(TEXTS, truncate_dim=400), bert.encode(TEXTS))


def test_vectors_are_truncated_before_they_are_normalised(bert: SentenceTransformer) -> None:
    first = bert.encode(TEXTS)[:, :5]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    assert_allclose(bert.encode(TEXTS, truncate_dim=5, normalize_embeddings=True), expected, rtol=1e-6)


def test_signs_are_taken_after_truncation(bert: SentenceTransformer) -> None:
    assert bert.encode(TEXTS, truncate_dim=8, precision="ubinary").shape == (3, 1)


def test_the_truncate_dim_of_the_call_wins(changeable: SentenceTransformer) -> None:
    changeable.truncate_dim = 8
    assert (changeable.encode(TEXT).shape, changeable.encode(TEXT, truncate_dim=16).shape) == ((8,), (16,))


# --- types


def test_float16_stays_float16(changeable: SentenceTransformer) -> None:
    changeable.half()
    assert changeable.encode(TEXTS).dtype == np.float16
    assert changeable.encode(TEXTS, convert_to_tensor=True).dtype == torch.float16


def test_bfloat16_becomes_float32_in_an_array_and_stays_in_a_tensor(changeable: SentenceTransformer) -> None:
    changeable.to(torch.bfloat16)
    assert changeable.encode(TEXTS).dtype == np.float32
    assert changeable.encode(TEXTS, convert_to_tensor=True).dtype == torch.bfloat16


@pytest.mark.parametrize(("dtype", "off"), [(torch.float16, 0.005), (torch.bfloat16, 0.05), (torch.float64, 1e-5)])
def test_other_types_give_nearly_the_same_vectors(
    dtype: torch.dtype, off: float, changeable: SentenceTransformer, bert: SentenceTransformer
) -> None:
    changeable.to(dtype)
    assert_allclose(changeable.encode(TEXTS).astype(np.float64), bert.encode(TEXTS), rtol=0, atol=off)


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
