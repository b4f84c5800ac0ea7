"""Record values and gradients of the reference: ``REFERENCE/bin/python -W ignore tests/parity/record_losses_pairs.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_pairs_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import losses_pairs_facts as facts
import tiny
from sentence_transformers.sentence_transformer import losses

from sentence_transformers import SentenceTransformer


def main(path: Path) -> None:
    with TemporaryDirectory() as folder:
        model = SentenceTransformer(str(tiny.build("bert", Path(folder) / "bert")), device="cpu").double().eval()
        golden = {
            "cases": {name: facts.evaluated(losses, name) for name in facts.CASES},
            "softmax": {name: facts.classified(losses, name) for name in facts.SOFTMAX},
            "layered": {name: facts.layered(losses, name, model) for name in facts.LAYERED},
        }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_pairs.json")
