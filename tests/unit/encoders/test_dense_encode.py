"""What ``encode`` gives: every row of the reference's table of results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sentence_transformers import SentenceTransformer
from tests.unit.encoders.folders import TEXTS, WIDTH

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


@pytest.mark.parametrize(
    "options", [{"convert_to_numpy": False}, {"output_value": "token_embeddings"}, {"output_value": None}]
)
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
