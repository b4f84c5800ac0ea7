"""Record values and gradients of the reference: ``REF/bin/python -W ignore tests/parity/record_losses_sparse.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_sparse_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import losses_sparse_facts as facts
import tiny_heads
from sentence_transformers.sparse_encoder import losses

from sentence_transformers import SparseEncoder


def main(path: Path) -> None:
    golden: dict[str, Any] = {name: facts.sparse(losses, name) for name in facts.SPLADE}
    golden |= {name: facts.reconstructed(losses, name) for name in facts.CSR}
    with TemporaryDirectory() as folder:
        for place, name in enumerate(facts.TRAINED):
            where = facts.folder_of(tiny_heads, name, Path(folder) / str(place))
            model = SparseEncoder(str(where), device="cpu").double().eval()
            golden[name] = facts.trained(losses, name, model)
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_sparse.json")
