"""What is saved about a Transformer, read in every form that it was ever saved in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import source
from sentence_transformers.modules.transformer_config import (
    CONFIG_FILES,
    OUTPUTS,
    constructor_arguments,
    read_saved,
    take_hub_arguments,
    with_max_length,
)


def read(folder: Path, saved: Any, name: str = CONFIG_FILES[0], subfolder: str = "") -> dict[str, Any]:
    (folder / subfolder).mkdir(exist_ok=True)
    (folder / subfolder / name).write_text(json.dumps(saved), encoding="utf-8")
    return read_saved(source.find(str(folder)), subfolder)


def arguments(saved: dict[str, Any], given: Any = None, defaults: Any = None, trust: bool = False) -> dict[str, Any]:
    return constructor_arguments(saved, given or {}, defaults or {}, trust)


# --- the file


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_saved(source.find(str(tmp_path)), "") == {}


@pytest.mark.parametrize("name", CONFIG_FILES)
@pytest.mark.parametrize("subfolder", ["", "0_Transformer"])
def test_every_name_of_the_file(name: str, subfolder: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"max_seq_length": 7}, name, subfolder) == {"max_seq_length": 7}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model_args", "model_kwargs"),
        ("tokenizer_args", "processor_kwargs"),
        ("tokenizer_kwargs", "processor_kwargs"),
        ("config_args", "config_kwargs"),
    ],
)
def test_old_names_of_settings(old: str, new: str, tmp_path: Path) -> None:
    assert read(tmp_path, {old: {"a": 1}}) == {new: {"a": 1}}
    assert read(tmp_path, {old: {"a": 1}, new: {"b": 2}}) == {new: {"b": 2}}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("max_seq_length", "512", "a whole number or null, found a string"),
        ("max_seq_length", True, "a whole number or null, found true or false"),
        ("query_length", 3.5, "a whole number or null, found a float"),
        ("document_length", [1], "a whole number or null, found a list"),
        ("model_args", "x", "an object, found a string"),
        ("processor_kwargs", [], "an object, found a list"),
        ("query_expansion", "fixed", "an object, found a string"),
        ("modality_config", 3, "an object, found a int"),
        ("transformer_task", "retrieval", "one of feature-extraction, .*; found 'retrieval'"),
        ("transformer_task", ["fill-mask"], r"one of feature-extraction, .*; found \['fill-mask'\]"),
    ],
)
def test_a_value_of_another_kind_names_file_and_key(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"sentence_bert_config\.json: expected '{key}' to be {expected}"):
        read(tmp_path, {key: value})


def test_null_is_what_is_not_there(tmp_path: Path) -> None:
    saved = read(tmp_path, {"max_seq_length": None, "transformer_task": None, "model_args": None})
    assert arguments(saved) == arguments({})


# --- what the constructor gets


@pytest.mark.parametrize("task", OUTPUTS)
def test_the_output_of_a_task_is_read(task: str) -> None:
    expected = {"text": {"method": "forward", "method_output_name": OUTPUTS[task][0]}}
    assert arguments({"transformer_task": task})["modality_config"] == expected
    assert arguments({}, defaults={"transformer_task": task})["modality_config"] == expected


def test_no_task_is_the_hidden_states() -> None:
    found = arguments({})
    assert found["modality_config"]["text"]["method_output_name"] == "last_hidden_state"
    assert "transformer_task" not in found


def test_what_is_saved_wins_over_defaults() -> None:
    saved = {"query_length": 8, "transformer_task": "fill-mask", "modality_config": {"text": {"x": 1}}, "other": 1}
    defaults = {"query_length": 32, "document_length": 99, "transformer_task": "feature-extraction"}
    found = arguments(saved, defaults=defaults)
    assert (found["query_length"], found["document_length"]) == (8, 99)
    assert (found["transformer_task"], found["modality_config"]) == ("fill-mask", {"text": {"x": 1}})
    assert "other" not in found


def test_what_is_given_wins_over_what_is_saved() -> None:
    saved = {"model_kwargs": {"dtype": "float16", "a": 1}, "config_kwargs": None}
    found = arguments(saved, {"model_kwargs": {"dtype": "float32"}, "processor_kwargs": None})
    assert found["model_kwargs"] == {"dtype": "float32", "a": 1, "trust_remote_code": False}
    assert (found["processor_kwargs"], found["config_kwargs"]) == ({}, {})
    assert saved["model_kwargs"] == {"dtype": "float16", "a": 1}


@pytest.mark.parametrize("trust", [False, True])
def test_a_folder_cannot_make_itself_trusted(trust: bool) -> None:
    told = {"trust_remote_code": True}
    found = arguments({name: dict(told) for name in ("model_kwargs", "processor_kwargs", "config_kwargs")}, trust=trust)
    assert found["model_kwargs"] == {"trust_remote_code": trust}
    assert found["processor_kwargs"] == found["config_kwargs"] == {}


def test_the_limit_of_the_tokenizer_that_is_given_wins() -> None:
    assert arguments({"max_seq_length": 64})["max_seq_length"] == 64
    assert "max_seq_length" not in arguments({"max_seq_length": 64}, {"processor_kwargs": {"model_max_length": 9}})


# --- settings of a call


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"text": {"max_length": 9}}),
        ({"text": None}, {"text": {"max_length": 9}}),
        ({"text": {"max_length": 3, "padding": True}, "x": {}}, {"text": {"max_length": 9, "padding": True}, "x": {}}),
    ],
)
def test_the_length_of_a_call_is_among_its_settings(given: Any, expected: dict[str, Any]) -> None:
    before = json.dumps(given)
    assert with_max_length(given, 9) == expected
    assert json.dumps(given) == before


def test_where_a_model_is_may_stand_in_any_settings() -> None:
    model, config = {"revision": "main", "dtype": "auto"}, {"cache_dir": "there", "local_files_only": True, "a": 1}
    assert take_hub_arguments(model, config) == {
        "revision": "main", "cache_folder": "there", "local_files_only": True,
    }  # fmt: skip
    assert (model, config) == ({"dtype": "auto"}, {"a": 1})
