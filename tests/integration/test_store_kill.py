"""A store that is killed while it is written to: what was acknowledged is there, once; the rest as a whole or not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from sentence_transformers.search.stores.embedded import EmbeddedStore
from tests.integration import store_writer
from tests.integration.store_writer import GROUPS, SPARSE_WIDTH, WIDTH, Row, operations

if TYPE_CHECKING:
    from tests.integration.store_writer import Rows

pytest.importorskip("faiss")

KILLS = 20
MOST_READ, LONGEST_WAIT = 12, 0.03
"""Acknowledgements, and seconds after the last of them, until the process is killed."""
HANGS = 120.0


class Writer:
    """``store_writer`` in a process of its own, which imports while others are at work."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, store_writer.__file__, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run_and_kill(self, run: int, acknowledgements: int, seconds: float) -> int:
        """Let it work, kill it so many seconds after so many acknowledgements. Returns: how many there were at last."""
        assert self.process.stdin is not None and self.process.stdout is not None
        watch = Timer(HANGS, self.process.kill)
        watch.start()
        self.process.stdin.write(f"{run}\n")
        self.process.stdin.flush()
        read = [self.process.stdout.readline() for _ in range(acknowledgements)]
        with pytest.raises(subprocess.TimeoutExpired):  # it is alive, and would be for ever
            self.process.wait(seconds)
        self.process.send_signal(signal.SIGKILL)
        # not communicate(): it would pass over what readline() has read ahead
        assert self.process.stderr is not None
        rest, errors = self.process.stdout.read(), self.process.stderr.read()
        watch.cancel()
        assert (self.process.wait(), errors) == (-signal.SIGKILL, "")
        steps = [int(line) for line in [*read, *rest.splitlines()]]
        assert steps == list(range(len(steps)))
        return len(steps)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def possible(rows: Rows, run: int, acknowledged: int) -> tuple[Rows, Rows]:
    """What there must be after a run: without, and with, the operation that was not acknowledged."""
    started = operations(run)
    for _ in range(acknowledged):
        rows = next(started).change(rows)
    return rows, next(started).change(rows)


def content(store: EmbeddedStore, most: int) -> dict[str, tuple[object, ...]]:
    """id -> all that can be found out of a row by searches."""
    if store.settings.width is None:
        assert store.count() == 0
        return {}
    queries = np.concatenate([np.eye(WIDTH, dtype=np.float32)[[0, 1, 2, WIDTH - 1]], np.ones((1, WIDTH))])
    sparse = torch.eye(SPARSE_WIDTH)[:2].to_sparse()
    searches = store.search(queries, top_k=most) + store.search(sparse_embeddings=sparse, top_k=most)
    for found in searches:
        assert len(found) == len({match.id for match in found}) == store.count()
    scores = [{match.id: match.score for match in found} for found in searches]
    return {match.id: (match.text, match.metadata, [by_id[match.id] for by_id in scores]) for match in searches[0]}


def wanted(row: Row) -> tuple[object, ...]:
    components = row.dense[:4]
    return row.text, row.metadata, [*components, sum(components) * (WIDTH // 4), *row.sparse[:2]]


def verified(folder: Path, run: int, states: tuple[Rows, Rows]) -> Rows:
    """Which of the states is there, whole, in a store that is opened."""
    with store_writer.open_store(folder, run) as store:
        store.check()
        found = content(store, store_writer.NUMBERS + 1)
        [rows] = [state for state in states if found == {row.id: wanted(row) for row in state.values()}][-1:] or [{}]
        assert found.keys() == {row.id for row in rows.values()}
        groups = [sum(number % GROUPS == group for number in rows) for group in range(3)]
        assert [store.count({"group": group}) for group in range(3)] == groups
        assert store.settings.notes == {"made by": "writer"}
    return rows


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_twenty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """In one folder, with the exact store and FAISS in turn."""
    source, folder = random.Random(0), tmp_path / "store"
    rows: Rows = {}
    acknowledged = 0
    waiting = Writer(folder)
    try:
        for run in range(KILLS):
            writer, waiting = waiting, Writer(folder)
            count = writer.run_and_kill(run, source.randint(0, MOST_READ), source.uniform(0.0, LONGEST_WAIT))
            states = possible(rows, run, count)
            rows = verified(folder, run, states)
            assert verified(folder, run + 1, (rows, rows)) == rows
            acknowledged += count
    finally:
        waiting.stop()
    assert acknowledged > KILLS
