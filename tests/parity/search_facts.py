"""What is searched, mined and grouped, by the recorder and by the tests: texts beside the repository, and small rows.

Embeddings of texts are made anew on both sides; small rows of 1 and -1, of a width with an exact root, have exact
scores, most of them equal to others.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from typing import Any

import numpy as np
from texts import Rows, data_file

TITLES, SENTENCES, DOCUMENTS = 1500, 1000, 1000


def lines(*parts: str) -> list[dict[str, str]]:
    """The rows of a data file, .csv.gz, .jsonl.gz or .jsonl."""
    data = data_file(*parts).read_bytes()
    text = (gzip.decompress(data) if parts[-1].endswith(".gz") else data).decode("utf-8")
    if ".csv" in parts[-1]:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


def texts(name: str) -> list[str]:
    """A sample of a data set, always the same."""
    if name == "stackoverflow":
        titles = [row["text"] for row in lines("stackoverflow_titles", "titles.csv.gz")]
        counts = Counter(titles)
        return [title for title in titles if counts[title] > 1] + titles[:TITLES]
    if name == "mrpc":
        pairs = lines("mrpc", "mrpc.csv.gz")[: SENTENCES // 2]
        return [row[side] for row in pairs for side in ("sentence1", "sentence2")]
    if name == "cranfield queries":
        return [row["text"] for row in lines("cranfield", "queries.jsonl")]
    if name == "cranfield":
        return [row["title"] for row in lines("cranfield", "corpus.jsonl.gz")]
    if name == "npl queries":
        return [row["text"] for row in lines("npl", "queries.jsonl")]
    return [row["text"] for row in lines("npl", "corpus.jsonl.gz")[:DOCUMENTS]]


TEXTS = ("stackoverflow", "mrpc", "cranfield queries", "cranfield", "npl queries", "npl")


def checksum(items: list[str]) -> int:
    return zlib.crc32("\n".join(items).encode())


SEARCHES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cranfield": ("cranfield queries", "cranfield", {}),
    "npl": ("npl queries", "npl", {"top_k": 20, "query_chunk_size": 17, "corpus_chunk_size": 300}),
    "duplicates": ("mrpc", "mrpc", {"top_k": 2}),
}
MININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "stackoverflow": ("stackoverflow", {"max_pairs": 1500}),
    "npl, few neighbours": ("npl", {"top_k": 2}),
    "mrpc": ("mrpc", {"max_pairs": 1000, "top_k": 30, "query_chunk_size": 90, "corpus_chunk_size": 200}),
    "cranfield": ("cranfield", {"max_pairs": 700}),
}
GROUPINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "stackoverflow": ("stackoverflow", {"threshold": 0.5, "min_community_size": 10}),
    "stackoverflow, small": ("stackoverflow", {"threshold": 0.6, "min_community_size": 3, "batch_size": 100}),
    "mrpc": ("mrpc", {"min_community_size": 2}),
    "cranfield": ("cranfield", {"threshold": 0.7, "min_community_size": 4}),
    "npl": ("npl", {"threshold": 0.6, "min_community_size": 5}),
    "npl, all": ("npl", {"threshold": 0.8, "min_community_size": 1}),
}


def sign_rows(seed: int) -> tuple[Rows, float, int]:
    """Rows (n, 4 or 16) of 1 and -1, a threshold that many of their cosines equal, and a community's least size."""
    make = np.random.default_rng(seed)
    width, count = int(make.choice([4, 16])), int(make.integers(5, 70))
    groups = make.choice([-1.0, 1.0], size=(max(2, count // 4), width))
    rows = groups[make.integers(0, len(groups), count)]
    rows = np.where(make.random(rows.shape) < make.choice([0, 0.05, 0.1]), -rows, rows)
    threshold, smallest = make.choice([0.5, 0.75, 0.875, 1.0, 0.0, -0.5]), int(make.integers(1, 5))
    return rows.astype(np.float32), float(threshold), smallest


SEEDS = range(40)
MOST_PAIRS = {seed: (3, 25, 10000)[seed % 3] for seed in range(9)}
"""How many pairs are mined of the rows of some seeds."""


def plain_rows(count: int) -> Rows:
    """Rows without equal scores."""
    return np.random.default_rng(count).normal(size=(count, 24)).astype(np.float32)


NEIGHBOURS = {60: {"top_k": 2}, 61: {"top_k": 5, "max_pairs": 100}, 62: {"top_k": 1, "query_chunk_size": 7}}
"""Rows of ``plain_rows``, and how they are mined: which neighbours a row has is not left to chance there."""
