"""Record metrics of the reference: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_pairs.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``evaluators_pairs_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import evaluators_pairs_facts as facts
from sentence_transformers.sentence_transformer import evaluation


def main(path: Path) -> None:
    golden = {
        "cases": {name: facts.outcome(evaluation, name) for name in facts.CASES},
        "refused": {name: facts.refusal(evaluation, name) for name in facts.REFUSED},
        "thresholds": {name: facts.thresholds(evaluation, name) for name in facts.THRESHOLDS},
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_evaluators_pairs.json")
