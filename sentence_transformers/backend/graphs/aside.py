"""Where OpenVINO's cores are made: in a thread that ends, so that none of them is left with a stack that is gone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def aside(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """``function(*args, **kwargs)``, in a thread of its own that is waited for.

    On processors with AMX a core of OpenVINO (2026.4) gives the thread that first uses it another stack for signals,
    and puts the one before back when it ends. Of two cores that do not end in reverse order, the second puts back the
    stack of the first, which is freed: the next signal, such as that of a finished child process, kills the process.
    """
    with ThreadPoolExecutor(1, "openvino") as pool:
        return pool.submit(function, *args, **kwargs).result()
