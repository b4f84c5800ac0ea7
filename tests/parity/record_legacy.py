"""Record what the reference gives: ``REFERENCE/bin/python -W ignore tests/parity/record_legacy.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``legacy_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import legacy_facts as facts
from sentence_transformers.sentence_transformer import datasets, losses, readers

from sentence_transformers import SentenceTransformer


def main(path: Path) -> None:
    space = SimpleNamespace(**{k: v for one in (datasets, losses, readers) for k, v in vars(one).items()})
    with tempfile.TemporaryDirectory() as folder:
        golden = {
            "read": {name: facts.read(space, name, Path(folder)) for name in facts.READ},
            "data": facts.data(space),
            "losses": {
                name: make(space, lambda folder: SentenceTransformer(str(folder), device="cpu"))
                for name, make in facts.LOSSES.items()
            },
        }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_legacy.json")
