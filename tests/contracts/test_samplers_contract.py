"""What every sampler of batches keeps, whatever it makes up its batches of."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import BatchSampler, DataLoader

from sentence_transformers._public_training import SAMPLERS
from sentence_transformers.training import samplers
from tests.contracts.sampler_cases import CASES, SIZE, data_of, table


def all_samplers() -> set[str]:
    """Every class below torch's ``BatchSampler`` in the file of samplers, but for abstract ones."""
    found, waiting = set(), [BatchSampler]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__ == samplers.__name__ and not inspect.isabstract(kind):
                found.add(kind.__name__)
    return found


def epoch_of(sampler: Any, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("name", sorted(all_samplers() | set(CASES)))
def test_a_sampler_has_a_case_and_a_row_in_the_table(name: str) -> None:
    assert name in CASES, f"{name} has no case in tests/contracts/sampler_cases.py"
    assert name in SAMPLERS, f"{name} is no row of SAMPLERS in _public_training.py"


@pytest.mark.parametrize("kind", [*samplers.BatchSamplers, *samplers.MultiDatasetBatchSamplers])
def test_a_setting_chooses_a_sampler_with_a_case(kind: Any) -> None:
    if isinstance(kind, samplers.BatchSamplers):
        found = samplers.batch_sampler(kind, table(), SIZE, False)
    else:
        parts = torch.utils.data.ConcatDataset([table()])
        found = samplers.multi_dataset_batch_sampler(kind, parts, [samplers.DefaultBatchSampler(table(), SIZE, False)])
    assert type(found).__name__ in CASES


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("name", sorted(CASES))
class TestEvery:
    def test_says_what_loaders_ask(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(1, drop_last)
        assert isinstance(sampler, BatchSampler) and isinstance(sampler, samplers.SetEpochMixin)
        assert (sampler.batch_size, sampler.drop_last, sampler.epoch, sampler.seed) == (SIZE, drop_last, 0, 1)

    def test_has_as_many_batches_as_it_says_or_small_ones_more(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(1, drop_last)
        batches = epoch_of(sampler)
        assert len(sampler) > 0
        if drop_last:
            assert len(batches) == len(sampler)
        else:
            assert len(batches) >= len(sampler) and all(len(batch) < SIZE for batch in batches[len(sampler) :])

    def test_gives_numbers_of_rows_none_twice_in_a_batch(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(1, drop_last)
        rows = len(data_of(sampler))
        for batch in epoch_of(sampler):
            assert type(batch) is list and all(type(row) is int and 0 <= row < rows for row in batch)
            assert len(set(batch)) == len(batch)

    def test_fills_its_batches(self, name: str, drop_last: bool) -> None:
        sizes = [len(batch) for batch in epoch_of(CASES[name].make(1, drop_last))]
        assert all(size == SIZE for size in sizes) if drop_last else 0 < min(sizes) <= max(sizes) == SIZE

    def test_gives_no_row_twice_where_batches_may_be_small(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(1, drop_last)
        rows = [row for batch in epoch_of(sampler) for row in batch]
        if not drop_last:
            assert len(set(rows)) == len(rows)
        if not drop_last and CASES[name].each_row:
            assert sorted(rows) == list(range(len(data_of(sampler))))

    def test_is_decided_by_seed_and_epoch_alone(self, name: str, drop_last: bool) -> None:
        first, second = CASES[name].make(3, drop_last), CASES[name].make(3, drop_last)
        torch.manual_seed(1)
        found = epoch_of(first, 2)
        torch.manual_seed(2)
        epoch_of(second, 0)
        assert epoch_of(second, 2) == found == epoch_of(first, 2)

    def test_draws_other_batches_in_other_epochs_and_for_other_seeds(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(3, drop_last)
        first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
        assert first != second
        assert epoch_of(CASES[name].make(4, drop_last), 0) == second  # seed + epoch counts
        assert epoch_of(CASES[name].make(40, drop_last), 0) not in (first, second)

    def test_begins_anew_after_it_was_left(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(3, drop_last)
        for _ in zip(sampler, range(3), strict=False):
            pass
        assert epoch_of(sampler) == epoch_of(CASES[name].make(3, drop_last))

    def test_leaves_the_numbers_of_others_alone(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(3, drop_last)
        before = torch.get_rng_state()
        epoch_of(sampler)
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_survives_copies_and_pickles(self, name: str, drop_last: bool, again: Any) -> None:
        sampler = CASES[name].make(3, drop_last)
        fresh = again(sampler)
        found = epoch_of(sampler, 1)
        assert epoch_of(fresh, 1) == found == epoch_of(again(sampler), 1)

    @pytest.mark.parametrize("processes", [1, 2, 3])
    def test_processes_share_its_batches(self, name: str, drop_last: bool, processes: int) -> None:
        whole = epoch_of(CASES[name].make(3, drop_last), 1)
        shares = [rows_of(shared(name, drop_last, processes, rank), 1) for rank in range(processes)]
        taken = [batch for turn in zip(*shares, strict=False) for batch in turn]
        full = [batch for batch in whole if len(batch) == SIZE]
        assert taken[: len(full) // processes * processes] == full[: len(full) // processes * processes]

    @pytest.mark.parametrize("processes", [1, 2])
    @pytest.mark.parametrize("epoch", [0, 1])
    def test_is_resumed_where_it_was_left(self, name: str, drop_last: bool, processes: int, epoch: int) -> None:
        whole = rows_of(shared(name, drop_last, processes, processes - 1), epoch)
        left = skip_first_batches(shared(name, drop_last, processes, processes - 1), 2)
        assert rows_of(left, epoch) == whole[2:] and len(whole) > 3

    def test_workers_load_its_batches(self, name: str, drop_last: bool) -> None:
        sampler = CASES[name].make(3, drop_last)
        loader = DataLoader(data_of(sampler), batch_sampler=sampler, collate_fn=list, num_workers=1)
        expected = [[data_of(sampler)[row] for row in batch] for batch in epoch_of(sampler)]
        assert list(loader) == expected


def shared(name: str, drop_last: bool, processes: int, rank: int) -> Any:
    """A loader of the rows' numbers, as accelerate prepares it for one of several processes."""
    PartialState(cpu=True)
    sampler = CASES[name].make(3, drop_last)
    numbers = range(len(data_of(sampler)))
    loader = DataLoader(numbers, batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type, var-annotated]
    return prepare_data_loader(
        loader, num_processes=processes, process_index=rank, even_batches=False, use_seedable_sampler=True, data_seed=3
    )


def rows_of(loader: Any, epoch: int) -> list[list[int]]:
    """The batches of an epoch, which is told to the sampler inside, as ``loaders.of_this_process`` sees to."""
    inside = loader
    while inside is not None:
        if isinstance(inside, samplers.HasEpoch):
            inside.set_epoch(epoch)
        inside = getattr(inside, "batch_sampler", None)
    return list(loader)
