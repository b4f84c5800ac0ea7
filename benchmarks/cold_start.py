"""How long does a fresh process take to import the package, and to import, load and encode three sentences?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.race import WorkerError, progress, ratio, time_process
from benchmarks.report import Report
from benchmarks.run import Run
from benchmarks.runtimes import Forms

NOTHING = "print('{}')"
IMPORT = """
import json, sys, time
start = time.perf_counter()
import sentence_transformers
print(json.dumps({"import": time.perf_counter() - start, "torch": "torch" in sys.modules}))
"""
ENCODE = """
import json, sys, time
start = time.perf_counter()
from sentence_transformers import SentenceTransformer
imported = time.perf_counter()
model = SentenceTransformer(sys.argv[1])
loaded = time.perf_counter()
model.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
done = time.perf_counter()
print(json.dumps({"import": imported - start, "load": loaded - imported, "encode": done - loaded}))
"""
GRAPH = """
import json, sys, time
start = time.perf_counter()
from sentence_transformers import GraphEncoder
imported = time.perf_counter()
model = GraphEncoder(sys.argv[1])
loaded = time.perf_counter()
model.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
done = time.perf_counter()
heavy = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps({"import": imported - start, "load": loaded - imported, "encode": done - loaded, "heavy": heavy}))
"""

PARTS = ("import", "load", "encode")

Walls = dict[str, list[float]]
Inside = dict[str, list[dict[str, Any]]]


def measure(run: Run) -> Report:
    """Wall clock of whole processes, the two sides paired; one run of each is thrown away first (disk, bytecode)."""
    report = Report("Cold start", ["", *run.names, "median of ratios"])
    empty, _ = _pairs(run, "python alone", NOTHING)
    imports, inside = _pairs(run, "import", IMPORT)
    whole, parts = _pairs(run, "import, load, encode", ENCODE)
    report.rows = [
        _row("python alone, whole process, ms", empty),
        _row("import sentence_transformers, whole process, ms", imports),
        _row("import sentence_transformers, inside, ms", {n: [r["import"] for r in f] for n, f in inside.items()}),
        _row("import, load, encode three sentences, whole process, ms", whole),
        *(_row(f"... {part}, inside, ms", {n: [r[part] for r in f] for n, f in parts.items()}) for part in PARTS),
    ]
    loaded = ", ".join(f"{name} {'yes' if found[0]['torch'] else 'no'}" for name, found in inside.items())
    report.notes += [f"{run.options.rounds} pairs of fresh processes", f"torch loaded by the import: {loaded}"]
    report.numbers = {"empty": empty, "import": imports, "import_inside": inside, "encode": whole, "parts": parts}
    _through_a_graph(run, report)
    return report


def _through_a_graph(run: Run, report: Report) -> None:
    """Ours without torch from an ONNX file, against the reference with torch."""
    try:
        folder = Forms(run).folder("ours", "onnx")
        walls, inside = _pairs(run, "through a graph", ENCODE, {"ours": (GRAPH, folder)})
    except WorkerError as error:
        report.notes.append(f"left out: through a graph: {' ... '.join(str(error).split(chr(10))[:2])}")
        return
    report.rows.append(_row("... ours by GraphEncoder (ONNX), the reference as above, whole process, ms", walls))
    mine = {part: median(found[part] for found in inside["ours"]) for part in PARTS}
    report.notes += [
        "GraphEncoder, inside: " + ", ".join(f"{part} {value * 1000:,.0f} ms" for part, value in mine.items()),
        f"GraphEncoder loads of torch and transformers: {inside['ours'][0]['heavy'] or 'neither'}",
    ]
    report.numbers |= {"graph": walls, "graph_parts": inside}


def _pairs(
    run: Run, title: str, script: str, others: Mapping[str, tuple[str, Path]] | None = None
) -> tuple[Walls, Inside]:
    """others: script and folder of a side that gets its own; else it is ``script`` and the model as it came."""
    options, given = run.options, others or {}
    walls: Walls = {name: [] for name in run.names}
    inside: Inside = {name: [] for name in run.names}
    for number in range(options.rounds + 1):
        progress(f"cold: {title}, {'warm-up' if number == 0 else f'pair {number} of {options.rounds}'}")
        for name in run.names if number % 2 else run.names[::-1]:
            own = name == "ours" and options.ours_is_checkout
            program, model = given.get(name, (script, options.model))
            command = [str(run.python(name)), "-c", program, str(model)]
            wall, found = time_process(command, own=own, threads=options.threads)
            if number > 0:
                walls[name].append(wall)
                inside[name].append(found)
    return walls, inside


def _row(title: str, values: Walls) -> list[str]:
    compared = f"{ratio(values['ours'], values['reference']):.3f}" if "reference" in values else ""
    return [title, *(f"{median(found) * 1000:,.0f}" for found in values.values()), compared]
