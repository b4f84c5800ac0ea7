"""The means of the parts of a loss between two logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from ..ops.gather import all_gather_objects


class Components:
    """Adds up the parts of losses, apart for training and evaluation. Sums stay on the device until they are taken."""

    def __init__(self) -> None:
        self._found: dict[bool, dict[str, list[Tensor]]] = {True: defaultdict(list), False: defaultdict(list)}

    def add(self, parts: Mapping[str, Tensor], *, is_training: bool) -> None:
        """Add the parts of the loss of one batch."""
        for name, value in parts.items():
            self._found[is_training][name].append(value.detach())

    def take(self, *, is_training: bool) -> dict[str, float]:
        """Part -> mean over the batches since it was last taken, those of all processes, to four digits.

        To be called by all processes at once.
        """
        found, self._found[is_training] = self._found[is_training], defaultdict(list)
        own = {name: (float(torch.stack(values).float().sum()), len(values)) for name, values in found.items()}
        everywhere = all_gather_objects(own)
        names = dict.fromkeys(name for one in everywhere for name in one)
        return {name: round(_mean([one[name] for one in everywhere if name in one]), 4) for name in names}


def _mean(parts: list[tuple[float, int]]) -> float:
    """parts: sums, and of how many numbers."""
    return sum(value for value, _ in parts) / sum(count for _, count in parts)
