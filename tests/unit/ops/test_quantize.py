"""Quantisation: the two forms of binary, 8-bit steps, where ranges come from, and the message texts."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from sentence_transformers.ops.quantize import pack_binary, quantize_embeddings, unpack_binary

ROWS = np.random.RandomState(0).randn(120, 20).astype(np.float32)
RANGES = np.stack([ROWS.min(0), ROWS.max(0)])

# the embeddings, and what reference 6.2.0 gave for them
SMALL = np.array([[-1.0, 0.2, 3], [0.5, 0.1, -3], [1, 0.9, 0], [0.2, 0.4, 0.7]], dtype=np.float32)
RECORDED = {
    "int8": [[-128, -97, 127], [63, -128, -128], [126, 127, -1], [25, -33, 29]],
    "uint8": [[0, 31, 255], [191, 0, 0], [254, 255, 127], [153, 95, 157]],
    "ubinary": [[96], [192], [192], [224]],
}
LONG = np.array([[0.1, -0.2, 0, 0.4, -1, 2, 3, -4, 5, -6]], dtype=np.float32)
STEPPED = ["int8", "uint8"]


@pytest.mark.parametrize("precision", list(RECORDED))
def test_values_equal_the_recorded_ones(precision: str) -> None:
    result = quantize_embeddings(SMALL, precision)
    assert result.dtype == ("uint8" if precision == "ubinary" else precision)
    assert result.tolist() == RECORDED[precision]


def test_binary_is_one_signed_value_a_dimension() -> None:
    result = quantize_embeddings(LONG, "binary")
    assert result.dtype == np.int8
    assert result.tolist() == [[1, -1, -1, 1, -1, 1, 1, -1, 1, -1]]


def test_packed_binary_equals_the_recorded_bytes() -> None:
    # recorded from reference 6.2.0, whose only form of "binary" this is
    result = quantize_embeddings(LONG, "binary", packed=True)
    assert result.dtype == np.int8
    assert result.tolist() == [[22, 0]]
    assert quantize_embeddings(LONG, "ubinary").tolist() == [[150, 128]]


@pytest.mark.parametrize("width", [1, 7, 8, 9, 20])
def test_unpacking_gives_the_signs_back(width: int) -> None:
    signs = quantize_embeddings(ROWS[:, :width], "binary")
    for form in (quantize_embeddings(ROWS[:, :width], "binary", packed=True), pack_binary(signs)):
        assert form.shape == (120, (width + 7) // 8)
        np.testing.assert_array_equal(unpack_binary(form, width), signs)


def test_unpacking_without_a_width_gives_all_bits() -> None:
    assert unpack_binary(np.array([[128]], dtype=np.uint8)).tolist() == [[1, -1, -1, -1, -1, -1, -1, -1]]
    with pytest.raises(ValueError, match="at most the 8 bits"):
        unpack_binary(np.zeros((1, 1), dtype=np.uint8), 9)
    with pytest.raises(TypeError, match="must be int8 or uint8, got float64"):
        unpack_binary(np.zeros((1, 1)))


def test_float32_casts() -> None:
    result = quantize_embeddings(ROWS.astype(np.float64), "float32")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, ROWS)


@pytest.mark.parametrize("precision", STEPPED)
def test_steps_follow_the_formula(precision: str) -> None:
    wide = ROWS.astype(np.float64)
    step = (wide.max(0) - wide.min(0)) / 255
    exact = (wide - wide.min(0)) / step  # the level is the integer part; float32 may fall on either side of a whole one
    levels = quantize_embeddings(ROWS, precision).astype(np.float64) + (128 if precision == "int8" else 0)
    assert np.abs(levels + 0.5 - exact).max() < 0.5 + 1e-3


@pytest.mark.parametrize("precision", STEPPED)
def test_values_outside_the_ranges_are_clipped(precision: str) -> None:
    low, high = np.iinfo(precision).min, np.iinfo(precision).max
    ranges = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert quantize_embeddings(np.array([[-5.0, 5.0]]), precision, ranges).tolist() == [[low, high]]


def test_a_constant_dimension_is_level_zero() -> None:
    assert quantize_embeddings(np.ones((120, 2), np.float32), "uint8").max() == 0


@pytest.mark.parametrize("precision", STEPPED)
def test_ranges_and_calibration_replace_the_own_range(precision: str) -> None:
    expected = quantize_embeddings(ROWS, precision)[:5]
    for ranges in (RANGES, RANGES.tolist(), torch.tensor(RANGES)):
        np.testing.assert_array_equal(quantize_embeddings(ROWS[:5], precision, ranges), expected)
    for calibration in (ROWS, torch.tensor(ROWS), list(ROWS), [ROWS[:50], ROWS[50:]]):
        result = quantize_embeddings(ROWS[:5], precision, calibration_embeddings=calibration)
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(quantize_embeddings(ROWS[0], precision, RANGES), expected[0])


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_every_container_gives_the_same(precision: str) -> None:
    expected = quantize_embeddings(ROWS, precision)
    tensor = torch.tensor(ROWS)
    for form in (tensor, tensor.clone().requires_grad_(), list(ROWS), list(tensor), ROWS.tolist(), tuple(ROWS)):
        np.testing.assert_array_equal(quantize_embeddings(form, precision), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_quantised_as_float32(dtype: torch.dtype) -> None:
    half = torch.tensor(ROWS).to(dtype)
    np.testing.assert_array_equal(quantize_embeddings(half, "int8"), quantize_embeddings(half.float(), "int8"))


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_a_list_of_matrices_shares_its_ranges(precision: str) -> None:
    expected = quantize_embeddings(ROWS, precision)
    for parts in ([ROWS[:50], ROWS[50:]], [torch.tensor(ROWS[:50]), ROWS[50:]]):
        result = quantize_embeddings(parts, precision)
        assert isinstance(result, list)
        np.testing.assert_array_equal(np.concatenate(result), expected)


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [("float32", "f4", 20), ("int8", "i1", 20), ("uint8", "u1", 20), ("binary", "i1", 20), ("ubinary", "u1", 3)],
)
def test_no_rows_give_an_empty_array_of_the_right_shape(precision: str, dtype: str, width: int) -> None:
    result = quantize_embeddings(ROWS[:0], precision)
    assert (result.shape, result.dtype) == ((0, width), np.dtype(dtype))
    assert quantize_embeddings([ROWS[:0], ROWS[:0]], precision)[1].shape == (0, width)
    assert quantize_embeddings([], precision) == []


@pytest.mark.parametrize("precision", STEPPED)
@pytest.mark.parametrize("one", [ROWS[0], ROWS[:1], [ROWS[0]], [ROWS[:1]]])
def test_one_embedding_has_no_range(precision: str, one: object) -> None:
    with pytest.raises(ValueError, match=f"Cannot compute {precision} quantization ranges from a single embedding"):
        quantize_embeddings(one, precision)


@pytest.mark.parametrize("precision", STEPPED)
def test_few_embeddings_are_warned_about(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        quantize_embeddings(ROWS[:100], precision)
        quantize_embeddings(ROWS[:5], precision, RANGES)
        assert caplog.text == ""
        quantize_embeddings(ROWS[:99], precision)
    assert f"Computing {precision} quantization buckets based on 99 embeddings." in caplog.text


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantised_embeddings_are_not_quantised_again(dtype: type) -> None:
    with pytest.raises(TypeError, match="must be float rather than int8 or uint8"):
        quantize_embeddings(ROWS.astype(dtype), "binary")


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ValueError, match="Precision 'int4' is not supported, must be one of"):
        quantize_embeddings(ROWS, "int4")


def test_ranges_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"ranges must have the shape \(2, 20\).*\(2, 4\)"):
        quantize_embeddings(ROWS, "int8", np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"calibration_embeddings must have the shape.*\(120, 3\)"):
        quantize_embeddings(ROWS, "int8", calibration_embeddings=ROWS[:, :3])
