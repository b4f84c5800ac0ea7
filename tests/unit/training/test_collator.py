"""Examples become batches: labels a tensor, every column what the model's ``preprocess`` makes of it."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from sentence_transformers.training.collator import BaseDataCollator, SentenceTransformerDataCollator
from sentence_transformers.training.datasets import Named
from sentence_transformers.training.loaders import begin_worker


class Keeping:
    """A ``preprocess`` that keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Any], dict[str, Any]]] = []

    def __call__(self, inputs: list[Any], **settings: Any) -> dict[str, Any]:
        self.calls.append((inputs, settings))
        return {"input_ids": torch.arange(len(inputs))[:, None], "modality": "text"}


@pytest.fixture
def keeping() -> Keeping:
    return Keeping()


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


PAIRS = rows(anchor=["a", "b"], positive=["c", "d"])


def test_every_column_is_preprocessed_in_order_and_its_features_begin_with_its_name(keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping)(PAIRS)
    assert list(batch) == ["anchor_input_ids", "anchor_modality", "positive_input_ids", "positive_modality"]
    assert keeping.calls == [(["a", "b"], {"prompt": None}), (["c", "d"], {"prompt": None})]


def test_columns_go_by_the_order_of_the_dataset_whatever_their_names(keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping)(rows(z=["1"], score=[0.5], a=["2"], m=["3"]))
    assert list(batch) == [
        "label",
        "z_input_ids",
        "z_modality",
        "a_input_ids",
        "a_modality",
        "m_input_ids",
        "m_modality",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0], torch.tensor([1, 0])),
        ([0.25, 1], torch.tensor([0.25, 1.0])),
        ([True, False], torch.tensor([True, False])),
        ([[0.5, 1.0], [2.0, 3.0]], torch.tensor([[0.5, 1.0], [2.0, 3.0]])),
        ([torch.tensor(3), torch.tensor(4)], torch.tensor([3, 4])),
        ([torch.ones(2), torch.zeros(2)], torch.tensor([[1.0, 1.0], [0.0, 0.0]])),
        ([np.ones(2, np.float32), np.zeros(2, np.float32)], torch.tensor([[1.0, 1.0], [0.0, 0.0]])),
        ([np.float32(0.5), np.float32(1.5)], torch.tensor([0.5, 1.5])),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels", "score", "scores"])
def test_labels_become_one_tensor(values: list[Any], expected: torch.Tensor, column: str, keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping)(rows(text=["a", "b"], **{column: values}))
    torch.testing.assert_close(batch["label"], expected, rtol=0, atol=0)
    assert list(batch) == ["label", "text_input_ids", "text_modality"]


def test_of_two_labels_the_second_is_an_input(keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping)(rows(score=[0.5], text=["a"], label=[1]))
    assert batch["label"].tolist() == [1] and "score_input_ids" in batch


def test_other_labels_can_be_named(keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping, ["margin"])(rows(text=["a"], label=["b"], margin=[2.5]))
    assert batch["label"].tolist() == [2.5] and "label_input_ids" in batch


@pytest.mark.parametrize("values", [["x", "y"], [[1.0], [1.0, 2.0]], [None, 1], [torch.ones(1), torch.ones(2)]])
def test_labels_that_make_no_tensor_are_refused_with_their_column(values: list[Any], keeping: Keeping) -> None:
    with pytest.raises(ValueError, match=r"Column 'score' holds the labels: expected numbers.*rename_column\('score'"):
        SentenceTransformerDataCollator(keeping)(rows(text=["a", "b"], score=values))


def test_examples_with_unequal_columns_are_refused(keeping: Keeping) -> None:
    with pytest.raises(ValueError, match="same columns"):
        SentenceTransformerDataCollator(keeping)([{"a": "x"}, {"b": "y"}])


@pytest.mark.parametrize("nothing", [[], [{}]])
def test_nothing_makes_an_empty_batch(nothing: list[Any], keeping: Keeping) -> None:
    assert SentenceTransformerDataCollator(keeping)(nothing) == {} and not keeping.calls


def test_the_name_of_the_dataset_is_handed_on_and_no_input(keeping: Keeping) -> None:
    batch = SentenceTransformerDataCollator(keeping)([{**row, "dataset_name": "nli"} for row in PAIRS])
    assert batch["dataset_name"] == "nli" and len(keeping.calls) == 2


@pytest.mark.parametrize(
    ("prompts", "name", "expected"),
    [
        ("p", None, ["p", "p"]),
        ({"positive": "p"}, None, [None, "p"]),
        ({"nli": "p"}, "nli", ["p", "p"]),
        ({"nli": {"anchor": "p"}}, "nli", ["p", None]),
        ({"nli": {"anchor": "p"}}, "sts", [None, None]),
    ],
)
def test_prompts_by_column_and_dataset(prompts: Any, name: str | None, expected: list[Any], keeping: Keeping) -> None:
    named = PAIRS if name is None else [{**row, "dataset_name": name} for row in PAIRS]
    SentenceTransformerDataCollator(keeping, prompts=prompts)(named)
    assert [settings["prompt"] for _, settings in keeping.calls] == expected


def test_prompts_by_dataset_without_a_name_are_refused(keeping: Keeping) -> None:
    with pytest.raises(ValueError, match=r"prompts maps names of datasets to columns"):
        SentenceTransformerDataCollator(keeping, prompts={"nli": {"anchor": "p"}})(PAIRS)


@pytest.mark.parametrize(
    ("mapping", "name", "expected"),
    [
        ({"anchor": "query", "positive": "document"}, None, ["query", "document"]),
        ({"positive": "document"}, None, [None, "document"]),
        ({"nli": {"anchor": "query"}}, "nli", ["query", None]),
        ({"sts": {"anchor": "query"}}, "nli", [None, None]),
        (None, None, [None, None]),
    ],
)
def test_routes_by_column_and_dataset(mapping: Any, name: str | None, expected: list[Any], keeping: Keeping) -> None:
    named = PAIRS if name is None else [{**row, "dataset_name": name} for row in PAIRS]
    batch = SentenceTransformerDataCollator(keeping, router_mapping=mapping)(named)
    assert [settings.get("task") for _, settings in keeping.calls] == expected
    assert [batch.get("anchor_task"), batch.get("positive_task")] == expected


@pytest.mark.parametrize(("length", "expected"), [(7, [7, 7]), ({"query": 3}, [3, None]), (None, [None, None])])
def test_the_longest_input_may_go_by_task(length: Any, expected: list[Any], keeping: Keeping) -> None:
    routes = {"anchor": "query", "positive": "document"}
    BaseDataCollator(keeping, router_mapping=routes, max_length=length)(PAIRS)
    assert [settings.get("max_length") for _, settings in keeping.calls] == expected


def test_inputs_of_any_kind_are_handed_on_as_they_are(keeping: Keeping) -> None:
    images = pytest.importorskip("PIL.Image", reason="makes the images")
    given = [images.new("RGB", (2, 2)), images.new("RGB", (3, 1))]
    SentenceTransformerDataCollator(keeping)(rows(image=given, text=["a", "b"]))
    assert all(found is image for found, image in zip(keeping.calls[0][0], given, strict=True))


# --- remarks ----------------------------------------------------------------------------------------------------------


def test_misplaced_columns_and_ids_are_told_once_for_each_set_of_columns(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    collate = SentenceTransformerDataCollator(keeping)
    with caplog.at_level(logging.WARNING, "sentence_transformers"):
        for _ in range(2):
            collate(rows(positive=["a"], anchor=["b"]))
            collate(rows(doc_id=["a"]))
    assert [record.getMessage().split(" is ")[0].split(" look")[0] for record in caplog.records] == [
        "Column 'anchor'",
        "Column(s) ['doc_id']",
    ]


# --- where it is used -------------------------------------------------------------------------------------------------


def loaded(dataset: Any, collate: Any, **settings: Any) -> list[dict[str, Any]]:
    return list(DataLoader(dataset, batch_size=2, collate_fn=collate, **settings))


def plain(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def test_it_survives_a_pickle_and_a_copy(tiny_model: Callable[[str], Any]) -> None:
    collate = SentenceTransformerDataCollator(tiny_model("bert").preprocess, prompts={"anchor": "query: "})
    for other in (pickle.loads(pickle.dumps(collate)), copy.deepcopy(collate)):
        assert plain(other(PAIRS)) == plain(collate(PAIRS))


def test_workers_collate_the_same_batches(tiny_model: Callable[[str], Any]) -> None:
    data = Dataset.from_dict({"text": [f"number {row}" for row in range(6)], "label": [0, 1] * 3})
    collate = SentenceTransformerDataCollator(tiny_model("bert").preprocess)
    found = loaded(data, collate, num_workers=2, worker_init_fn=begin_worker)
    assert [plain(batch) for batch in found] == [plain(batch) for batch in loaded(data, collate)]


def test_transforms_of_a_dataset_are_seen(keeping: Keeping) -> None:
    data = Dataset.from_dict({"text": ["a", "b"]})
    upper = data.with_transform(lambda found: {"text": [text.upper() for text in found["text"]]})
    named = upper.with_transform(Named("nli", upper.format["format_kwargs"]["transform"]))
    [batch] = loaded(named, SentenceTransformerDataCollator(keeping))
    assert batch["dataset_name"] == "nli" and keeping.calls[0][0] == ["A", "B"]


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_labels_of_formatted_datasets_keep_their_values(kind: str, keeping: Keeping) -> None:
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0.5, 2.0]}).with_format(kind)
    [batch] = loaded(data, SentenceTransformerDataCollator(keeping))
    assert batch["label"].tolist() == [0.5, 2.0]
