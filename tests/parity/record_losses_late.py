"""Record values and gradients of the reference: ``REF/bin/python -W ignore tests/parity/record_losses_late.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_late_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import losses_late_facts as facts
import tiny_heads
from sentence_transformers.multi_vector_encoder import losses, scoring

from sentence_transformers import MultiVectorEncoder


def main(path: Path) -> None:
    golden: dict[str, Any] = {name: facts.evaluated(losses, scoring, name) for name in facts.CASES}
    with TemporaryDirectory() as folder:
        for name, (settings, _) in facts.TRAINED.items():
            where = tiny_heads.build_late("bert", Path(folder) / name.replace(", ", "-"), **settings)
            model = MultiVectorEncoder(str(where), device="cpu").double().eval()
            golden[name] = facts.trained(losses, scoring, name, model)
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_late.json")
