"""Cases of the evaluators that compare pairs, for the recorder and for the tests.

The model is a rule from texts to float64 vectors. Knows nothing of either implementation: classes are looked up by
name in a namespace.
"""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

WIDTH = 12
FIRST = ["a red cat", "two dogs", "rain", "a red cat", "green tea", "late train", "snow", "two dogs"]
SECOND = ["a cat", "some dogs", "wet day", "rain", "green tea", "a bus", "rain", "two dogs"]
THIRD = ["snow", "tea", "a bus", "sun", "rain", "some dogs", "two dogs", "a cat"]
SCORES = [0.9, 0.8, 0.5, 0.1, 1.0, 0.4, 0.5, 1.0]
LABELS = [1, 1, 0, 0, 1, 0, 0, 1]
FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]
TABLE = [
    {"en": "rain", "de": "Regen", "fr": "pluie"},
    {"en": "snow", "de": "Schnee", "fr": ""},
    {"en": "tea", "de": " ", "fr": "thé"},
    {"en": "rain", "de": "Niederschlag", "fr": "pluie"},
]


def vector(text: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """(WIDTH,) float64, more alike for texts with the same letters."""
    place = np.arange(WIDTH, dtype=np.float64)
    letters = [np.sin(0.37 * (ord(letter) + seed) * (place + 1)) for letter in text]
    return np.sum(letters, axis=0) / len(text) + 0.2 * np.cos(len(text) * place)


class Card:
    def set_evaluation_metrics(self, evaluator: Any, metrics: Any, epoch: int = 0, step: int = 0) -> None:
        self.told = (type(evaluator).__name__, dict(metrics), epoch, step)


class Model(nn.Module):
    """What evaluators use of an encoder."""

    similarity_fn_name = "cosine"
    device = torch.device("cpu")

    def __init__(self, seed: int = 0, similarity_fn_name: str = "cosine") -> None:
        super().__init__()
        self.seed = seed
        self.similarity_fn_name = similarity_fn_name
        self.model_card_data = Card()
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []

    def encode(self, texts: Any, **settings: Any) -> Any:
        return self.rows("encode", texts, settings)

    def encode_query(self, texts: Any, **settings: Any) -> Any:
        return self.rows("encode_query", texts, settings)

    def encode_document(self, texts: Any, **settings: Any) -> Any:
        return -self.rows("encode_document", texts, settings)  # a task changes the result

    def rows(self, method: str, texts: Any, settings: dict[str, Any]) -> Any:
        self.calls.append((method, list(texts), settings))
        found = np.stack([vector(text, self.seed) for text in texts])[:, : settings.get("truncate_dim")]
        if settings.get("normalize_embeddings"):
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
        found = quantized(found, settings.get("precision"))
        is_tensor = settings.get("convert_to_tensor") or not settings.get("convert_to_numpy", True)
        if not is_tensor:
            return found
        return torch.from_numpy(found) if settings.get("convert_to_tensor") else list(torch.from_numpy(found))

    def preprocess(self, texts: list[str]) -> dict[str, Any]:
        return {"rows": torch.from_numpy(np.stack([vector(text) for text in texts]))}

    def smart_batching_collate(self, examples: list[Any]) -> Any:  # only the reference calls it
        columns = zip(*(example.texts for example in examples), strict=True)
        labels = torch.tensor([example.label for example in examples])
        return [self.preprocess(list(column)) for column in columns], labels


def quantized(values: np.ndarray[Any, Any], precision: str | None) -> np.ndarray[Any, Any]:
    """As quantised embeddings are described: 255 steps of a dimension's range, or bits, 8 to a byte."""
    if precision in (None, "float32"):
        return values
    if precision in ("binary", "ubinary"):
        bits = np.packbits(values > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    low, high = values.min(axis=0), values.max(axis=0)
    steps = np.floor((values - low) / ((high - low) / 255)).clip(0, 255)
    return steps.astype(np.uint8) if precision == "uint8" else (steps - 128).astype(np.int8)


class Classifier(nn.Module):
    """Class by the sign of one number, and of another."""

    def forward(self, features: list[dict[str, Any]], labels: Any = None) -> Any:
        product = features[0]["rows"] * features[1]["rows"]
        return features, torch.stack([product[:, 0], product[:, 1], product[:, 2]], dim=1)


def examples(*columns: Any, labels: Any) -> list[Any]:
    return [SimpleNamespace(texts=list(texts), label=label) for *texts, label in zip(*columns, labels, strict=True)]


PAIRS, TRIPLETS = (FIRST, SECOND), (FIRST, SECOND, THIRD)
# class, positional arguments, others
CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "similarity": ("EmbeddingSimilarityEvaluator", (*PAIRS, SCORES), {}),
    "similarity, all": (
        "EmbeddingSimilarityEvaluator",
        (*PAIRS, SCORES),
        {"similarity_fn_names": FUNCTIONS, "name": "sts-dev", "truncate_dim": 5},
    ),
    "similarity, main": (
        "EmbeddingSimilarityEvaluator",
        (*PAIRS, SCORES),
        {"similarity_fn_names": FUNCTIONS, "main_similarity": "dot", "name": "sts-dev"},
    ),
    "similarity, only main": ("EmbeddingSimilarityEvaluator", (*PAIRS, SCORES), {"main_similarity": "manhattan"}),
    "similarity, constant": ("EmbeddingSimilarityEvaluator", (*PAIRS, [1.0] * 8), {}),
    **{
        f"similarity, {precision}": (
            "EmbeddingSimilarityEvaluator",
            (*PAIRS, SCORES),
            {"precision": precision, "similarity_fn_names": FUNCTIONS, "name": "q"},
        )
        for precision in ("float32", "int8", "uint8", "binary", "ubinary")
    },
    "binary": ("BinaryClassificationEvaluator", (*PAIRS, LABELS), {}),
    "binary, all": (
        "BinaryClassificationEvaluator",
        (*PAIRS, LABELS),
        {"similarity_fn_names": FUNCTIONS, "name": "dup", "truncate_dim": 5},
    ),
    "binary, none": ("BinaryClassificationEvaluator", (*PAIRS, [0] * 8), {"similarity_fn_names": FUNCTIONS}),
    "binary, one": ("BinaryClassificationEvaluator", (*PAIRS, [0] * 7 + [1]), {"similarity_fn_names": FUNCTIONS}),
    "binary, only ones": ("BinaryClassificationEvaluator", (*PAIRS, [1] * 8), {"similarity_fn_names": FUNCTIONS}),
    "triplet": ("TripletEvaluator", TRIPLETS, {}),
    "triplet, all": (
        "TripletEvaluator",
        TRIPLETS,
        {"similarity_fn_names": FUNCTIONS, "name": "nli", "truncate_dim": 5, "margin": 0.1},
    ),
    "triplet, main": (
        "TripletEvaluator",
        TRIPLETS,
        {
            "similarity_fn_names": FUNCTIONS,
            "main_similarity_function": "euclidean",
            "margin": {"dot": 0.5, "euclidean": 0.05},
        },
    ),
    "translation": ("TranslationEvaluator", (FIRST, SECOND), {}),
    "translation, named": ("TranslationEvaluator", (SECOND, THIRD), {"name": "en-de", "truncate_dim": 4}),
    "translation, the same": ("TranslationEvaluator", (FIRST, FIRST), {}),
    "mse": ("MSEEvaluator", (FIRST, SECOND), {"teacher_model": Model(seed=3)}),
    "mse, named": ("MSEEvaluator", (FIRST, SECOND), {"teacher_model": Model(seed=3), "name": "de", "truncate_dim": 5}),
    "table": ("MSEEvaluatorFromDataFrame", (TABLE, Model(seed=3), [("en", "de"), ("en", "fr")]), {}),
    "table, named": (
        "MSEEvaluatorFromDataFrame",
        (TABLE, Model(seed=3), [("en", "de"), ("de", "fr")]),
        {"name": "m", "truncate_dim": 5},
    ),
    "label": ("LabelAccuracyEvaluator", (), {"name": "", "softmax_model": Classifier()}),
    "label, named": ("LabelAccuracyEvaluator", (), {"name": "nli", "softmax_model": Classifier()}),
}
# as CASES; the constructor raises
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "similarity, main": ("EmbeddingSimilarityEvaluator", (*PAIRS, SCORES), {"main_similarity": "cos"}),
    "triplet, names": ("TripletEvaluator", TRIPLETS, {"similarity_fn_names": ["cosine", "cos", "maxsim"]}),
    "triplet, main": ("TripletEvaluator", TRIPLETS, {"main_similarity_function": "cos"}),
    "triplet, margin": ("TripletEvaluator", TRIPLETS, {"margin": {"cos": 0.1, "dot": 1}}),
    "triplet, margin type": ("TripletEvaluator", TRIPLETS, {"margin": "wide"}),
    "mse, lengths": ("MSEEvaluator", (FIRST, SECOND[:3]), {"teacher_model": Model()}),
}
# scores, labels, whether higher is closer
THRESHOLDS: dict[str, tuple[list[float], list[int], bool]] = {
    "one score": ([0.5], [1], True),
    "ties": ([0.5, 0.5, 0.2, 0.2, 0.1], [1, 0, 1, 1, 0], True),
    "all negative is best": ([0.9, 0.8, 0.7], [0, 0, 1], True),
    "distances": ([0.1, 0.4, 0.4, 0.9], [1, 1, 0, 0], False),
    "neighbours": ([1.0, float(np.nextafter(1.0, 0.0)), 0.5], [1, 0, 0], True),
    "no positives": ([0.3, 0.2], [0, 0], False),
    "rounded F1": (
        [2, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0],
        True,
    ),
}


def outcome(evaluators: Any, name: str) -> dict[str, Any]:
    """One of ``CASES``; ``evaluators``: a namespace with the classes."""
    kind, given, settings = CASES[name]
    if kind == "LabelAccuracyEvaluator":
        data = examples(FIRST, SECOND, labels=[0, 1, 2, 0, 1, 2, 0, 1])
        given = (DataLoader(data, batch_size=3, collate_fn=list),)
    evaluator = getattr(evaluators, kind)(*given, **settings)
    model = Model()
    with TemporaryDirectory() as folder:
        metrics = evaluator(model, folder, epoch=1, steps=5)
        evaluator(model, folder, epoch=2)
        (path,) = Path(folder).iterdir()
        header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    told = model.model_card_data.told
    assert told[1] == metrics or np.isnan([*metrics.values()]).any()
    return {
        "metrics": metrics,
        "primary": evaluator.primary_metric,
        "description": evaluator.description,
        "config": evaluator.get_config_dict(),
        "file": path.name,
        "header": header,
        "rows": [[float(value) for value in row] for row in rows],
        "greater_is_better": evaluator.greater_is_better,
        "card": [told[0], *told[2:]],
    }


def refusal(evaluators: Any, name: str) -> str:
    """The text of the ``ValueError`` of one of ``REFUSED``."""
    kind, given, settings = REFUSED[name]
    try:
        getattr(evaluators, kind)(*given, **settings)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{name}: not refused")


def thresholds(evaluators: Any, name: str) -> dict[str, list[float]]:
    """One of ``THRESHOLDS``."""
    scores, labels, higher = THRESHOLDS[name]
    evaluator = evaluators.BinaryClassificationEvaluator
    return {
        "accuracy": [*map(float, evaluator.find_best_acc_and_threshold(np.array(scores), np.array(labels), higher))],
        "f1": [*map(float, evaluator.find_best_f1_and_threshold(np.array(scores), np.array(labels), higher))],
    }
