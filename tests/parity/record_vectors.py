"""Record what the reference implementation finds with FAISS and USearch: ``REFERENCE/bin/python record_vectors.py``.

Run by hand with an interpreter that has the reference, ``faiss-cpu`` and ``usearch`` installed, from another directory,
never in CI. Uses its public API only; the inputs are in ``vectors_facts.py``. Knows nothing of our package.
"""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from pathlib import Path

import vectors_facts as facts
from sentence_transformers.util.quantization import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_usearch,
)

FUNCTIONS = {"faiss": semantic_search_faiss, "usearch": semantic_search_usearch}


def rounded(found: list[list[list[float]]]) -> list[list[list[float]]]:
    return [[[row, round(score, 6)] for row, score in hits] for hits in found]


def main(path: Path) -> None:
    logging.disable(logging.WARNING)
    rows, _ = facts.embeddings("wide")
    golden = {
        "found": {name: rounded(facts.found(name, FUNCTIONS, quantize_embeddings)) for name in facts.CALLS},
        "refused": {
            name: {library: facts.outcome(partial(call, search, rows)) for library, search in FUNCTIONS.items()}
            for name, call in facts.REFUSED.items()
        },
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_vectors.json")
