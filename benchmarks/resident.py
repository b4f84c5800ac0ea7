"""How much memory does a process that has opened a model take? A fresh one for each way of computing it."""

from __future__ import annotations

from pathlib import Path

from benchmarks import corpora
from benchmarks.memory import MEGABYTE
from benchmarks.race import WorkerError, progress
from benchmarks.report import Report
from benchmarks.run import Run
from benchmarks.runtimes import PROGRAM, WAYS, Forms, Way

TEXTS = 32
WEIGHTS = {
    "onnx": "onnx/*.onnx*",
    "openvino": "openvino/*.bin",
    "ctranslate2": "model.bin",
    "fastembed": "onnx/*.onnx*",
}
"""The files that hold the weights of a form, by the first word of its name."""
NAMES = {
    "imports": "imports alone",
    "opened": "model opened",
    "encoded": f"{TEXTS} texts encoded",
    "model": "encoded less imports",
    "weights": "weights",
}


def measure(run: Run) -> Report:
    """Resident sets, and the bytes of the weights: of tensors that are alive in torch, else of the file."""
    report = Report("Memory of an open model, MB", ["", *NAMES.values(), "of the side's float32", "weights, of that"])
    texts = corpora.passages(TEXTS)
    forms, whole = Forms(run), dict[str, dict[str, int]]()
    for way in _distinct():
        try:
            found = _measure(run, forms, way, texts.items)
        except WorkerError as error:
            forms.skip(way, error)
            continue
        whole[way.title] = found
        base = whole.get(f"{way.side}, {way.rounds}", found)
        parts = [f"{found[part] / base[part]:.2f}" for part in ("model", "weights")]
        report.rows.append([way.title, *(f"{found[name] / MEGABYTE:,.0f}" for name in NAMES), *parts])
    report.notes += [
        "resident sets of a fresh process each; the imports are those of a process that opens nothing",
        f"{texts.source}, one call of at most {TEXTS}: so that all weights that are mapped from files have been read",
        "weights: of torch, all tensors that are alive once the model is open; else the file's bytes",
        *forms.notes(),
    ]
    report.numbers = {"bytes": whole, "left out": forms.missing}
    return report


def _measure(run: Run, forms: Forms, way: Way, texts: list[str]) -> dict[str, int]:
    folder = forms.folder(way.side, way.form)
    progress(f"memory of {way.title}")
    with run.start(way.side, PROGRAM, way.title) as side:
        found = {"imports": side.ask("bring", engine=way.engine, settings=dict(way.settings))["resident"]}
    with forms.open(way) as side:
        run.give("texts", texts, [side])
        found["opened"] = side.ask("resident")["resident"]
        found["weights"] = _file_bytes(folder, way) if way.form else side.ask("tensors")["bytes"]
        found["encoded"] = side.ask("embed", name="texts")["resident"]
    return {**found, "model": found["encoded"] - found["imports"]}


def _distinct() -> list[Way]:
    """The first of the ways that open the same thing in the same manner."""
    found: dict[tuple[str, ...], Way] = {}
    for way in WAYS:
        found.setdefault((way.side, way.form, way.engine, str(way.settings.get("model_kwargs"))), way)
    return list(found.values())


def _file_bytes(folder: Path, way: Way) -> int:
    return sum(path.stat().st_size for path in folder.glob(WEIGHTS[way.form.split("_")[0]]))
