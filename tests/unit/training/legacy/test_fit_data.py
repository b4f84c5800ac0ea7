"""How ``fit`` reads old loaders, and whose turn it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.training.legacy import fit_data
from sentence_transformers.training.legacy.data import (
    InputExample,
    NoDuplicatesDataLoader,
    SentenceLabelDataset,
)
from sentence_transformers.training.legacy.fit import fit, old_fit, smart_batching_collate
from sentence_transformers.training.samplers import BatchSamplers, DefaultBatchSampler
from tests.unit.training.legacy.old_runs import QUICK, TEXTS, Scores, Watched, loaded, pairs

BOTH = pytest.mark.parametrize("train", [fit, old_fit])


@pytest.fixture
def model(tiny_model: Callable[[str], Any]) -> Any:
    """A small encoder, for one test alone."""
    return copy.deepcopy(tiny_model("bert"))


# --- how loaders are read ---------------------------------------------------------------------------------------------


def test_texts_and_labels_become_columns() -> None:
    material = fit_data.read(loaded(pairs(5, lambda i: i / 2), 2))
    assert material.dataset.column_names == ["sentence_0", "sentence_1", "label"]
    assert material.dataset[3] == {"sentence_0": "is here 3", "sentence_1": "the dog", "label": 1.5}
    assert (material.batch_size, material.kind, material.routes) == (2, BatchSamplers.BATCH_SAMPLER, {})


@pytest.mark.parametrize("zero", [0, 0.0, False, np.float32(0)])
def test_labels_that_are_all_0_are_none(zero: Any) -> None:
    assert fit_data.read(loaded(pairs(3, lambda i: zero))).dataset.column_names == ["sentence_0", "sentence_1"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (lambda i: i, [0, 1]),
        (lambda i: [1, 0.5][i], [1.0, 0.5]),
        (lambda i: np.float32(i), [0.0, 1.0]),
        (lambda i: np.full(2, i), [[0, 0], [1, 1]]),
        (lambda i: torch.full((2,), i / 2), [[0.0, 0.0], [0.5, 0.5]]),
        (lambda i: [0, 0], [[0, 0], [0, 0]]),
    ],
)
def test_labels_are_kept_as_numbers(label: Any, expected: Any) -> None:
    assert fit_data.read(loaded(pairs(2, label))).dataset["label"][:] == expected


def test_reading_leaves_the_loader_as_it_was() -> None:
    loader = loaded(pairs(3))
    before = loader.collate_fn
    fit_data.read(loader)
    assert loader.collate_fn is before


def test_what_a_loader_drops_is_not_read() -> None:
    assert len(fit_data.read(loaded(pairs(10), 4, drop_last=True)).dataset) == 8


def test_loaders_with_a_sampler_of_batches_are_read() -> None:
    loader = loaded(pairs(6), 1, batch_sampler=BatchSampler(range(6), 4, drop_last=False))  # type: ignore[arg-type]
    material = fit_data.read(loader)
    assert (len(material.dataset), material.batch_size) == (6, 4)


def test_old_data_says_which_examples_are_in_one_batch() -> None:
    classes = SentenceLabelDataset([InputExample(texts=[str(i)], label=i % 2) for i in range(8)])
    assert fit_data.read(NoDuplicatesDataLoader(pairs(4), 2)).kind is BatchSamplers.NO_DUPLICATES
    assert fit_data.read(loaded(classes)).kind is BatchSamplers.GROUP_BY_LABEL  # type: ignore[arg-type]


def test_no_text_is_twice_in_a_batch_of_fit(model: Any) -> None:
    examples = [InputExample(texts=["a cat", f"the dog {i}"]) for i in range(4)] + pairs(12)
    loss = Watched(losses.MultipleNegativesRankingLoss(model))
    fit(model, [(NoDuplicatesDataLoader(examples, 4), loss)], epochs=2, **QUICK)
    assert loss.sizes and loss.repeated == [False] * len(loss.sizes)


def test_a_batch_of_fit_has_two_examples_of_each_label(model: Any) -> None:
    examples = [InputExample(texts=[f"a cat {i}"], label=i % 4) for i in range(16)]
    loss = Watched(losses.BatchAllTripletLoss(model))
    fit(model, [(loaded(SentenceLabelDataset(examples, 2), 8), loss)], epochs=2, **QUICK)  # type: ignore[arg-type]
    assert loss.labels
    for labels in loss.labels:
        assert all(labels.count(label) % 2 == 0 for label in labels)


def test_each_objective_has_batches_of_its_own_size(model: Any) -> None:
    watched = [Watched(losses.MultipleNegativesRankingLoss(model)), Watched(losses.CosineSimilarityLoss(model))]
    fit(model, [(loaded(pairs(9), 3), watched[0]), (loaded(pairs(20, lambda i: 1.0), 5), watched[1])], **QUICK)
    assert [one.sizes for one in watched] == [[3, 3, 3], [5, 5, 5]]
    assert watched[0].labels == [None] * 3
    assert watched[1].labels == [[1.0] * 5] * 3


@BOTH
def test_an_epoch_may_have_more_steps_than_batches(train: Any, model: Any) -> None:
    loss, told = Watched(losses.CosineSimilarityLoss(model)), []
    train(
        model,
        [(loaded(pairs(12, lambda i: i / 12)), loss)],
        evaluator=Scores(1.0, 2.0),
        epochs=2,
        steps_per_epoch=5,
        callback=lambda *call: told.append(call),
        **QUICK,
    )
    assert len(loss.values) == 10
    assert told == ([(1.0, 1.0, 5), (2.0, 2.0, 10)] if train is fit else [(1.0, 0, -1), (2.0, 1, -1)])
    for start in (0, 3, 6):  # all examples come before one comes again, also across epochs
        seen = [label for batch in loss.labels[start : start + 3] for label in batch]
        assert sorted(seen) == pytest.approx([i / 12 for i in range(12)])


def test_texts_that_name_their_route_are_routed(model: Any, tiny_model: Callable[[str], Any]) -> None:
    first = copy.deepcopy(tiny_model("bert"))
    routed = Router.for_query_document([model[0], Pooling(32)], [first[0], Pooling(32)])
    router = SentenceTransformer(modules=[routed], device="cpu")
    before = {name: one.clone() for name, one in router.named_parameters()}
    examples = [InputExample(texts=[{"query": text}, {"document": f"{text} 2"}]) for text in TEXTS]  # type: ignore[list-item]
    assert fit_data.read(loaded(examples)).routes == {"sentence_0": "query", "sentence_1": "document"}
    fit(router, [(loaded(examples), losses.MultipleNegativesRankingLoss(router))], **QUICK)
    moved = {name.split(".")[2] for name, one in router.named_parameters() if not one.equal(before[name])}
    assert moved == {"query", "document"}


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([InputExample(texts=["a"]), InputExample(texts=["a", "b"])], r"same number of texts.*found \[1, 2\]"),
        ([InputExample()], r"same number of texts, one at least; found \[0\]"),
        ([{"text": "a"}], "takes loaders of InputExample, but one gives dict"),
    ],
)
@BOTH
def test_bad_examples_are_named(train: Any, examples: Any, message: str, model: Any) -> None:
    with pytest.raises(ValueError, match=message):
        train(model, [(loaded(examples), losses.CoSENTLoss(model))])


@BOTH
def test_examples_are_needed(train: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="needs examples, but a loader has no"):
        train(model, [(NoDuplicatesDataLoader(pairs(2), 4), losses.CoSENTLoss(model))])


# --- whose turn it is -------------------------------------------------------------------------------------------------


def turns(sizes: list[int], steps: int | None) -> Any:
    joined: ConcatDataset[Any] = ConcatDataset([list(range(size)) for size in sizes])  # type: ignore[misc]
    kinds = (BatchSamplers.BATCH_SAMPLER,) * len(sizes)
    ignored = [DefaultBatchSampler(part, 1, False) for part in joined.datasets]
    return fit_data.Turns(kinds, (2,) * len(sizes), steps)(joined, ignored, None, 3)


def rows(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_epochs_go_on_where_the_last_one_ended() -> None:
    long = rows(turns([6, 4], 30), 0)
    short = turns([6, 4], 5)
    assert [batch for epoch in range(6) for batch in rows(short, epoch)] == long
    assert len(short) == 5


def test_an_epoch_is_the_same_whether_or_not_those_before_were_drawn() -> None:
    sampler = turns([6, 4], 5)
    drawn = [rows(sampler, epoch) for epoch in range(4)]
    assert rows(turns([6, 4], 5), 3) == drawn[3]


def test_datasets_take_turns_and_each_is_gone_through_before_it_begins_anew() -> None:
    found = rows(turns([6, 4], 12), 0)
    first, second = found[::2], found[1::2]
    assert [sorted(row for batch in first[at : at + 3] for row in batch) for at in (0, 3)] == [list(range(6))] * 2
    assert [sorted(row for batch in second[at : at + 2] for row in batch) for at in (0, 2, 4)] == [[6, 7, 8, 9]] * 3
    assert first[:3] != first[3:]


def test_without_a_number_of_steps_the_shortest_ends_the_epoch() -> None:
    assert [min(batch) >= 6 for batch in rows(turns([6, 4], None), 0)] == [False, True] * 2


# --- smart_batching_collate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([2, 1], torch.int64), ([2.5, 1], torch.float32), ([np.ones(3), np.zeros(3)], torch.float64)],
)
def test_collating_gives_columns_and_labels(labels: Any, dtype: torch.dtype, model: Any) -> None:
    batch = [InputExample(texts=["a", "cat is"], label=labels[0]), InputExample(texts=["a b", "cat"], label=labels[1])]
    features, found = smart_batching_collate(model, batch)
    assert found.dtype == dtype
    assert found.tolist() == [np.asarray(label).tolist() for label in labels]
    for column, texts in zip(features, (["a", "a b"], ["cat is", "cat"]), strict=True):
        assert column["input_ids"].equal(model.preprocess(texts)["input_ids"])
