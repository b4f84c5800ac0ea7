"""How well a reranker, or a classifier of pairs, tells classes apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..classification import to_array
from ..metrics import binary_metrics, class_f1
from ..reporting import Measured, csv_name
from .predicting import Array, LabelledPairsEvaluator

logger = logging.getLogger(__name__)

COLUMNS = {
    "accuracy": "Accuracy",
    "accuracy_threshold": "Accuracy_Threshold",
    "f1": "F1",
    "f1_threshold": "F1_Threshold",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average_Precision",
}
"""Metric of a model with one label -> column of the CSV file."""


class CrossEncoderClassificationEvaluator(LabelledPairsEvaluator):
    """Compares the classes of pairs of texts with those that a model gives them.

    Args:
        sentence_pairs: n pairs of texts. labels: n class numbers; for a model with one label, 0 or 1.
        name: of the data, put before every metric.
        prompt_name: name of a prompt of the model to put before the first text of each pair.
        batch_size: the most pairs that are computed together.
        show_progress_bar: while scoring; None shows it where this package logs at INFO.
        write_csv: add a row to ``CrossEncoderClassificationEvaluator_<name>_results.csv``.
        **kwargs: not used; the log says so.

    Metrics of a model with one label: ``accuracy`` and ``f1``, with the thresholds that are best for them,
    ``accuracy_threshold`` and ``f1_threshold``; ``precision`` and ``recall`` at the second; ``average_precision``
    (primary). Of one with several, which gives a pair the class with the highest score: ``f1_macro`` (primary), the
    mean of F1 over the classes; ``f1_micro``, the share of right answers; ``f1_weighted``, the mean over the labels.

    Raises: ValueError if the lengths differ, or a label is no whole number; when it is called, if there are no pairs,
        or for other labels than 0 and 1 where the model has one label.

    Example:
        >>> evaluator = CrossEncoderClassificationEvaluator([("a cat", "a kitten"), ("a cat", "tea")], [1, 0])
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Any],
        labels: Sequence[int],
        *,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            logger.warning("%s does not use these arguments: %s", type(self).__name__, ", ".join(kwargs))
        super().__init__(
            sentence_pairs,
            labels,
            what="labels",
            csv_file=csv_name("CrossEncoderClassificationEvaluator", name),
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
        )
        self.labels = self.classes(to_array(labels))

    @staticmethod
    def classes(labels: Array) -> Array:
        """(n,) labels as class numbers, int64. Raises: ValueError if one is no whole number."""
        kind = labels.dtype.kind
        if labels.ndim == 1 and (kind in "biu" or (kind == "f" and _are_whole(labels))):
            return labels.astype(np.int64)
        raise ValueError(
            f"labels must be whole numbers, the class of each pair, got {labels[:5].tolist()}. Scores are for "
            "CrossEncoderCorrelationEvaluator; for two classes, low and high, say which are high: "
            "labels=[int(score >= 0.5) for score in scores]."
        )

    def measure(self, model: Any) -> Measured:
        scores = self.predict(model, self.sentence_pairs)
        return self._of_two(scores) if model.num_labels == 1 else self._of_several(scores)

    def _of_two(self, scores: Array) -> Measured:
        """Of (n,) scores."""
        found = binary_metrics(scores, self.labels)
        found["average_precision"] = found["ap"]
        metrics = {metric: found[metric] for metric in COLUMNS}
        row = {column: metrics[metric] for metric, column in COLUMNS.items()}
        return Measured(metrics, row, "average_precision")

    def _of_several(self, scores: Array) -> Measured:
        """Of (n, labels) scores."""
        found = class_f1(self.labels, scores.argmax(axis=1))
        metrics = {f"f1_{mean}": value for mean, value in found.items()}
        row = {f"{mean.capitalize()}_F1": value for mean, value in found.items()}
        return Measured(metrics, row, "f1_macro")


def _are_whole(numbers: Array) -> bool:
    return bool((np.isfinite(numbers) & (numbers == np.trunc(numbers))).all())
