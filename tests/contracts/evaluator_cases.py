"""How to make each evaluator. An evaluator without a case fails the contract by name.

Those of dense encoders go by their names, those of other families by namespace and name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader

from sentence_transformers import InputExample, evaluation, losses
from sentence_transformers.evaluation.cross import nano_beir as cross_nano_beir
from sentence_transformers.evaluation.nano_beir import NanoBEIREvaluator, NanoData
from tests.contracts.loss_cases import WIDTH

FIRST = ["a cat sat on the mat", "dogs bark", "it rains in the north today", "she reads", "two men play chess", "tea"]
SECOND = ["the cat is sitting", "a dog is loud at night", "rain", "a woman with a book", "chess", "tea is not hot"]
THIRD = ["a bird", "silence everywhere", "the sun shines", "he sleeps all day long", "they swim", "warm milk"]
SCORES = [0.9, 0.7, 0.8, 0.2, 0.6, 0.1]
LABELS = [1, 1, 0, 1, 0, 0]
QUERIES = {f"q{place}": text for place, text in enumerate(FIRST)}
CORPUS = {f"d{place}": text for place, text in enumerate([*SECOND, *THIRD])}
RELEVANT = {f"q{place}": {f"d{place}", f"d{place + 1}"} for place in range(len(FIRST))}
SAMPLES = [
    {"query": query, "positive": [text], "negative": [other, *THIRD]}
    for query, text, other in zip(FIRST, SECOND, reversed(SECOND), strict=True)
]
TABLE = [
    {"en": english, "de": german, "fr": french} for english, german, french in zip(FIRST, SECOND, THIRD, strict=True)
]


@dataclass(frozen=True)
class Case:
    """One evaluator.

    Attributes:
        arguments: a model -> those without a default, for one of its tests.
        files: the name of the data, or "" -> the CSV files that a call adds a row to.
        named: whether it takes a ``name``.
        shortened: its argument that shortens embeddings; "" without one.
        told: how often a call tells the model's card.
        make: class, arguments -> the evaluator.
        model: one of ``MODELS`` of the losses.
    """

    arguments: Callable[[Any], dict[str, Any]]
    files: Callable[[str], list[str]]
    named: bool = True
    shortened: str = "truncate_dim"
    told: int = 1
    make: Callable[..., Any] = field(default=lambda kind, **arguments: kind(**arguments))
    model: str = "bert"

    def build(self, kind: str, model: Any, **options: Any) -> Any:
        """The evaluator of this name."""
        return self.make(kind_of(kind), **self.arguments(model), **options)


def kind_of(name: str) -> Any:
    """The class of a case."""
    namespace, _, own = name.rpartition(".")
    return getattr(import_module(f"sentence_transformers.{namespace or 'evaluation'}"), own)


def one_file(stem: str, end: str = "_results.csv") -> Callable[[str], list[str]]:
    """The stem, and the name if there is one."""
    return lambda name: [f"{stem}_{name}{end}" if name else f"{stem}{end}"]


def _labelled(model: Any) -> dict[str, Any]:
    examples = [
        InputExample(texts=[one, other], label=label) for one, other, label in zip(FIRST, SECOND, LABELS, strict=True)
    ]
    torch.manual_seed(5)
    classifier = losses.SoftmaxLoss(model, WIDTH, 2)
    return {"dataloader": DataLoader(examples, batch_size=4), "softmax_model": classifier}  # type: ignore[arg-type]


def _nano(kind: type[NanoBEIREvaluator], **arguments: Any) -> NanoBEIREvaluator:
    with patch.object(NanoData, "load", lambda dataset_id, split: NanoData(QUERIES, CORPUS, RELEVANT)):
        return kind(**arguments)


def _sequence(kind: type[evaluation.SequentialEvaluator], name: str = "", **options: Any) -> Any:
    """Of two, which get the options."""
    pairs = evaluation.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name=f"{name}1", **options)
    triplets = evaluation.TripletEvaluator(FIRST, SECOND, THIRD, name=f"{name}2", **options)
    return kind([pairs, triplets])


_PAIRS = {"sentences1": FIRST, "sentences2": SECOND}
_TEXTS = {"source_sentences": FIRST, "target_sentences": SECOND}

CASES: dict[str, Case] = {
    "BinaryClassificationEvaluator": Case(
        lambda model: {**_PAIRS, "labels": LABELS}, one_file("binary_classification_evaluation")
    ),
    "EmbeddingSimilarityEvaluator": Case(lambda model: {**_PAIRS, "scores": SCORES}, one_file("similarity_evaluation")),
    "InformationRetrievalEvaluator": Case(
        lambda model: {"queries": QUERIES, "corpus": CORPUS, "relevant_docs": RELEVANT},
        one_file("Information-Retrieval_evaluation"),
    ),
    "LabelAccuracyEvaluator": Case(_labelled, one_file("accuracy_evaluation"), shortened=""),
    "MSEEvaluator": Case(
        lambda model: {**_TEXTS, "teacher_model": model}, lambda name: [f"mse_evaluation_{name}_results.csv"]
    ),
    "MSEEvaluatorFromDataFrame": Case(
        lambda model: {"dataframe": TABLE, "teacher_model": model, "combinations": [("en", "de"), ("en", "fr")]},
        one_file("mse_evaluation"),
    ),
    "NanoBEIREvaluator": Case(
        lambda model: {"dataset_names": ["nq", "SciFact"]},
        lambda name: [
            "Information-Retrieval_evaluation_NanoNQ_results.csv",
            "Information-Retrieval_evaluation_NanoSciFact_results.csv",
            "NanoBEIR_evaluation_mean_results.csv",
        ],
        named=False,
        told=3,
        make=_nano,
    ),
    "ParaphraseMiningEvaluator": Case(
        lambda model: {
            "sentences_map": {**QUERIES, **CORPUS},
            "duplicates_list": [(f"q{place}", f"d{place}") for place in range(len(FIRST))],
        },
        one_file("paraphrase_mining_evaluation"),
    ),
    "RerankingEvaluator": Case(
        lambda model: {"samples": SAMPLES}, one_file("RerankingEvaluator", end="_results_@10.csv")
    ),
    "SequentialEvaluator": Case(
        lambda model: {},
        lambda name: [f"similarity_evaluation_{name}1_results.csv", f"triplet_evaluation_{name}2_results.csv"],
        named=False,
        told=2,
        make=_sequence,
    ),
    "TranslationEvaluator": Case(lambda model: _TEXTS, one_file("translation_evaluation")),
    "TripletEvaluator": Case(
        lambda model: {"anchors": FIRST, "positives": SECOND, "negatives": THIRD}, one_file("triplet_evaluation")
    ),
}

CROSS, SPARSE, LATE = (f"{family}.evaluation" for family in ("cross_encoder", "sparse_encoder", "multi_vector_encoder"))


def _cross_nano(kind: type[Any], **arguments: Any) -> Any:
    samples = [{"query": one["query"], "positive": one["positive"], "documents": THIRD + SECOND} for one in SAMPLES]
    with patch.object(cross_nano_beir, "load_samples", lambda dataset_id, split, count: samples):
        return kind(**arguments)


def of_pairs(files: Callable[[str], list[str]], **data: Any) -> Case:
    pairs = list(zip(FIRST, SECOND, strict=True))
    return Case(lambda model: {"sentence_pairs": pairs, **data}, files, shortened="", model="reranker")


CLASSIFYING = of_pairs(one_file("CrossEncoderClassificationEvaluator"), labels=LABELS)
CORRELATING = of_pairs(one_file("CrossEncoderCorrelationEvaluator"), scores=SCORES)
RERANKING = Case(
    lambda model: {"samples": SAMPLES},
    one_file("CrossEncoderRerankingEvaluator", end="_results_@10.csv"),
    shortened="",
    model="reranker",
)
CASES |= {
    f"{CROSS}.{name}": case
    for name, case in {
        "CEBinaryAccuracyEvaluator": CLASSIFYING,
        "CEBinaryClassificationEvaluator": CLASSIFYING,
        "CECorrelationEvaluator": CORRELATING,
        "CEF1Evaluator": CLASSIFYING,
        "CERerankingEvaluator": RERANKING,
        "CESoftmaxAccuracyEvaluator": CLASSIFYING,
        "CrossEncoderClassificationEvaluator": CLASSIFYING,
        "CrossEncoderCorrelationEvaluator": CORRELATING,
        "CrossEncoderNanoBEIREvaluator": Case(
            lambda model: {"dataset_names": ["nq", "SciFact"]},
            lambda name: [
                "CrossEncoderRerankingEvaluator_NanoNQ_R100_results_@10.csv",
                "CrossEncoderRerankingEvaluator_NanoSciFact_R100_results_@10.csv",
                "NanoBEIR_evaluation_mean_results.csv",
            ],
            named=False,
            told=3,
            shortened="",
            make=_cross_nano,
            model="reranker",
        ),
        "CrossEncoderRerankingEvaluator": RERANKING,
    }.items()
}
SPARSE_ONES = (
    *("BinaryClassificationEvaluator", "EmbeddingSimilarityEvaluator", "InformationRetrievalEvaluator"),
    *("MSEEvaluator", "NanoBEIREvaluator", "RerankingEvaluator", "TranslationEvaluator", "TripletEvaluator"),
)
CASES |= {
    f"{SPARSE}.Sparse{name}": replace(CASES[name], model="splade", shortened="max_active_dims") for name in SPARSE_ONES
}
LATE_ONES = ("InformationRetrievalEvaluator", "NanoBEIREvaluator", "RerankingEvaluator", "TripletEvaluator")
CASES |= {f"{LATE}.MultiVector{name}": replace(CASES[name], model="late", shortened="") for name in LATE_ONES}
WITHOUT_MODEL = {f"{SPARSE}.ReciprocalRankFusionEvaluator"}
"""These compare results that are given (``tests/unit/evaluation/test_rank_fusion.py``)."""
CASES |= {
    f"{LATE}.{name}": case
    for name, case in {
        "MultiVectorDistillationEvaluator": Case(
            lambda model: {"queries": FIRST, "documents": SECOND, "scores": SCORES},
            one_file("distillation_evaluation"),
            shortened="",
            model="late",
        ),
    }.items()
}
