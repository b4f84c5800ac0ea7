"""Embeddings in fewer bits: 8 bits or 1 bit a dimension. numpy in, numpy out; knows nothing of models or search."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import positive

Array = npt.NDArray[Any]

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
ENOUGH_ROWS = 100
"""With fewer embeddings than this to compute ranges from, a warning is logged."""

logger = logging.getLogger(__name__)


def quantize_embeddings(
    embeddings: Any,
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"],
    ranges: Any = None,
    calibration_embeddings: Any = None,
    *,
    packed: bool = False,
) -> Any:
    """Quantise float embeddings.

    Args:
        embeddings: (n, D) or (D,) tensor or array, or a list of (D,) ones, which is stacked; or a list of (t_i, D)
            ones, which gives a list of arrays that share their ranges.
        precision: ``"float32"`` casts. ``"uint8"``: the range of a dimension is cut into 255 equal steps, numbered from
            0; ``"int8"``: the same less 128. ``"ubinary"``: one bit, value > 0, packed big-endian, 8 dimensions a byte.
            ``"binary"``: +1 where the value is > 0, else -1.
        ranges: (2, D) smallest and largest value of each dimension, for int8 and uint8; used in float32.
        calibration_embeddings: (m, D) embeddings to take the ranges from, when there are no ``ranges``; the default is
            ``embeddings`` itself.
        packed: give ``"binary"`` as bits too: ``"ubinary"`` less 128, int8. Other precisions do not look at it.

    Returns: float32, int8, uint8 (n, D); binary int8 (n, D), packed (n, ceil(D / 8)); ubinary uint8 (n, ceil(D / 8)).
        (D,) input loses the first dimension; an empty list gives an empty list.
    Raises: ValueError for an unknown precision, for ranges that do not fit, and for int8 and uint8 of one embedding
        without ranges; TypeError if the embeddings are 8-bit already.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Precision {precision!r} is not supported, must be one of {', '.join(map(repr, PRECISIONS))}."
        )
    if _is_empty_list(embeddings):
        return []
    if not _is_ragged(embeddings):
        return _quantized([_floats(embeddings)], precision, ranges, calibration_embeddings, packed)[0]
    return _quantized([_floats(item) for item in embeddings], precision, ranges, calibration_embeddings, packed)


def pack_binary(values: Array) -> Array:
    """Bits of value > 0, big-endian, 8 to a byte: (..., D) floats or -1/+1 -> (..., ceil(D / 8)) uint8."""
    return np.packbits(values > 0, axis=-1)


def unpack_binary(packed: Array, width: int | None = None) -> Array:
    """Inverse of both packed forms: (..., ceil(D / 8)) uint8, or int8 (less 128) -> (..., D) int8 of -1 and +1.

    Args:
        packed: the bytes; their dtype tells which form it is.
        width: D; None is 8 times the number of bytes, as when D is a multiple of 8.

    Raises: TypeError for any other dtype; ValueError if there are fewer than ``width`` bits.
    """
    if packed.dtype not in (np.int8, np.uint8):
        raise TypeError(f"Packed bits must be int8 or uint8, got {packed.dtype}.")
    bits = packed.shape[-1] * 8
    if positive("width", bits if width is None else width) > bits:
        raise ValueError(f"width must be at most the {bits} bits of {tuple(packed.shape)} bytes, got {width}.")
    unsigned = packed.view(np.uint8) ^ np.uint8(128) if packed.dtype == np.int8 else packed
    return np.unpackbits(unsigned, axis=-1, count=width).astype(np.int8) * 2 - 1


def _is_empty_list(value: Any) -> bool:
    return not isinstance(value, (Tensor, np.ndarray)) and len(value) == 0


def _is_ragged(value: Any) -> bool:
    """Whether it is a list of (t_i, D) matrices, not a list of (D,) vectors or one matrix."""
    return not isinstance(value, (Tensor, np.ndarray)) and all(
        isinstance(item, (Tensor, np.ndarray)) and item.ndim == 2 for item in value
    )


def _as_array(value: Any) -> Array:
    if not isinstance(value, (Tensor, np.ndarray)):
        items = [_as_array(item) if isinstance(item, Tensor) else item for item in value]
        of_arrays = any(isinstance(item, np.ndarray) for item in items)
        return np.asarray(items) if of_arrays else np.asarray(items, dtype=np.float32)
    if not isinstance(value, Tensor):
        return value
    tensor = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    # numpy knows no bfloat16
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


def _floats(value: Any) -> Array:
    """As a float32 array; float64 and integers as float64."""
    array = _as_array(value)
    if array.dtype in (np.int8, np.uint8):
        raise TypeError("Embeddings to quantize must be float rather than int8 or uint8.")
    return array.astype(np.float64 if array.dtype.kind in "iu" or array.dtype == np.float64 else np.float32)


def _quantized(parts: list[Array], precision: str, ranges: Any, calibration: Any, packed: bool) -> list[Array]:
    if precision == "float32":
        return [part.astype(np.float32) for part in parts]
    if precision in ("int8", "uint8"):
        return _stepped(parts, precision, ranges, calibration)
    if precision == "ubinary":
        return [pack_binary(part) for part in parts]
    if packed:
        return [(pack_binary(part) ^ np.uint8(128)).view(np.int8) for part in parts]
    return [np.where(part > 0, np.int8(1), np.int8(-1)) for part in parts]


def _stepped(parts: list[Array], precision: str, ranges: Any, calibration: Any) -> list[Array]:
    """int8 or uint8 by equal steps over the range of each dimension."""
    if sum(part.size for part in parts) == 0:
        return [part.astype(precision) for part in parts]
    low, high = _ranges(parts, precision, ranges, calibration)
    step = (high - low) / 255
    step = np.where(step == 0, np.ones_like(step), step)
    levels = [np.clip(np.floor((part - low) / step), 0, 255) for part in parts]
    return [(level - 128 if precision == "int8" else level).astype(precision) for level in levels]


def _ranges(parts: list[Array], precision: str, ranges: Any, calibration: Any) -> tuple[Array, Array]:
    """The smallest and the largest value of every dimension, (D,) float32 each."""
    width = parts[0].shape[-1]
    if ranges is not None:
        given = _as_array(ranges).astype(np.float32)
        if given.shape != (2, width):
            raise ValueError(f"ranges must have the shape (2, {width}): minima, maxima. Got {given.shape}.")
        return given[0], given[1]
    if calibration is not None:
        rows = _rows(calibration)
        if rows.shape[-1] != width or len(rows) == 0:
            raise ValueError(f"calibration_embeddings must have the shape (1 or more, {width}), got {rows.shape}.")
        return rows.min(0).astype(np.float32), rows.max(0).astype(np.float32)
    rows = np.concatenate([part.reshape(-1, width) for part in parts])
    if len(rows) == 1:
        raise ValueError(
            f"Cannot compute {precision} quantization ranges from a single embedding. Call `quantize_embeddings` with "
            "`ranges` or `calibration_embeddings` from a representative set of embeddings instead."
        )
    if len(rows) < ENOUGH_ROWS:
        logger.warning(
            "Computing %s quantization buckets based on %d embeddings. %s quantization is more stable with `ranges` "
            "calculated from more embeddings or a `calibration_embeddings` that can be used to calculate the buckets.",
            *(precision, len(rows), precision),
        )
    return rows.min(0).astype(np.float32), rows.max(0).astype(np.float32)


def _rows(value: Any) -> Array:
    """Embeddings in any of the accepted forms as one (m, D) matrix."""
    parts = [_as_array(item) for item in value] if _is_ragged(value) and len(value) else [_as_array(value)]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
