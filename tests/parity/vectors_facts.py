"""What is searched with FAISS and USearch, by the recorder and by the tests: embeddings, and calls on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ROWS, QUERIES = 60, 3
WIDTHS = {"wide": 24, "odd": 20}  # 20 is no multiple of 8

CALLS: dict[str, dict[str, Any]] = {
    "faiss float32": {},
    "faiss float32, graph": {"exact": False, "top_k": 5},
    "faiss float32, all": {"top_k": 100, "rescore": False},
    "faiss float32, width 20": {"embeddings": "odd"},
    "faiss float32, index": {"through_index": True},
    "faiss uint8": {"limits": "ranges", "top_k": 5},
    "faiss uint8, calibrated": {"limits": "calibration_embeddings", "top_k": 5},
    "faiss uint8, ranges of the queries": {"top_k": 5},
    "faiss uint8, factor 1": {"limits": "ranges", "rescore_multiplier": 1},
    "faiss uint8, factor 4": {"limits": "ranges", "top_k": 3, "rescore_multiplier": 4},
    "faiss uint8, all": {"limits": "ranges", "top_k": 100},
    "faiss uint8, steps": {"limits": "ranges", "rescore": False},
    "faiss uint8, graph": {"limits": "ranges", "exact": False, "top_k": 5},
    "faiss uint8, quantised": {"limits": "ranges", "queries_too": True},
    "faiss uint8, index": {"limits": "ranges", "through_index": True, "top_k": 5},
    "faiss ubinary": {"top_k": 5},
    "faiss ubinary, all": {"top_k": 100},
    "faiss ubinary, bits": {"rescore": False},
    "faiss ubinary, width 20": {"embeddings": "odd", "top_k": 100},
    "faiss ubinary, quantised": {"queries_too": True},
    "faiss ubinary, index": {"through_index": True, "top_k": 100},
    "usearch float32": {},
    "usearch float32, graph": {"exact": False, "top_k": 5},
    "usearch float32, all": {"top_k": 100, "rescore": False},
    "usearch float32, index": {"through_index": True},
    "usearch int8": {"limits": "ranges", "top_k": 5},
    "usearch int8, calibrated": {"limits": "calibration_embeddings", "top_k": 5},
    "usearch int8, ranges of the queries": {"top_k": 5},
    "usearch int8, factor 4": {"limits": "ranges", "top_k": 3, "rescore_multiplier": 4},
    "usearch int8, all": {"limits": "ranges", "top_k": 100},
    "usearch int8, steps": {"limits": "ranges", "rescore": False},
    "usearch int8, quantised": {"limits": "ranges", "queries_too": True},
    "usearch int8, index": {"limits": "ranges", "through_index": True, "top_k": 5},
    # which of equally distant rows USearch takes is chance: either all are candidates, or nothing is rescored
    "usearch ubinary, all": {"top_k": 100},
    "usearch ubinary, bits": {"rescore": False},
    "usearch ubinary, width 20": {"embeddings": "odd", "top_k": 100},
    "usearch ubinary, index": {"through_index": True, "top_k": 100},
    "usearch binary, all": {"top_k": 100},
    "usearch binary, bits": {"rescore": False},
    "usearch binary, width 20": {"embeddings": "odd", "top_k": 100},
    "usearch binary, quantised": {"queries_too": True},
    "usearch binary, index": {"through_index": True, "top_k": 100},
}
REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "neither": lambda search, rows: search(rows[:2]),
    "both": lambda search, rows: search(rows[:2], rows, corpus_index=search(rows[:2], rows, output_index=True)[2]),
    "unknown precision": lambda search, rows: search(rows[:2], rows, corpus_precision="int4"),
    "precision of the other library": lambda search, rows: search(
        rows[:2], rows, corpus_precision="int8" if "faiss" in search.__name__ else "uint8"
    ),
    "ranges of one query": lambda search, rows: search(
        rows[:1],
        np.zeros(rows.shape, dtype="uint8" if "faiss" in search.__name__ else "int8"),
        corpus_precision="uint8" if "faiss" in search.__name__ else "int8",
    ),
}


def embeddings(name: str) -> tuple[Any, Any]:
    """(ROWS, D) and (QUERIES, D) float32; a query is near some rows."""
    random = np.random.default_rng(5)
    width = WIDTHS[name]
    corpus = random.normal(size=(ROWS, width)) + 0.5 * random.normal(size=width)
    queries = corpus[:QUERIES] + 0.7 * random.normal(size=(QUERIES, width))
    return corpus.astype(np.float32), queries.astype(np.float32)


def found(name: str, functions: dict[str, Any], quantize: Callable[..., Any]) -> list[list[list[float]]]:
    """Pairs (id, score) for each query of a call in ``CALLS``.

    Args:
        functions: ``faiss`` and ``usearch`` -> the function. quantize: gives bits packed.
    """
    library, precision = name.partition(",")[0].split()
    options = dict(CALLS[name])
    corpus, queries = embeddings(options.pop("embeddings", "wide"))
    ranges = np.stack([corpus.min(0), corpus.max(0)])
    limits = options.pop("limits", None)
    if limits is not None:
        options[limits] = ranges if limits == "ranges" else corpus
    rows = quantize(corpus, precision, ranges=ranges)
    if options.pop("queries_too", False):
        queries = quantize(queries, precision, ranges=ranges)
    search = functions[library]
    if options.pop("through_index", False):
        index = search(queries, rows, corpus_precision=precision, output_index=True, **options)[2]
        answer = search(queries, corpus_index=index, corpus_precision=precision, **options)
    else:
        answer = search(queries, rows, corpus_precision=precision, **options)
    return [[[hit["corpus_id"], hit["score"]] for hit in hits] for hits in answer[0]]


def outcome(call: Callable[[], Any]) -> str:
    """The name of the exception that a call raises."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "nothing"
