"""Record metrics of the reference: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_sparse.py``.

Run by hand with an interpreter that has the reference and ``datasets`` installed, from another directory, never in CI.
Uses its public API only; the cases are in ``evaluators_sparse_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

os.environ |= {"HF_DATASETS_CACHE": mkdtemp(), "HF_HUB_OFFLINE": "1"}  # read when ``datasets`` is imported

import evaluators_sparse_facts as facts  # noqa: E402
from sentence_transformers.sparse_encoder import evaluation  # noqa: E402


def main(path: Path) -> None:
    folder = Path(mkdtemp())
    facts.write_nano(folder)
    os.chdir(folder)
    golden = {
        "arguments": facts.arguments(evaluation),
        "cases": {name: facts.outcome(evaluation, name) for name in facts.CASES},
        "fusions": {name: facts.fused(evaluation, name) for name in facts.FUSIONS},
        "fusions_refused": {name: facts.fusion_refusal(evaluation, name) for name in facts.FUSIONS_REFUSED},
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    at = Path(__file__).resolve().parent / "golden_evaluators_sparse.json"
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else at)
