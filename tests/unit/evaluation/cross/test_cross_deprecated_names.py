"""The old names of evaluators: each says what it is called now, and is that."""

from __future__ import annotations

from typing import Any

import pytest
from sentence_transformers.cross_encoder.evaluation import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CERerankingEvaluator,
    CESoftmaxAccuracyEvaluator,
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)

PAIRS = [("a cat", "a kitten"), ("a cat", "tea")]
SAMPLES = [{"query": "a cat", "positive": ["a kitten"], "negative": ["tea"]}]


@pytest.mark.parametrize(
    ("old", "new", "data"),
    [
        (CEBinaryAccuracyEvaluator, CrossEncoderClassificationEvaluator, (PAIRS, [1, 0])),
        (CEBinaryClassificationEvaluator, CrossEncoderClassificationEvaluator, (PAIRS, [1, 0])),
        (CEF1Evaluator, CrossEncoderClassificationEvaluator, (PAIRS, [1, 0])),
        (CESoftmaxAccuracyEvaluator, CrossEncoderClassificationEvaluator, (PAIRS, [1, 0])),
        (CECorrelationEvaluator, CrossEncoderCorrelationEvaluator, (PAIRS, [0.9, 0.1])),
        (CERerankingEvaluator, CrossEncoderRerankingEvaluator, (SAMPLES,)),
    ],
)
def test_an_old_name_is_the_new_evaluator_and_says_so(old: type[Any], new: type[Any], data: tuple[Any, ...]) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old.__name__} is now {new.__name__}"):
        made = old(*data)
    assert isinstance(made, new)
    assert vars(made).keys() == vars(new(*data)).keys()
