"""Compute threads on the CPU: several batches at once with one core each beat one batch with all cores.

One set of threads serves the whole process, so callers in many threads do not oversubscribe the machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_workers: dict[tuple[int, int], Workers] = {}


class Workers:
    """Threads that each compute with one core."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "encode", set_cores, (1,))
        everyone = threading.Barrier(threads + 1)
        started = [self._pool.submit(everyone.wait) for _ in range(threads)]
        everyone.wait()
        for future in started:
            future.result()
        # torch keeps the last number set anywhere as the start value of threads that come later: put ours back
        set_cores(threads)

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` on one of the threads."""
        return self._pool.submit(function, *args)


def set_cores(count: int) -> None:
    """How many cores torch may use in the calling thread."""
    torch.get_num_threads()  # the first call in a thread takes the process-wide number; only then can it be changed
    torch.set_num_threads(count)


def cpu_workers() -> Workers:
    """The threads of this process, as many as torch may use in the calling thread."""
    key = (os.getpid(), torch.get_num_threads())  # after a fork the threads of the parent are gone
    with _lock:
        if key not in _workers:
            _workers[key] = Workers(key[1])
        return _workers[key]


def on_all_cores(step: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``step`` of each item, on one core each: no core waits for another, which other work may hold up."""
    if len(items) <= 1 or torch.get_num_threads() == 1:
        return [step(item) for item in items]
    workers = cpu_workers()
    return [done.result() for done in [workers.submit(step, item) for item in items]]
