"""The program with the real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sentence_transformers.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
NOTES = "# Garden\n\n## Tomatoes\n\nWater them in the morning.\n\n## Roses\n\nCut them back in March.\n"


def test_search_finds_by_meaning(minilm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.md").write_text(NOTES)
    query = "when should I prune my flowers?"
    assert main(["search", query, str(tmp_path), "--model", str(minilm_folder), "--json", "-k", "1"]) == 0
    best = json.loads(capsys.readouterr().out)["results"][0]
    assert best["headings"] == ["Garden", "Roses"] and best["first_line"] == 9


def test_encode_gives_the_numbers_of_the_model(minilm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The weather is lovely today.\nIt's so sunny outside!\n")
    out = tmp_path / "a.npy"
    assert main(["encode", str(tmp_path / "a.txt"), "-o", str(out), "--model", str(minilm_folder)]) == 0
    first, second = np.load(out)
    assert first @ second == pytest.approx(0.6660, abs=1e-4)  # as in the system description


def test_an_index_outlives_the_process_that_built_it(minilm_folder: Path, tmp_path: Path) -> None:
    def say(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "sentence_transformers", "index", *words],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")  # no progress into a pipe
        return done.stdout.splitlines()

    (tmp_path / "notes.md").write_text(NOTES)
    assert say("build", "kept", "notes.md", "--model", str(minilm_folder)) == [
        "kept: 1 files, 2 passages added, 0 removed, 0 unchanged"
    ]
    (tmp_path / "notes.md").write_text(NOTES.replace("Water them", "Feed them potash"))
    assert say("add", "kept", "notes.md") == ["kept: 1 files, 1 passages added, 1 removed, 1 unchanged"]
    roses, tomatoes = map(json.loads, say("search", "kept", "-q", "when to prune?", "-q", "fertilizer", "--json"))
    assert roses["results"][0]["headings"] == ["Garden", "Roses"]
    assert tomatoes["results"][0]["text"] == "Feed them potash in the morning."
    assert json.loads(say("info", "kept", "--json")[0])["model"] == str(minilm_folder)
