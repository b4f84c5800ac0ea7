"""What every encoder promises of a call: no inputs, prompts, truncation, wrong arguments, other encoders' folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.ops.ragged import Ragged
from tests.contracts.encoder_cases import (
    CASES,
    PROMPTS,
    Case,
    Opened,
    assert_same_bits,
    assert_same_numbers,
    row,
    rows,
)

# --- no inputs

AS_LIST = {"convert_to_numpy": False}
AS_TENSOR = {"convert_to_tensor": True}
FORMS: dict[type[Any], list[dict[str, Any]]] = {
    SentenceTransformer: [{}, AS_TENSOR, AS_LIST, {"output_value": "token_embeddings"}, {"output_value": None}],
    SparseEncoder: [
        {"convert_to_tensor": tensor, "convert_to_sparse_tensor": sparse, "save_to_cpu": cpu}
        for tensor in (True, False)
        for sparse in (True, False)
        for cpu in (True, False)
    ],
    MultiVectorEncoder: [
        {},
        {"convert_to_numpy": True},
        {"ragged": True},
        {"ragged": True, "convert_to_numpy": True},
        {"output_value": None},
    ],
    CrossEncoder: [{}, AS_TENSOR, AS_LIST],
}
"""The flags that decide what form a result has."""

Form = tuple[str, dict[str, Any]]
ALL_FORMS: list[Form] = [(name, form) for name, case in CASES.items() for form in FORMS[case.kind]]


def described(form: Form) -> str:
    return "-".join([form[0], *(f"{name}={value}" for name, value in form[1].items())])


def items_of(result: Any) -> list[Any]:
    return result.to_list() if isinstance(result, Ragged) else list(result)


@pytest.mark.parametrize("form", ALL_FORMS, ids=described)
@pytest.mark.parametrize("nothing", [[], ()], ids=["list", "tuple"])
def test_no_inputs(nothing: Any, form: Form, open_case: Callable[[str], Opened]) -> None:
    """What a call with inputs gives, of the same type and width, without rows; whether or not one came before."""
    opened, options = open_case(form[0]), form[1]
    full = opened.case.call(opened.model, opened.inputs[:2], **options)
    assert len(full) == 2
    for model in (opened.again(), opened.model):
        assert_empty(opened.case, opened.case.call(model, nothing, **options), full)


def assert_empty(case: Case, empty: Any, full: Any) -> None:
    assert type(empty) is type(full)
    assert len(empty) == 0
    if isinstance(full, Ragged):
        empty, full = empty.values, full.values
        assert type(empty) is type(full)
    if isinstance(full, list):
        assert empty == []
    elif case.kind is SentenceTransformer:  # as it always was: no width, and arrays of numpy's own type
        assert (empty.shape, str(empty.dtype)) == ((0,), "torch.float32" if torch.is_tensor(empty) else "float64")
    else:
        assert empty.shape == (0, *full.shape[1:])
        assert empty.dtype == full.dtype
    if isinstance(full, torch.Tensor):
        assert (empty.layout, empty.device) == (full.layout, full.device)


@pytest.mark.parametrize("form", [form for form in ALL_FORMS if "output_value" not in form[1]], ids=described)
def test_every_form_holds_the_same_numbers(form: Form, open_case: Callable[[str], Opened]) -> None:
    opened, options = open_case(form[0]), form[1]
    inputs = opened.inputs[:6]
    expected = rows(opened.case.call(opened.model, inputs))
    assert_same_bits(rows(opened.case.call(opened.model, inputs, **options)), expected)
    ragged = {name: value for name, value in options.items() if name != "ragged"}
    alone = [row(opened.case.call(opened.model, item, **ragged)) for item in inputs]
    assert_same_numbers(opened.case, alone, expected)


@pytest.mark.parametrize("form", ALL_FORMS, ids=described)
def test_tensors_can_be_used_with_gradients(form: Form, open_case: Callable[[str], Opened]) -> None:
    opened, options = open_case(form[0]), form[1]
    for item in items_of(opened.case.call(opened.model, opened.inputs[:2], **options)):
        tensors = item.values() if isinstance(item, dict) else [item]
        assert not any(tensor.is_inference() for tensor in tensors if isinstance(tensor, torch.Tensor))


def test_preprocess_of_no_inputs(opened: Opened) -> None:
    assert opened.model.preprocess([]) == {}
    assert opened.model.tokenize([]) == {}


def test_tokenize_is_preprocess(opened: Opened) -> None:
    ours = opened.model.tokenize(opened.inputs[:3], **opened.case.options)
    theirs = opened.model.preprocess(opened.inputs[:3], **opened.case.options)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value


# --- forms of the inputs


def test_inputs_of_other_types(opened: Opened) -> None:
    inputs = opened.inputs[:4]
    expected = opened.rows(opened.model, inputs)
    for form in (tuple(inputs), np.array(inputs), np.array(inputs, dtype=object)):
        assert_same_bits(opened.rows(opened.model, form), expected)
    if opened.case.pairs:
        assert_same_bits(opened.rows(opened.model, [list(pair) for pair in inputs]), expected)


def test_inputs_are_left_as_they_are(opened: Opened) -> None:
    inputs = opened.case.inputs()
    opened.rows(opened.model, inputs, prompt=PROMPTS["find"])
    assert inputs == opened.inputs


# --- prompts


def test_an_unknown_prompt_name(opened: Opened) -> None:
    for inputs in ([], opened.inputs[:1], opened.inputs[0]):
        with pytest.raises(ValueError, match="Prompt name 'nope' not found in the configured prompts"):
            opened.case.call(opened.model, inputs, prompt_name="nope")


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_text_before_the_input(name: str, opened: Opened) -> None:
    model, inputs = opened.again(prompts=PROMPTS), opened.inputs[:9]
    written = opened.rows(opened.model, opened.case.prepend(PROMPTS[name], inputs))
    for found in (opened.rows(model, inputs, prompt_name=name), opened.rows(model, inputs, prompt=PROMPTS[name])):
        assert_same_numbers(opened.case, found, written)
    assert not any(np.array_equal(a, b) for a, b in zip(written[:2], opened.expected, strict=False))


def test_the_default_prompt(opened: Opened) -> None:
    model = opened.again(prompts=PROMPTS, default_prompt_name="find")
    inputs = opened.inputs[:9]
    expected = opened.rows(opened.model, inputs, prompt=PROMPTS["find"])
    assert_same_bits(opened.rows(model, inputs), expected)
    assert_same_bits(opened.rows(model, inputs, prompt=""), opened.rows(opened.model, inputs))
    assert_same_bits(
        opened.rows(model, inputs, prompt_name="other"), opened.rows(opened.model, inputs, prompt=PROMPTS["other"])
    )


def test_a_default_prompt_that_there_is_not(opened: Opened) -> None:
    with pytest.raises(ValueError, match="Default prompt name 'nope' not found in the configured prompts"):
        opened.again(default_prompt_name="nope")


# --- wrong arguments, and where it runs


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one(batch_size: int, opened: Opened) -> None:
    for inputs in ([], opened.inputs[:1]):
        with pytest.raises(ValueError, match=f"batch_size must be a positive integer, got {batch_size}"):
            opened.case.call(opened.model, inputs, batch_size=batch_size)


@pytest.mark.parametrize("wrong", [None, 123, [None], [1]], ids=repr)
def test_inputs_that_are_no_texts(wrong: Any, opened: Opened) -> None:
    with pytest.raises(ValueError, match=r"\b(NoneType|int|list)\b"):
        opened.case.call(opened.model, wrong)


def test_on_truncate_of_another_value(opened: Opened) -> None:
    with pytest.raises(ValueError, match="on_truncate"):
        opened.case.call(opened.model, opened.inputs[:1], on_truncate="nope")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")], ids=str)
def test_device(device: Any, opened: Opened) -> None:
    assert_same_bits(opened.rows(opened.model, device=device), opened.expected)
    assert opened.model.device == torch.device("cpu")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.pairs])
def test_an_unknown_argument(name: str, open_case: Callable[[str], Opened]) -> None:
    """CrossEncoder hands what it does not know to its first module."""
    opened = open_case(name)
    with pytest.raises(ValueError, match=r"does not use: \['nope'\]"):
        opened.case.call(opened.model, opened.inputs[:1], nope=1)


# --- inputs that are too long


def long_and_short(opened: Opened) -> tuple[Any, Any]:
    long, short = "the long text that does not fit " * 20, "x"
    return ((long, short), (short, short)) if opened.case.pairs else (long, short)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The beginnings of the warnings that inputs were cut."""
    found = [record.getMessage() for record in caplog.records]
    return [message.partition(" are ")[0] for message in found if "longer than max_seq_length" in message]


def test_inputs_that_are_cut_are_counted_in_one_warning(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    long, short = long_and_short(opened)
    opened.rows(opened.model, [long, short, long, short, short], batch_size=1, on_truncate="warn")
    assert warnings_of(caplog) == ["2 of 5 inputs"]


@pytest.mark.parametrize("on_truncate", ["warn", "ignore"])
def test_no_warning(on_truncate: str, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    long, short = long_and_short(opened)
    opened.rows(opened.model, [short, short], on_truncate=on_truncate)
    opened.rows(opened.model, [long, short], on_truncate="ignore")
    assert warnings_of(caplog) == []


def test_inputs_that_are_cut_are_an_error_if_asked_for(opened: Opened) -> None:
    long, short = long_and_short(opened)
    with pytest.raises(ValueError, match="1 of 2 inputs are longer than max_seq_length"):
        opened.case.call(opened.model, [short, long], on_truncate="error")
    with pytest.raises(ValueError, match="1 of 1 inputs are longer than max_seq_length"):
        opened.case.call(opened.model, long, on_truncate="error")
    expected = opened.rows(opened.model, [short, short])
    assert_same_bits(opened.rows(opened.model, [short, short], on_truncate="error"), expected)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not case.pairs and case.kind != SparseEncoder]
)
def test_all_features_of_an_input_that_is_cut(
    name: str, open_case: Callable[[str], Opened], caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_case(name)
    long, short = long_and_short(opened)
    opened.case.call(opened.model, [long, short], output_value=None, on_truncate="warn")
    assert warnings_of(caplog) == ["1 of 2 inputs"]
    with pytest.raises(ValueError, match="1 of 2 inputs are longer than max_seq_length"):
        opened.case.call(opened.model, [long, short], output_value=None, on_truncate="error")


# --- folders of other encoders

KINDS = (SentenceTransformer, CrossEncoder, SparseEncoder, MultiVectorEncoder)
ONE_OF_EACH = ("dense", "cross", "cross_decoder", "splade", "auto_encoder", "late", "stanford")
ASKED = {kind: next(case for case in CASES.values() if case.kind is kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_folder_of_another_encoder(
    name: str, kind: type[Any], open_case: Callable[[str], Opened], tmp_path: Path
) -> None:
    case = ASKED[kind]
    model, inputs = case.open(open_case(name).folder), case.inputs()[:6]
    found = rows(case.call(model, inputs))
    assert all(np.isfinite(item).all() for item in found)
    assert len({item.tobytes() for item in found}) == len(inputs)
    model.save(str(tmp_path))
    assert_same_numbers(case, rows(case.call(case.open(tmp_path), inputs)), found)
