"""One side of a race: a process that keeps a loaded model and obeys requests, one JSON line each, until its input ends.

Runs with the interpreter, and so with the ``sentence_transformers``, of its side; imports nothing of this repository.
Times are seconds, memory is bytes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]


class Worker:
    """Each public method is a request; what it returns is the reply."""

    def __init__(self) -> None:
        self.model: Any = None
        self.texts: dict[str, list[str]] = {}

    def about(self) -> dict[str, Any]:
        """Where the package comes from, versions of what it computes with, and threads."""
        from importlib.metadata import version

        import torch

        import sentence_transformers

        others = {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
        own = {"python": sys.version.split()[0], "sentence_transformers": sentence_transformers.__version__}
        return {
            "file": str(sentence_transformers.__file__),
            "versions": {**own, **others},
            "threads": torch.get_num_threads(),
        }

    def load(self, model: str) -> dict[str, float]:
        """Load the model in the folder ``model`` with default settings, on the CPU."""
        start = time.perf_counter()
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(model, device="cpu")
        return {"seconds": time.perf_counter() - start}

    def keep(self, name: str, path: str) -> dict[str, int]:
        """Read a JSON list of texts from ``path`` and keep it under ``name`` for later requests."""
        self.texts[name] = json.loads(Path(path).read_text(encoding="utf-8"))
        return {"texts": len(self.texts[name])}

    def encode(self, name: str, save: str | None = None, every: int = 1) -> dict[str, Any]:
        """Encode the kept texts once; ``save`` writes every ``every``-th row of the result as .npy."""
        texts = self.texts[name]
        start = time.perf_counter()
        rows = self.model.encode(texts)
        seconds = time.perf_counter() - start
        if save is not None:
            import numpy as np

            np.save(save, rows[::every])
        return {"seconds": seconds, "shape": list(rows.shape), "bytes": int(rows.nbytes)}

    def latency(self, name: str) -> dict[str, list[float]]:
        """Encode the kept texts one call each."""
        found = []
        for text in self.texts[name]:
            start = time.perf_counter()
            self.model.encode(text)
            found.append(time.perf_counter() - start)
        return {"seconds": found}

    def memory(self, name: str) -> dict[str, Any]:
        """Encode the kept texts and watch the resident set.

        Returns: of ``encode``, and ``loaded`` (resident before), ``warm`` (resident after a first small call, which
        makes the buffers of the matrix library and pages the weights in), ``peak`` (highest during the work; where
        the system cannot forget the earlier peak, the higher of both and ``exact`` is False).
        """
        loaded = _resident()
        self.model.encode(self.texts[name][:256])
        warm = _resident()
        exact = _forget_peak()
        done = self.encode(name)
        return {**done, "loaded": loaded, "warm": warm, "peak": _peak(), "exact": exact}

    def product(self, streams: int, threads: int, seconds: float) -> dict[str, float]:
        """Rate of float32 (1024, 384) x (384, 1536) in ``streams`` threads, each with ``threads`` intra-op threads."""
        import torch

        torch.set_num_threads(threads)
        done = [0] * streams
        ready = threading.Barrier(streams + 1)

        def multiply(stream: int) -> None:
            left, right, out = torch.rand(1024, 384), torch.rand(384, 1536), torch.empty(1024, 1536)
            torch.mm(left, right, out=out)  # the first product sets up threads and buffers
            ready.wait()
            while time.perf_counter() < stop:
                torch.mm(left, right, out=out)
                done[stream] += 1

        stop = time.perf_counter() + 3600.0
        workers = [threading.Thread(target=multiply, args=(stream,)) for stream in range(streams)]
        for worker in workers:
            worker.start()
        start = time.perf_counter()
        stop = start + seconds
        ready.wait()
        for worker in workers:
            worker.join()
        return {"gflops": sum(done) * 2 * 1024 * 384 * 1536 / (time.perf_counter() - start) / 1e9}


def _status(field: str) -> int | None:
    """A size from /proc/self/status in bytes, None where there is none (not Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _peak() -> int:
    """Highest resident set so far. VmHWM rather than ru_maxrss, which also counts the parent before exec."""
    found = _status("VmHWM")
    if found is not None:
        return found
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident() -> int:
    found = _status("VmRSS")
    return _peak() if found is None else found


def _forget_peak() -> bool:
    """Set the highest resident set to the present one; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer ``{"do": method, ...arguments}`` with ``{"ok": reply}`` or ``{"error": text}`` until the requests end."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        method: Callable[..., Any] = getattr(worker, request.pop("do"))
        try:
            reply = {"ok": method(**request)}
        except Exception as error:  # noqa: BLE001  whatever went wrong, the driver must hear of it
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    serve(sys.stdin, channel)
