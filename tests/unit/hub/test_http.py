"""One file by its address."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError

import pytest

from sentence_transformers.hub.http import http_get
from tests.unit.hub.fake_hub import FakeHub


def test_the_file_and_its_folder_are_made(hub: FakeHub, tmp_path: Path) -> None:
    http_get(f"{hub.address}/acme/tiny/resolve/main/README.md", tmp_path / "a" / "README.md")
    assert (tmp_path / "a" / "README.md").read_bytes() == b"# tiny"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["README.md"]


def test_an_error_of_the_server_leaves_nothing(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(HTTPError):
        http_get(f"{hub.address}/acme/tiny/resolve/main/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_only_http_addresses_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="http"):
        http_get("file:///etc/passwd", tmp_path / "x")
