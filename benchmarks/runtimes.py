"""The ways of computing a model that are compared: ours, the reference's, and other programs'.

A further way is a row of ``WAYS``; what is not there on this machine is left out, and the report says why.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.race import Side, WorkerError, progress
from benchmarks.report import machine
from benchmarks.run import Run

PROGRAM = "engines.py"
CALIBRATION = 300
PACKAGES = ("sentence-transformers", "transformers", "torch", "optimum", "optimum-onnx", "optimum-intel", "onnx")
RUNTIMES = ("onnxruntime", "openvino", "nncf", "ctranslate2", "fastembed")


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        side: whose package or interpreter: "ours", "reference" or "peers".
        name: what it is, for tables.
        form: of the model's folder (``engines.FORMS``); "" is the folder as it came.
        engine: what opens it (``engines.ENGINES``).
        settings: for that.
        rounds: the same side's way that this one rounds to 8 bits; "" for one that does not.
    """

    side: str
    name: str
    form: str = ""
    engine: str = "sentence_transformers"
    settings: Mapping[str, Any] = field(default_factory=dict)
    rounds: str = ""

    @property
    def title(self) -> str:
        return f"{self.side}, {self.name}"


ONNX = {"backend": "onnx", "graph": "onnx/*.onnx"}
OPENVINO = {"backend": "openvino", "graph": "openvino/*.xml"}
EXACT = {"model_kwargs": {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}}
"""Without it OpenVINO computes in bfloat16 where the processor can, and says nothing."""
FILE = {"graph": "onnx/*.onnx"}

BASE = Way("reference", "torch")
INT8 = Way("ours", "int8", settings={"model_kwargs": {"quantize": "int8"}}, rounds="torch")
WAYS = (
    BASE,
    Way("reference", "torch, bfloat16", settings={"model_kwargs": {"dtype": "bfloat16"}}),
    Way("peers", "torch"),
    Way("peers", "ONNX", "onnx", settings=ONNX),
    Way("peers", "ONNX int8", "onnx_int8", settings=ONNX, rounds="ONNX"),
    Way("peers", "OpenVINO as it comes", "openvino", settings=OPENVINO),
    Way("peers", "OpenVINO float32", "openvino", settings=OPENVINO | EXACT),
    Way("peers", "OpenVINO int8", "openvino_int8", settings=OPENVINO, rounds="OpenVINO float32"),
    Way(
        "peers",
        "OpenVINO int8, 8 a batch",
        "openvino_int8",
        settings=OPENVINO | {"batch": 8},
        rounds="OpenVINO float32",
    ),
    Way("peers", "CTranslate2 float32", "ctranslate2", "ctranslate2", {"compute_type": "float32"}),
    Way(
        "peers", "CTranslate2 int8", "ctranslate2_int8", "ctranslate2", {"compute_type": "int8"}, "CTranslate2 float32"
    ),
    Way(
        "peers",
        "CTranslate2 int8, 8 a batch",
        "ctranslate2_int8",
        "ctranslate2",
        {"compute_type": "int8", "batch": 8},
        "CTranslate2 float32",
    ),
    Way("peers", "fastembed", "fastembed", "fastembed", FILE),
    Way("peers", "fastembed, sorted texts", "fastembed", "fastembed", {**FILE, "sorted": True}),
    Way("peers", "fastembed int8, sorted texts", "fastembed_int8", "fastembed", {**FILE, "sorted": True}, "fastembed"),
    Way("ours", "torch"),
    Way("ours", "torch, bfloat16", settings={"model_kwargs": {"dtype": "bfloat16"}}),
    INT8,
    Way("ours", "ONNX", "onnx", settings=ONNX),
    Way("ours", "ONNX int8", "onnx_int8", settings=ONNX, rounds="ONNX"),
    Way("ours", "OpenVINO", "openvino", settings=OPENVINO),
    Way("ours", "OpenVINO int8", "openvino_int8", settings=OPENVINO, rounds="OpenVINO"),
    Way("ours", "GraphEncoder", "onnx", "graph_encoder", ONNX),
    Way("ours", "GraphEncoder int8", "onnx_int8", "graph_encoder", ONNX, "GraphEncoder"),
)


class Forms:
    """Writes each form of the model when it is first asked for.

    Attributes:
        missing: what could not be had, by the title of a way, and why.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.missing: dict[str, str] = {}
        self._folders: dict[tuple[str, str], Path | WorkerError] = {}

    def open(self, way: Way) -> Side:
        """A fresh process that has opened a way; the caller closes it.

        Raises: WorkerError if there is no such interpreter, the form cannot be written or the process cannot open it.
        """
        folder = self.folder(way.side, way.form)
        progress(f"opening {way.title}")
        side = self.run.start(way.side, PROGRAM, way.title)
        try:
            threads = self.run.options.threads
            side.ask("open", engine=way.engine, folder=str(folder), threads=threads, settings=dict(way.settings))
        except WorkerError:
            side.close()
            raise
        return side

    def folder(self, side: str, form: str) -> Path:
        """Where the form is. Raises: WorkerError, each time, if it cannot be written."""
        if self.run.python(side) is None:
            raise WorkerError(f"no interpreter was given: --{side}-python")
        if not form:
            return self.run.options.model
        if (side, form) not in self._folders:
            progress(f"{side}: writing {form}")
            self._folders[side, form] = self._write(side, form)
        found = self._folders[side, form]
        if isinstance(found, WorkerError):
            raise found
        return found

    def skip(self, way: Way, error: WorkerError) -> None:
        """Remember why a way is left out."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ... ".join(dict.fromkeys([lines[0], lines[-1]]))  # of a process that died the last line says more
        self.missing[way.title] = reason if len(reason) <= 300 else f"{reason[:300]} ..."
        progress(f"left out: {way.title}: {self.missing[way.title]}")

    def notes(self) -> list[str]:
        """What was left out, as sentences."""
        return [f"left out: {title}: {reason}" for title, reason in self.missing.items()]

    def versions(self) -> dict[str, dict[str, str]]:
        """Those of every side that is there."""
        found = {}
        for side in ("ours", "reference", "peers"):
            if self.run.python(side) is not None:
                with self.run.start(side, PROGRAM) as asked:
                    found[side] = asked.ask("versions", names=[*PACKAGES, *RUNTIMES])
        return found

    def _write(self, side: str, form: str) -> Path | WorkerError:
        folder = self.run.folder / f"{side}-{form}"
        try:
            with self.run.start(side, PROGRAM) as asked:
                asked.ask(
                    "write",
                    form=form,
                    source=str(self.run.options.model),
                    folder=str(folder),
                    level=level(),
                    calibration=str(self._calibration()),
                )
        except WorkerError as error:
            return error
        return folder

    def _calibration(self) -> Path:
        folder = self.run.folder / "calibration"
        if not folder.is_dir():
            folder.mkdir()
            with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["sentence"])
                rows.writerows([text] for text in corpora.for_calibration(CALIBRATION))
        return folder


def level() -> str:
    """The instructions that 8 bits are exported for: a name that both packages know."""
    flags = machine()["flags"]
    return next(
        (name for flag, name in {"avx512_vnni": "avx512_vnni", "asimd": "arm64"}.items() if flag in flags), "avx2"
    )
