"""The scripts in ``examples`` run, with few steps, and print what they measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = {
    "reranker_teaches_dense.py": ["--teacher-steps", "2", "--student-steps", "2", "--rows", "32", "--questions", "4"],
    "dense_teaches_static.py": ["--steps", "3", "--rows", "300"],
}
CASES = [
    ("reranker_teaches_dense.py", ["--loss", "margin"]),
    ("reranker_teaches_dense.py", ["--loss", "kl"]),
    ("dense_teaches_static.py", []),
]


@pytest.mark.parametrize(("script", "more"), CASES, ids=["margin", "ranking", "static"])
def test_an_example_runs(script: str, more: list[str], data_folder: Path, minilm_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / script), "--model", str(minilm_folder), *FEW[script], *more]
    path = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    last = found.stdout.strip().splitlines()[-1]
    assert len(re.findall(r"0\.\d{3}", last)) >= 2, last


def test_every_example_is_tested_and_listed() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(FEW)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in listed for name in scripts)
