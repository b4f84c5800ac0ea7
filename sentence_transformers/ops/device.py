"""Which device to compute on. Knows torch, and nothing of models."""

from __future__ import annotations

import os

import torch
import torch.distributed


def get_device_name() -> str:
    """The best device of this process: ``"cuda:<index>"``, ``"mps"``, ``"npu"``, ``"xpu"``, ``"hpu"`` or ``"cpu"``.

    The CUDA index is ``LOCAL_RANK``, else the rank in the process group, else 0; modulo the number of visible
    devices, so that ranks of a second node, or of a process that sees one device only, find theirs.

    Raises: ValueError if ``LOCAL_RANK`` is set to something that is not an integer.
    """
    if torch.cuda.is_available():
        return f"cuda:{_local_rank() % max(1, torch.cuda.device_count())}"
    if torch.backends.mps.is_available():
        return "mps"
    return next((name for name in ("npu", "xpu", "hpu") if _is_available(name)), "cpu")


def _local_rank() -> int:
    text = os.environ.get("LOCAL_RANK")
    if text:
        return max(0, int(text))  # older launchers write -1 for "not distributed"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return 0


def _is_available(name: str) -> bool:
    """Whether torch, or a plugin that registered itself with torch, has such a device."""
    backend = getattr(torch, name, None)  # plugins (npu, hpu) add themselves here, when they are there at all
    return backend is not None and bool(backend.is_available())


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; to a GPU through pinned memory, without waiting for what is computed there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
