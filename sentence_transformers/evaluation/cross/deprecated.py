"""The old names of evaluators of rerankers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .classification import CrossEncoderClassificationEvaluator
from .correlation import CrossEncoderCorrelationEvaluator
from .predicting import Array
from .reranking import CrossEncoderRerankingEvaluator

HIGH = 0.5
"""From here on a score is of the class 1."""


class Renamed:
    """Says on construction what a class is called now: as the first of another file that it inherits from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        now = next(kind.__name__ for kind in type(self).__mro__ if kind.__module__ != __name__)
        warnings.warn(f"{type(self).__name__} is now {now}.", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class CEBinaryAccuracyEvaluator(Renamed, CrossEncoderClassificationEvaluator):
    """An old name of ``CrossEncoderClassificationEvaluator``."""


class CEBinaryClassificationEvaluator(Renamed, CrossEncoderClassificationEvaluator):
    """An old name of ``CrossEncoderClassificationEvaluator``; labels may be scores, high ones (>= 0.5) are 1."""

    @staticmethod
    def classes(labels: Array) -> Array:
        """(n,) labels as class numbers, int64. Raises: ValueError if one is no number."""
        if labels.dtype.kind == "f" and not np.isnan(labels).any():
            return (labels >= HIGH).astype(np.int64)
        return CrossEncoderClassificationEvaluator.classes(labels)


class CEF1Evaluator(Renamed, CrossEncoderClassificationEvaluator):
    """An old name of ``CrossEncoderClassificationEvaluator``."""


class CESoftmaxAccuracyEvaluator(Renamed, CrossEncoderClassificationEvaluator):
    """An old name of ``CrossEncoderClassificationEvaluator``."""


class CECorrelationEvaluator(Renamed, CrossEncoderCorrelationEvaluator):
    """The old name of ``CrossEncoderCorrelationEvaluator``."""


class CERerankingEvaluator(Renamed, CrossEncoderRerankingEvaluator):
    """The old name of ``CrossEncoderRerankingEvaluator``."""
