"""Datasets to the loaders of batches: which sampler, which collator, how many workers and processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader

from . import samplers
from .arguments import BaseTrainingArguments
from .datasets import check_not_streamed, is_streamed
from .dealt import Dealt, Joined, Stream

logger = logging.getLogger(__name__)


def loader(
    dataset: Any,
    args: BaseTrainingArguments,
    collator: Any,
    batch_size: int,
    *,
    drop_last: bool,
    valid_label_columns: list[str] | None = None,
) -> DataLoader[Any]:
    """A loader of collated batches; of several datasets, each batch is of one.

    It has the batches of all processes, which ``accelerate`` gives out in turn: at every step they are at one dataset,
    and what a sampler says of a batch (no text twice) is true of all their batches together.

    Args:
        dataset: one, or several by name.
        batch_size: of one process.
        drop_last: leave out a last batch that is smaller.

    Raises: ValueError for several datasets of which one is streamed.
    """
    settings: dict[str, Any] = {
        "collate_fn": collator,
        "worker_init_fn": begin_worker,
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory and args.device.type != "cpu",
        "persistent_workers": args.dataloader_persistent_workers,
        "multiprocessing_context": args.dataloader_multiprocessing_context,
        "prefetch_factor": args.dataloader_prefetch_factor,
    }
    count = args.world_size
    if is_streamed(dataset):
        rows = dataset if count == 1 else Stream(dataset)
        return DataLoader(rows, batch_size=batch_size, drop_last=drop_last, **settings)
    generator = seeded(args.seed)
    if not isinstance(dataset, Mapping):
        is_joint = count > 1 and _compares_rows(args.batch_sampler)
        size = batch_size * count if is_joint else batch_size
        one = _sampler(dataset, args, size, drop_last, valid_label_columns, generator)
        return DataLoader(dataset, batch_sampler=Dealt(one, count) if is_joint else one, **settings)
    check_not_streamed(dataset)
    each = []
    for name, part in dataset.items():
        is_joint = count == 1 or _compares_rows(args.batch_sampler)
        size = batch_size * count if is_joint else batch_size
        one = _sampler(part, args, size, drop_last, valid_label_columns, generator)
        each.append(one if is_joint else Joined(one, count))
        if not len(each[-1]):
            logger.warning("Dataset %r has too few rows for a batch of %d, and is left out.", name, batch_size * count)
    joined: ConcatDataset[Any] = ConcatDataset(list(dataset.values()))
    mixed = samplers.multi_dataset_batch_sampler(args.multi_dataset_batch_sampler, joined, each, generator, args.seed)
    return DataLoader(joined, batch_sampler=mixed if count == 1 else Dealt(mixed, count), **settings)


def of_this_process(made: DataLoader[Any], accelerator: Accelerator, is_training: bool) -> DataLoader[Any]:
    """Of what ``loader`` made the batches of this process, on its device."""
    # in training, batches are not filled up with examples of others: in-batch negatives would have duplicates
    accelerator.even_batches = not is_training
    if accelerator.dispatch_batches is None:  # of a stream, one process would read for all, in tensors of one shape
        accelerator.dataloader_config.dispatch_batches = False
    found: DataLoader[Any] = accelerator.prepare(made)
    shard = found.batch_sampler
    if isinstance(shard, BatchSamplerShard):  # when training is resumed, this is whom ``accelerate`` tells the epoch
        vars(shard).setdefault("sampler", shard.batch_sampler.sampler)
    return found


def begin_worker(number: int) -> None:
    """In a process that loads: tokenise in one thread. Those of the parent are not there, and would be waited for."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def empty_loader(collator: Any) -> DataLoader[Any]:
    """A loader without batches, for an evaluation that has an evaluator and no dataset."""
    return DataLoader([], batch_size=1, collate_fn=collator)  # type: ignore[arg-type]


def seeded(seed: int) -> torch.Generator:
    """Random numbers of their own, so that what else is drawn does not change the order of examples."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


def _sampler(
    dataset: Any,
    args: BaseTrainingArguments,
    batch_size: int,
    drop_last: bool,
    valid_label_columns: list[str] | None,
    generator: torch.Generator,
) -> BatchSampler:
    return samplers.batch_sampler(
        args.batch_sampler, dataset, batch_size, drop_last, valid_label_columns, generator, args.seed
    )


def _compares_rows(choice: Any) -> bool:
    """Whether a sampler chooses rows by the others of the batch, so that it must know the batches of all processes."""
    return isinstance(choice, samplers.BatchSamplers) and choice in (
        samplers.BatchSamplers.NO_DUPLICATES,
        samplers.BatchSamplers.NO_DUPLICATES_HASHED,
    )
