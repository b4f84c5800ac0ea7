"""Cases of the evaluators of sparse encoders, for the recorder and for the tests.

The model is a rule from texts to sparse vectors. Knows nothing of either implementation: classes are looked up by name
in a namespace. Data and what is noted are those of ``ranking_facts``.
"""

from __future__ import annotations

import inspect
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ranking_facts as ranking
import torch
from evaluators_pairs_facts import FIRST, FUNCTIONS, LABELS, SCORES, SECOND, THIRD

WIDTH = 30


def vector(text: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """(WIDTH,) float32, some of them above 0, of each text others, and of each text more or fewer."""
    found = np.random.default_rng(zlib.crc32(text.encode()) + seed).normal(size=WIDTH + 1)
    bar = 0.3 + abs(found[-1])
    return np.where(found[:-1] > bar, found[:-1], 0).astype(np.float32)


class Words(ranking.Lookup):
    """Stands for a SparseEncoder."""

    def __init__(self, similarity: str = "dot", seed: int = 0) -> None:
        super().__init__(similarity)
        self.seed = seed

    @staticmethod
    def sparsity(embeddings: torch.Tensor) -> dict[str, float]:  # only the reference calls it
        rows = embeddings.to_dense() if embeddings.layout != torch.strided else embeddings
        share = float((rows != 0).double().mean())
        return {"active_dims": share * rows.shape[-1], "sparsity_ratio": 1 - share}

    def _encode(self, role: str, texts: list[str], options: dict[str, Any]) -> Any:
        prompts = [role, options.get("prompt"), options.get("prompt_name")]
        if prompts not in self.prompts:
            self.prompts.append(prompts)
        rows = np.array([vector(text, self.seed) for text in texts]).reshape(-1, WIDTH)
        kept = options.get("max_active_dims")
        if kept is not None:
            bars = -np.sort(-rows, axis=1)[:, kept - 1 : kept]
            rows = np.where(rows >= bars, rows, 0)
        found = torch.from_numpy(rows)
        found = found.to_sparse() if options.get("convert_to_sparse_tensor", True) else found
        return found if options.get("convert_to_tensor", True) else list(found)

    def similarity(self, left: Any, right: Any) -> torch.Tensor:
        found: torch.Tensor = left.to_dense() @ right.to_dense().T
        return found


PAIRS, TRIPLETS, RETRIEVAL = (FIRST, SECOND), (FIRST, SECOND, THIRD), ranking.retrieval_data()
SHORT = {"accuracy_at_k": [3], "precision_recall_at_k": [2], "mrr_at_k": [1], "ndcg_at_k": [3], "map_at_k": [5]}
# class, positional arguments, others
CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "similarity": ("SparseEmbeddingSimilarityEvaluator", (*PAIRS, SCORES), {}),
    "similarity, all": (
        "SparseEmbeddingSimilarityEvaluator",
        (*PAIRS, SCORES, 4, "cosine", FUNCTIONS, "sts-dev", False, True, 3),
        {},
    ),
    "binary": ("SparseBinaryClassificationEvaluator", (*PAIRS, LABELS), {}),
    "binary, all": (
        "SparseBinaryClassificationEvaluator",
        (*PAIRS, LABELS, "dup", 4, False, True, 3, FUNCTIONS),
        {},
    ),
    "triplet": ("SparseTripletEvaluator", TRIPLETS, {}),
    "triplet, all": ("SparseTripletEvaluator", (*TRIPLETS, None, 0.1, "nli", 4, False, True, 3, FUNCTIONS), {}),
    "translation": ("SparseTranslationEvaluator", PAIRS, {}),
    "translation, named": ("SparseTranslationEvaluator", (SECOND, THIRD, False, 4, "en-de", False, True, 2), {}),
    "mse": ("SparseMSEEvaluator", PAIRS, {"teacher_model": Words(seed=3)}),
    "mse, named": ("SparseMSEEvaluator", (*PAIRS, Words(seed=3), False, 4, "de", True, 3), {}),
    "retrieval": ("SparseInformationRetrievalEvaluator", RETRIEVAL, {"name": "dev"}),
    "retrieval, chunks": (
        "SparseInformationRetrievalEvaluator",
        (*RETRIEVAL, 7),
        {**SHORT, "max_active_dims": 3, "query_prompt": "Q: ", "write_predictions": True},
    ),
    "reranking": ("SparseRerankingEvaluator", (ranking.SAMPLES,), {"name": "dev"}),
    "reranking, narrow": ("SparseRerankingEvaluator", (ranking.SAMPLES, 3, "", True), {"max_active_dims": 2}),
    "nano": ("SparseNanoBEIREvaluator", (["nq", "SciFact"],), SHORT),
    "nano, narrow": (
        "SparseNanoBEIREvaluator",
        (["nq", "msmarco"],),
        {**SHORT, "max_active_dims": 3, "aggregate_fn": max, "aggregate_key": "top", "query_prompts": "Q: "},
    ),
}

DENSE = [
    {"query_id": "1", "query": "a", "positive": ["x"], "documents": ["y", "x", "z"]},
    {"query_id": "2", "query": "b", "positive": ["p", "q"], "documents": ["p", "r", "q"]},
    {"query_id": "3", "query": "c", "positive": ["gone"], "documents": ["s", "t"]},
    {"query_id": "4", "query": "d", "positive": ["x", "gone"], "documents": ["y", "x"]},
]
SPARSE = [
    {"query_id": "1", "query": "a", "positive": ["x"], "documents": ["z", "y", "w"]},
    {"query_id": "2", "query": "b", "positive": ["p", "q"], "documents": ["r", "u", "p"]},
    {"query_id": "3", "query": "c", "positive": ["gone"], "documents": ["t", "s"]},
    {"query_id": "4", "query": "d", "positive": ["x", "gone"], "documents": ["x", "y"]},
]
FUSIONS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "defaults": (DENSE, SPARSE, {}),
    "named": (DENSE, SPARSE, {"name": "dev", "at_k": 2, "write_predictions": True}),
    "constant 0": (DENSE, SPARSE, {"rrf_k": 0, "write_predictions": True}),
    "swapped": (SPARSE, DENSE, {"write_predictions": True}),
    "no file": (DENSE, SPARSE, {"write_csv": False, "rrf_k": 2}),
}
FUSIONS_REFUSED: dict[str, tuple[Any, Any]] = {
    "lengths": (DENSE, SPARSE[:2]),
    "order": (DENSE, SPARSE[::-1]),
    "no id": (DENSE[:2], [SPARSE[0], {"query": "b"}]),
}


def arguments(evaluators: Any) -> dict[str, list[Any]]:
    """Class -> its arguments: name, kind and default."""
    names = {name for name, _, _ in CASES.values()} | {"ReciprocalRankFusionEvaluator"}
    return {name: arguments_of(getattr(evaluators, name)) for name in sorted(names)}


def arguments_of(kind: type[Any]) -> list[Any]:
    """Name, kind and default; tuples are told as lists, functions by name."""
    return [[one.name, one.kind.name, _default(one.default)] for one in inspect.signature(kind).parameters.values()]


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return "needed"
    if isinstance(value, (list, tuple)):
        return list(value)
    return getattr(value, "__name__", value)


def outcome(evaluators: Any, name: str) -> dict[str, Any]:
    """All that two calls of an evaluator give, write and tell. NanoBEIR's data are in the working directory."""
    kind, positional, others = CASES[name]
    with TemporaryDirectory() as folder:
        return ranking.outcome(getattr(evaluators, kind)(*positional, **others), Words(), Path(folder))


def fused(evaluators: Any, name: str) -> dict[str, Any]:
    """All that two calls give and write."""
    dense, sparse, others = FUSIONS[name]
    evaluator = evaluators.ReciprocalRankFusionEvaluator(dense, sparse, **others)
    with TemporaryDirectory() as folder:
        metrics = evaluator(folder, 1, 50)
        assert evaluator(output_path=folder, epoch=2) == metrics
        files = {path.name: ranking.contents(path) for path in sorted(Path(folder).iterdir())}
    return {
        "metrics": metrics,
        "primary": evaluator.primary_metric,
        "config": evaluator.get_config_dict(),
        "description": evaluator.description,
        "files": files,
    }


def fusion_refusal(evaluators: Any, name: str) -> list[str]:
    return ranking.refusal(lambda: evaluators.ReciprocalRankFusionEvaluator(*FUSIONS_REFUSED[name]))


def write_nano(root: Path) -> None:
    """Three of the data sets of NanoBEIR, one of them smaller."""
    folders = {"sentence-transformers/NanoBEIR-en": ["NanoNQ", "NanoMSMARCO", "NanoSciFact"]}
    ranking.write_nano(root, folders, rows=_nano_rows)


def _nano_rows(folder: str, subset: str, split: str) -> list[dict[str, Any]]:
    rows = ranking.nano_rows(folder, subset, split)
    if split != "NanoSciFact" or subset == "queries":
        return rows
    return rows[:20] if subset == "corpus" else [row for row in rows if row["query-id"] in ("q0", "q2", "q3")]
