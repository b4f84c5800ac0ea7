"""Batches for several processes: made as one, dealt out in a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.utils.data import BatchSampler

from sentence_transformers.training.dealt import Dealt, Joined, Stream
from sentence_transformers.training.samplers import NoDuplicatesBatchSampler


class Batches(BatchSampler):
    """Given batches, that note the epoch."""

    def __init__(self, batches: list[list[int]], size: int) -> None:
        self.batches, self.batch_size, self.drop_last, self.sampler = batches, size, True, self  # type: ignore[assignment]
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def test_a_batch_is_dealt_out_in_equal_parts() -> None:
    dealt = Dealt(Batches([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]], 6), 3)
    assert list(dealt) == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    assert (len(dealt), dealt.batch_size) == (6, 2)


def test_a_batch_that_is_not_full_is_not_dealt() -> None:
    assert list(Dealt(Batches([[1, 2, 3, 4], [5, 6, 7]], 4), 2)) == [[1, 2], [3, 4]]


def test_batches_are_joined_and_what_is_left_over_is_dropped() -> None:
    joined = Joined(Batches([[1, 2], [3, 4], [5, 6]], 2), 2)
    assert list(joined) == [[1, 2, 3, 4]]
    assert (len(joined), joined.batch_size) == (1, 4)


def test_batches_that_are_not_full_are_not_joined() -> None:
    assert list(Joined(Batches([[1], [2, 3], [4, 5]], 2), 2)) == [[2, 3, 4, 5]]


def test_joined_and_dealt_again_batches_are_those_of_before() -> None:
    given = [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert list(Dealt(Joined(Batches(given, 2), 2), 2)) == given


@pytest.mark.parametrize("kind", [Joined, Dealt])
def test_the_epoch_is_told_to_those_inside(kind: Any) -> None:
    inside = Batches([], 4)
    kind(inside, 2).set_epoch(3)
    assert inside.epoch == 3


def test_accelerate_finds_somebody_to_tell_the_epoch() -> None:
    inside = Batches([], 4)
    Dealt(inside, 2).sampler.set_epoch(3)  # type: ignore[attr-defined]
    assert inside.epoch == 3


@pytest.mark.parametrize("epoch", range(3))
def test_no_text_is_twice_among_the_batches_of_a_step(epoch: int) -> None:
    texts = [f"text {row // 2}" for row in range(40)]
    sampler = NoDuplicatesBatchSampler(Dataset.from_dict({"text": texts}), 8, True, generator=torch.Generator())
    dealt = Dealt(sampler, 2)
    dealt.set_epoch(epoch)
    batches = list(dealt)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        assert len({texts[row] for row in first + second}) == 8


def test_a_stream_has_no_files_to_be_given_out() -> None:
    rows = Dataset.from_dict({"text": list("abcd")}).to_iterable_dataset(num_shards=2)
    stream = Stream(rows)
    stream.set_epoch(2)
    assert [row["text"] for row in stream] == list("abcd")
    assert rows.epoch == 2 and "n_shards" not in dir(stream)
