"""OpenVINO's cores leave nothing behind in the thread that asks for them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.graphs.aside import aside
from sentence_transformers.backend.graphs.session import OpenVinoSession
from sentence_transformers.modules import graphs

TinyFolder = Callable[[str], Path]


class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> int | None:
    """Where signals of this thread go; None: to its usual stack."""
    found = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    start = found.start
    return start if isinstance(start, int) else None


def test_results_and_errors_come_back() -> None:
    assert aside(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        aside(int, "x")


@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are set so on Linux")
def test_graphs_may_be_closed_in_any_order(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("onnx", reason="needs the extra onnx")
    path = tmp_path / "model.onnx"
    graphs.export(list(SentenceTransformer(str(tiny_folder("bert")), device="cpu")), path)
    before = signal_stack()
    first, second = (OpenVinoSession(path, {"CACHE_DIR": ""}) for _ in range(2))
    assert signal_stack() == before
    del first
    del second
    assert signal_stack() == before
