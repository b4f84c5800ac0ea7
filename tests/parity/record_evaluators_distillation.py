"""Record what the evaluator gives: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_distillation.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``distillation_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import distillation_facts as facts
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorDistillationEvaluator as Evaluator


def outcome(name: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return facts.outcome(Evaluator, scoring, name, Path(folder))


def main(path: Path) -> None:
    golden = {name: outcome(name) for name in facts.CASES}
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "golden_evaluators_distillation.json")
