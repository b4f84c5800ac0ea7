"""How well similarities of pairs, or a trained classifier, tell classes apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.similarity import SimilarityFunction
from ..ops.tensors import batch_to_device
from .embedding import Array, Encoded, SimilarityEvaluator, equally_many
from .metrics import BINARY_METRICS, Cuts, best_accuracy, best_f1, binary_metrics
from .reporting import Measured, ReportingEvaluator, csv_name, modes_kept

DISTANCES = ("manhattan", "euclidean")
"""Functions whose thresholds are told as distances, lower is closer."""
CSV_ORDER = ("accuracy", "accuracy_threshold", "f1", "precision", "recall", "f1_threshold", "ap", "mcc")


class BinaryClassificationEvaluator(SimilarityEvaluator):
    """Tells pairs of texts labelled 1 from those labelled 0 by a threshold on their similarity.

    Args:
        sentences1: the n first texts. sentences2: the second ones. labels: n times 0 or 1, 1 is similar.
        name: of the data, put before every metric. batch_size: the most texts that are encoded together.
        show_progress_bar: while encoding.
        write_csv: add a row to ``binary_classification_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions.
        similarity_fn_names: some of "cosine", "dot", "manhattan" and "euclidean"; default: that of the model.

    Metrics, for every function: ``<function>_accuracy`` and ``_f1``, with the thresholds that are best for them,
    ``_accuracy_threshold`` and ``_f1_threshold`` (a distance for "manhattan" and "euclidean"); ``_precision``,
    ``_recall`` and ``_mcc`` (Matthews correlation) at the second; ``_ap`` (average precision, primary). Of several
    functions also ``max_<metric>``.

    Raises: ValueError if the lengths differ, if a label is neither 0 nor 1, or for an unknown function.
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        labels: Sequence[int],
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
    ) -> None:
        equally_many(sentences1=sentences1, sentences2=sentences2, labels=labels)
        other = sorted({label for label in labels if label not in (0, 1)})
        if other:
            raise ValueError(f"labels must be 0 or 1, got {other[:5]}.")
        super().__init__(
            csv_name("binary_classification_evaluation", name),
            name,
            batch_size,
            show_progress_bar,
            write_csv,
            truncate_dim,
            similarity_fn_names,
        )
        self.sentences1, self.sentences2, self.labels = sentences1, sentences2, labels

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> BinaryClassificationEvaluator:
        """Of ``InputExample`` objects with two texts and a label; other arguments as the constructor."""
        first, second = [example.texts[0] for example in examples], [example.texts[1] for example in examples]
        return cls(first, second, [example.label for example in examples], **kwargs)

    def measure(self, model: Any) -> Measured:
        main = self.choose(model)
        encoded = self._encoded(model)
        found = self._compared(encoded)
        metrics = {f"{name}_{metric}": value for name, values in found.items() for metric, value in values.items()}
        row = {f"{name}_{metric}": values[metric] for name, values in found.items() for metric in CSV_ORDER}
        if len(found) > 1:
            for metric in BINARY_METRICS:
                metrics[f"max_{metric}"] = max(values[metric] for values in found.values())
        return self.measured(encoded, metrics, row, f"{main}_ap")

    def compute_metrics(self, model: Any) -> dict[str, dict[str, float]]:
        """Name of a function -> metric -> value."""
        self.choose(model)
        return self._compared(self._encoded(model))

    def compute_metrices(self, model: Any) -> dict[str, dict[str, float]]:
        """The old name of ``compute_metrics``."""
        warnings.warn("compute_metrices is now compute_metrics.", FutureWarning, stacklevel=2)
        return self.compute_metrics(model)

    @staticmethod
    def find_best_acc_and_threshold(scores: Any, labels: Any, high_score_more_similar: bool) -> tuple[float, float]:
        """The highest accuracy that a threshold on scores gives, and that threshold.

        Args:
            scores: (n,) numbers. labels: (n,) of 0 and 1. high_score_more_similar: False for distances.

        Returns: the threshold lies halfway between two scores; of equally good ones it is the strictest. It is just
            beyond the closest score if it is best to call nothing similar.
        Raises: ValueError for no scores, different lengths, or other labels.
        """
        return best_accuracy(Cuts.of(to_array(scores), to_array(labels), high_score_more_similar))

    @staticmethod
    def find_best_f1_and_threshold(
        scores: Any, labels: Any, high_score_more_similar: bool
    ) -> tuple[float, float, float, float]:
        """The highest F1 that a threshold on scores gives: (F1, precision, recall, threshold); all 0 without a label 1.

        Arguments and errors are those of ``find_best_acc_and_threshold``.
        """
        return best_f1(Cuts.of(to_array(scores), to_array(labels), high_score_more_similar))

    def _encoded(self, model: Any) -> dict[str, Encoded]:
        first, second = self.encode(model, self.sentences1, self.sentences2)
        return {"sentences1": first, "sentences2": second}

    def _compared(self, encoded: dict[str, Encoded]) -> dict[str, dict[str, float]]:
        found = {}
        for name, scores in self.compare(encoded["sentences1"], encoded["sentences2"]).items():
            is_distance = name in DISTANCES
            found[name] = binary_metrics(-scores if is_distance else scores, self.labels, not is_distance)
        return found


class LabelAccuracyEvaluator(ReportingEvaluator):
    """How often a trained classifier of pairs, such as ``SoftmaxLoss``, is right.

    Args:
        dataloader: gives batches of ``InputExample`` objects with texts and a class number as label.
        name: of the data, put before the metric.
        softmax_model: features of the columns, and None for labels -> (anything, (B, classes) scores).
        write_csv: add a row to ``accuracy_evaluation_<name>_results.csv``.

    Metrics: ``accuracy``. Raises: ValueError if there is no classifier, or nothing to classify.
    """

    primary_metric = "accuracy"

    def __init__(self, dataloader: Any, name: str = "", softmax_model: Any = None, write_csv: bool = True) -> None:
        super().__init__(csv_name("accuracy_evaluation", name), name, write_csv)
        self.dataloader = dataloader
        self.softmax_model = softmax_model

    def measure(self, model: Any) -> Measured:
        if self.softmax_model is None:
            raise ValueError("LabelAccuracyEvaluator needs the classifier: softmax_model, such as a SoftmaxLoss.")
        before = self.dataloader.collate_fn
        with modes_kept(self.softmax_model, model):
            try:
                self.softmax_model.eval()
                model.eval()
                self.dataloader.collate_fn = list  # the examples as they are
                right, total = self._count(model)
            finally:
                self.dataloader.collate_fn = before
        if not total:
            raise ValueError("The dataloader gave nothing to classify.")
        accuracy = {"accuracy": right / total}
        return Measured(accuracy, accuracy, "accuracy")

    @torch.no_grad()
    def _count(self, model: Any) -> tuple[int, int]:
        """How many predictions are right, of how many."""
        right = total = 0
        for examples in self.dataloader:
            columns = zip(*(example.texts for example in examples), strict=True)
            features = [batch_to_device(model.preprocess(list(column)), model.device) for column in columns]
            labels = torch.as_tensor([int(example.label) for example in examples], device=model.device)
            _, scores = self.softmax_model(features, None)
            right += int((scores.argmax(dim=1) == labels).sum())
            total += len(labels)
        return right, total


def to_array(values: Any) -> Array:
    """Numbers on any device, in any form."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    wide = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    return np.asarray(wide.detach().cpu())
