"""The one loop behind every ``encode`` and ``predict``: tokenise, plan, compute, collect.

The calling thread tokenises window after window; compute threads run the batches of the window before and write
their rows into the result. Knows a model only as a callable on features with a first module.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from sentence_transformers._types import Features, OnTruncate
from sentence_transformers.inference.collect import Collector
from sentence_transformers.inference.layout import threads_safe, to_device
from sentence_transformers.inference.plan import BUDGET, Plan, token_budget
from sentence_transformers.inference.share import Share, helper_of_thread
from sentence_transformers.inference.workers import cpu_workers

logger = logging.getLogger(__name__)

Ints = np.ndarray[Any, Any]
Finish = Callable[[Features], Any]
Advance = Callable[[int], Any]

WINDOW = 2048  # inputs tokenised at a time: enough to sort by length, little enough to hold
GPU_BUDGET = 64 * BUDGET  # tokens of a batch on other devices; batch_size is what bounds it there


class Batch(Protocol):
    """A batch under way: ``concurrent.futures.Future``, or ``Later``."""

    def result(self) -> int:
        """Wait for it; the number of inputs that are done with it."""

    def cancel(self) -> bool:
        """Don't start it, if it has not started."""


class Model(Protocol):
    """What the loop needs to know of a model."""

    def __call__(self, features: Features, **kwargs: Any) -> Features: ...
    def __iter__(self) -> Iterator[Any]: ...
    def prepare(self, inputs: Sequence[Any], prompt: str | None, **kwargs: Any) -> Any: ...
    @property
    def device(self) -> torch.device: ...


@dataclass(frozen=True)
class Request:
    """One call, validated.

    inputs: n inputs. prompt: put before every text. batch_size: the most inputs of a batch. progress: show a bar.
    prepare_kwargs, forward_kwargs: handed to the first module's ``prepare`` and to ``forward``.
    """

    inputs: Sequence[Any]
    prompt: str | None = None
    batch_size: int = 32
    progress: bool = False
    on_truncate: OnTruncate = "warn"
    prepare_kwargs: dict[str, Any] = field(default_factory=dict)
    forward_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """count: inputs that were truncated. limit: to so many tokens; None where nothing was computed."""

    count: int
    limit: int | None


def run(model: Model, request: Request, finish: Finish, collector: Collector) -> None:
    """Send every input through the model; with a helper (``share.offered_to``), in several processes.

    Args:
        finish: the features of a batch -> its rows, as ``collector`` takes them. Runs on the compute thread.
        collector: takes the rows.

    Raises: ValueError if inputs are truncated and ``on_truncate`` is "error"; else whatever a module raises.
    """
    helper = helper_of_thread()
    if helper is None or not helper(model, request, finish, collector):
        warn_of(request, compute(model, request, finish, collector))


def compute(model: Model, request: Request, finish: Finish, collector: Collector, share: Share | None = None) -> Cut:
    """``run`` in this process, and without the warning.

    Args:
        share: the part of this process; None: everything.
    """
    share = share or Share(0, 1, torch.get_num_threads())
    parallel = model.device.type == "cpu" and all(threads_safe(module) for module in model)
    call = Call(model, request, finish, collector, parallel)
    starts = range(0, len(request.inputs), WINDOW)
    truncated, limit = 0, None
    running: list[Running] = []  # the window being computed, and for a moment the one before
    with _progress_bar(request) as advance:
        try:
            for place, start in enumerate(starts):
                window = Window.of(request.inputs[start : start + WINDOW], start, distinct=parallel)
                batches: list[Batch] = [Elsewhere(len(window.inputs))]
                if share.has(place, len(starts)):
                    prepared = model.prepare(window.inputs, request.prompt, **request.prepare_kwargs)
                    limit = prepared.limit
                    truncated += window.count(prepared.cut) if share.tells(place, len(starts)) else 0
                    if truncated and request.on_truncate == "error":
                        raise ValueError(_truncation(truncated, len(request.inputs), limit))
                    plan = call.plan(prepared, share.threads)
                    batches = call.submit(window, prepared, plan, share.batches(place, len(starts)))
                running.append(Running(window, batches))
                if len(running) == 2:
                    running.pop(0).finish(collector, advance)
            for last in running:
                last.finish(collector, advance)
        finally:
            for window_left in running:
                window_left.cancel()
    return Cut(truncated, limit)


def warn_of(request: Request, cut: Cut) -> None:
    """Log how many inputs were truncated, unless the call wants otherwise."""
    if cut.count and request.on_truncate == "warn":
        logger.warning(_truncation(cut.count, len(request.inputs), cut.limit))


@dataclass(frozen=True)
class Window:
    """The inputs that are tokenised together, each different text, or pair of texts, once.

    inputs: the different ones. places: where their results go. copies, copied: places that repeat another place.
    """

    inputs: Sequence[Any]
    places: Ints
    copies: Ints
    copied: Ints

    @classmethod
    def of(cls, inputs: Sequence[Any], start: int, distinct: bool) -> Window:
        first: dict[Any, int] = {}
        keys = [_key(item) for item in inputs] if distinct else []
        if None not in keys:
            for place, key in enumerate(keys):
                first.setdefault(key, place)
        none = np.empty(0, dtype=np.int64)
        if len(first) in (0, len(inputs)):
            return cls(inputs, np.arange(start, start + len(inputs)), none, none)
        pairs = [(place, first[key]) for place, key in enumerate(keys) if first[key] != place]
        copies, copied = np.array(pairs, dtype=np.int64).T + start
        kept = np.fromiter(first.values(), dtype=np.int64)
        return cls([inputs[place] for place in kept], kept + start, copies, copied)

    def count(self, rows: Sequence[int]) -> int:
        """How many inputs the different ones with these numbers stand for."""
        return len(rows) + int(np.isin(self.copied, self.places[list(rows)]).sum()) if rows else 0


def _key(item: Any) -> Any:
    """What equal texts and pairs of texts have in common; None for any other input."""
    if isinstance(item, str):
        return item
    is_pair = isinstance(item, (list, tuple)) and all(isinstance(part, str) for part in item)
    return tuple(item) if is_pair else None


@dataclass(frozen=True)
class Running:
    """A window under way."""

    window: Window
    batches: list[Batch]

    def finish(self, collector: Collector, advance: Advance) -> None:
        """Wait for its batches, then fill the places of repeated texts."""
        try:
            for batch in self.batches:
                advance(batch.result())
        except BaseException:
            self.cancel()
            raise
        if len(self.window.copies):
            collector.repeat(self.window.copied, self.window.copies)
            advance(len(self.window.copies))

    def cancel(self) -> None:
        """Don't start what has not started."""
        for batch in self.batches:
            batch.cancel()


@dataclass(frozen=True)
class Call:
    """What is the same for all windows of a call. parallel: several threads may compute batches at once."""

    model: Model
    request: Request
    finish: Finish
    collector: Collector
    parallel: bool

    def plan(self, prepared: Any, threads: int) -> list[Ints]:
        """The numbers of the inputs of every batch of a window."""
        if self.parallel:
            budget = token_budget(int(prepared.sizes.sum()), threads)
        else:
            budget = BUDGET * threads if self.model.device.type == "cpu" else GPU_BUDGET
        return list(Plan.build(prepared.sizes, self.request.batch_size, budget))

    def submit(self, window: Window, prepared: Any, plan: list[Ints], here: slice) -> list[Batch]:
        """Start the batches that are for here, or put them off where only the calling thread may compute."""

        def step(rows: Ints) -> int:
            with torch.inference_mode():
                features = to_device(prepared.batch(rows), self.model.device)
                found = self.finish(self.model(features, **self.request.forward_kwargs))
                self.collector.put(window.places[rows], found)
            return len(rows)

        batches = plan[here]
        elsewhere = Elsewhere(len(prepared.sizes) - sum(map(len, batches)))
        if self.parallel and torch.get_num_threads() == 1:
            return [elsewhere, *(Later(step, rows, nullcontext()) for rows in batches)]
        if not self.parallel or len(plan) == 1:
            return [elsewhere, *(Later(step, rows, _all_cores) for rows in batches)]
        workers = cpu_workers()
        return [elsewhere, *(workers.submit(step, rows) for rows in batches)]


class Elsewhere:
    """Inputs that another process computes meanwhile."""

    def __init__(self, count: int) -> None:
        self.count = count

    def result(self) -> int:
        return self.count

    def cancel(self) -> bool:
        return True


class Later:
    """A batch that the calling thread computes when it is waited for, holding ``lock``."""

    def __init__(self, step: Callable[[Ints], int], rows: Ints, lock: AbstractContextManager[Any]) -> None:
        self.step, self.rows, self.lock = step, rows, lock

    def result(self) -> int:
        with self.lock:
            return self.step(self.rows)

    def cancel(self) -> bool:
        return True


# One batch at a time in the whole process: modules that keep state are safe then, and so is the speed, because two
# batches that want every core disturb one another. Whoever may use one core only disturbs nobody, and takes no lock.
_all_cores = threading.RLock()


@contextmanager
def _progress_bar(request: Request) -> Iterator[Advance]:
    """A function that takes the number of inputs just done."""
    if not request.progress:
        yield lambda count: None
        return
    from tqdm.auto import tqdm  # its import costs more than encoding a few sentences

    with tqdm(total=len(request.inputs), desc="Batches", unit="input") as bar:
        yield bar.update


def _truncation(count: int, total: int, limit: int | None) -> str:
    return (
        f"{count} of {total} inputs are longer than max_seq_length = {limit} tokens; only {limit} tokens of each count."
        " Split them, raise model.max_seq_length if the model allows it, or pass on_truncate='ignore'."
    )
