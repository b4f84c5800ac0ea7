"""Runs a script in several processes on this machine, as ``torchrun`` or a cluster would; never for ever."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
WORLD = 2
LIMIT = 240
"""Seconds after which all processes are killed; they need about 20 when nothing else runs."""


class Group:
    """Processes that were started, each with its output in a file.

    Args:
        folder: for the output.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **variables: str) -> None:
        """Start a Python process with one core and further variables of the environment."""
        paths = [str(CHECKOUT), str(CHECKOUT / "tests" / "parity")]
        kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        environment = {**kept, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **variables}
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *command], env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def by_torchrun(self, script: Path, *arguments: str) -> None:
        """Start a script in ``WORLD`` processes by ``torchrun``."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
        self.start(*launcher, str(script), *arguments)

    def by_environment(self, script: Path, *arguments: str) -> None:
        """Start it in ``WORLD`` processes that find each other through the environment."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(WORLD)}
        for rank in map(str, range(WORLD)):
            self.start(str(script), *arguments, **where, RANK=rank, LOCAL_RANK=rank)

    def wait(self) -> str:
        """Wait until all have ended, or one has failed, or for ``LIMIT``; none is left. What they have said."""
        end = time.monotonic() + LIMIT
        try:
            for process in self.processes:
                process.wait(max(0, end - time.monotonic()))
                if process.returncode:
                    break
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in self.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with what it has started: a session of its own
                process.wait()
        codes = [process.returncode for process in self.processes]
        said = [(self.folder / f"{place}.log").read_text("utf-8", "replace") for place in range(len(codes))]
        return f"exit codes: {codes}\n" + "\n".join(text[-3000:] for text in said)
