"""Which file is the graph: the places, the names, several of them, none of them; and fetching it from a repository."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.backend.graphs.files import FORMATS, Asked, choose, fetch, files_of
from sentence_transformers.hub import source
from sentence_transformers.hub.source import Source

ONNX, OPENVINO = FORMATS["onnx"], FORMATS["openvino"]


def chosen(names: list[str], form: Any = ONNX, **settings: Any) -> str | None:
    return choose(names, form, Asked.of(form, settings), "model")


def test_the_first_place_wins_over_the_folder_of_the_back_end() -> None:
    assert chosen(["model.onnx", "onnx/model.onnx"]) == "model.onnx"
    assert chosen(["onnx/model.onnx"]) == "onnx/model.onnx"
    assert chosen(["openvino/openvino_model.xml"], OPENVINO) == "openvino/openvino_model.xml"


def test_a_name_a_subfolder_and_a_name_with_folders() -> None:
    names = ["onnx/model.onnx", "onnx/model_O3.onnx", "other/onnx/model.onnx", "other/special.onnx"]
    assert chosen(names, file_name="model_O3.onnx") == "onnx/model_O3.onnx"
    assert chosen(names, file_name="onnx/model_O3.onnx") == "onnx/model_O3.onnx"
    assert chosen(names, subfolder="other") == "other/onnx/model.onnx"
    assert chosen(names, subfolder="other", file_name="special.onnx") == "other/special.onnx"


def test_several_files_and_no_name_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    names = ["onnx/model.onnx", "onnx/model_O3.onnx", "elsewhere/model.onnx"]
    assert chosen(names) == "onnx/model.onnx"
    assert "Multiple ONNX files found in 'model'" in caplog.text
    assert "onnx/model_O3.onnx" in caplog.text and "elsewhere" not in caplog.text
    caplog.clear()
    assert chosen(names, file_name="model.onnx") == "onnx/model.onnx"
    assert caplog.text == ""


def test_nothing_there_means_to_export_and_says_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen(["onnx/model_O3.onnx"]) is None
    assert "No ONNX file 'onnx/model.onnx'" in caplog.text and "save_pretrained" in caplog.text
    assert "onnx/model_O3.onnx" in caplog.text


def test_export_true_looks_at_nothing() -> None:
    assert chosen(["onnx/model.onnx"], export=True, file_name="model.onnx") is None


def test_export_false_and_nothing_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"no ONNX file 'model.onnx' or 'onnx/model.onnx', and export=False"):
        chosen([], export=False)


def test_a_name_with_another_end() -> None:
    with pytest.raises(ValueError, match=r"must end in '.onnx' for ONNX; got 'model.xml'"):
        chosen([], file_name="model.xml")


def test_the_graphs_of_a_folder(tmp_path: Path) -> None:
    for name in ("onnx/model.onnx", "onnx/model.onnx_data", "openvino/openvino_model.xml", "other.xml", "model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path, ONNX) == ["onnx/model.onnx"]
    assert files_of(tmp_path, OPENVINO) == ["openvino/openvino_model.xml"]


def test_the_file_of_weights_beside() -> None:
    assert ONNX.companion("model_O3.onnx") == "model_O3.onnx_data"
    assert OPENVINO.companion("openvino_model.xml") == "openvino_model.bin"


@pytest.mark.parametrize(
    ("kind", "settings", "asked"),
    [
        ("hub", {}, ["model.onnx", "onnx/model.onnx", "onnx/model.onnx_data"]),
        ("cache", {"file_name": "x.onnx"}, ["x.onnx", "onnx/x.onnx"]),
        ("hub", {"export": True}, []),
        ("folder", {}, []),
    ],
)
def test_what_is_fetched_of_a_repository(
    kind: Any, settings: dict[str, Any], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def load(name: str, file: str, **where: Any) -> str | None:
        seen.append(file)
        assert (name, where) == ("me/model", {"revision": "v1"})
        return file if file in ("onnx/model.onnx", "onnx/model.onnx_data") else None

    monkeypatch.setattr(source, "load_file_path", load)
    fetch(Source("me/model", Path("nowhere"), kind, None), "onnx", settings, {"revision": "v1"})
    assert seen == asked
