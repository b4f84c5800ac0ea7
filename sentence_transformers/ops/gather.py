"""Tensors of all processes of a ``torch.distributed`` group, and who one is among them. Knows nothing of models.

A process that is in no group is the only one: rank 0 of 1, with its own tensors.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)


def is_dist_initialized() -> bool:
    """Whether this process is in a process group."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """The number of this process in its group."""
    return dist.get_rank() if is_dist_initialized() else 0


def get_world_size() -> int:
    """How many processes the group has."""
    return dist.get_world_size() if is_dist_initialized() else 1


def all_gather(tensor: Tensor, with_grad: bool = False) -> Tensor:
    """The tensors of all processes one behind the other, in the order of their ranks.

    Args:
        tensor: (B, ...), of one shape and dtype on all processes.
        with_grad: whether gradients flow back into the tensors of the other processes; otherwise only into this one's.

    Returns: (world size * B, ...); the tensor itself, and once a warning in the log, without a process group.
    """
    if not is_dist_initialized():
        _say_alone()
        return tensor
    if with_grad:
        gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
        return gathered
    parts = _parts(tensor.detach())
    parts[dist.get_rank()] = tensor
    return torch.cat(parts)


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """``all_gather`` with gradients into the tensors of all processes."""
    return all_gather(tensor, with_grad=True)


def all_gather_padded(tensor: Tensor, mask: Tensor, with_grad: bool = False) -> tuple[Tensor, Tensor]:
    """``all_gather`` of token vectors, of which each process may have another number.

    Args:
        tensor: (B, T, D); B, D and the dtype are the same on all processes.
        mask: (B, T), 1 or true for a real token.
        with_grad: as of ``all_gather``.

    Returns: (world size * B, largest T, D), and the mask, (world size * B, largest T), both filled with 0 on the right.
    Raises: ValueError, on all processes, if they differ in B.
    """
    if not is_dist_initialized():
        _say_alone()
        return tensor, mask
    shape = torch.tensor([tensor.shape[0], tensor.shape[1]], device=tensor.device)
    batches, tokens = zip(*(part.tolist() for part in _parts(shape)), strict=True)
    if len(set(batches)) > 1:
        raise ValueError(
            f"all_gather_padded() needs one batch size on all processes, got {list(batches)}: drop the last batch."
        )
    missing = max(tokens) - tensor.shape[1]
    return (
        all_gather(F.pad(tensor, (0, 0, 0, missing)), with_grad=with_grad),
        all_gather(F.pad(mask, (0, missing))),
    )


def all_gather_objects(value: Any) -> list[Any]:
    """What all processes have in place of ``value``, in the order of their ranks; it must be picklable."""
    if not is_dist_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


class _Gather(torch.autograd.Function):
    """Gather; backwards, each process gets the sum of what all processes ask of its tensor."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        context.rows = len(tensor)
        return torch.cat(_parts(tensor))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * context.rows
        return total[start : start + context.rows]


def _parts(tensor: Tensor) -> list[Tensor]:
    whole = tensor.contiguous()
    parts = [torch.empty_like(whole) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, whole)
    return parts


@cache
def _say_alone() -> None:
    logger.warning(
        "There is no torch.distributed process group, so there is nothing to gather: the tensor of this process is "
        "used. On a single device that is as it should be; gathering can then be turned off."
    )
