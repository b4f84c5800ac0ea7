"""What samplers, collators and arguments of training give, for the recorder and for the tests.

Knows nothing of either implementation: classes are looked up in a namespace.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import ConcatDataset, RandomSampler

LABELS = ["label", "labels", "score", "scores"]

# rows, and how many different values there are to a column
SIZES: dict[str, tuple[int, int]] = {
    "all different": (23, 10_000),
    "some repeated": (40, 60),
    "many repeated": (41, 9),
    "one value": (7, 1),
    "one row": (1, 1),
}
SETTINGS = [(size, drop_last, epoch) for size in (1, 3, 8) for drop_last in (False, True) for epoch in (0, 2)]
GROUPED: dict[str, list[Any]] = {
    "even": [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2],
    "odd": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
    "one is frequent": [5] * 11 + [3, 3, 3, 4, 4],
    "texts": ["yes", "no", "yes", "no", "maybe", "yes", "no"],
}


def table(name: str) -> Dataset:
    """Rows of (first, second, label) whose values come from a rule."""
    rows, values = SIZES[name]
    return Dataset.from_dict(
        {
            "first": [f"t{row * row * 31 % values}" for row in range(rows)],
            "second": [f"{'ut'[row % 5 == 0]}{row * 17 % values}" for row in range(rows)],
            "label": [row % 2 for row in range(rows)],
        }
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def random_batches(space: Any, data: Dataset, size: int, drop_last: bool, shared: Any = None) -> Any:
    own = shared or generator()
    return space.DefaultBatchSampler(RandomSampler(data, generator=own), size, drop_last, LABELS, own, 12)


def unique_batches(space: Any, data: Dataset, size: int, drop_last: bool, shared: Any = None) -> Any:
    return space.NoDuplicatesBatchSampler(data, size, drop_last, LABELS, shared or generator(), 12)


def hashed_batches(space: Any, data: Dataset, size: int, drop_last: bool, shared: Any = None) -> Any:
    return space.NoDuplicatesBatchSampler(
        data, size, drop_last, LABELS, shared or generator(), 12, precompute_hashes=True
    )


ONE: dict[str, Callable[..., Any]] = {"random": random_batches, "unique": unique_batches, "hashed": hashed_batches}
SEVERAL = ("RoundRobinBatchSampler", "ProportionalBatchSampler")


def drawn(sampler: Any, epoch: int) -> list[Any]:
    """Its length, and the batches of an epoch."""
    sampler.set_epoch(epoch)
    return [len(sampler), list(sampler)]


def of_one(space: Any, kind: str, name: str) -> dict[str, Any]:
    """The batches of one dataset."""
    data = table(name)
    return {
        f"{size} {drop_last} {epoch}": drawn(ONE[kind](space, data, size, drop_last), epoch)
        for size, drop_last, epoch in SETTINGS
    }


def by_label(space: Any, name: str) -> dict[str, Any]:
    """The batches that are grouped by label."""
    data = Dataset.from_dict({"text": [f"t{row}" for row in range(len(GROUPED[name]))], "label": GROUPED[name]})
    return {
        f"{size} {drop_last} {epoch}": drawn(
            space.GroupByLabelBatchSampler(data, size, drop_last, LABELS, generator(), 12), epoch
        )
        for size in (4, 6, 8)
        for drop_last in (False, True)
        for epoch in (0, 2)
    }


def of_several(space: Any, kind: str, one: str) -> dict[str, Any]:
    """The batches of three datasets."""
    found = {}
    parts = [table(name) for name in ("all different", "many repeated", "one value")]
    for size, drop_last, epoch in SETTINGS:
        shared = generator()
        samplers = [ONE[one](space, part, size, drop_last, shared) for part in parts]
        mixed = getattr(space, kind)(ConcatDataset(parts), samplers, shared, 12)
        found[f"{size} {drop_last} {epoch}"] = drawn(mixed, epoch)
    return found


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


TEXTS = {"anchor": ["a cat", "it rains in the north"], "positive": ["the cat is sitting", "rain"]}
NAMED = {**TEXTS, "dataset_name": ["nli", "nli"]}
# name -> rows, settings of the collator
COLLATED: dict[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "pairs": (TEXTS, {}),
    "score": ({**TEXTS, "score": [0.25, 1.0]}, {}),
    "whole numbers": ({**TEXTS, "labels": [3, 1]}, {}),
    "yes or no": ({"label": [True, False], **TEXTS}, {}),
    "several scores": ({**TEXTS, "scores": [[0.5, 1.0], [2.0, 0.0]]}, {}),
    "tensors": ({**TEXTS, "label": [torch.ones(2), torch.zeros(2)]}, {}),
    "two labels": ({**TEXTS, "label": [1, 0]}, {"valid_label_columns": ["label"]}),
    "own label": ({**TEXTS, "margin": [1.5, 0.5]}, {"valid_label_columns": ["margin", "label"]}),
    "name": (NAMED, {}),
    "prompt for all": (TEXTS, {"prompts": "query: "}),
    "prompt by column": (TEXTS, {"prompts": {"anchor": "query: ", "negative": "passage: "}}),
    "prompt by dataset": (NAMED, {"prompts": {"nli": "query: ", "sts": "other: "}}),
    "prompt by dataset and column": (NAMED, {"prompts": {"nli": {"positive": "passage: "}}}),
    "prompt of another dataset": (NAMED, {"prompts": {"sts": {"positive": "passage: "}}}),
    "prompt by column, with a name": (NAMED, {"prompts": {"anchor": "query: "}}),
    "route by column": (TEXTS, {"router_mapping": {"anchor": "query", "positive": "document"}}),
    "route of one": (TEXTS, {"router_mapping": {"anchor": "query"}}),
    "route by dataset": (NAMED, {"router_mapping": {"nli": {"positive": "document"}}}),
    "route of another dataset": (NAMED, {"router_mapping": {"sts": {"positive": "document"}}}),
}


def collated(space: Any, name: str, preprocess: Callable[..., Any]) -> dict[str, Any]:
    """A batch, tensors written as [type, values]."""
    columns, settings = COLLATED[name]
    batch = space.SentenceTransformerDataCollator(preprocess, **settings)(_rows(**columns))
    return {
        key: [str(value.dtype), value.tolist()] if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


ARGUMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "prompt": {"prompts": "query: "},
    "prompts": {"prompts": {"a": {"b": "c"}}},
    "prompts as JSON": {"prompts": '{"a": {"b": "c"}}'},
    "prompt as JSON": {"prompts": '"query: "'},
    "routes as JSON": {"router_mapping": '{"a": "query"}'},
    "no routes": {"router_mapping": None},
    "rates as JSON": {"learning_rate_mapping": '{"a": 1e-3}'},
    "no rates": {"learning_rate_mapping": None},
    "unique": {"batch_sampler": "no_duplicates"},
    "unique, hashed": {"batch_sampler": "no_duplicates_hashed"},
    "by label": {"batch_sampler": "group_by_label"},
    "in turn": {"multi_dataset_batch_sampler": "round_robin"},
    "warmup": {"warmup_ratio": 0.1},
    "warmup, none": {"warmup_ratio": 0.0},
    "warmup, both": {"warmup_ratio": 0.1, "warmup_steps": 5},
    "what is always so": {"prediction_loss_only": False, "ddp_broadcast_buffers": True},
}
SHOWN = (
    "prompts", "batch_sampler", "multi_dataset_batch_sampler", "router_mapping", "learning_rate_mapping",
    "warmup_steps", "prediction_loss_only", "ddp_broadcast_buffers",
)  # fmt: skip


def arguments(space: Any, name: str) -> dict[str, Any]:
    """Settings as they are written down."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = space.SentenceTransformerTrainingArguments("out", report_to="none", **ARGUMENTS[name]).to_dict()
    return {key: found[key] for key in SHOWN}


def callable_samplers(space: Any) -> list[str]:
    """Which of the samplers are written down where they are classes."""
    found = space.SentenceTransformerTrainingArguments(
        "out",
        batch_sampler=space.NoDuplicatesBatchSampler,
        multi_dataset_batch_sampler=space.RoundRobinBatchSampler,
    ).to_dict()
    return sorted({"batch_sampler", "multi_dataset_batch_sampler"} & set(found))


def new_fields(space: Any) -> dict[str, Any]:
    """The settings beside those of transformers, with their defaults."""
    from transformers import TrainingArguments

    kind = space.SentenceTransformerTrainingArguments
    old = {one.name for one in dataclasses.fields(TrainingArguments)}
    made = kind("out")
    return {one.name: getattr(made, one.name) for one in dataclasses.fields(kind) if one.name not in old}


def _by_label(space: Any, labels: list[int], size: int = 4, column: str = "label") -> Any:
    data = Dataset.from_dict({"text": [str(row) for row in range(len(labels))], column: labels})
    return space.GroupByLabelBatchSampler(data, size, False, ["label"], generator(), 0)


def _mixed(space: Any) -> Any:
    data = table("one row")
    return space.RoundRobinBatchSampler(ConcatDataset([data, data]), [unique_batches(space, data, 1, False)])


def _collate(space: Any, columns: dict[str, list[Any]], **settings: Any) -> Any:
    return space.SentenceTransformerDataCollator(lambda inputs, **_: {}, **settings)(_rows(**columns))


# name -> what is called, and a part of the message that users look for
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "uneven size": (lambda space: _by_label(space, [0, 0, 1, 1], 5), "batch_size must be an even number >= 4"),
    "small size": (lambda space: _by_label(space, [0, 0, 1, 1], 2), "batch_size must be an even number >= 4"),
    "one label": (
        lambda space: _by_label(space, [1, 1, 1, 1]),
        "requires at least 2 distinct labels with >= 2 samples each, but only 1 label(s) qualified.",
    ),
    "no label": (
        lambda space: _by_label(space, [0, 0, 1, 1], column="labels"),
        "None of the valid_label_columns ['label'] are in the dataset, which only has these columns: "
        "['text', 'labels'].",
    ),
    "number of samplers": (_mixed, "The number of batch samplers must match the number of datasets"),
    "texts as labels": (lambda space: _collate(space, {**TEXTS, "label": ["x", "y"]}), "too many dimensions 'str'"),
    "ragged labels": (lambda space: _collate(space, {**TEXTS, "label": [[1.0], [1.0, 2.0]]}), "expected sequence of"),
    "prompts without names": (
        lambda space: _collate(space, TEXTS, prompts={"nli": {"anchor": "query: "}}), "dataset",
    ),
    "sampler": (
        lambda space: space.SentenceTransformerTrainingArguments("out", batch_sampler="x"), "group_by_label",
    ),
    "several samplers": (
        lambda space: space.SentenceTransformerTrainingArguments("out", multi_dataset_batch_sampler="x"), "round_robin",
    ),
    "routes": (
        lambda space: space.SentenceTransformerTrainingArguments("out", router_mapping="x"),
        "The `router_mapping` argument must be a dictionary",
    ),
    "rates": (
        lambda space: space.SentenceTransformerTrainingArguments("out", learning_rate_mapping="x"),
        "The `learning_rate_mapping` argument must be a dictionary",
    ),
    "unknown": (
        lambda space: space.SentenceTransformerTrainingArguments("out", colour="red"),
        "got an unexpected keyword argument 'colour'",
    ),
}  # fmt: skip


def refusal(space: Any, name: str) -> list[Any]:
    """Type of the error, and whether its message has the part."""
    call, part = REFUSED[name]
    try:
        call(space)
    except (ValueError, TypeError) as error:
        return [type(error).__name__, part in str(error)]
    return ["", False]


# columns that are remarked upon, or not
ORDERS = (
    "anchor positive", "positive anchor", "anchor negative positive", "question answer", "answer question",
    "response query", "entailment hypothesis contradiction", "text anchor", "id anchor", "anchor doc_id",
    "anchor doc_ids", "anchor_idx text", "sentence1 sentence2", "ID grid",
)  # fmt: skip


def remarks(space: Any, columns: str) -> list[str]:
    """What a collator logs of columns that it meets twice: "order", with place and expected place; or "ids"."""
    names, found = columns.split(), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            words = text.replace(",", " ").replace(".", " ").replace(":", " ").split()
            numbers = [words[place + 1] for place, word in enumerate(words) if word == "index"][:2]
            found.append(" ".join(["order", text.split("'")[1], *numbers] if numbers else ["ids"]))

    logger, kept = logging.getLogger("sentence_transformers"), Keep()
    logger.addHandler(kept)
    try:
        collator = space.SentenceTransformerDataCollator(lambda inputs, **_: {"input_ids": torch.ones(len(inputs), 1)})
        for _ in range(2):
            collator(_rows(**{name: ["a", "b"] for name in names}))
    finally:
        logger.removeHandler(kept)
    return sorted(found)
