"""Record values and gradients of the reference: ``REF/bin/python -W ignore tests/parity/record_losses_listwise.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_listwise_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import losses_listwise_facts as facts
from sentence_transformers.cross_encoder import losses


def main(path: Path) -> None:
    golden = {name: facts.evaluated(losses, name) for name in facts.CASES}
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_listwise.json")
