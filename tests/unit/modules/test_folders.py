"""Folders of parts of other authors and of old versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.folders import open_part, save_part
from sentence_transformers.modules.linear import Normalize


class Old(nn.Module):
    """A part of before version 5."""

    def __init__(self, where: str = "") -> None:
        super().__init__()
        self.where = where

    def save(self, path: str) -> None:
        (Path(path) / "old.txt").write_text("old")

    @staticmethod
    def load(path: str) -> Any:
        return Old(path)


class OldTransformer(Old):
    """With the settings of a transformer, under their old names."""

    def __init__(self, where: str, model_args: dict[str, Any], tokenizer_args: dict[str, Any]) -> None:
        super().__init__(where)
        self.settings = (model_args, tokenizer_args)


class Wrong(Old):
    @staticmethod
    def load(path: str) -> Any:
        return 7


def test_an_old_class_saves_without_a_format(tmp_path: Path) -> None:
    save_part(Old(), tmp_path / "new" / "0_Old", safe_serialization=True)
    assert (tmp_path / "new" / "0_Old" / "old.txt").read_text() == "old"


def test_an_old_class_opens_its_folder(tmp_path: Path) -> None:
    part = open_part(Old, "model", "0_Old", tmp_path, {"token": None})
    assert isinstance(part, Old)
    assert part.where == str(tmp_path)


def test_an_old_transformer_gets_its_settings(tmp_path: Path) -> None:
    part: Any = open_part(OldTransformer, "model", "", tmp_path, {"model_kwargs": {"a": 1}, "processor_kwargs": None})
    assert part.settings == ({"a": 1}, {})


def test_a_part_of_ours_gets_model_and_subfolder(tmp_path: Path) -> None:
    save_part(Normalize("x"), tmp_path / "1_Normalize", safe_serialization=True)
    part: Any = open_part(Normalize, str(tmp_path), "1_Normalize", tmp_path, {"token": None, "backend": "torch"})
    assert part.module_input_name == "x"


def test_something_else_than_a_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="Wrong.load gave a int"):
        open_part(Wrong, "model", "", tmp_path, {})
