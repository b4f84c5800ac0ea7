"""A quick look at a wide product in half precision: which of its columns may be above a bar, with certainty.

Processors with matrix units for bfloat16 multiply it many times faster than float32. Its errors have a bound, so what
stays below a bar by more than that need not be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .tokens import Packed

ROUNDING = 2.0**-8
"""Largest relative error of a number rounded to bfloat16, which has 8 significant bits."""
ERROR = 3.1 * ROUNDING
"""Of a dot product of two rounded vectors, rounded itself, as a share of the product of their lengths: three roundings,
and a little for sums in float32 (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1)."""


@cache
def is_worthwhile() -> bool:
    """Whether this processor multiplies bfloat16 much faster than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that is supported
    return capabilities is not None and bool(capabilities().get("amx_bf16"))


@dataclass(frozen=True)
class Screen:
    """A (V, D) float32 matrix rounded. weight: (V, D) bfloat16; lengths: (V,) of the rows before rounding."""

    weight: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Screen:
        return cls(weight.to(torch.bfloat16), torch.linalg.vector_norm(weight, dim=1))

    def may_exceed(self, tokens: Packed, bar: Tensor, columns: int) -> Tensor:
        """Which columns of ``tokens @ weight.T`` may have a number above the bar among the tokens of a sequence.

        Args:
            tokens: (N, D) float32. bar: (V,). columns: how many to compute at a time.

        Returns: (B, V) bool; surely True where there is one, mostly False where there is none.
        """
        rounded = tokens.values.to(torch.bfloat16)
        longest = Packed(torch.linalg.vector_norm(tokens.values, dim=1, keepdim=True), tokens.lengths).max()  # (B, 1)
        found = []
        for start in range(0, len(self.weight), columns):
            at = slice(start, start + columns)
            highest = tokens.replace(F.linear(rounded, self.weight[at])).max().float()  # (B, columns)
            found.append(highest + (ERROR * longest) * self.lengths[at] > bar[at])
        return torch.cat(found, dim=1)
