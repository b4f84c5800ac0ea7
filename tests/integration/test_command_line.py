"""The program with the real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sentence_transformers.cli.main import main

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
