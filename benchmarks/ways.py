"""Ways to find the best rows of a corpus for queries: functions, and a program that runs one with its own interpreter.

Every way takes float32 unit rows, queries (q, D) and a corpus (n, D), and returns ids (q, ``TOP``) best first, exactly
and by cosine. A further way is a function and a line in ``WAYS``. As a program, imports nothing of this repository.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    Rows: TypeAlias = Any
    """An array."""

TOP = 10


def exact(queries: Rows, corpus: Rows) -> Rows:
    """``util.semantic_search``."""
    from sentence_transformers import util

    return _ids(util.semantic_search(queries, corpus, top_k=TOP))


def faiss(queries: Rows, corpus: Rows) -> Rows:
    """``semantic_search_faiss`` without approximation."""
    from sentence_transformers.util.quantization import semantic_search_faiss

    found = semantic_search_faiss(queries, corpus, top_k=TOP, corpus_precision="float32", exact=True, rescore=False)
    return _ids(found[0])


def usearch(queries: Rows, corpus: Rows) -> Rows:
    """``semantic_search_usearch`` without approximation."""
    from sentence_transformers.util.quantization import semantic_search_usearch

    found = semantic_search_usearch(queries, corpus, top_k=TOP, corpus_precision="float32", exact=True, rescore=False)
    return _ids(found[0])


def store(queries: Rows, corpus: Rows) -> Rows:
    """The embedded store, written to a folder and opened anew."""
    import numpy as np
    from sentence_transformers.stores import EmbeddedStore

    with tempfile.TemporaryDirectory() as folder:
        with EmbeddedStore(folder) as writing:
            writing.add([str(place) for place in range(len(corpus))], corpus)
        with EmbeddedStore(folder, create=False) as reading:
            return np.array([[int(match.id) for match in row] for row in reading.search(queries, top_k=TOP)])


WAYS: dict[str, Callable[[Rows, Rows], Rows]] = {"exact": exact, "faiss": faiss, "usearch": usearch, "store": store}


def _ids(found: list[list[dict[str, Any]]]) -> Rows:
    import numpy as np

    return np.array([[hit["corpus_id"] for hit in hits] for hits in found])


def main(way: str, queries: str, corpus: str) -> None:
    """Print the ids as JSON. queries, corpus: .npy files."""
    import numpy as np

    print(json.dumps(WAYS[way](np.load(queries), np.load(corpus)).tolist()))


if __name__ == "__main__":
    here = Path(__file__).resolve().parent  # its files must not hide others of the same names
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    main(*sys.argv[1:])
