"""EmbeddingSimilarityEvaluator: what it computes, and how often it encodes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sentence_transformers.evaluation.similarity import EmbeddingSimilarityEvaluator
from sentence_transformers.ops.correlation import pearson, spearman
from tests.unit.evaluation.evaluating import Given

VECTORS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 2.0], "d": [-1.0, 0.5]}
FIRST, SECOND, SCORES = ["a", "a", "b", "a"], ["b", "c", "c", "d"], [0.9, 0.2, 0.8, 0.1]
COSINES = [0.6, 0.0, 0.8, -1 / np.sqrt(1.25)]


def test_metrics_are_correlations_with_the_scores() -> None:
    found = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(Given(VECTORS))
    assert found["pearson_cosine"] == pytest.approx(np.corrcoef(SCORES, COSINES)[0, 1])
    assert found["spearman_cosine"] == pytest.approx(spearman([4, 2, 3, 1], [3, 2, 4, 1]))


def test_distances_count_negative() -> None:
    found = EmbeddingSimilarityEvaluator(["a", "a"], ["a", "c"], [1, 0], similarity_fn_names=["euclidean"])
    assert found(Given(VECTORS))["spearman_euclidean"] == pytest.approx(1)


def test_of_several_functions_the_best_is_told() -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, similarity_fn_names=["cosine", "dot", "manhattan"])
    found = evaluator(Given(VECTORS))
    for kind in ("pearson", "spearman"):
        assert found[f"{kind}_max"] == max(found[f"{kind}_{name}"] for name in ("cosine", "dot", "manhattan"))
    assert evaluator.primary_metric == "spearman_max"


def test_every_text_is_encoded_once() -> None:
    model = Given(VECTORS)
    EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, truncate_dim=2, batch_size=3)(model)
    (call,) = model.calls
    assert call[:2] == ("encode", ["a", "b", "c", "d"])
    assert call[2]["truncate_dim"] == 2
    assert call[2]["batch_size"] == 3


def test_the_function_of_the_first_model_stays() -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)
    evaluator(Given(VECTORS))
    assert "pearson_cosine" in evaluator(Given(VECTORS, similarity_fn_name="dot"))


def test_input_examples_are_pairs_with_a_score() -> None:
    examples = [
        SimpleNamespace(texts=[one, other], label=label)
        for one, other, label in zip(FIRST, SECOND, SCORES, strict=True)
    ]
    evaluator = EmbeddingSimilarityEvaluator.from_input_examples(examples, name="dev")
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.scores) == (FIRST, SECOND, SCORES)
    assert evaluator.name == "dev"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((FIRST, SECOND[:3], SCORES), r"sentences2 \(3\) and scores \(4\) must have the same length"),
        ((FIRST, SECOND, SCORES[:1]), r"scores \(1\) must have the same length"),
    ],
)
def test_columns_of_different_lengths_are_refused(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EmbeddingSimilarityEvaluator(*arguments)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="Precision 'int4' is not supported"):
        EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, precision="int4")  # type: ignore[arg-type]


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two pairs"):
        EmbeddingSimilarityEvaluator([], [], [])(Given({}))


TEXTS = ["a cat", "two dogs", "rain", "a red car", "some tea", "late trains", "snow in May", "a cat sat"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["binary", "ubinary", "int8", "uint8", "float32"])
def test_of_a_real_model_the_quantised_embeddings_are_compared(
    precision: Any, tiny_model: Callable[[str], Any]
) -> None:
    model, labels = tiny_model("bert"), [0.5, 0.1, 0.9, 0.3]
    evaluator = EmbeddingSimilarityEvaluator(
        TEXTS[:4], TEXTS[4:], labels, precision=precision, similarity_fn_names=["manhattan"]
    )
    rows = model.encode(TEXTS, precision=precision, normalize_embeddings=True)
    if precision == "ubinary":
        rows = np.unpackbits(rows, axis=1)
    wide = rows.astype(np.float64)
    distances = np.abs(wide[:4] - wide[4:]).sum(1)
    found = evaluator.measure(model).metrics
    assert found["pearson_manhattan"] == pytest.approx(-pearson(labels, distances), abs=1e-5)


def test_bits_are_zero_and_one(tiny_model: Callable[[str], Any]) -> None:
    model, labels = tiny_model("bert"), [0.5, 0.1, 0.9, 0.3]
    evaluator = EmbeddingSimilarityEvaluator(
        TEXTS[:4], TEXTS[4:], labels, precision="binary", similarity_fn_names=["dot"]
    )
    bits = (model.encode(TEXTS) > 0).astype(np.float64)
    expected = pearson(labels, (bits[:4] * bits[4:]).sum(1))
    assert evaluator.measure(model).metrics["pearson_dot"] == pytest.approx(expected)


def test_the_card_shows_what_was_set() -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, precision="int8", truncate_dim=2)
    assert evaluator.get_config_dict() == {"precision": "int8", "truncate_dim": 2}
    assert evaluator.csv_file == "similarity_evaluation_int8_results.csv"
    assert evaluator.description == "Semantic Similarity"
