"""Record what the reference does: ``REFERENCE/bin/python -W ignore tests/parity/record_fit.py``.

Run by hand with an interpreter that has the reference and accelerate installed, from another directory, never in CI.
Uses its public API only; the cases are in ``fit_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import fit_facts as facts
from sentence_transformers.base.evaluation import BaseEvaluator

from sentence_transformers import InputExample, SentenceTransformer


def main(path: Path) -> None:
    space = SimpleNamespace(BaseEvaluator=BaseEvaluator, InputExample=InputExample)
    golden = {
        name: facts.run(space, lambda folder: SentenceTransformer(folder, device="cpu"), getattr, name)
        for name in facts.CASES
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    goal = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_fit.json"
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # the reference makes folders where it is
        main(goal)
