"""Samplers draw the recorded batches; collators and arguments give the recorded values and refuse what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import training_data_facts as facts

from sentence_transformers.training import arguments, collator, samplers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_training_data.json").read_text(encoding="ascii"))
SPACE = SimpleNamespace(**{name: value for one in (samplers, collator, arguments) for name, value in vars(one).items()})


@pytest.mark.parametrize("kind", facts.ONE)
@pytest.mark.parametrize("name", facts.SIZES)
def test_batches_of_one_dataset_are_the_recorded_ones(kind: str, name: str) -> None:
    assert facts.of_one(SPACE, kind, name) == GOLDEN["one"][kind][name]


@pytest.mark.parametrize("name", facts.GROUPED)
def test_batches_by_label_are_the_recorded_ones(name: str) -> None:
    assert facts.by_label(SPACE, name) == GOLDEN["labels"][name]


@pytest.mark.parametrize("kind", facts.SEVERAL)
@pytest.mark.parametrize("one", facts.ONE)
def test_batches_of_several_datasets_are_the_recorded_ones(kind: str, one: str) -> None:
    assert facts.of_several(SPACE, kind, one) == GOLDEN["several"][kind][one]


@pytest.mark.parametrize("name", facts.COLLATED)
def test_a_collated_batch_is_the_recorded_one(name: str, tiny_model: Callable[[str], Any]) -> None:
    assert facts.collated(SPACE, name, tiny_model("bert").preprocess) == GOLDEN["collated"][name]


@pytest.mark.parametrize("name", facts.ARGUMENTS)
def test_arguments_are_written_down_as_recorded(name: str) -> None:
    assert facts.arguments(SPACE, name) == GOLDEN["arguments"][name]


def test_arguments_leave_out_samplers_that_are_classes() -> None:
    assert facts.callable_samplers(SPACE) == GOLDEN["callable_samplers"]


def test_arguments_beside_those_of_transformers_are_the_recorded_ones_and_one_old_name() -> None:
    assert facts.new_fields(SPACE) == {**GOLDEN["new_fields"], "evaluation_strategy": None}


@pytest.mark.parametrize("name", facts.REFUSED)
def test_mistakes_are_refused_with_the_recorded_type_and_words(name: str) -> None:
    assert facts.refusal(SPACE, name) == GOLDEN["refused"][name]


@pytest.mark.parametrize("columns", facts.ORDERS)
def test_columns_are_remarked_upon_as_recorded(columns: str) -> None:
    assert facts.remarks(SPACE, columns) == GOLDEN["remarks"][columns]
