"""What multiplies whole numbers of 8 bits on a CPU: a row of the table is a kernel."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

SIGNED, UNSIGNED = 127.0, 255.0  # the largest rounded value of an input


class Kernel(Protocol):
    """Multiplies rounded rows with rounded weights.

    dtype: of the rows that it takes. zeros: what stands for 0 in them, signed and not. largest: of a rounded weight.
    """

    name: str
    dtype: torch.dtype
    zeros: tuple[int, int]
    largest: float

    def is_there(self) -> bool:
        """Whether this build of torch has it, for this processor."""

    def pack(self, rounded: Tensor, scales: Tensor) -> Any:
        """Weights (out, in) int8 and their scales (out,) in the form that it multiplies with."""

    def unpack(self, packed: Any) -> Tensor:
        """(out, in) int8 again."""

    def multiply(self, rows: Tensor, packed: Any, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
        """Rows (N, in) of -127 ... 127 or, if not signed, 0 ... 255, plus ``zeros`` -> (N, out) of ``dtype``."""


class OneDNN:
    """oneDNN: takes the widest instructions there are (AVX2, VNNI, AMX).

    Without VNNI it adds pairs of products in 16 bits, where weights of 7 bits never overflow and those of 8 bits may.
    """

    dtype, zeros = torch.uint8, (128, 0)

    def __init__(self, name: str, largest: float) -> None:
        self.name, self.largest = name, largest

    def is_there(self) -> bool:
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(available) and hasattr(torch.ops.onednn, "qlinear_pointwise")

    def pack(self, rounded: Tensor, scales: Tensor) -> Any:
        return torch.ops.onednn.qlinear_prepack(rounded, None), torch.zeros(len(rounded), dtype=torch.int32)

    def unpack(self, packed: Any) -> Tensor:
        return packed[0].to_dense().t().contiguous()  # type: ignore[no-any-return]

    def multiply(self, rows: Tensor, packed: Any, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
        weight, zeros = packed
        zero = self.zeros[not signed]
        return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
            rows, 1.0, zero, weight, scales, zeros, None, 1.0, 0, dtype, "none", [], ""
        )


class FBGEMM:
    """FBGEMM, as torch's dynamic quantisation has it: it finds one more scale, for the whole batch."""

    name = "FBGEMM"
    dtype, zeros = torch.float32, (0, 0)
    largest = 127.0

    def is_there(self) -> bool:
        has_types = hasattr(torch, "_make_per_channel_quantized_tensor")  # torch means to give its quantised types up
        return has_types and "fbgemm" in torch.backends.quantized.supported_engines

    def pack(self, rounded: Tensor, scales: Tensor) -> Any:
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # of their end
            warnings.simplefilter("ignore", UserWarning)
            weight = torch._make_per_channel_quantized_tensor(rounded, scales.double(), zeros, 0)
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            return torch.ops.quantized.linear_prepack(weight, None)
        finally:
            torch.backends.quantized.engine = before

    def unpack(self, packed: Any) -> Tensor:
        return torch.ops.quantized.linear_unpack(packed)[0].int_repr()  # type: ignore[no-any-return]

    def multiply(self, rows: Tensor, packed: Any, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
        edge = rows.new_full((1, rows.shape[1]), SIGNED if signed else UNSIGNED)  # so that all batches have one scale
        edge[0, 0] = -SIGNED if signed else 0.0
        has_exact_sums = bool(capabilities().get("avx512_vnni") or capabilities().get("avx_vnni"))
        rows = torch.nan_to_num_(torch.cat((rows, edge)), 0.0)  # no range has a nan; the caller's scale still has it
        found = torch.ops.quantized.linear_dynamic(rows, packed, not has_exact_sums)
        return found[:-1].to(dtype)  # type: ignore[no-any-return]


class Plain:
    """torch's product of whole numbers: on every processor."""

    name = "int_mm"
    dtype, zeros = torch.int8, (0, -128)
    largest = 127.0

    def is_there(self) -> bool:
        return hasattr(torch, "_int_mm")

    def pack(self, rounded: Tensor, scales: Tensor) -> Any:
        return rounded.t().contiguous(), rounded.sum(1, dtype=torch.int32) * 128

    def unpack(self, packed: Any) -> Tensor:
        return packed[0].t().contiguous()  # type: ignore[no-any-return]

    def multiply(self, rows: Tensor, packed: Any, scales: Tensor, signed: bool, dtype: torch.dtype) -> Tensor:
        weight, sums = packed
        product = torch._int_mm(rows, weight)
        return ((product if signed else product.add_(sums)) * scales).to(dtype)


_ALL: tuple[Kernel, ...] = (OneDNN("oneDNN", 127.0), OneDNN("oneDNN of 7 bits", 63.0), FBGEMM(), Plain())
KERNELS = {kernel.name: kernel for kernel in _ALL}


@cache
def capabilities() -> dict[str, bool]:
    """The instructions of this processor that matter here, as torch names them."""
    read = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that is supported
    if read is not None:
        return {name: value for name, value in read().items() if isinstance(value, bool)}
    return {"avx512_vnni": bool(torch.cpu._is_vnni_supported())} if hasattr(torch.cpu, "_is_vnni_supported") else {}


def is_right(kernel: Kernel) -> bool:
    """Whether sums of the largest values are exact: some instructions overflow in 16 bits, silently."""
    rounded = torch.full((16, 64), int(kernel.largest), dtype=torch.int8)
    rounded[1::2] *= -1
    scales = torch.ones(16)
    packed = kernel.pack(rounded, scales)
    for signed, largest, zero in ((True, SIGNED, kernel.zeros[0]), (False, UNSIGNED, kernel.zeros[1])):
        rows = torch.full((4, 64), largest)
        rows[0, 0] = -largest if signed else 0.0
        expected = rows.double() @ rounded.double().t()
        found = kernel.multiply((rows + zero).to(kernel.dtype), packed, scales, signed, torch.float32).double()
        if not torch.allclose(found, expected, rtol=2e-2, atol=UNSIGNED * SIGNED):
            return False
    return True
