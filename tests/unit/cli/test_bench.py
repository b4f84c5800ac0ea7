"""bench: a race of a tiny model on one's own texts, its table, its JSON, its picture, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_heads

from sentence_transformers.cli.main import main
from sentence_transformers.encoders.loading import saved_type


@pytest.fixture
def texts(in_folder: Path) -> str:
    Path("lines.txt").write_text("a dog\ntwo dogs\n\nrain\nthe train is late\nthe end\n")
    return "lines.txt"


def test_a_table_and_a_picture(
    texts: str, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(tiny_folder("bert")), texts, "--way", "torch int8", "--rounds", "1", "--png", "speeds.png"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [line.split("  ")[0] for line in out.splitlines()[:3]] == ["way", "torch", "torch int8"]
    assert "Recommended: " in out
    assert Path("speeds.png").read_bytes().startswith(b"\x89PNG")


def test_json(texts: str, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_folder("bert")), texts, "--way", "torch int8", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == 5  # a blank line is none
    assert [way["way"] for way in found["ways"]] == ["torch", "torch int8"]


def test_the_kind_is_the_saved_one(texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_heads.build_classifier("bert", tmp_path / "reranker")
    assert saved_type(str(folder)) == "CrossEncoder"
    assert saved_type(str(tiny_heads.build_splade(tmp_path / "splade", "max", "relu"))) == "SparseEncoder"
    assert main(["bench", str(folder), texts, "--way", "torch int8", "--rounds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ways"][1]["quality"]["cosine"] is None


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--tolerance", "2"], 2, "expected 0 to 1, got 2.0"),
        (["--way", "int9"], 1, "ways must be one of"),
        (["--png", "nowhere/speeds.png"], 2, "there is no such folder"),
        (["--kind", "tree"], 2, "invalid choice"),
    ],
)
def test_refused(
    words: list[str], code: int, message: str, tiny_folder: Callable[[str], Path], in_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["bench", str(tiny_folder("bert")), *words]) == code
    assert message in capsys.readouterr().err
