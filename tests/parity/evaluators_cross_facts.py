"""What evaluators of rerankers get, from recorder and tests: a model that scores by a rule, data, calls."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ranking_facts


class Rule:
    """Stands for a CrossEncoder; ``told`` is what its card has been told, ``asked`` what pairs came and with what.

    num_labels: 1, or several. levels: of so many different scores; a few make many of them equal.
    """

    def __init__(self, num_labels: int = 1, levels: int = 1_000_003) -> None:
        self.num_labels, self.levels = num_labels, levels
        self.told: list[list[Any]] = []
        self.asked: list[list[Any]] = []
        self.model_card_data = SimpleNamespace(set_evaluation_metrics=self._tell)

    def predict(self, pairs: Any, **options: Any) -> Any:
        texts = ["|".join(pair) for pair in pairs]
        if texts:
            pairs_sum = zlib.crc32("\n".join(sorted(texts)).encode())
            shown = bool(options["show_progress_bar"])
            self.asked.append([len(texts), pairs_sum, options["prompt_name"], options["batch_size"], shown])
        scores = np.array([[self._score(text, label) for label in range(self.num_labels)] for text in texts])
        scores = scores.reshape(-1, self.num_labels).astype(np.float32)
        return scores[:, 0] if self.num_labels == 1 else scores

    def _score(self, text: str, label: int) -> float:
        return zlib.crc32(f"{text}|{label}".encode()) % self.levels / self.levels

    def _tell(self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        self.told.append([type(evaluator).__name__, epoch, step])


PAIRS = [(f"text {one}", f"other {one}") for one in range(40)]
LABELS = [int(one % 3 == 0) for one in range(40)]
CLASSES = [one % 4 for one in range(40)]
SCORES = [one * 7 % 11 / 10 for one in range(40)]
_ARGUMENTS = {"name": "dev", "prompt_name": "ask", "batch_size": 7, "show_progress_bar": True}

SEARCHED: list[dict[str, Any]] = [
    {
        "query": f"question {one}",
        "positive": [f"yes {one} {place}" for place in range(one % 4)],
        "documents": [
            *(f"no {one} {place}" for place in range(3)),
            *(f"yes {one} {place}" for place in range(1, one % 6)),
            f"no {one} 9",
        ],
    }
    for one in range(12)
]
REPEATED: list[dict[str, Any]] = [
    {"query": "q", "positive": ["w", "w"], "documents": ["w", "y", "y"]},
    {"query": "r", "positive": ["w"], "documents": ["w", "y", "w", "z"]},
]
NEGATIVE: list[dict[str, Any]] = [
    {
        "query": f"question {one}",
        "positive": [f"yes {one} {place}" for place in range(one % 3)],
        "negative": [f"no {one} {place}" for place in range(one % 5 + 1)],
    }
    for one in range(12)
]
MIXED = [*NEGATIVE[4:7], *SEARCHED[4:9]]
EXAMPLES = "examples"
"""Stands for ``from_input_examples``."""

# name -> of the model, class, arguments
CASES: dict[str, tuple[dict[str, Any], str, tuple[Any, ...], dict[str, Any]]] = {
    "two classes": ({}, "CrossEncoderClassificationEvaluator", (PAIRS, LABELS), _ARGUMENTS),
    "two classes, ties": ({"levels": 5}, "CrossEncoderClassificationEvaluator", (PAIRS, LABELS), {}),
    "two classes, no positives": ({}, "CrossEncoderClassificationEvaluator", (PAIRS, [0] * 40), {}),
    "two classes, floats": (
        {"levels": 7},
        "CrossEncoderClassificationEvaluator",
        (PAIRS, [float(label) for label in LABELS]),
        {"write_csv": False},
    ),
    "classes": ({"num_labels": 4}, "CrossEncoderClassificationEvaluator", (PAIRS, CLASSES), _ARGUMENTS),
    "classes, more than the model has": (
        {"num_labels": 3},
        "CrossEncoderClassificationEvaluator",
        (PAIRS, CLASSES),
        {},
    ),
    "classes, few": ({"num_labels": 5, "levels": 3}, "CrossEncoderClassificationEvaluator", (PAIRS, LABELS), {}),
    "correlation": ({}, "CrossEncoderCorrelationEvaluator", (PAIRS, SCORES), _ARGUMENTS),
    "correlation, ties": ({"levels": 4}, "CrossEncoderCorrelationEvaluator", (PAIRS, SCORES), {}),
    "correlation, examples": ({}, "CrossEncoderCorrelationEvaluator", (EXAMPLES, PAIRS, SCORES), {"name": "sts"}),
    "negatives": ({}, "CrossEncoderRerankingEvaluator", (NEGATIVE,), {**_ARGUMENTS, "at_k": 2}),
    "negatives, ties": ({"levels": 2}, "CrossEncoderRerankingEvaluator", (NEGATIVE,), {}),
    "negatives, mapping": (
        {"levels": 3},
        "CrossEncoderRerankingEvaluator",
        ({str(place): one for place, one in enumerate(NEGATIVE)},),
        {"mrr_at_k": 4, "write_csv": False},
    ),
    "documents": ({}, "CrossEncoderRerankingEvaluator", (SEARCHED,), _ARGUMENTS),
    "documents, ties": ({"levels": 2}, "CrossEncoderRerankingEvaluator", (SEARCHED,), {"at_k": 3}),
    "documents only": (
        {},
        "CrossEncoderRerankingEvaluator",
        (SEARCHED,),
        {"always_rerank_positives": False, "at_k": 4},
    ),
    "documents only, ties": (
        {"levels": 2},
        "CrossEncoderRerankingEvaluator",
        (SEARCHED,),
        {"always_rerank_positives": False},
    ),
    "documents, repeated": ({"levels": 3}, "CrossEncoderRerankingEvaluator", (REPEATED,), {}),
    "documents only, repeated": (
        {"levels": 3},
        "CrossEncoderRerankingEvaluator",
        (REPEATED,),
        {"always_rerank_positives": False},
    ),
    "mixed": ({}, "CrossEncoderRerankingEvaluator", (MIXED[::-1],), {"always_rerank_positives": False}),
    "nothing found": ({}, "CrossEncoderRerankingEvaluator", ([SEARCHED[4], SEARCHED[1]],), {}),
    "CE accuracy": ({}, "CEBinaryAccuracyEvaluator", (PAIRS, LABELS), {"name": "old"}),
    "CE binary": ({}, "CEBinaryClassificationEvaluator", (EXAMPLES, PAIRS, LABELS), {"name": "old"}),
    "CE F1": ({"levels": 6}, "CEF1Evaluator", (PAIRS, LABELS), {}),
    "CE softmax": ({"num_labels": 4}, "CESoftmaxAccuracyEvaluator", (EXAMPLES, PAIRS, CLASSES), {}),
    "CE correlation": ({}, "CECorrelationEvaluator", (PAIRS, SCORES), {"name": "old"}),
    "CE reranking": ({}, "CERerankingEvaluator", (NEGATIVE,), {"name": "old", "at_k": 5}),
}
# name -> class, arguments
REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "labels, lengths": ("CrossEncoderClassificationEvaluator", (PAIRS, LABELS[:9])),
    "no query": ("CrossEncoderRerankingEvaluator", ([{"positive": ["w"], "negative": ["n"]}],)),
    "no positive": ("CrossEncoderRerankingEvaluator", ([{"query": "r", "negative": ["n"]}],)),
    "neither": ("CrossEncoderRerankingEvaluator", ([{"query": "r", "positive": ["w"]}],)),
    "both": (
        "CrossEncoderRerankingEvaluator",
        ([{"query": "r", "positive": ["w"], "negative": ["n"], "documents": ["w", "n"]}],),
    ),
}
# y_true, y_pred
OF_A_QUERY: list[tuple[list[int], list[float]]] = [
    ([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.3]),
    ([0, 0, 1, 1, 0], [0.5, 0.5, 0.5, 0.5, 0.5]),
    ([0, 1], [0.2, 0.1]),
    ([1, 0, 0, 0, 1], [0.9, 0.8, 0.9, 0.7, 0.9]),
]

NANO: dict[str, dict[str, Any]] = {
    "all": {},
    "lists": {"dataset_names": ["nq", "MSMARCO"], "dataset_id": "lists", "rerank_k": 5, "at_k": 3},
    "options": {
        "dataset_names": ["SciFact", "NFCorpus"],
        "dataset_id": "me/mine",
        "rerank_k": 12,
        "always_rerank_positives": False,
        "prompt_name": "ask",
        "batch_size": 9,
        "aggregate_fn": max,
        "aggregate_key": "top",
    },
}
NANO_REFUSED: dict[str, dict[str, Any]] = {
    "unknown": {"dataset_names": ["nq", "wikipedia"]},
    "empty": {"dataset_names": []},
    "no data": {"dataset_names": ["nq"], "dataset_id": "gone"},
    "no bm25": {"dataset_names": ["nq"], "dataset_id": "without"},
    "no column": {"dataset_names": ["nq"], "dataset_id": "other columns"},
}
NANO_FOLDERS: dict[str, list[str]] = {
    "sentence-transformers/NanoBEIR-en": [f"Nano{name}" for name in ranking_facts.NANO_SETS],
    "me/mine": ["NanoSciFact", "NanoNFCorpus"],
    "lists": ["NanoNQ", "NanoMSMARCO"],
    "other columns": ["NanoNQ"],
}


def write_nano(root: Path) -> None:
    """Folders as those of ``ranking_facts``, with the subset "bm25"; and one without."""
    subsets = ("corpus", "queries", "qrels", "bm25")
    ranking_facts.write_nano(root, NANO_FOLDERS, subsets, nano_rows)
    ranking_facts.write_nano(root, {"without": ["NanoNQ"]}, subsets[:3], nano_rows)


def nano_rows(folder: str, subset: str, split: str) -> list[dict[str, Any]]:
    """The rows of a subset, in which every id has a text, if only an empty one."""
    ids = [f"q{one}" for one in range(10)]
    if subset == "bm25":
        key = "corpus-ids" if folder != "other columns" else "ids"
        step = zlib.crc32(split.encode()) % 50 + 1
        return [
            {"query-id": query, key: [f"d{(place * step + rank * 7) % 60}" for rank in range(20)]}
            for place, query in enumerate(ids)
        ]
    if subset != "qrels":
        return ranking_facts.nano_rows("", subset, split)
    relevant = ranking_facts.retrieval_data()[2]
    known = {query: sorted(relevant[query] - {"nowhere"}) for query in ids}
    if folder == "lists":
        return [{"query-id": query, "corpus-id": documents} for query, documents in known.items()]
    return [{"query-id": query, "corpus-id": document} for query, documents in known.items() for document in documents]


def build(evaluators: Any, example: Any, kind: str, given: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """An evaluator. evaluators: a namespace with the classes; example: ``InputExample``."""
    if given[0] == EXAMPLES:
        examples = [example(texts=list(pair), label=label) for pair, label in zip(*given[1:], strict=True)]
        return getattr(evaluators, kind).from_input_examples(examples, **settings)
    return getattr(evaluators, kind)(*given, **settings)


def outcome(evaluator: Any, model: Rule, folder: Path) -> dict[str, Any]:
    """All that two calls of an evaluator give, write, ask and tell."""
    metrics = evaluator(model, str(folder), 1, 50)
    again = evaluator(model, str(folder))
    assert again == metrics
    return {
        "metrics": metrics,
        "primary": evaluator.primary_metric,
        "config": evaluator.get_config_dict(),
        "description": evaluator.description,
        "told": model.told,
        "asked": model.asked,
        "files": {path.name: ranking_facts.contents(path) for path in sorted(folder.iterdir())},
    }
