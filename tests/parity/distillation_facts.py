"""Cases of the evaluator that compares a late interaction model with its teacher, for the recorder and for the tests.

Token vectors are made of texts by a rule. Knows nothing of either implementation: the class and the scores are given.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

QUERIES = ["a b", "c d e", "f", "a b c d"]
DOCUMENTS = ["x y z", "w", "v u t s", "q r"]
CANDIDATES = [["x y z", "w", "k l"], ["v u t s", "k l", "m"], ["o p", "w", "o o p"], ["q r", "y", "z z y"]]
TEACHER = [1.0, 2.0, 0.5, -1.0]
OF_CANDIDATES = [[1.0, 2.0, 0.0], [3.0, 0.5, 1.0], [0.1, 0.2, 0.2], [0.0, -2.0, 1.5]]
NAN = float("nan")

# name -> queries, documents, scores, arguments
CASES: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "one document": (QUERIES, DOCUMENTS, TEACHER, {}),
    "one document, named": (QUERIES, DOCUMENTS, TEACHER, {"name": "dev", "temperature": 2.0}),
    "one document, equal scores": (QUERIES, DOCUMENTS, [1.0] * 4, {}),
    "one document, nan": (QUERIES, DOCUMENTS, [1.0, NAN, 2.0, 3.0], {}),
    "one pair": (QUERIES[:1], DOCUMENTS[:1], TEACHER[:1], {}),
    "nothing": ([], [], [], {}),
    "candidates": (QUERIES, CANDIDATES, OF_CANDIDATES, {}),
    "candidates as tuples": (QUERIES, tuple(map(tuple, CANDIDATES)), torch.tensor(OF_CANDIDATES), {}),
    "candidates, temperature": (QUERIES, CANDIDATES, OF_CANDIDATES, {"temperature": 2.0, "batch_size": 2}),
    "candidates, temperatures": (
        QUERIES,
        CANDIDATES,
        OF_CANDIDATES,
        {"temperature": 2.0, "student_temperature": 3.0, "teacher_temperature": 0.5, "name": "test"},
    ),
    "candidates, one undefined": (QUERIES, CANDIDATES, [[1.0, 1.0, 1.0], *OF_CANDIDATES[1:]], {}),
    "candidates, all undefined": (QUERIES, CANDIDATES, [[1.0] * 3] * 4, {}),
    "one candidate": (QUERIES, [[one] for one in DOCUMENTS], [[one] for one in TEACHER], {}),
    "function": (QUERIES, CANDIDATES, OF_CANDIDATES, {"similarity_fct": "colbert_scores_pairwise"}),
    "function, mean": (QUERIES, DOCUMENTS, TEACHER, {"similarity_fct": "mean_colbert_scores_pairwise"}),
}
WRONG: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "fewer documents": (QUERIES, DOCUMENTS[:3], TEACHER, {}),
    "fewer scores": (QUERIES, DOCUMENTS, TEACHER[:3], {}),
    "one score for several": (QUERIES, CANDIDATES, TEACHER, {}),
    "several scores for one": (QUERIES, DOCUMENTS, OF_CANDIDATES, {}),
    "temperature": (QUERIES, DOCUMENTS, TEACHER, {"temperature": 0.0}),
}


class Late:
    """Encodes texts to a float64 vector for each word, and compares them."""

    similarity_fn_name = "maxsim"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.model_card_data = SimpleNamespace(set_evaluation_metrics=self._tell)

    def encode_query(self, texts: list[str], **options: Any) -> list[Tensor]:
        return [vectors(text) for text in texts]

    def encode_document(self, texts: list[str], **options: Any) -> list[Tensor]:
        return [vectors(text) for text in texts]

    def similarity_pairwise(self, queries: list[Tensor], documents: list[Tensor]) -> Tensor:
        return torch.tensor([maxsim(one, other) for one, other in zip(queries, documents, strict=True)])

    def _tell(self, evaluator: Any, metrics: dict[str, float], epoch: int, step: int) -> None:
        self.told.append([sorted(metrics), epoch, step])


def vectors(text: str) -> Tensor:
    """(words, 3) float64."""
    i, j = torch.arange(len(text.split()), dtype=torch.float64)[:, None], torch.arange(3, dtype=torch.float64)
    return torch.sin(1.7 * i + 0.9 * j + sum(map(ord, text)) % 17)


def maxsim(query: Tensor, document: Tensor) -> float:
    """For every token of the query the largest product with one of the document, summed."""
    return sum(max(float(token @ other) for other in document) for token in query)


def outcome(kind: Any, scoring: Any, name: str, folder: Path) -> dict[str, Any]:
    """What an evaluator gives, writes into a folder and tells; ``scoring``: a namespace with its functions."""
    queries, documents, scores, given = CASES[name]
    arguments, model = dict(given), Late()
    if "similarity_fct" in arguments:
        arguments["similarity_fct"] = getattr(scoring, arguments["similarity_fct"])
    evaluator = kind(queries, documents, scores, **arguments)
    metrics = evaluator(model, str(folder), 1, 2)
    files = {path.name: list(csv.reader(path.read_text("utf-8").splitlines())) for path in folder.iterdir()}
    return {
        "metrics": {key: "nan" if math.isnan(value) else value for key, value in metrics.items()},
        "primary": evaluator.primary_metric,
        "config": evaluator.get_config_dict(),
        "description": evaluator.description,
        "told": model.told,
        "headers": {name: rows[0] for name, rows in files.items()},
    }
