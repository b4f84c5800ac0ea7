"""The element-wise and matrix steps of the encoder, written so that a CPU does not touch fresh memory for each.

The wide intermediate results (queries, keys and values; the inner layer) live in a scratch buffer of the thread:
fresh pages from the operating system cost up to 5 % of a batch otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sentence_transformers.backend.native.weights import Linear, Norm, Rounded

ops = torch.ops.aten

SMALL = 2**15  # elements of a result below which the allocator gives used memory again, and a scratch buffer costs more

# element-wise, in place
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: ops.gelu_(x),
    "gelu_new": lambda x: ops.gelu_(x, approximate="tanh"),
    "gelu_fast": lambda x: ops.gelu_(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: ops.gelu_(x, approximate="tanh"),
    "quick_gelu": lambda x: x.mul_(torch.sigmoid(1.702 * x)),
    "relu": torch.relu_,
    "silu": lambda x: F.silu(x, inplace=True),
    "swish": lambda x: F.silu(x, inplace=True),
    "tanh": torch.tanh_,
}


class Scratch(threading.local):
    """Buffers of the calling thread, one per name, grown as needed. A buffer is valid until its name is asked again."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, rows: int, width: int, like: Tensor) -> Tensor:
        """An uninitialised (rows, width) tensor of the type of ``like``."""
        if like.device.type != "cpu":  # other devices have caching allocators of their own
            return like.new_empty(rows, width)
        size, key = rows * width, (name, like.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            if size > 16 * 2**20:  # one giant text must not pin its memory for ever
                return like.new_empty(rows, width)
            with torch.inference_mode(False):  # usable in either mode
                buffer = self._buffers[key] = like.new_empty(size)
        return buffer[:size].view(rows, width)


scratch = Scratch()


def linear_into(name: str, x: Tensor, layer: Linear | Rounded) -> Tensor:
    """x (N, in) -> (N, out), in the scratch buffer ``name`` unless it is small or the layer is rounded."""
    if not isinstance(layer, Linear):
        return layer(x)
    rows, width = x.shape[0], layer.weight.shape[0]
    if rows * width < SMALL:
        return F.linear(x, layer.weight, layer.bias)
    out = scratch.take(name, rows, width, x)
    if layer.bias is None:
        return torch.mm(x, layer.transposed, out=out)
    return torch.addmm(layer.bias, x, layer.transposed, out=out)


def add_linear_(residual: Tensor, x: Tensor, layer: Linear | Rounded) -> Tensor:
    """residual (N, out) += x (N, in) @ weight.T + bias, in place."""
    if not isinstance(layer, Linear):
        return layer.add_to_(residual, x)
    residual.addmm_(x, layer.transposed)
    return residual if layer.bias is None else residual.add_(layer.bias)


def normalise(x: Tensor, norm: Norm, kind: str, epsilon: float) -> Tensor:
    """Layer norm, or root-mean-square norm (computed in float32, as the decoders do), over the last dimension."""
    if kind == "layer":
        return torch.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, epsilon)
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return norm.weight * wide.to(x.dtype)


def activate_(x: Tensor, activation: str, gated: bool) -> Tensor:
    """x (N, inner) -> act(x), or (N, 2 inner) -> act(first half) * second half; in place."""
    if not gated:
        return ACTIVATIONS[activation](x)
    first, second = x.chunk(2, dim=-1)
    return ACTIVATIONS[activation](first).mul_(second)
