"""Which route an input takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sentence_transformers.modules.routes import choose, modality_of, take_task

ROUTES = ["x", "y", "z"]
MAPPINGS: dict[Any, str] = {
    ("query", None): "x",
    ("document", "text"): "y",
    (None, ("image", "text")): "z",
    ("query", "image"): "z",
}


@pytest.mark.parametrize(
    "task, modality, route",
    [
        ("query", "image", "z"),
        ("query", "text", "x"),
        ("document", "text", "y"),
        (None, ("image", "text"), "z"),
        ("y", "text", "y"),
        ("y", "z", "y"),
        ("foo", "z", "z"),
        (None, "y", "y"),
        (None, "text", "x"),
        (None, None, "x"),
    ],
)
def test_the_most_exact_route_wins(task: str | None, modality: Any, route: str) -> None:
    assert choose(ROUTES, MAPPINGS, "x", task, modality) == route


def test_a_mapping_for_anything_comes_before_names() -> None:
    assert choose(ROUTES, {(None, None): "z"}, None, "x", "y") == "z"


@pytest.mark.parametrize("task, modality", [("foo", "text"), ("document", None)])
def test_an_unknown_task_names_what_there_is(task: str, modality: Any) -> None:
    with pytest.raises(
        ValueError, match=r"No route found for task type .* task='x'.*\(task='document', modality='text'\)"
    ):
        choose(ROUTES, MAPPINGS, "x", task, modality)


def test_no_task_and_no_default_is_an_error() -> None:
    with pytest.raises(ValueError, match="router_mapping"):
        choose(ROUTES, {}, None, None, "text")


def test_old_inputs_name_their_task() -> None:
    assert take_task([{"query": "a"}, {"query": "b"}], None) == (["a", "b"], "query")
    assert take_task([{"query": "a"}], "query") == (["a"], "query")


@pytest.mark.parametrize(
    "inputs", [[], ["a"], [{"text": "a"}], [{"role": "user", "content": "a"}], [{"query": "a"}, "b"]]
)
def test_other_inputs_stay_as_they_are(inputs: list[Any]) -> None:
    assert take_task(inputs, "query") == (inputs, "query")


@pytest.mark.parametrize(
    "inputs, task",
    [
        ([{"query": "a"}, {"document": "b"}], None),
        ([{"query": "a", "document": "b"}], None),
        ([{"query": "a"}], "document"),
    ],
)
def test_inputs_of_several_tasks_are_refused(inputs: list[Any], task: str | None) -> None:
    with pytest.raises(ValueError, match="of one task"):
        take_task(inputs, task)


class Picture:
    """As much of a PIL image as is looked at."""

    def convert(self, mode: str) -> None: ...


@pytest.mark.parametrize(
    "inputs, modality",
    [
        (["a", "b"], "text"),
        ([], "text"),
        ([("a", "b"), "c"], "text"),
        ([Picture()], "image"),
        ([np.zeros(9)], "audio"),
        ([np.zeros((3, 4, 4))], "image"),
        ([np.zeros((2, 3, 4, 4))], "video"),
        ([{"image": 1}], "image"),
        ([{"text": "a", "image": 1}], ("image", "text")),
        ([{"array": 1, "sampling_rate": 1}], "audio"),
        ([{"array": 1, "video_metadata": 1}], "video"),
        ([{"role": "user", "content": "a"}], "message"),
        ([[{"role": "user", "content": "a"}]], "message"),
        (["a", Picture()], "message"),
    ],
)
def test_the_modality_is_the_common_one(inputs: list[Any], modality: Any) -> None:
    assert modality_of(inputs) == modality


@pytest.mark.parametrize("item", [1, {}, {"foo": 1}, {"array": 1}, np.zeros((1,) * 6)])
def test_an_input_of_no_known_kind_is_refused(item: Any) -> None:
    with pytest.raises(ValueError, match="Unsupported input type|must have keys"):
        modality_of([item])
