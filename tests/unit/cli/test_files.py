"""Which files a search reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentence_transformers.cli import files
from sentence_transformers.cli.command import CommandError

pytestmark = pytest.mark.usefixtures("in_folder")


def write(name: str, content: bytes = b"text") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content)


def test_text_below_a_folder_is_found_in_order() -> None:
    for name in ("f/b.md", "f/a/z.rst", "f/a.txt", "f/C.MD"):
        write(name)
    assert files.collect(["f"]) == ["f/C.MD", "f/a.txt", "f/b.md", "f/a/z.rst"]


@pytest.mark.parametrize(
    "name", ["f/.a.md", "f/.git/a.md", "f/node_modules/a.md", "f/.venv/a.py", "f/__pycache__/a.py", "f/a.png", "f/a"]
)
def test_what_is_hidden_generated_or_no_text_is_left_out(name: str) -> None:
    write("f/yes.md")
    write(name)
    assert files.collect(["f"]) == ["f/yes.md"]


@pytest.mark.parametrize("content", [b"", b"a\0b", b"x" * (files.LARGEST + 1)])
def test_empty_binary_and_huge_files_of_a_folder_are_left_out(content: bytes) -> None:
    write("f/yes.md")
    write("f/no.md", content)
    assert files.collect(["f"]) == ["f/yes.md"]


def test_a_file_that_is_named_is_read_whatever_it_is_called() -> None:
    write(".hidden")
    assert files.collect([".hidden"]) == [".hidden"]


def test_a_file_is_read_once() -> None:
    write("f/a.md")
    assert files.collect(["f/a.md", "f", "./f"]) == ["f/a.md"]


def test_a_binary_file_that_is_named_is_refused() -> None:
    write("a.md", b"a\0b")
    with pytest.raises(CommandError, match=r"a\.md is not a text file"):
        files.collect(["a.md"])


def test_a_missing_path_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder: missing"):
        files.collect(["missing"])


def test_a_folder_without_text_is_an_error() -> None:
    Path("f").mkdir()
    with pytest.raises(CommandError, match="no text files in f"):
        files.collect(["f"])


def test_without_paths_the_documents_here_are_meant() -> None:
    write("README.md")
    write("docs/a.md")
    assert files.shipped() == ["docs", "README.md"]


def test_without_documents_the_error_says_what_to_pass() -> None:
    with pytest.raises(CommandError, match="search QUERY PATH"):
        files.shipped()


def test_bytes_that_are_no_text_are_replaced() -> None:
    write("a.txt", b"\xef\xbb\xbfa\r\n\xff")
    assert files.read("a.txt") == "a\n\ufffd"
