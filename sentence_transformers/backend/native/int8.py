"""Linear layers and word embeddings in 8 bits, for CPUs.

Weights are rounded once, with a scale per output channel; inputs are rounded at run time, with a scale per token, so
that the vector of a text does not depend on what else is in its batch. Sums are exact integers. Where an activation
has a smallest value (GELU: -0.17), its output is rounded to 0 ... 255 above that value, else to -127 ... 127.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from sentence_transformers.backend.native.families import Spec
from sentence_transformers.backend.native.int8_kernels import KERNELS, SIGNED, UNSIGNED, OneDNN, capabilities, is_right
from sentence_transformers.backend.native.linear import scratch
from sentence_transformers.backend.native.weights import Linear, Rounded, RoundedTable, Weights, exact

T = TypeVar("T")

FLOORS = {"gelu": -0.17, "gelu_new": -0.171, "gelu_fast": -0.171, "gelu_pytorch_tanh": -0.171, "relu": 0.0}
"""The smallest value of an activation, rounded down."""
TINY = 1e-30  # a row of zeros has this for its largest value
BLOCK = 4096  # rows of a table rounded at a time
CACHED = 2**17  # numbers of a layer in float32 that stay in the cache from one step to the next
WHOLE = 1.5 * 2**23  # float32 has no decimals near it: adding it rounds, and leaves the number in the last bits


@dataclass(frozen=True)
class Choice:
    """The kernel that is fastest on this processor.

    speeds: how much faster each kernel that computes rightly is than the product in float32.
    instructions: the widest that the processor has for whole numbers.
    """

    kernel: str
    speeds: dict[str, float]
    instructions: str


@cache
def choose() -> Choice:
    """Race the kernels on a layer of usual size and one core, once a process; it takes some milliseconds.

    Raises: ValueError if no kernel computes rightly here.
    """
    there = [kernel for kernel in KERNELS.values() if kernel.is_there() and is_right(kernel)]
    if there and there[0].name == "oneDNN":
        there = [kernel for kernel in there if not isinstance(kernel, OneDNN) or kernel.name == "oneDNN"]
    if not there:
        raise ValueError("No 8-bit kernel of this build of torch works on this processor. Leave out 'quantize'.")
    generator = torch.Generator().manual_seed(0)
    whole = Linear(torch.randn(1536, 384, generator=generator), None)
    x = torch.randn(512, 384, generator=generator)
    steps: dict[str, Callable[[], Any]] = {"float32": partial(torch.mm, x, whole.transposed)}
    steps |= {kernel.name: partial(Int8Linear.of(whole, kernel=kernel.name), x) for kernel in there}
    taken = _race(steps)
    base = taken.pop("float32")
    names = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512_f", "avx2")
    widest = next((name for name in names if capabilities().get(name)), torch.backends.cpu.get_cpu_capability().lower())
    return Choice(min(taken, key=taken.__getitem__), {name: base / value for name, value in taken.items()}, widest)


def _race(steps: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each on one core: the least of some turns, so that what else runs on the machine counts little."""
    best = dict.fromkeys(steps, float("inf"))
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(6):  # the first turn prepares
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    best[name] = min(best[name], time.perf_counter() - start)
    finally:
        torch.set_num_threads(cores)
    return best


@dataclass(frozen=True)
class Int8Linear:
    """A linear layer with rounded weights.

    kernel: a name of ``KERNELS``. packed: the weights as it wants them. inputs: how wide an input is. scales: (out,).
    bias: (out,) or None. floor: the smallest value of an input, or None if there is none. dtype: of what it gives.
    """

    kernel: str
    packed: Any
    inputs: int
    scales: Tensor
    bias: Tensor | None
    floor: float | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(
        cls,
        layer: Linear | Rounded,
        floor: float | None = None,
        kernel: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Int8Linear:
        """Round a layer; the fastest kernel where none is named."""
        layer = exact(layer)
        weight = layer.weight.float()
        name = kernel or choose().kernel
        scales = weight.abs().amax(1).clamp_(min=TINY) / KERNELS[name].largest
        rounded = (weight / scales[:, None]).round_().to(torch.int8)
        bias = None if layer.bias is None else layer.bias.float().clone()
        if floor:  # x = floor + what is rounded: the part of the floor is the same for every row
            part = rounded.sum(1, dtype=torch.int64) * scales * floor
            bias = part if bias is None else bias + part
        packed = KERNELS[name].pack(rounded.contiguous(), scales)
        return cls(name, packed, weight.shape[1], scales, None if bias is None else bias.to(dtype), floor, dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "packed": KERNELS[self.kernel].unpack(self.packed)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy is packed anew, perhaps on another processor."""
        kernel = KERNELS[state["kernel"]]
        name = kernel.name if kernel.is_there() and is_right(kernel) else choose().kernel
        packed = KERNELS[name].pack(state["packed"], state["scales"])
        vars(self).update({**state, "kernel": name, "packed": packed})

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) -> (N, out), a fresh tensor."""
        product = self._multiply(x)
        return product if self.bias is None else product.add_(self.bias)

    def add_to_(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual (N, out) += layer(x), in place."""
        residual.add_(self._multiply(x))
        return residual if self.bias is None else residual.add_(self.bias)

    def _multiply(self, x: Tensor) -> Tensor:
        """(N, out), without the bias."""
        kernel, is_signed, x = KERNELS[self.kernel], self.floor is None, x.float()
        largest = x.amax(1, keepdim=True)
        if self.floor is None:
            step = torch.maximum(largest, x.amin(1, keepdim=True).neg_()).clamp_(min=TINY).div_(SIGNED)
        else:
            step = largest.sub_(self.floor).clamp_(min=TINY).div_(UNSIGNED)
        rows = _rounded(x, self.floor, step.reciprocal(), kernel.zeros[not is_signed], kernel.dtype)
        return kernel.multiply(rows, self.packed, self.scales, is_signed, self.dtype).mul_(step.to(self.dtype))


def _rounded(x: Tensor, floor: float | None, factor: Tensor, zero: int, dtype: torch.dtype) -> Tensor:
    """The whole numbers next to ``(x - floor) * factor + zero``. x: (N, in). factor: (N, 1). dtype: of the result.

    In steps that torch does with vectors, and in blocks that stay in the cache: half the time of ``addcmul`` and a
    conversion to bytes, neither of which it does with vectors.
    """
    rounded = torch.empty(x.shape, dtype=dtype)
    for part, by, target in _blocks(x, factor, rounded):
        rows = scratch.take("rounded", len(part), part.shape[1], x)
        if floor:
            torch.sub(part, floor, out=rows).mul_(by)
        else:
            torch.mul(part, by, out=rows)
        rows.add_(WHOLE + zero)
        target.copy_(rows.sub_(WHOLE) if dtype.is_floating_point else rows.view(torch.int32))  # its last byte counts
    return rounded


def _blocks(wide: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all, as many at a time as stay in the cache."""
    size = max(1, CACHED // wide.shape[1])
    return zip(*(torch.split(each, size) for each in (wide, *others)), strict=True)


@dataclass(frozen=True)
class Int8Table:
    """An embedding table with rounded rows. values: (n, width) int8. scales: (n, 1)."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, table: Tensor | RoundedTable) -> Int8Table:
        """Round the rows of a table, some at a time: there is no second table in float32 meanwhile."""
        assert isinstance(table, Tensor), "rounded twice"
        values, scales = torch.empty_like(table, dtype=torch.int8), torch.empty(len(table), 1)
        for start in range(0, len(table), BLOCK):
            at = slice(start, start + BLOCK)
            rows = table[at].float()
            scales[at] = rows.abs().amax(1, keepdim=True).clamp_(min=TINY) / SIGNED
            values[at] = (rows / scales[at]).round_()
        return cls(values, scales)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """(N,) -> (N, width) float32."""
        return self.values[ids].float().mul_(self.scales[ids])

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows that it gives."""
        return self.scales.dtype


def quantize(spec: Spec, weights: Weights) -> Weights:
    """The same network with its layers and its word embeddings in 8 bits; heads, norms and small tables in float32.

    Nothing of the result is shared with ``weights``, so that their memory can be given back.
    """
    floor = None if spec.gated else FLOORS.get(spec.activation)
    layers = tuple(
        replace(
            _own(replace(layer, qkv=_NOTHING, out=_NOTHING, up=_NOTHING, down=_NOTHING)),
            qkv=Int8Linear.of(layer.qkv, dtype=_attention_dtype(spec, weights)),
            out=Int8Linear.of(layer.out),
            up=Int8Linear.of(layer.up),
            down=Int8Linear.of(layer.down, floor),
        )
        for layer in weights.layers
    )
    rest = _own(replace(weights, words=_NOTHING.weight, layers=()))
    return replace(rest, words=Int8Table.of(weights.words), layers=layers)


def _attention_dtype(spec: Spec, weights: Weights) -> torch.dtype:
    """bfloat16 where the processor multiplies it faster, and where nothing is done to queries and keys in float32."""
    is_plain = not spec.thetas and weights.relative_bias is None and weights.layers[0].query_norm is None
    return torch.bfloat16 if is_plain and capabilities().get("amx_bf16") else torch.float32


_NOTHING = Linear(torch.empty(0), None)


def _own(part: T) -> T:
    """The same weights in float32, in memory of their own."""
    if isinstance(part, Tensor):
        return part.float().clone()  # type: ignore[return-value]
    if is_dataclass(part) and not isinstance(part, type):
        return type(part)(**{f.name: _own(getattr(part, f.name)) for f in fields(part)})
    return part


def size_of(part: Any) -> int:
    """Bytes of the tensors of some weights; a tensor that stands in two places counts once."""
    seen: dict[int, int] = {}

    def walk(item: Any) -> None:
        if isinstance(item, Tensor):
            seen[id(item)] = item.numel() * item.element_size()
        elif isinstance(item, tuple):
            for each in item:
                walk(each)
        elif isinstance(item, Int8Linear):
            rounded = len(item.scales) * item.inputs
            seen[id(item)] = rounded + 4 * len(item.scales) * (1 if item.bias is None else 2)
        elif is_dataclass(item) and not isinstance(item, type):
            for field in fields(item):
                walk(getattr(item, field.name))

    walk(part)
    return sum(seen.values())


@dataclass(frozen=True)
class Quantization:
    """What rounding to 8 bits did to a network.

    kernel, instructions, speed: what multiplies, with which instructions, how much faster than float32 on one layer.
    bytes: of all weights; bytes_before: as float32.
    """

    kernel: str
    instructions: str
    speed: float
    bytes: int
    bytes_before: int

    def __str__(self) -> str:
        return (
            f"int8 by {self.kernel} ({self.instructions}), {self.speed:.1f} times the speed of float32 on one layer; "
            f"{self.bytes / 1e6:.0f} MB of weights instead of {self.bytes_before / 1e6:.0f} MB"
        )


def report(before: Weights, after: Weights) -> Quantization:
    """What happened between two forms of the same weights."""
    choice = choose()
    speed = choice.speeds[choice.kernel]
    return Quantization(choice.kernel, choice.instructions, speed, size_of(after), size_of(before))
