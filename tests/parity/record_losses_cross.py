"""Record values and gradients of the reference: ``REF/bin/python -W ignore tests/parity/record_losses_cross.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_cross_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import losses_cross_facts as facts
import tiny_heads
from sentence_transformers.cross_encoder import losses

from sentence_transformers import CrossEncoder


def main(path: Path) -> None:
    with TemporaryDirectory() as folder:
        where = {count: tiny_heads.build_classifier("bert", Path(folder) / str(count), count) for count in (1, 3)}
        models = {count: facts.spread(CrossEncoder(str(path), device="cpu")) for count, path in where.items()}
        golden = {
            "cases": {name: facts.evaluated(losses, name, models[facts.labels_of(name)]) for name in facts.CASES},
            "prompted": {name: facts.evaluated(losses, name, models[1], facts.PROMPT) for name in facts.PROMPTED},
            "refused": {name: facts.refused(losses, name, models) for name in facts.REFUSED},
        }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_cross.json")
