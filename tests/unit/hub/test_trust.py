"""Whose code a modules.json may name, and what it is called when saved."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from sentence_transformers._public import SAVE_AS
from sentence_transformers.errors import UntrustedCodeError
from sentence_transformers.hub import trust
from sentence_transformers.hub.source import import_module_class
from sentence_transformers.modules.pooling import Pooling

CODE = """
from .helper_part import FACTOR
class Doubler:
    factor = FACTOR
"""


@pytest.mark.parametrize(
    "spelling",
    [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.base.modules.pooling.Pooling",
        "sentence_transformers.modules.pooling.Pooling",
    ],
)
def test_every_spelling_of_our_class_is_understood_without_trust(spelling: str, tmp_path: Path) -> None:
    assert trust.module_class(spelling, tmp_path, trust_remote_code=False) is Pooling


@pytest.mark.parametrize("path", ["sentence_transformers.models.FutureModule", "sentence_transformers.util.http_get"])
def test_an_unknown_class_of_ours_lists_what_is_known(path: str, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=f"{path}.*Pooling.*newer version"):
        trust.module_class(path, tmp_path, trust_remote_code=True)


@pytest.mark.parametrize(
    "path",
    ["custom_st.Doubler", "os.system", "sentence_transformers_evil.models.Pooling", "acme/code--custom_st.Doubler"],
)
def test_foreign_code_needs_trust(path: str, tmp_path: Path) -> None:
    (tmp_path / "custom_st.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UntrustedCodeError) as error:
        trust.module_class(path, tmp_path, trust_remote_code=False, name="acme/tiny")
    assert f"The model acme/tiny references the module class {path!r}, which is not part of Sentence" in str(
        error.value
    )
    assert "trust_remote_code=True" in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.fixture
def code_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with code in two files; transformers keeps its copy of them in the folder of the test."""
    dynamic = pytest.importorskip("transformers.dynamic_module_utils")
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "model_with_code"
    folder.mkdir()
    (folder / "custom_st.py").write_text(CODE)
    (folder / "helper_part.py").write_text("FACTOR = 2\n")
    return folder


def test_trusted_code_of_the_folder_is_loaded_saved_and_loaded_again(code_folder: Path, tmp_path: Path) -> None:
    found = trust.module_class("custom_st.Doubler", code_folder, trust_remote_code=True)
    assert found.factor == 2  # type: ignore[attr-defined]
    assert trust.type_string(found) == "custom_st.Doubler"
    saved = tmp_path / "saved_with_code"
    saved.mkdir()
    trust.copy_code(found, saved)
    assert sorted(os.listdir(saved)) == ["custom_st.py", "helper_part.py"]
    assert trust.module_class("custom_st.Doubler", saved, trust_remote_code=True).__name__ == "Doubler"


def test_trusted_code_that_is_installed_is_imported(tmp_path: Path) -> None:
    assert trust.module_class("torch.nn.Identity", tmp_path, trust_remote_code=True) is torch.nn.Identity
    with pytest.raises(ImportError, match="not a class"):
        trust.module_class("os.getcwd", tmp_path, trust_remote_code=True)
    with pytest.raises(UntrustedCodeError, match="Invalid model path"):
        trust.module_class("/etc/x.Y", tmp_path, trust_remote_code=True)


def test_our_classes_are_saved_under_their_classic_path_and_found_by_it(tmp_path: Path) -> None:
    assert trust.type_string(Pooling) == "sentence_transformers.models.Pooling"
    for path, classic in SAVE_AS.items():
        assert path.rpartition(".")[2] == classic.rpartition(".")[2]


def test_other_classes_are_saved_under_their_own_path(tmp_path: Path) -> None:
    assert trust.type_string(torch.nn.Identity) == "torch.nn.modules.linear.Identity"
    trust.copy_code(torch.nn.Identity, tmp_path)
    assert not any(tmp_path.iterdir())


def test_fullname_of_objects_and_classes() -> None:
    linear = torch.nn.Linear(1, 1)
    assert trust.fullname(linear) == trust.fullname(torch.nn.Linear) == "torch.nn.modules.linear.Linear"
    assert (trust.fullname("text"), trust.fullname(int), trust.fullname(None)) == ("str", "int", "NoneType")


def test_import_from_string_names_what_is_wrong() -> None:
    assert trust.import_from_string("torch.nn.Tanh") is torch.nn.Tanh
    with pytest.raises(ImportError, match="'os' is not the path of a class"):
        trust.import_from_string("os")
    with pytest.raises(ImportError, match="'torch.nn' has no class or attribute 'Tan'"):
        trust.import_from_string("torch.nn.Tan")
    with pytest.raises(ImportError, match="nope"):
        trust.import_from_string("nope.X")


def test_import_module_class_without_a_model_takes_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "collections.py").write_text("raise RuntimeError('code of the current folder has run')")
    monkeypatch.chdir(tmp_path)
    assert import_module_class("collections.OrderedDict") is OrderedDict
    assert import_module_class("sentence_transformers.models.Pooling") is Pooling
    with pytest.raises(ImportError, match="'os.path' is .* not a class"):
        import_module_class("os.path")


def test_import_module_class_of_a_model_needs_trust_for_its_code(code_folder: Path) -> None:
    [file] = [path for path in code_folder.glob("*.py") if "Doubler" in path.read_text()]
    with pytest.raises(UntrustedCodeError, match="trust_remote_code=True"):
        import_module_class(f"{file.stem}.Doubler", str(code_folder))
    assert import_module_class(f"{file.stem}.Doubler", str(code_folder), trust_remote_code=True).factor == 2
