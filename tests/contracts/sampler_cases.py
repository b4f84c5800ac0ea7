"""How to make each sampler of batches. A sampler without a case fails the contract by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import ConcatDataset, RandomSampler

from sentence_transformers.training import samplers

ROWS = 53
SIZE = 4


def table(rows: int = ROWS) -> Dataset:
    """Rows of (first, second, label): some values come several times, labels two to seven times as often as others."""
    return Dataset.from_dict(
        {
            "first": [f"a{row * row % 43}" for row in range(rows)],
            "second": [f"b{row * 7 % 47}" if row % 9 else f"a{row % 43}" for row in range(rows)],
            "label": [row % 3 if row % 4 else 0 for row in range(rows)],
        }
    )


def generator() -> torch.Generator:
    """As a trainer has it: in any state."""
    found = torch.Generator()
    found.seed()
    return found


@dataclass(frozen=True)
class Case:
    """One sampler.

    Attributes:
        make: of (seed, drop_last).
        each_row: every row comes in an epoch where the last batches may be small.
    """

    make: Callable[[int, bool], Any]
    each_row: bool = True


def _of_one(kind: type[Any], **settings: Any) -> Callable[[int, bool], Any]:
    return lambda seed, drop_last: kind(table(), SIZE, drop_last, None, generator(), seed, **settings)


def _of_several(kind: type[Any]) -> Callable[[int, bool], Any]:
    def make(seed: int, drop_last: bool) -> Any:
        parts, shared = [table(), table(31), table(29)], generator()
        kinds = [samplers.DefaultBatchSampler, samplers.NoDuplicatesBatchSampler, samplers.GroupByLabelBatchSampler]
        each = [one(part, SIZE, drop_last, None, shared, seed) for one, part in zip(kinds, parts, strict=True)]
        return kind(ConcatDataset(parts), each, shared, seed)

    return make


CASES: dict[str, Case] = {
    "DefaultBatchSampler": Case(_of_one(samplers.DefaultBatchSampler)),
    "NoDuplicatesBatchSampler": Case(_of_one(samplers.NoDuplicatesBatchSampler)),
    "GroupByLabelBatchSampler": Case(_of_one(samplers.GroupByLabelBatchSampler), each_row=False),
    "RoundRobinBatchSampler": Case(_of_several(samplers.RoundRobinBatchSampler), each_row=False),
    "ProportionalBatchSampler": Case(_of_several(samplers.ProportionalBatchSampler), each_row=False),
}


def data_of(sampler: Any) -> Any:
    """What a sampler draws from."""
    own = sampler.sampler
    return own.data_source if isinstance(own, RandomSampler) else sampler.dataset
