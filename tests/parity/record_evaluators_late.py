"""Record metrics of the reference: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_late.py``.

Run by hand with an interpreter that has the reference and ``datasets`` installed, from another directory, never in CI.
Uses its public API only; the cases are in ``evaluators_late_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

os.environ |= {"HF_DATASETS_CACHE": mkdtemp(), "HF_HUB_OFFLINE": "1"}  # read when ``datasets`` is imported

import evaluators_late_facts as facts  # noqa: E402
from sentence_transformers.multi_vector_encoder import evaluation, scoring  # noqa: E402


def main(path: Path) -> None:
    folder = Path(mkdtemp())
    facts.write_nano(folder)
    os.chdir(folder)
    golden = {
        "cases": {name: facts.outcome(evaluation, scoring, name) for name in facts.CASES},
        "refused": {name: facts.refusal(evaluation, scoring, name) for name in facts.REFUSED},
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    at = Path(__file__).resolve().parent / "golden_evaluators_late.json"
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else at)
