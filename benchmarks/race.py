"""Two processes that work in turn, and the statistics of pairs. Knows nothing of what is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[1]
IDLE = 0.3
"""Seconds to wait before a turn: OpenMP threads of the other side spin for a while after their last work."""


class WorkerError(RuntimeError):
    """A worker died or answered with an error."""


def environment(*, own: bool, threads: int) -> dict[str, str]:
    """Environment of a side: the same for both, except that ours finds this checkout."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    return kept | {"PYTHONPATH": str(ROOT)} if own else kept


class Side(AbstractContextManager["Side"]):
    """One worker process.

    Args:
        name: "ours" or "reference", for messages and tables.
        python: its interpreter.
        own: it imports this checkout.
        threads: OpenMP and MKL threads.
        program: the file in this folder that answers requests.
    """

    def __init__(self, name: str, python: str, *, own: bool, threads: int, program: str = "worker.py") -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  closed in close
        self._process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            cwd=tempfile.gettempdir(),  # not the checkout, which Python could put on the other side's path
            env=environment(own=own, threads=threads),
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send one request and wait for its reply; WorkerError with the worker's last words if there is none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply = json.loads(line) if line else {"error": f"the process ended.\n{self._last_words()}"}
        if "error" in reply:
            raise WorkerError(f"{self.name}, {do}: {reply['error']}")
        return reply["ok"]

    def close(self) -> None:
        """End the process: its input ends, so it does."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _last_words(self) -> str:
        self._process.wait(timeout=10)
        self._errors.seek(0)
        return self._errors.read()[-2000:]


def is_python(path: str) -> bool:
    """``path`` is an interpreter that can be started."""
    try:
        return subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def take_turns(sides: Sequence[Side], rounds: int, do: str, **arguments: Any) -> dict[str, list[Any]]:
    """Let each side do the same thing ``rounds`` times, in turn, another side first in each round."""
    found: dict[str, list[Any]] = {side.name: [] for side in sides}
    for number in range(rounds):
        at = number % len(sides)
        for side in [*sides[at:], *sides[:at]]:
            time.sleep(IDLE)
            found[side.name].append(side.ask(do, **arguments))
    return found


def ratio(ours: Sequence[float], reference: Sequence[float]) -> float:
    """Median of ours / reference over the rounds, pair by pair."""
    return median(mine / theirs for mine, theirs in zip(ours, reference, strict=True))


def seconds(replies: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[float]]:
    """The ``seconds`` of each side's replies."""
    return {name: [reply["seconds"] for reply in found] for name, found in replies.items()}


def time_process(command: Sequence[str], *, own: bool, threads: int) -> tuple[float, Any]:
    """Run ``python ...`` to its end; return the wall clock (seconds) and the JSON on the last line it prints."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=tempfile.gettempdir(),
        env=environment(own=own, threads=threads),
    )
    wall = time.perf_counter() - start
    if done.returncode != 0:
        raise WorkerError(f"{Path(command[0])} failed.\n{done.stderr[-2000:]}")
    return wall, json.loads(done.stdout.splitlines()[-1])


def progress(message: str) -> None:
    """Say on standard error what is going on; standard output is the report."""
    sys.stderr.write(f"[benchmarks] {message}\n")
    sys.stderr.flush()
