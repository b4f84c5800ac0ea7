"""Uploading a folder to a Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentence_transformers.hub.push import push_folder
from tests.unit.hub.fake_hub import TOKEN, FakeHub


def files_of(hub: FakeHub, name: str, revision: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[name]
    return repository.commits[repository.revisions[revision]]


def test_a_folder_becomes_a_private_repository(hub: FakeHub, model_folder: Path) -> None:
    url = push_folder(model_folder, "acme/new", token=TOKEN, private=True, commit_message="First")
    assert hub.repositories["acme/new"].private
    assert url == f"{hub.address}/acme/new/commit/{hub.repositories['acme/new'].revisions['main']}"
    found = files_of(hub, "acme/new")
    assert found["1_Pooling/config.json"] == (model_folder / "1_Pooling" / "config.json").read_bytes()


def test_an_existing_repository_needs_exist_ok(hub: FakeHub, model_folder: Path) -> None:
    with pytest.raises(OSError, match="acme/tiny"):
        push_folder(model_folder, "acme/tiny", token=TOKEN)
    assert "/commit/" in push_folder(model_folder, "acme/tiny", token=TOKEN, exist_ok=True)


def test_a_revision_is_a_branch_of_its_own(hub: FakeHub, model_folder: Path) -> None:
    before = files_of(hub, "acme/tiny")
    push_folder(model_folder, "acme/tiny", token=TOKEN, exist_ok=True, revision="next")
    assert files_of(hub, "acme/tiny") == before
    assert "tf_model.h5" not in files_of(hub, "acme/tiny", "next")


def test_a_pull_request_gives_its_address(hub: FakeHub, model_folder: Path) -> None:
    url = push_folder(model_folder, "acme/tiny", token=TOKEN, create_pr=True)
    assert url == f"{hub.address}/acme/tiny/discussions/1"


def test_no_token_is_refused_with_a_remedy(hub: FakeHub, model_folder: Path) -> None:
    with pytest.raises(PermissionError, match="hf auth login"):
        push_folder(model_folder, "acme/new", token=False)
