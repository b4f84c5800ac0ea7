"""What every encoder promises of its numbers: an input's result depends on that input alone, whoever asks and how."""

from __future__ import annotations

import copy
import json
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from tests.contracts.encoder_cases import (
    CASES,
    PROMPTS,
    Case,
    Opened,
    assert_close_types,
    assert_same_bits,
    assert_same_numbers,
    row,
    rows,
    without_dropout,
)

# --- an input's result depends on that input alone


def test_the_inputs_tell_results_apart(opened: Opened) -> None:
    """Else nothing here could fail."""
    different = {found.tobytes() for found in opened.expected}
    assert len(different) > len(opened.inputs) * 0.7
    assert all(np.isfinite(found).all() for found in opened.expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_order(seed: int, opened: Opened) -> None:
    order = list(range(len(opened.inputs)))
    random.Random(seed).shuffle(order)
    found = opened.rows(opened.model, [opened.inputs[i] for i in order])
    assert_same_numbers(opened.case, found, [opened.expected[i] for i in order])


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batch_size(batch_size: int, opened: Opened) -> None:
    opened.assert_same(opened.model, batch_size=batch_size)


def test_a_single_input_gives_the_row_of_a_batch(opened: Opened) -> None:
    found = [row(opened.case.call(opened.model, item)) for item in opened.inputs]
    assert_same_numbers(opened.case, found, opened.expected)


def test_a_repeated_input_gives_equal_rows(opened: Opened) -> None:
    inputs = [opened.inputs[i] for i in (0, 1, 0, 4, 0, 1)]
    found = opened.rows(opened.model, inputs, batch_size=2)
    assert_same_bits([found[i] for i in (2, 4, 5)], [found[i] for i in (0, 0, 1)])


def test_the_same_call_gives_the_same_bits(opened: Opened) -> None:
    assert_same_bits(opened.rows(opened.model), opened.expected)


THREADS = 12


def test_many_threads_get_the_bits_of_one(opened: Opened) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = [
        (opened.inputs, {"batch_size": 4}),
        (opened.inputs[:3], {}),
        (opened.inputs[4:9], {"batch_size": 2}),
        (opened.inputs[1:2], {}),
        (opened.inputs[20:24], {"prompt": PROMPTS["find"]}),
    ]
    expected = [opened.rows(opened.model, inputs, **options) for inputs, options in asked]
    start = threading.Barrier(THREADS)

    def work(thread: int) -> None:
        start.wait()
        for step in range(len(asked)):
            at = (thread + step) % len(asked)
            inputs, options = asked[at]
            assert_same_bits(opened.rows(opened.model, inputs, **options), expected[at])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


# --- a model in another form gives the same numbers


@pytest.mark.parametrize("safe", [True, False])
def test_saved_and_opened(safe: bool, opened: Opened, tmp_path: Path) -> None:
    opened.model.save(str(tmp_path / "first"), safe_serialization=safe)
    first = opened.case.open(tmp_path / "first")
    opened.assert_same(first)
    first.save(str(tmp_path / "second"), safe_serialization=safe)
    opened.assert_same(opened.case.open(tmp_path / "second"))


def test_saved_once_the_transformers_model_is_built(opened: Opened, tmp_path: Path) -> None:
    model = opened.again()
    assert sum(parameter.numel() for parameter in model.parameters()) > 0  # it is built for that
    model.save(str(tmp_path))
    opened.assert_same(opened.case.open(tmp_path))


def test_saved_with_its_settings(opened: Opened, tmp_path: Path) -> None:
    model = opened.again(prompts=PROMPTS, default_prompt_name="other", **opened.case.settings)
    model.save(str(tmp_path))
    config = json.loads((tmp_path / "config_sentence_transformers.json").read_text("utf-8"))
    expected = {"model_type": opened.case.kind.__name__, "default_prompt_name": "other", **opened.case.saved}
    assert {name: config[name] for name in expected} == expected
    assert PROMPTS.items() <= config["prompts"].items()
    listed = json.loads((tmp_path / "modules.json").read_text("utf-8"))
    assert [entry["type"].rpartition(".")[2] for entry in listed] == [type(part).__name__ for part in model]
    again = opened.case.open(tmp_path)
    assert (again.prompts, again.default_prompt_name) == (model.prompts, "other")
    for name in opened.case.settings:
        ours, theirs = getattr(again, name), getattr(model, name)
        assert ours == theirs or repr(ours) == repr(theirs), name
    assert_same_numbers(opened.case, opened.rows(again), opened.rows(model))


def test_once_the_transformers_model_is_built(opened: Opened) -> None:
    model = opened.again()
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    opened.assert_same(model)


def test_copied(opened: Opened) -> None:
    twin = copy.deepcopy(opened.model)
    opened.assert_same(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    changed = opened.rows(twin)
    assert any(not np.array_equal(ours, before) for ours, before in zip(changed, opened.expected, strict=True))
    opened.assert_same(opened.model)


def test_pickled(opened: Opened) -> None:
    opened.assert_same(pickle.loads(pickle.dumps(opened.model)))


def test_pickled_once_the_transformers_model_is_built(opened: Opened) -> None:
    model = opened.again()
    list(model.parameters())
    opened.assert_same(pickle.loads(pickle.dumps(model)))


# --- other types of numbers

BOUNDS = {"float16": 1e-2, "bfloat16": 6e-2, "float64": 5e-6}
"""Roundings of three layers: 2 ** -11, 2 ** -8; and of float32, which it is compared with, 2 ** -24."""


def in_tensors(case: Case, model: Any, inputs: list[Any]) -> Any:
    stacked = {} if case.kind is MultiVectorEncoder else {"convert_to_tensor": True}
    return case.call(model, inputs, **stacked)


def tensor_type(case: Case, dtype: str) -> str:
    """What tensors hold: scores are never narrower than float32."""
    if not case.casts or (case.kind is CrossEncoder and dtype != "float64"):
        return "float32"
    return dtype


@pytest.mark.parametrize("dtype", BOUNDS)
def test_tensors_of_a_type(dtype: str, opened: Opened) -> None:
    found = in_tensors(opened.case, opened.again(model_kwargs={"dtype": dtype}), opened.inputs)
    assert {item.dtype for item in found} == {getattr(torch, tensor_type(opened.case, dtype))}
    assert all(np.isfinite(item).all() for item in rows(found))
    assert_close_types(opened.case, rows(found), opened.expected, BOUNDS[dtype])


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kind is not SparseEncoder])
def test_arrays_of_a_type(name: str, dtype: str, open_case: Callable[[str], Opened]) -> None:
    """As the tensors; but numpy has no bfloat16, and arrays of scores are float32."""
    opened = open_case(name)
    model = opened.again(model_kwargs={"dtype": dtype})
    found = opened.case.call(model, opened.inputs, convert_to_numpy=True)
    wide = dtype == "bfloat16" or opened.case.kind is CrossEncoder
    assert {item.dtype.name for item in found} == {"float32" if wide else dtype}
    tensors = rows(in_tensors(opened.case, model, opened.inputs))
    assert_same_bits(list(found), [item.astype(found[0].dtype) for item in tensors])


def test_cast_to_half_and_back(opened: Opened) -> None:
    model = opened.again().half()
    assert model.dtype is torch.float16
    assert_close_types(opened.case, opened.rows(model), opened.expected, BOUNDS["float16"])
    model.float()
    found = in_tensors(opened.case, model, opened.inputs)
    assert {item.dtype for item in found} == {torch.float32}
    assert_close_types(opened.case, rows(found), opened.expected, BOUNDS["float16"])


# --- training


def test_forward_in_inference_mode_gives_the_same(opened: Opened) -> None:
    with torch.inference_mode():
        found = opened.case.last(opened.again(), opened.inputs)
    assert_same_numbers(opened.case, rows(found), opened.expected)


def test_forward_with_gradients_gives_the_same(opened: Opened) -> None:
    found = opened.case.last(opened.again(), opened.inputs)
    assert_same_numbers(opened.case, rows(found), opened.expected)


def test_forward_in_training_can_be_differentiated(opened: Opened) -> None:
    model = without_dropout(opened.again())
    assert all(module.training for module in model.modules())
    found = opened.case.last(model, opened.inputs)
    assert_same_numbers(opened.case, rows(found), opened.expected)
    sum(item.square().sum() for item in found).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    words = [
        name for name in reached if "word_embeddings" in name or "tok_embeddings" in name or "embed_tokens" in name
    ]
    assert words or opened.case.options == {"task": "query"}
    assert any(model.get_parameter(name).grad.abs().sum() > 0 for name in words or reached)


def test_a_step_of_training_changes_the_results(opened: Opened) -> None:
    model = without_dropout(opened.again())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(item.square().sum() for item in opened.case.last(model, opened.inputs[:4])).backward()
    optimizer.step()
    after = opened.rows(model)
    assert not model.training  # as the reference leaves it
    with torch.inference_mode():
        assert_same_numbers(opened.case, after, rows(opened.case.last(model, opened.inputs)))
    assert any(not np.array_equal(ours, before) for ours, before in zip(after, opened.expected, strict=True))
