"""The settings of a training run: those of transformers, and what training on columns of texts adds.

They are checked and brought into form here; what they do is said by ``samplers``, ``collator`` and ``trainer``.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from .samplers import BatchSamplers, MultiDatasetBatchSamplers

logger = logging.getLogger(__name__)

SAMPLERS = ("batch_sampler", "multi_dataset_batch_sampler")
ALMOST_ALL = math.nextafter(1.0, 0.0)
"""As ``warmup_steps``, the ratio of all steps; 1.0 would be one step."""


@dataclass
class BaseTrainingArguments(TrainingArguments):
    """Settings of a training run, for every family of models; those below beside all of transformers' own.

    Args:
        prompts: what to put before the inputs: one text for all, or by column, by dataset, or by dataset and column.
            Also as JSON.
        batch_sampler: how the batches of one dataset are made up (see ``samplers.batch_sampler``).
        multi_dataset_batch_sampler: how the batches of several datasets follow each other.
        router_mapping: column -> route of a ``Router``; or dataset -> column -> route. Also as JSON.
        learning_rate_mapping: regular expression -> learning rate of the parameters whose names it finds. Also as JSON.
        warmup_ratio: the old name of a ``warmup_steps`` below 1: the part of all steps in which the rate rises.
        evaluation_strategy: the old name of ``eval_strategy``.

    Raises: ValueError for settings that cannot be, or that contradict each other.
    """

    prompts: str | None | dict[str, str] | dict[str, dict[str, str]] = field(
        default=None,
        metadata={
            "help": "A text to put before all inputs; or by column, by dataset, or by dataset and column (JSON)."
        },
    )
    batch_sampler: BatchSamplers | str | Any = field(
        default=BatchSamplers.BATCH_SAMPLER,
        metadata={
            "help": f"One of: {', '.join(BatchSamplers)}. In code also a class or function that makes a sampler."
        },
    )
    multi_dataset_batch_sampler: MultiDatasetBatchSamplers | str | Any = field(
        default=MultiDatasetBatchSamplers.PROPORTIONAL,
        metadata={"help": f"One of: {', '.join(MultiDatasetBatchSamplers)}. In code also a class or function."},
    )
    router_mapping: str | None | dict[str, str] | dict[str, dict[str, str]] = field(
        default_factory=dict,
        metadata={"help": "Column -> route of a Router, or dataset -> column -> route (JSON)."},
    )
    learning_rate_mapping: str | None | dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "Regular expression for names of parameters -> their learning rate (JSON)."},
    )
    warmup_ratio: float | None = field(
        default=None,
        metadata={"help": "Deprecated: give warmup_steps a number below 1."},
    )
    evaluation_strategy: str | None = field(
        default=None,
        metadata={"help": "The old name of eval_strategy."},
    )

    def __post_init__(self) -> None:
        self._take_old_names()
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.prediction_loss_only = True
        self.ddp_broadcast_buffers = False
        for name, kind in zip(SAMPLERS, (BatchSamplers, MultiDatasetBatchSamplers), strict=True):
            chosen = getattr(self, name)
            if isinstance(chosen, str) or not callable(chosen):
                setattr(self, name, kind(chosen))
        self.prompts = _texts("prompts", self.prompts, "column -> prompt, or dataset -> column -> prompt")
        self.router_mapping = _mapping("router_mapping", self.router_mapping, "column names -> routes such as 'query'")
        _texts("router_mapping", self.router_mapping, "column -> route, or dataset -> column -> route")
        self.learning_rate_mapping = _rates(self.learning_rate_mapping)
        self._check_device()
        self._check_processes()

    def _take_old_names(self) -> None:
        if self.evaluation_strategy is not None:
            if self.eval_strategy not in ("no", self.evaluation_strategy):
                raise ValueError(
                    f"evaluation_strategy is the old name of eval_strategy; got {self.evaluation_strategy!r} and "
                    f"{self.eval_strategy!r}. Give eval_strategy alone."
                )
            self.eval_strategy, self.evaluation_strategy = self.evaluation_strategy, None
        if self.warmup_ratio is None or self.warmup_steps:
            return
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio must be between 0 and 1, got {self.warmup_ratio!r}.")
        warnings.warn(
            f"warmup_ratio is deprecated: give warmup_steps={self.warmup_ratio} instead; numbers below 1 are parts of "
            "all steps.",
            FutureWarning,
            stacklevel=4,  # this, __post_init__, __init__, the caller
        )
        self.warmup_steps, self.warmup_ratio = min(self.warmup_ratio, ALMOST_ALL), None

    def _check_device(self) -> None:
        """Without a GPU, half precision is off, also where it comes from the environment (``accelerate launch``)."""
        if self.mixed_precision == "fp16" and self.device.type == "cpu":
            _tell_once("fp16=True needs a GPU; there is none, so training is in float32.")
            self.fp16, self.mixed_precision = False, "no"

    def _check_processes(self) -> None:
        if self.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
            _tell_once(
                f"{self.n_gpu} GPUs share this process (DataParallel), which is slow and not tested. Start one process "
                "for each with `torchrun` or `accelerate launch`; or let it see one GPU alone: CUDA_VISIBLE_DEVICES=0."
            )
        elif self.parallel_mode == ParallelMode.DISTRIBUTED and not self.dataloader_drop_last:
            _tell_once("dataloader_drop_last=True is set: processes that train together need batches of equal size.")
            self.dataloader_drop_last = True
        if self.dataloader_num_workers and not self.dataloader_persistent_workers and _workers_import_anew(self):
            _tell_once(
                "Workers that load data are started anew, with all imports, in every epoch and at every evaluation. "
                "dataloader_persistent_workers=True keeps them."
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as they can be written down: without functions and classes, and without old names."""
        found: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        del found["evaluation_strategy"]
        return {name: value for name, value in found.items() if name not in SAMPLERS or not callable(value)}


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    """Settings of the training of a ``SentenceTransformer``; see ``BaseTrainingArguments``."""


@dataclass
class CrossEncoderTrainingArguments(BaseTrainingArguments):
    """Settings of the training of a ``CrossEncoder``; see ``BaseTrainingArguments``.

    ``prompts`` is one text or dataset -> text, ``router_mapping`` is dataset -> task: pairs are made of columns.
    """


@dataclass
class SparseEncoderTrainingArguments(BaseTrainingArguments):
    """Settings of the training of a ``SparseEncoder``; see ``BaseTrainingArguments``."""


@dataclass
class MultiVectorEncoderTrainingArguments(BaseTrainingArguments):
    """Settings of the training of a ``MultiVectorEncoder``; see ``BaseTrainingArguments``.

    Args:
        max_length: the most tokens of an input in training, and where the loss is evaluated; or by task,
            ``{"query": 32, "document": 180}``. Also as JSON. None: what the model takes.
    """

    max_length: int | None | str | dict[str, int] = field(
        default=None,
        metadata={"help": "The most tokens of an input in training; or by task, query and document (JSON)."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.max_length = _length(self.max_length)


def _length(value: Any) -> int | dict[str, int] | None:
    """A number of tokens >= 1, or one by task. Raises: ValueError for anything else."""
    if isinstance(value, str):
        value = int(value) if value.isdigit() else _mapping("max_length", value, "task -> number of tokens")
    for task, length in (value if isinstance(value, Mapping) else {"query": value}).items():
        is_number = isinstance(length, int) and not isinstance(length, bool) and length >= 1
        if task not in ("query", "document") or not (is_number or (value is None)):
            raise ValueError(
                "max_length must be a number of tokens >= 1, or one by task, {'query': 32, 'document': 180}; got "
                f"{value!r}."
            )
    return dict(value) if isinstance(value, Mapping) else value


def _mapping(name: str, value: Any, meaning: str) -> dict[str, Any]:
    """A mapping, which may be given as JSON; None is an empty one."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"The `{name}` argument must be a dictionary: {meaning}; or one as JSON. Found {value!r}: {error}."
            ) from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"The `{name}` argument must be a dictionary: {meaning}; or one as JSON. Found {value!r}.")
    return dict(found)


def _texts(name: str, value: Any, meaning: str) -> Any:
    """None, a text, or a mapping of one or two levels to texts (None for no text); a text may be JSON of these."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            value = _mapping(name, value, meaning)
        elif value.startswith('"'):
            value = _unquoted(value)
    if value is None or isinstance(value, str):
        return value
    levels: list[Mapping[str, Any]] = [_mapping(name, value, meaning)]
    levels += [one for one in levels[0].values() if isinstance(one, Mapping)]
    for level in levels:
        for key, one in level.items():
            if not isinstance(one, (str, type(None))) and not (level is levels[0] and isinstance(one, Mapping)):
                raise ValueError(f"The `{name}` argument must be a dictionary: {meaning}. Found {one!r} for {key!r}.")
    return levels[0]


def _unquoted(value: str) -> str:
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        return value
    return found if isinstance(found, str) else value


def _rates(value: Any) -> dict[str, float]:
    rates = _mapping("learning_rate_mapping", value, "regular expressions for names of parameters -> learning rates")
    for pattern, rate in rates.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"learning_rate_mapping: {pattern!r} is no regular expression: {error}.") from error
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate < 0:
            raise ValueError(f"learning_rate_mapping: expected a learning rate >= 0 for {pattern!r}, found {rate!r}.")
    return rates


def _workers_import_anew(arguments: TrainingArguments) -> bool:
    method = arguments.dataloader_multiprocessing_context or multiprocessing.get_start_method(allow_none=True)
    return (method or multiprocessing.get_all_start_methods()[0]) != "fork"


@cache
def _tell_once(message: str) -> None:
    logger.warning(message)
