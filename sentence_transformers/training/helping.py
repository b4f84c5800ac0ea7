"""Work of rank 0 whose calls of an encoder are computed by all processes, while the others wait for them.

Only what ``encode`` or ``predict`` computes is shared, in the batches of one process, so results are the same to the
last bit. What is done with the results is done once, and so is what is written.
"""

from __future__ import annotations

import io
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..encoders.padded import PaddedInputs
from ..inference.run import Cut, Request, compute, warn_of
from ..inference.share import Gathered, Kept, Parcel, Share, offered_to

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE = timedelta(days=7)
"""How long a process waits for rank 0, which may be busy with something else than encoding. If it dies, the connection
breaks at once."""
LEAST = 2
"""So many inputs a process make a call worth sharing."""


@dataclass(frozen=True)
class Job:
    """A call of the encoder: pickled model, ``Request``, what makes rows of features, and what packs them."""

    call: bytes
    count: int
    threads: int


@dataclass(frozen=True)
class Done:
    """The work is done. value: its result."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """What a process raised; and where, as text."""

    error: Exception
    trace: str


@dataclass(frozen=True)
class Answer:
    """The rows of one process, and what it has to say of truncation."""

    parcels: list[Parcel]
    cut: Cut


class ElsewhereError(RuntimeError):
    """Where an error of another process comes from: the cause of that error here."""


def is_possible() -> bool:
    """Whether there are other processes, and a way to talk to them besides that of training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and dist.is_gloo_available()


def together(work: Callable[[], Result], model: Any) -> Result:
    """Do work on rank 0, with the help of the others for calls of the model. To be called by all processes.

    Args:
        work: what rank 0 does. It must not change the model, and must not wait for the other processes by itself.
        model: an encoder, the same in all processes; calls of it that this thread makes are shared.

    Returns: what the work returns, in all processes; it must be picklable.
    Raises: what the work or a call of the model raised, in all processes.
    """
    with _group() as group:
        if dist.get_rank():
            return _serve(model, group)  # type: ignore[no-any-return]
        try:
            with offered_to(Helpers(model, group)):
                value = work()
            message = pickle.dumps(Done(value))
        except Exception as error:
            _broadcast(pickle.dumps(_failure(error)), group)
            raise
        _broadcast(message, group)
        return value


class Helpers:
    """Shares calls of a model among all processes; the helper (``offered_to``) of rank 0.

    Args:
        model: the encoder whose calls are shared; those of others are left alone.
        group: of all processes.
    """

    def __init__(self, model: Any, group: Any) -> None:
        self.model = model
        self.group = group
        self._is_free = threading.Lock()

    def __call__(self, model: Any, request: Request, finish: Any, collector: Any) -> bool:
        """Whether the call was computed here and elsewhere, and its rows given to ``collector``."""
        inner = model.model if isinstance(model, PaddedInputs) else model
        world = dist.get_world_size(self.group)
        if inner is not self.model or len(request.inputs) < LEAST * world:
            return False
        quiet = replace(request, progress=False)
        call = _dumped((model, quiet, finish, collector.pack), self.model)
        if call is None or not self._is_free.acquire(blocking=False):
            return False
        try:
            self._share(Job(call, world, torch.get_num_threads()), model, request, finish, collector)
        finally:
            self._is_free.release()
        return True

    def _share(self, job: Job, model: Any, request: Request, finish: Any, collector: Any) -> None:
        _broadcast(pickle.dumps(job), self.group)
        gathered = Gathered(collector, len(request.inputs), model.device)
        failures: list[Exception] = []
        cuts: list[Cut] = []
        try:
            with offered_to(None):
                cuts.append(compute(model, request, finish, gathered, Share(0, job.count, job.threads)))
        except Exception as error:
            failures.append(error)
        for rank in range(1, job.count):  # of all of them, also after an error: else they would wait for ever
            answer = _receive(rank, self.group)
            if isinstance(answer, Failure):
                failures.append(_raised(answer, rank))
            elif not failures:
                gathered.add(answer.parcels)
                cuts.append(answer.cut)
        if failures:
            raise failures[0]
        gathered.finish()
        limits = [cut.limit for cut in cuts if cut.limit is not None]
        warn_of(request, Cut(sum(cut.count for cut in cuts), limits[0] if limits else None))


def _serve(model: Any, group: Any) -> Any:
    """Help rank 0 until its work is done; what it returned or raised."""
    while True:
        message = pickle.loads(_broadcast(None, group))
        if isinstance(message, Done):
            return message.value
        if isinstance(message, Failure):
            raise _raised(message, 0)
        dist.send_object_list([pickle.dumps(_answer(message, model))], 0, group=group)


def _answer(job: Job, model: Any) -> Answer | Failure:
    try:
        if model.training:
            model.eval()
        called, request, finish, pack = _loaded(job.call, model)
        kept = Kept(pack)
        cut = compute(called, request, finish, kept, Share(dist.get_rank(), job.count, job.threads))
        return Answer(kept.parcels, cut)
    except Exception as error:
        return _failure(error)


# --- messages ---------------------------------------------------------------------------------------------------------


@contextmanager
def _group() -> Iterator[Any]:
    """All processes, on a way of their own: that of training may be impatient, or only for tensors on GPUs."""
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield group
    dist.destroy_process_group(group)


def _broadcast(message: bytes | None, group: Any) -> bytes:
    """What rank 0 says."""
    box = [message]
    dist.broadcast_object_list(box, 0, group=group)
    assert box[0] is not None
    return box[0]


def _receive(rank: int, group: Any) -> Any:
    box: list[Any] = [None]
    dist.recv_object_list(box, rank, group=group)
    return pickle.loads(box[0])


class _Pickler(pickle.Pickler):
    """Pickles a call; for the model it puts a mark."""

    def __init__(self, file: io.BytesIO, model: Any) -> None:
        super().__init__(file)
        self._model = model

    def persistent_id(self, obj: Any) -> str | None:
        return "model" if obj is self._model else None


class _Unpickler(pickle.Unpickler):
    """Reads a call; for the mark it puts the model of this process."""

    def __init__(self, file: io.BytesIO, model: Any) -> None:
        super().__init__(file)
        self._model = model

    def persistent_load(self, pid: str) -> Any:
        return self._model


def _dumped(call: Any, model: Any) -> bytes | None:
    """The call as bytes; None where something in it cannot be pickled, e.g. a function of the user."""
    file = io.BytesIO()
    try:
        _Pickler(file, model).dump(call)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickle raises of various objects
        logger.debug("A call is not shared among processes: %s", error)
        return None
    return file.getvalue()


def _loaded(call: bytes, model: Any) -> Any:
    return _Unpickler(io.BytesIO(call), model).load()


def _failure(error: Exception) -> Failure:
    """The error so that it can be sent: itself, or one that says its type and text."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        same = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever the pickling of somebody's error raises
        same = False
    return Failure(error if same else RuntimeError(f"{type(error).__name__}: {error}"), trace)


def _raised(failure: Failure, rank: int) -> Exception:
    """The error of another process, which is said to be its cause."""
    failure.error.__cause__ = ElsewhereError(f"It was raised in process {rank}:\n{failure.trace}")
    return failure.error
