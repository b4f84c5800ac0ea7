"""Weight files: what is written is read, and every damage is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sentence_transformers.errors import ModelFileError, UntrustedCodeError
from sentence_transformers.hub import checkpoint
from sentence_transformers.hub.layout import LAYOUTS

STATE = {"weight": torch.arange(6.0).reshape(3, 2), "bias": torch.tensor([0.5, -1.0, 2.0])}


class RunsCode:
    """Unpickling this would make the folder ``ran``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("safe", [True, False])
def test_weights_come_back_equal_and_in_their_type(safe: bool, tmp_path: Path) -> None:
    state = {**STATE, "half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(3)}
    path = checkpoint.write_weights(state, tmp_path, safe)
    assert path.name == checkpoint.WEIGHT_FILES[0 if safe else 1]
    found = checkpoint.read_weights(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) and found[key].dtype == state[key].dtype for key in state)


@pytest.mark.parametrize("safe", [True, False])
def test_shared_sliced_and_transposed_tensors_are_stored_whole(safe: bool, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"all": base, "tied": base, "column": base[:, 1], "turned": base.T}
    found = checkpoint.read_weights(checkpoint.write_weights(state, tmp_path, safe))
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_weight_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert checkpoint.write_weights(STATE, tmp_path).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_model_mapped_from_a_file_survives_that_file_being_written_again(tmp_path: Path) -> None:
    path = checkpoint.write_weights(STATE, tmp_path)
    mapped = checkpoint.read_weights(path)
    checkpoint.write_weights({"weight": torch.zeros(1)}, tmp_path)
    assert torch.equal(mapped["weight"], STATE["weight"])


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_weights_of_the_other_kind_do_not_stay(first: bool, second: bool, tmp_path: Path) -> None:
    checkpoint.write_weights(STATE, tmp_path, first)
    path = checkpoint.write_weights(STATE, tmp_path, second)
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_are_found_before_pickles(tmp_path: Path) -> None:
    for name in reversed(LAYOUTS):
        (tmp_path / name).touch()
        assert checkpoint.find_weights(tmp_path) == tmp_path / name


def test_a_folder_without_weights_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").touch()
    with pytest.raises(ModelFileError, match=r"looked for model.safetensors, .*; found tf_model.h5\."):
        checkpoint.find_weights(tmp_path)
    with pytest.raises(ModelFileError, match="no such folder"):
        checkpoint.find_weights(tmp_path / "none")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_read_as_one(suffix: str, tmp_path: Path) -> None:
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    shards = {key: f"{stem}-0000{number}-of-00002.{suffix}" for number, key in enumerate(STATE, 1)}
    for key, name in shards.items():
        if suffix == "bin":
            torch.save({key: STATE[key]}, tmp_path / name)
        else:
            save_file({key: STATE[key]}, tmp_path / name)
    (tmp_path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": shards}))
    found = checkpoint.read_weights(checkpoint.find_weights(tmp_path))
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)
    (tmp_path / shards["bias"]).unlink()
    with pytest.raises(ModelFileError, match=f"{shards['bias']} is missing"):
        checkpoint.read_weights(checkpoint.find_weights(tmp_path))


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, UntrustedCodeError, "Invalid model path"),
        ({"weight_map": {"a": "/model.safetensors"}}, UntrustedCodeError, "Invalid model path"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, ModelFileError, "expected a weight file as a shard"),
        ({"weight_map": {"a": 1}}, ModelFileError, "'weight_map'"),
        ({}, ModelFileError, "'weight_map'"),
        (
            {"weight_map": {"other": "part.safetensors"}},
            ModelFileError,
            "expected a tensor 'other' in part.safetensors",
        ),
    ],
)
def test_a_bad_index_is_refused(index: object, error: type[Exception], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(STATE, folder / "part.safetensors")
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(error, match=message):
        checkpoint.read_weights(path)


@pytest.mark.parametrize("safe", [True, False])
def test_a_file_cut_anywhere_is_named(safe: bool, tmp_path: Path) -> None:
    path = checkpoint.write_weights(STATE, tmp_path, safe)
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=f"{path.name} is (damaged|empty)"):
            checkpoint.read_weights(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch remarks on pickle protocols
@pytest.mark.parametrize("name", checkpoint.WEIGHT_FILES)
@pytest.mark.parametrize("content", [b"\0" * 100, b"hello", b"PK\x03\x04 not a zip", b"\xff" * 8, b"{}", b"\x80\x05."])
def test_other_bytes_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name} is damaged.*Save or download"):
        checkpoint.read_weights(tmp_path / name)


def test_a_git_lfs_pointer_says_how_to_get_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelFileError, match="git lfs pull"):
        checkpoint.read_weights(path)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": RunsCode(tmp_path / "ran")}, path)
    with pytest.raises(ModelFileError, match="pytorch_model.bin holds Python objects other than tensors"):
        checkpoint.read_weights(path)
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "ran"), protocol=2))
    with pytest.raises(ModelFileError):
        checkpoint.read_weights(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [[1, 2], {"weight": 3}, {1: torch.ones(1)}, torch.ones(2)])
def test_a_pickle_of_anything_but_named_tensors_is_refused(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match="expected a dict of tensors"):
        checkpoint.read_weights(tmp_path / "pytorch_model.bin")


def test_pickles_of_the_old_format_of_torch_are_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(checkpoint.read_weights(tmp_path / "pytorch_model.bin")["bias"], STATE["bias"])


def test_strict_loading_fills_the_module_and_returns_it() -> None:
    module = nn.Linear(2, 3)
    assert checkpoint.load_strictly(module, STATE, "model.safetensors") is module
    assert torch.equal(module.weight, STATE["weight"])


def test_strict_loading_names_file_key_expected_and_found_shape() -> None:
    weights = {"weight": torch.ones(4, 2), "extra": torch.ones(1)}
    with pytest.raises(ModelFileError) as error:
        checkpoint.load_strictly(nn.Linear(2, 3), weights, "2_Dense/model.safetensors")
    text = str(error.value)
    assert text.startswith("2_Dense/model.safetensors does not fit Linear: ")
    assert "'weight': expected (3, 2), found (4, 2)." in text
    assert "'bias': expected (3), found nothing." in text
    assert "'extra': expected nothing, found (1)." in text


def test_one_tensor_is_checked_against_its_shape() -> None:
    assert checkpoint.tensor(STATE, "weight", (None, 2), "m") is STATE["weight"]
    with pytest.raises(ModelFileError, match=r"m: expected 'weight' of shape \(any, 3\), found \(3, 2\)"):
        checkpoint.tensor(STATE, "weight", (None, 3), "m")
    with pytest.raises(ModelFileError, match=r"m: expected 'bias' of shape \(3, 1\), found \(3\)"):
        checkpoint.tensor(STATE, "bias", (3, 1), "m")
    with pytest.raises(ModelFileError, match=r"m: expected a tensor 'none' of shape \(3\), found none"):
        checkpoint.tensor(STATE, "none", (3,), "m")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', r"config.json, line 2: expected JSON, but Expecting value at column 7"),
        (b"", r"config.json, line 1: expected JSON"),
        (b"[1]", r"config.json, line 1: expected a JSON object \{...\}, got a list"),
        (b"null", r"got null"),
        (b'{"a":\n"\xff"}', r"config.json, line 2: expected UTF-8 text"),
        (b"[" * 100_000, r"config.json, line 1: expected JSON, but"),
    ],
)
def test_damaged_json_is_named_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        checkpoint.read_json(path)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert checkpoint.read_json(tmp_path / "config.json") == {"a": 1}


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="config.json is missing"):
        checkpoint.read_json(tmp_path / "config.json")


def test_a_json_list_is_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    path.write_text('[{"idx": 0}]')
    assert checkpoint.read_json_list(path) == [{"idx": 0}]
    path.write_text('[{"idx": 0}, 3]')
    with pytest.raises(ModelFileError, match="item 1: expected a JSON object, got a int"):
        checkpoint.read_json_list(path)
    path.write_text("{}")
    with pytest.raises(ModelFileError, match="expected a JSON list"):
        checkpoint.read_json_list(path)
