"""What is mined and resolved, by the recorder and by the tests: a model that looks its vectors up, and calls of it."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

WIDTH = 16
ANCHORS = [f"q{one}" for one in (0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 2, 0)]
POSITIVES = [f"p{one}" for one in (0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 9, 0)]  # q2 has three, and the last row is a duplicate
CORPUS = [f"c{one}" for one in range(60)] + ["p3", "c7"]


def vectors() -> dict[str, Any]:
    """Text -> (WIDTH,) float32; a positive is near its anchor, or not quite."""
    random = np.random.default_rng(11)
    found = {text: random.normal(size=WIDTH) for text in dict.fromkeys([*ANCHORS, *POSITIVES, *CORPUS])}
    for anchor, near in zip(ANCHORS[:8], POSITIVES[:8], strict=True):
        found[near] = found[anchor] + 0.9 * found[near]
    for corpus in range(0, 60, 3):
        found[f"c{corpus}"] = found[f"q{corpus % 8}"] + 1.2 * found[f"c{corpus}"]
    return {text: row.astype(np.float32) for text, row in found.items()}


class Lookup:
    """Stands for a SentenceTransformer; ``calls`` has what it was asked to encode."""

    device = torch.device("cpu")

    def __init__(self, similarity: str = "cosine") -> None:
        self.similarity_fn_name = similarity
        self.vectors = vectors()
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []

    def encode_query(self, texts: list[str], **options: Any) -> Any:
        return self._encode("query", texts, options)

    def encode_document(self, texts: list[str], **options: Any) -> Any:
        return self._encode("document", texts, options)

    def _encode(self, role: str, texts: list[str], options: dict[str, Any]) -> Any:
        self.calls.append((role, list(texts), options))
        rows = np.stack([self.vectors[text] for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if options["normalize_embeddings"] else rows

    def similarity(self, left: Any, right: Any) -> torch.Tensor:
        left, right = torch.as_tensor(left), torch.as_tensor(right)
        return -torch.cdist(left, right) if self.similarity_fn_name == "euclidean" else left @ right.T

    def similarity_pairwise(self, left: Any, right: Any) -> torch.Tensor:
        left, right = torch.as_tensor(left), torch.as_tensor(right)
        return -(left - right).norm(dim=1) if self.similarity_fn_name == "euclidean" else (left * right).sum(dim=1)

    def get_embedding_dimension(self) -> int:
        return WIDTH


class Reader:
    """Stands for a CrossEncoder: any number that depends on both texts."""

    def predict(self, pairs: list[tuple[str, str]], **options: Any) -> torch.Tensor:
        return torch.tensor([zlib.crc32(f"{left} {right}".encode()) % 9973 / 9973 for left, right in pairs])


SCORED: dict[str, Any] = {"corpus": CORPUS, "output_scores": True}
CALLS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "positives only, scores": {"output_scores": True},
    "corpus": SCORED,
    "faiss": {**SCORED, "use_faiss": True},
    "n-tuple": {**SCORED, "output_format": "n-tuple", "num_negatives": 5},
    "labeled-pair": {"corpus": CORPUS, "output_format": "labeled-pair"},
    "labeled-pair, scores": {**SCORED, "output_format": "labeled-pair"},
    "labeled-list": {"corpus": CORPUS, "output_format": "labeled-list"},
    "labeled-list, scores": {**SCORED, "output_format": "labeled-list"},
    "range": {**SCORED, "range_min": 4, "range_max": 9},
    "range_min": {**SCORED, "range_min": 10, "num_negatives": 2},
    "range past the corpus": {**SCORED, "range_min": 66, "range_max": 90, "num_negatives": 8},
    "absolute margin": {**SCORED, "absolute_margin": 0.2},
    "negative margin": {**SCORED, "absolute_margin": -0.1},
    "relative margin": {**SCORED, "relative_margin": 0.05},
    "max_score": {**SCORED, "max_score": 0.4},
    "min_score": {**SCORED, "min_score": 0.45},
    "all limits": {
        **SCORED,
        "relative_margin": 0.1,
        "absolute_margin": 0.05,
        "max_score": 0.5,
        "min_score": 0.2,
        "num_negatives": 6,
    },
    "limits and range": {**SCORED, "max_score": 0.5, "range_min": 3, "range_max": 12, "num_negatives": 4},
    "limits, n-tuple": {**SCORED, "absolute_margin": 0.3, "range_max": 20, "output_format": "n-tuple"},
    "limits, labeled-pair": {**SCORED, "absolute_margin": 0.3, "range_max": 20, "output_format": "labeled-pair"},
    "limits, labeled-list": {**SCORED, "absolute_margin": 0.3, "range_max": 20, "output_format": "labeled-list"},
    "random": {**SCORED, "sampling_strategy": "random", "range_max": 30},
    "random of few": {**SCORED, "sampling_strategy": "random", "range_max": 30, "absolute_margin": 0.3},
    "random of all": {**SCORED, "sampling_strategy": "random", "range_min": 5, "range_max": 65, "num_negatives": 9},
    "include positives": {**SCORED, "include_positives": True},
    # not 0.0: a positive that is compared with itself is then dropped or kept by how its score was rounded
    "include positives, margin": {**SCORED, "include_positives": True, "absolute_margin": 0.05, "range_max": 40},
    "include positives, overlap": {**SCORED, "include_positives": True, "absolute_margin": -0.05, "range_max": 40},
    "reranked": {**SCORED, "cross_encoder": Reader(), "absolute_margin": 0.05},
    "reranked, min_score": {**SCORED, "cross_encoder": Reader(), "min_score": 0.3, "output_format": "labeled-list"},
    "reranked, positives": {**SCORED, "cross_encoder": Reader(), "max_score": 0.9, "include_positives": True},
    "reranker without limits": {**SCORED, "cross_encoder": Reader()},
    "other names": {**SCORED, "anchor_column_name": "there is none", "positive_column_name": "neither"},
    "columns swapped": {"anchor_column_name": "answer", "positive_column_name": "question", "output_scores": True},
    "euclidean": {**SCORED, "relative_margin": 0.05},
    "as_triplets": {"corpus": CORPUS, "as_triplets": False, "margin": 0.1},
    "n-tuple-scores": {"corpus": CORPUS, "output_format": "n-tuple-scores"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "format": {"output_format": "pairs"},
    "negative range_min": {"range_min": -1},
    "empty range": {"range_min": 5, "range_max": 5},
    "short range": {"range_min": 5, "range_max": 7},
    "no negatives": {"num_negatives": 0},
}
TEXTS = {"query_id": ["a", "b", "c"], "text": ["qa", "qb", "qc"]}
DOCUMENTS = {"id": [1, 2, 3, 3], "text": ["d1", "d2", "d3", "d3 again"]}
TITLED = {"document_id": [1, 2, 3], "text": ["d1", "d2", "d3"], "title": ["t1", "t2", "t3"]}
TABLES = {"texts": TEXTS, "documents": DOCUMENTS, "titled": TITLED}
QUERY, LIST = {"query_id": ("texts",)}, {"document_ids": ("documents",)}
BOTH = {"query_id": ["a", "b"], "document_ids": [[1, 2], [3, 1]], "label": [0, 1], "extra": [5, 6]}
RAGGED = {"document_ids": [[1, 2], [3]]}
SCORES = {"document_ids": [[1, 2], [3, 1]], "scores": [[0.1, 0.2], [0.3, 0.4]], "labels": [[1, 0], [0, 1]]}
RESOLVED: dict[str, tuple[dict[str, Any], dict[str, tuple[str, ...]], dict[str, Any]]] = {
    "columns": (BOTH, {**QUERY, "document_ids": ("titled", "document_id", "title")}, {}),
    "lists": (BOTH, {**QUERY, **LIST}, {"output_format": "lists"}),
    "value cannot be guessed": (BOTH, {"document_ids": ("titled", "document_id")}, {}),
    "extra column": (BOTH, QUERY, {"keep_columns": ("extra",)}),
    "missing column": (BOTH, {"other_id": ("texts",)}, {}),
    "missing id": ({"query_id": ["z"]}, QUERY, {}),
    "cut": (SCORES, LIST, {"max_list_length": 1, "output_format": "lists"}),
    "cut to columns": (SCORES, LIST, {"max_list_length": 1}),
    "ragged": (RAGGED, LIST, {}),
    "ragged, cut": (RAGGED, LIST, {"max_list_length": 1}),
    "ragged lists": (RAGGED, LIST, {"output_format": "lists"}),
    "strings": ({"document_ids": ["[1, 2]", "[3,1]"], "labels": ["[1,0]", "[0,1]"]}, LIST, {}),
    "no list": ({"query_ids": ["[a]", "[b]"]}, {"query_ids": ("texts",)}, {}),
    "plurals": ({"entry_ids": [["a"]], "doc_idx": [["b"]]}, {"entry_ids": ("texts",), "doc_idx": ("texts",)}, {}),
    "plural lists": (
        {"entry_ids": [["a"]], "doc_idx": [["b"]]},
        {"entry_ids": ("texts",), "doc_idx": ("texts",)},
        {"output_format": "lists"},
    ),
    "same name": ({"label_id": ["a"], "label": [1]}, {"label_id": ("texts",)}, {}),
    "empty lists": ({"query_ids": [[], []]}, {"query_ids": ("texts",)}, {}),
    "format": (BOTH, QUERY, {"output_format": "rows"}),
    "length": (BOTH, QUERY, {"max_list_length": 0}),
    "unknown id column": (BOTH, {"query_id": ("texts", "key")}, {}),
    "unknown value column": (BOTH, {"query_id": ("texts", "query_id", "value")}, {}),
}


def model_for(name: str) -> Lookup:
    """The model of a call in ``CALLS``."""
    return Lookup("euclidean" if name == "euclidean" else "cosine")


def says_otherwise(name: str) -> bool:
    """Whether the advice differs on purpose: the reference counts duplicate rows of "labeled-pair" as missing, says
    nothing for "labeled-list", and never names ``min_score``."""
    return str(CALLS[name].get("output_format")).startswith("labeled") or "min_score" in CALLS[name]


def rows_of(mined: Any) -> dict[str, Any]:
    """The columns of a mined data set, scores to six decimals."""
    found = {name: list(mined[name]) for name in mined.column_names}
    for name in ("score", "scores"):
        if name in found:
            found[name] = [np.round(np.asarray(one, dtype=np.float64), 6).tolist() for one in found[name]]
    return found


def outcome(call: Any) -> Any:
    """What a call returns, or the name of the exception it raises."""
    try:
        return call()
    except (KeyError, TypeError, ValueError) as error:
        return type(error).__name__
