"""Single short texts on a GPU as one launch: the kernels of a forward, recorded once per length and replayed.

A query of a dozen tokens is a few hundred kernels of some microseconds each; launching them one by one takes longer
than running them. Opt-in (``model_kwargs={"cuda_graphs": True}``): every length that occurs keeps its buffers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LONGEST = 128  # tokens of a text up to which launching costs more than computing

Compute = Callable[[Tensor], Tensor]
"""(T,) ids on the GPU -> what is computed from them, on the stream that is current, without looking at any value."""


@dataclass(frozen=True)
class Recorded:
    """ids: where the next input goes. output: where its result appears. replay: computes it."""

    ids: Tensor
    output: Tensor
    replay: Callable[[], Any]


def record(compute: Compute, ids: Tensor) -> Recorded:
    """Record the kernels of ``compute`` for inputs as long as ``ids``."""
    own = ids.clone()
    aside = torch.cuda.Stream(own.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(own.device))
    with torch.cuda.stream(aside):
        for _ in range(2):  # libraries allocate their workspaces in the first runs, which must not be recorded
            compute(own)
    torch.cuda.current_stream(own.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = compute(own)
    return Recorded(own, output, graph.replay)


class Recordings:
    """What was recorded, by the length of the input. One caller at a time: they share buffers."""

    def __init__(self, compute: Compute, recorder: Callable[[Compute, Tensor], Recorded] = record) -> None:
        self.compute, self.recorder = compute, recorder
        self._made: dict[int, Recorded] = {}
        self._lock = threading.Lock()

    def run(self, ids: Tensor) -> Tensor:
        """(T,) ids on the GPU -> a fresh result."""
        with self._lock:
            found = self._made.get(len(ids))
            if found is None:
                found = self._made[len(ids)] = self.recorder(self.compute, ids)
            found.ids.copy_(ids, non_blocking=True)
            found.replay()
            return found.output.clone()
