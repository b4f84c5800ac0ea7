"""Losses on token vectors that gather the documents of several processes, whose inputs have other lengths."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import losses_late_gathering
import torch


def test_two_processes_are_as_one_with_the_rows_of_both(tmp_path: Path) -> None:
    script, package = Path(losses_late_gathering.__file__), Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, str(script), str(rank), "2", str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    joined = losses_late_gathering.results(slice(losses_late_gathering.ROWS))
    assert halves[0].keys() == joined.keys() == losses_late_gathering.CASES.keys()
    for name, expected in joined.items():
        for one, other, whole in zip(halves[0][name], halves[1][name], expected, strict=True):
            torch.testing.assert_close((one + other) / 2, whole, rtol=1e-11, atol=1e-11, msg=name)
