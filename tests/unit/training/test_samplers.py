"""Which rows each sampler puts together, and what it says where it cannot."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from torch.utils.data import ConcatDataset, DataLoader, SequentialSampler

from sentence_transformers.training import samplers
from sentence_transformers.training.datasets import Named
from sentence_transformers.training.samplers import (
    BatchSamplers,
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    MultiDatasetBatchSamplers,
    MultiDatasetDefaultBatchSampler,
    NoDuplicatesBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(99)


def texts(rows: int, **columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"text": [f"t{row}" for row in range(rows)], **columns})


def permutation(rows: int, seed: int) -> list[int]:
    found: list[int] = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    return found


# --- at random --------------------------------------------------------------------------------------------------------


def test_the_default_order_is_a_permutation_drawn_from_seed_plus_epoch() -> None:
    sampler = DefaultBatchSampler(texts(10), 4, False, generator=generator(), seed=5)
    sampler.set_epoch(2)
    order = permutation(10, 7)
    assert list(sampler) == [order[:4], order[4:8], order[8:]]


def test_the_order_of_a_given_sampler_is_kept() -> None:
    sampler = DefaultBatchSampler(SequentialSampler(texts(5)), 2, True, generator=generator(), seed=5)
    assert list(sampler) == [[0, 1], [2, 3]] and len(sampler) == 2


def test_without_a_generator_the_order_is_from_torchs_own_numbers() -> None:
    sampler, found = DefaultBatchSampler(texts(30), 4, False), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(list(sampler))
    assert found[0] == found[2] != found[1]


# --- no duplicates ----------------------------------------------------------------------------------------------------


def unique(data: Any, size: int, drop_last: bool, **settings: Any) -> NoDuplicatesBatchSampler:
    return NoDuplicatesBatchSampler(data, size, drop_last, generator=generator(), **settings)


def scarce(rows: int, kinds: int, seed: int) -> Dataset:
    """Two columns with values of ``kinds`` kinds, some of them in both, and sometimes twice in a row."""
    own = torch.Generator().manual_seed(seed)
    first, second = torch.randint(kinds, (2, rows), generator=own).tolist()
    names = [f"{'ab'[int(value % 3 == 0)]}{value}" for value in second]
    return Dataset.from_dict({"first": [f"a{value}" for value in first], "second": names, "label": [1] * rows})


@pytest.mark.parametrize("kinds", [2, 9, 40, 1000])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_value_comes_twice_in_a_batch_in_whichever_column(kinds: int, drop_last: bool, seed: int) -> None:
    data = scarce(60, kinds, seed)
    for batch in unique(data, 8, drop_last, seed=seed):
        rows = [{data[row]["first"], data[row]["second"]} for row in batch]
        assert sum(map(len, rows)) == len(set().union(*rows))


@pytest.mark.parametrize("kinds", [2, 9, 40, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_small_batches_allowed_every_row_comes_once(kinds: int, seed: int) -> None:
    sampler = unique(scarce(60, kinds, seed), 8, False, seed=seed)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(60))
    assert len(batches) >= len(sampler) == 8


@pytest.mark.parametrize("kinds", [9, 12, 40, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_with_drop_last_no_row_comes_more_often_than_the_data_is_gone_through(kinds: int, seed: int) -> None:
    sampler = unique(scarce(60, kinds, seed), 4, True, seed=seed)
    batches = list(sampler)
    counts = Counter(row for batch in batches for row in batch)
    assert max(counts.values()) <= NoDuplicatesBatchSampler.PASSES and len(batches) <= len(sampler) == 15


def test_where_all_values_differ_batches_are_cut_from_a_permutation() -> None:
    order = permutation(10, 3)
    assert list(unique(texts(10), 4, False, seed=3)) == [order[:4], order[4:8], order[8:]]


def test_labels_and_names_of_datasets_may_repeat() -> None:
    data = texts(8, label=[1] * 8, score=[0.5] * 8).with_transform(Named("nli"))
    assert [len(batch) for batch in unique(data, 8, True)] == [8]


def test_only_named_labels_may_repeat() -> None:
    data = texts(8, label=[1] * 8, margin=[1] * 8)
    batches = list(unique(data, 8, False, valid_label_columns=["label"]))
    assert [len(batch) for batch in batches] == [1] * 8


def test_equal_texts_of_different_types_are_duplicates() -> None:
    data = Dataset.from_dict({"text": ["1", "2", "3", "4"], "number": [2, 1, 4, 3]})
    batches = list(unique(data, 2, False, seed=1))
    assert all({0, 1} != set(batch) != {2, 3} for batch in batches)


def test_the_hashed_form_compares_at_once_and_draws_the_same_batches() -> None:
    data = scarce(60, 30, 0)
    lazy, eager = unique(data, 4, True), unique(data, 4, True, precompute_hashes=True)
    assert lazy._numbers is None and eager._numbers is not None
    assert list(lazy) == list(eager) and lazy._numbers is not None


def test_values_are_compared_once_for_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, calls = unique(texts(6), 2, False), []
    real = samplers.distinct.value_hashes

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        return real(*arguments, **settings)

    monkeypatch.setattr(samplers.distinct, "value_hashes", counted)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        list(sampler)
    assert len(calls) == 1


def test_an_epoch_with_too_few_full_batches_is_filled_up_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    # 10 rows share a value: at most one of them to a batch, so 5 batches of 4 cannot all be full in one pass
    data = Dataset.from_dict({"text": ["x"] * 10 + [f"t{row}" for row in range(10)]})
    sampler = unique(data, 4, True)
    with caplog.at_level(logging.WARNING, samplers.__name__):
        for _ in range(2):
            batches = list(sampler)
    assert len(batches) == len(sampler) == 5 and all(len(batch) == 4 for batch in batches)
    assert len({row for batch in batches for row in batch}) < 20
    assert len(caplog.records) == 1 and "Only 3 of 5 batches of 4 could be filled without" in caplog.text


def test_a_dataset_of_one_value_makes_no_full_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    sampler = unique(Dataset.from_dict({"text": ["x"] * 6}), 2, True)
    with caplog.at_level(logging.WARNING, samplers.__name__):
        assert list(sampler) == [] and len(sampler) == 3
    assert "too few distinct ones. Make per_device_train_batch_size smaller" in caplog.text


def test_two_values_in_all_rows_are_packed_in_pairs() -> None:
    # 20,000 batches are open at last: with a search through them for each row this would take minutes
    data = Dataset.from_dict({"text": ["x", "y"] * 20_000})
    batches = list(unique(data, 64, False))
    assert len(batches) == 20_000 and all(len(batch) == 2 for batch in batches)


# --- by label ---------------------------------------------------------------------------------------------------------


def by_label(labels: list[Any], size: int, drop_last: bool = False, **settings: Any) -> GroupByLabelBatchSampler:
    return GroupByLabelBatchSampler(
        texts(len(labels), label=labels), size, drop_last, generator=generator(), **settings
    )


def random_labels(rows: int, kinds: int, seed: int) -> list[int]:
    found: list[int] = torch.randint(kinds, (rows,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds", [2, 3, 10, 30])
@pytest.mark.parametrize("size", [4, 6, 16])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_have_two_labels_and_pairs_of_each(seed: int, kinds: int, size: int, drop_last: bool) -> None:
    labels = [*random_labels(100, kinds, seed), 0, 0, 1, 1]
    sampler = by_label(labels, size, drop_last, seed=seed)
    batches = list(sampler)
    rows = [row for batch in batches for row in batch]
    assert len(batches) == len(sampler) > 0 and len(set(rows)) == len(rows)
    for batch in batches:
        counts = Counter(labels[row] for row in batch)
        assert len(counts) >= 2 and all(count % 2 == 0 for count in counts.values())
        assert len(batch) == size or (batch is batches[-1] and not drop_last and len(batch) >= 4)


def test_pairs_of_all_labels_come_where_labels_are_as_frequent() -> None:
    batches = list(by_label([0, 1, 2, 3] * 6, 4))
    assert sorted(row for batch in batches for row in batch) == list(range(24))


def test_of_a_label_that_is_alone_at_last_the_rest_goes_unused() -> None:
    labels = ["rare"] * 4 + ["frequent"] * 20
    rows = [row for batch in by_label(labels, 4) for row in batch]
    assert Counter(labels[row] for row in rows) == {"rare": 4, "frequent": 4}


def test_labels_may_be_made_numbers_by_a_format_and_columns_computed_by_a_transform() -> None:
    data = texts(8, label=[0, 1] * 4)
    made = data.with_transform(lambda rows: {"text": rows["text"], "label": rows["label"]})
    found = [list(GroupByLabelBatchSampler(one, 4, False, generator=generator())) for one in (data, made)]
    found += [
        list(GroupByLabelBatchSampler(data.with_format(kind), 4, False, generator=generator()))
        for kind in ("torch", "numpy")
    ]
    assert found[0] == found[1] == found[2] == found[3] and len(found[0]) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 0, -4])
def test_sizes_that_make_no_pairs_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"an even number >= 4, but got {size}|batch_size"):
        by_label([0, 0, 1, 1], size)


def test_a_dataset_without_labels_is_refused_with_its_columns() -> None:
    with pytest.raises(
        ValueError, match=r"\['label', 'labels', 'score', 'scores'\].*only has these columns: \['text'\]"
    ):
        GroupByLabelBatchSampler(texts(4), 4, False)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2], [0.1, 0.2, 0.3, 0.4]])
def test_a_dataset_without_two_labels_twice_is_refused(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"at least 2 distinct labels with >= 2 samples each, but only [01] label"):
        by_label(labels, 4)


def test_labels_that_are_lists_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one label of each example.*found \[0, 1\]"):
        by_label([[0, 1], [0, 1], [1, 0], [1, 0]], 4)


# --- several datasets -------------------------------------------------------------------------------------------------


def mixed(kind: Any, sizes: list[int], size: int = 2, drop_last: bool = False) -> Any:
    parts, shared = [texts(rows) for rows in sizes], generator()
    each = [DefaultBatchSampler(part, size, drop_last, generator=shared, seed=1) for part in parts]
    return kind(ConcatDataset(parts), each, shared, 1)


def origins(sampler: Any) -> list[int]:
    """Of which dataset each batch is."""
    found = [{sum(row >= end for end in sampler.dataset.cumulative_sizes) for row in batch} for batch in sampler]
    assert all(len(one) == 1 for one in found)
    return [one.pop() for one in found]


def test_round_robin_takes_one_of_each_until_the_first_has_no_more() -> None:
    sampler = mixed(RoundRobinBatchSampler, [10, 4, 7])
    assert origins(sampler) == [0, 1, 2, 0, 1, 2] and len(sampler) == 6


def test_proportional_takes_all_in_random_order() -> None:
    sampler = mixed(ProportionalBatchSampler, [40, 4, 7])
    found = origins(sampler)
    assert Counter(found) == {0: 20, 1: 2, 2: 4} and len(sampler) == 26
    assert found != sorted(found)
    assert sorted(row for batch in sampler for row in batch) == list(range(51))


def test_proportional_does_without_batches_that_a_sampler_cannot_fill() -> None:
    parts = [texts(4), Dataset.from_dict({"text": ["x"] * 4})]
    each = [NoDuplicatesBatchSampler(part, 2, True, generator=generator()) for part in parts]
    sampler = ProportionalBatchSampler(ConcatDataset(parts), each, generator(), 0)
    assert len(list(sampler)) == 2 < len(sampler) == 4


def test_epochs_are_told_to_the_samplers_of_all_datasets() -> None:
    sampler = mixed(RoundRobinBatchSampler, [4, 4])
    sampler.set_epoch(3)
    assert [one.epoch for one in sampler.batch_samplers] == [3, 3]


def test_one_sampler_for_each_dataset_is_needed() -> None:
    with pytest.raises(ValueError, match="match the number of datasets in the ConcatDataset: expected 2, got 1"):
        ProportionalBatchSampler(ConcatDataset([texts(2), texts(2)]), [DefaultBatchSampler(texts(2), 1, False)])


def test_the_base_of_mixing_samplers_makes_none() -> None:
    with pytest.raises(TypeError, match="abstract"):
        mixed(MultiDatasetDefaultBatchSampler, [2])


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("batch_sampler", DefaultBatchSampler),
        (BatchSamplers.NO_DUPLICATES, NoDuplicatesBatchSampler),
        ("no_duplicates_hashed", NoDuplicatesBatchSampler),
        ("group_by_label", GroupByLabelBatchSampler),
    ],
)
def test_a_sampler_is_chosen_by_name(choice: Any, kind: Any) -> None:
    own = generator()
    found = samplers.batch_sampler(choice, texts(8, label=[0, 1] * 4), 4, True, ["label"], own, 7)
    assert type(found) is kind
    assert (found.batch_size, found.drop_last, found.valid_label_columns, found.generator, found.seed) == (
        *(4, True, ["label"], own),
        7,
    )


def test_a_sampler_of_the_user_is_called_as_documented() -> None:
    seen: dict[str, Any] = {}

    def make(dataset: Any, **settings: Any) -> Any:
        seen.update(dataset=dataset, **settings)
        return DefaultBatchSampler(dataset, **settings)

    data, own = texts(4), generator()
    samplers.batch_sampler(make, data, 2, False, ["label"], own, 3)
    assert seen == {
        "dataset": data,
        "batch_size": 2,
        "drop_last": False,
        "valid_label_columns": ["label"],
        "generator": own,
        "seed": 3,
    }


class Own(DefaultBatchSampler):
    """A sampler of a user, as the documentation shows one: the constructor is inherited."""

    def __iter__(self) -> Any:
        self.reseed()
        yield from super().__iter__()


def test_a_class_of_the_user_is_made_as_ours_are() -> None:
    found = samplers.batch_sampler(Own, texts(4), 2, False, None, generator(), 3)
    assert type(found) is Own and sorted(row for batch in found for row in batch) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("round_robin", RoundRobinBatchSampler),
        (MultiDatasetBatchSamplers.PROPORTIONAL, ProportionalBatchSampler),
        (RoundRobinBatchSampler, RoundRobinBatchSampler),
    ],
)
def test_a_mixing_sampler_is_chosen_by_name_or_class(choice: Any, kind: Any) -> None:
    parts, own = [texts(4)], generator()
    each = [DefaultBatchSampler(part, 2, False) for part in parts]
    found = samplers.multi_dataset_batch_sampler(choice, ConcatDataset(parts), each, own, 7)
    assert type(found) is kind and (found.generator, found.seed, found.batch_size) == (own, 7, 2)


@pytest.mark.parametrize("kind", [BatchSamplers, MultiDatasetBatchSamplers])
def test_an_unknown_name_is_refused_with_those_that_there_are(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"batch_sampler must be one of .*{next(iter(kind)).value}"):
        kind("by_colour")


# --- epochs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", [DefaultBatchSampler, NoDuplicatesBatchSampler])
def test_accelerate_alone_tells_the_epoch(kind: Any, processes: int) -> None:
    PartialState(cpu=True)
    sampler = kind(texts(12), 2, False, generator=generator(), seed=4)
    loader = DataLoader(range(12), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type, var-annotated]
    prepared = prepare_data_loader(
        loader,
        num_processes=processes,
        process_index=0,
        even_batches=False,
        use_seedable_sampler=True,
        data_seed=4,
    )
    for epoch in (0, 3):
        prepared.set_epoch(epoch)
        order = permutation(12, 4 + epoch)
        assert list(prepared) == [order[start : start + 2] for start in range(0, 12, 2 * processes)]
