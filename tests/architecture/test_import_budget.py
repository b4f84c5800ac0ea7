"""What importing costs: each fact is measured in a fresh process."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sentence_transformers._lazy import _without_collector
from tests.architecture.layers import CHECKOUT, TRAINING_ONLY

HEAVY = {"torch", "numpy", "transformers", "tokenizers", "safetensors", "huggingface_hub", "tqdm", *TRAINING_ONLY}

REPORT = """
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
{statements}
seconds = time.perf_counter() - start
print(json.dumps({{"loaded": sorted(set(sys.modules) - before), "seconds": seconds}}))
"""


def run(statements: str) -> dict[str, Any]:
    """Run ``statements`` in a fresh interpreter.

    Returns: ``loaded``, the names of the modules they brought, and ``seconds``.
    """
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(statements=statements)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def packages(result: dict[str, Any]) -> set[str]:
    return {module.partition(".")[0] for module in result["loaded"]}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert packages(run("import sentence_transformers")) & HEAVY == set()


def test_importing_the_package_loads_few_modules() -> None:
    assert len(run("import sentence_transformers")["loaded"]) < 60


def test_importing_the_package_takes_under_a_tenth_of_a_second() -> None:
    run("import sentence_transformers")  # writes the byte code
    assert min(run("import sentence_transformers")["seconds"] for _ in range(3)) < 0.1


def test_reading_the_version_and_the_list_of_names_loads_nothing_heavy() -> None:
    result = run("import sentence_transformers as s; s.__version__, s.__all__, dir(s), s.util, s.models")
    assert packages(result) & HEAVY == set()


def test_a_name_loads_its_file_and_the_others_stay_away() -> None:
    loaded = run("from sentence_transformers import SimilarityFunction")["loaded"]
    assert "sentence_transformers.ops.similarity" in loaded
    assert not [module for module in loaded if module.startswith("sentence_transformers.encoders")]


def test_the_dense_encoder_is_imported_without_transformers_and_the_packages_of_training() -> None:
    loaded = packages(run("from sentence_transformers import SentenceTransformer"))
    assert loaded & {"transformers", *TRAINING_ONLY} == set()


def test_encoding_needs_neither_transformers_nor_the_packages_of_training(minilm_folder: Path) -> None:
    statements = (
        "from sentence_transformers import SentenceTransformer\n"
        f"SentenceTransformer({str(minilm_folder)!r}, device='cpu').encode('hello')"
    )
    assert packages(run(statements)) & {"transformers", *TRAINING_ONLY} == set()


def test_names_are_imported_without_the_garbage_collector_and_it_is_on_again_afterwards() -> None:
    seen: list[bool] = []
    with _without_collector():
        seen.append(gc.isenabled())
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        with _without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
