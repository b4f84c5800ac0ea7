"""The old names of evaluators of rerankers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers import InputExample
from sentence_transformers.evaluation.cross import deprecated
from sentence_transformers.evaluation.cross.classification import CrossEncoderClassificationEvaluator
from sentence_transformers.evaluation.cross.correlation import CrossEncoderCorrelationEvaluator
from sentence_transformers.evaluation.cross.deprecated import CEBinaryClassificationEvaluator, CERerankingEvaluator
from sentence_transformers.evaluation.cross.reranking import CrossEncoderRerankingEvaluator
from tests.unit.evaluation.cross.scoring import Scoring

PAIRS = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]
SCORES = dict(zip(PAIRS, [0.9, 0.2, 0.4, 0.1], strict=True))
NAMES = {
    "CEBinaryAccuracyEvaluator": (CrossEncoderClassificationEvaluator, "Cross Encoder Binary Accuracy"),
    "CEBinaryClassificationEvaluator": (CrossEncoderClassificationEvaluator, "Cross Encoder Binary Classification"),
    "CEF1Evaluator": (CrossEncoderClassificationEvaluator, "Cross Encoder F1"),
    "CESoftmaxAccuracyEvaluator": (CrossEncoderClassificationEvaluator, "Cross Encoder Softmax Accuracy"),
    "CECorrelationEvaluator": (CrossEncoderCorrelationEvaluator, "Cross Encoder Correlation"),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_old_name_warns_and_works_as_the_new_one(name: str, tmp_path: Path) -> None:
    new, description = NAMES[name]
    labels = [1, 0, 1, 0]
    with pytest.warns(DeprecationWarning, match=f"{name} is now {new.__name__}") as told:
        evaluator = getattr(deprecated, name)(PAIRS, labels, name="dev")
    assert [one.filename for one in told] == [__file__]
    assert evaluator(Scoring(SCORES), str(tmp_path)) == new(PAIRS, labels, name="dev")(Scoring(SCORES))
    assert [path.name for path in tmp_path.iterdir()] == [f"{new.__name__}_dev_results.csv"]
    assert evaluator.description == description


@pytest.mark.parametrize("name", NAMES)
def test_an_old_name_understands_examples(name: str) -> None:
    kind: Any = getattr(deprecated, name)
    examples = [InputExample(texts=list(pair), label=place % 2) for place, pair in enumerate(PAIRS)]
    with pytest.warns(DeprecationWarning, match=name):
        evaluator = kind.from_input_examples(examples, name="dev")
    model = Scoring(SCORES)
    assert evaluator(model) == NAMES[name][0](PAIRS, [0, 1, 0, 1], name="dev")(Scoring(SCORES))
    assert model.calls[0][0] == PAIRS


def test_the_old_name_of_reranking_warns_and_works() -> None:
    samples = [{"query": "a", "positive": ["1"], "negative": ["2"]}]
    with pytest.warns(DeprecationWarning, match="CERerankingEvaluator is now CrossEncoderRerankingEvaluator"):
        evaluator = CERerankingEvaluator(samples, at_k=3)
    model = Scoring(lambda query, text: float(text))
    assert evaluator(model) == CrossEncoderRerankingEvaluator(samples, at_k=3)(model)


@pytest.mark.filterwarnings("ignore:CEBinary:DeprecationWarning")
def test_scores_from_a_half_on_are_positive() -> None:
    evaluator = CEBinaryClassificationEvaluator(PAIRS, [1.0, 0.49, 0.5, 0.0], name="sts-dev")
    assert evaluator.labels.tolist() == [1, 0, 1, 0]
    found = evaluator(Scoring(SCORES))
    assert found["sts-dev_average_precision"] == 1
    assert found["sts-dev_f1_threshold"] == pytest.approx(0.3)


@pytest.mark.filterwarnings("ignore:CEBinary:DeprecationWarning")
def test_whole_labels_are_classes() -> None:
    assert CEBinaryClassificationEvaluator(PAIRS, [0, 2, 1, 2]).labels.tolist() == [0, 2, 1, 2]
    assert CEBinaryClassificationEvaluator(PAIRS, [True, False, True, True]).labels.tolist() == [1, 0, 1, 1]


@pytest.mark.filterwarnings("ignore:CEBinary:DeprecationWarning")
@pytest.mark.parametrize("label", [float("nan"), "high"])
def test_labels_that_are_no_numbers_are_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        CEBinaryClassificationEvaluator(PAIRS, [0.2, label, 0.4, 0.9])


def test_new_names_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CrossEncoderClassificationEvaluator(PAIRS, [1, 0, 1, 0])
