"""Record values and gradients of the reference: ``REF/bin/python -W ignore tests/parity/record_losses_contrastive.py``.

Run by hand with an interpreter that has the reference installed, from another directory, never in CI. Uses its public
API only; the cases are in ``losses_contrastive_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import losses_contrastive_facts as facts
import tiny
from sentence_transformers.sentence_transformer import losses
from transformers import AutoTokenizer


def main(path: Path) -> None:
    with TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(str(tiny.build("bert", Path(folder) / "bert")))
    golden = {name: facts.evaluated(losses, name, tokenizer) for name in facts.CASES}
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_losses_contrastive.json")
