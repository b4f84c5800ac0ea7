"""Numbers that say how well scores agree with what is known: pure functions of arrays. Knows nothing of models.

Scores may be similarities or distances (``higher_is_closer``). Equal scores are one group: no order among them is
made up, a threshold never falls inside a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINARY_METRICS = ("accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap", "mcc")
"""The keys of ``binary_metrics``, in their order."""


# --- scores and yes or no --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuts:
    """What is taken if scores, closest first, are cut behind each of the g groups of equal ones.

    Attributes:
        scores: (g,) the score of the last group taken; floating, of the dtype of the scores.
        taken: (g,) int64, how many scores are taken; the last is their number n.
        hits: (g,) int64, how many of those are labelled 1.
        higher_is_closer: the scores fall; else they rise.
    """

    scores: Array
    taken: Array
    hits: Array
    higher_is_closer: bool

    @classmethod
    def of(cls, scores: Any, labels: Any, higher_is_closer: bool = True) -> Cuts:
        """Sort and group.

        Args:
            scores: (n,) numbers, n >= 1. labels: (n,) of 0 and 1.

        Raises: ValueError if there are none, the lengths differ, or a label is neither 0 nor 1.
        """
        values, truth = np.asarray(scores), np.asarray(labels)
        if values.shape != truth.shape or values.ndim != 1 or not len(values):
            raise ValueError(
                f"Expected as many scores as labels, at least one, got shapes {values.shape} and {truth.shape}."
            )
        if not np.isin(truth, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, got {np.unique(truth)[:5].tolist()}.")
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        order = np.argsort(-values if higher_is_closer else values, kind="stable")
        values = values[order]
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # where each group ends
        return cls(values[last], last + 1, np.cumsum(truth[order] == 1)[last], higher_is_closer)

    @property
    def positives(self) -> int:
        """How many labels are 1."""
        return int(self.hits[-1])

    def threshold(self, at: int) -> float:
        """A number between group ``at`` and the next: halfway, or the group's own score where rounding forbids it."""
        own = self.scores[at]
        if at == len(self.scores) - 1:
            return float(own)
        beyond = self.scores[at + 1]
        middle = own / 2 + beyond / 2  # the sum of both could overflow
        return float(own if middle == beyond else middle)


def best_accuracy(cuts: Cuts) -> tuple[float, float]:
    """The highest share of right answers that a threshold gives, and that threshold.

    Of equally good ones the strictest; it may take nothing, and is then just beyond the closest score.
    """
    total = cuts.taken[-1]
    right = cuts.hits + (total - cuts.positives) - (cuts.taken - cuts.hits)
    at = int(right.argmax())
    if right[at] <= total - cuts.positives:
        beyond = np.nextafter(cuts.scores[0], cuts.scores.dtype.type(np.inf if cuts.higher_is_closer else -np.inf))
        return float((total - cuts.positives) / total), float(beyond)
    return float(right[at] / total), cuts.threshold(at)


def best_f1(cuts: Cuts) -> tuple[float, float, float, float]:
    """The highest F1 that a threshold gives: (F1, precision, recall, threshold); of equals the strictest.

    All are 0 if no label is 1.
    """
    if not cuts.positives:
        return 0.0, 0.0, 0.0, 0.0
    scores, precision, recall = _f1(cuts)
    at = int(scores.argmax())
    return float(scores[at]), float(precision[at]), float(recall[at]), cuts.threshold(at)


def average_precision(cuts: Cuts) -> float:
    """The mean precision over the positives, each taken with its group; 0 without positives, nan if a score is nan.

    Source: https://en.wikipedia.org/wiki/Evaluation_measures_(information_retrieval)#Average_precision
    """
    if np.isnan(cuts.scores).any():
        return math.nan
    if not cuts.positives:
        return 0.0
    found = np.diff(cuts.hits, prepend=0)
    return float((found * (cuts.hits / cuts.taken)).sum() / cuts.positives)


def matthews_correlation(hits: int, taken: int, positives: int, total: int) -> float:
    """The correlation of labels and predictions, -1..1; 0 where one of them is constant.

    Args:
        hits: how many predictions of 1 are right. taken: how many there are. positives: how many labels are 1.
        total: how many labels there are.

    Source: Matthews 1975, https://doi.org/10.1016/0005-2795(75)90109-9
    """
    spread = taken * (total - taken) * positives * (total - positives)  # Python's integers do not overflow
    return (hits * total - taken * positives) / math.sqrt(spread) if spread else 0.0


def binary_metrics(scores: Any, labels: Any, higher_is_closer: bool = True) -> dict[str, float]:
    """How well a threshold on scores tells pairs labelled 1 from those labelled 0.

    Args:
        scores: (n,) numbers. labels: (n,) of 0 and 1. higher_is_closer: False for distances.

    Returns: the ``BINARY_METRICS``; precision, recall and mcc (Matthews correlation) are at the threshold of F1.
    Raises: ValueError as ``Cuts.of``.
    """
    cuts = Cuts.of(scores, labels, higher_is_closer)
    accuracy, accuracy_threshold = best_accuracy(cuts)
    f1, precision, recall, f1_threshold = best_f1(cuts)
    mcc = 0.0
    if cuts.positives:
        at = int(_f1(cuts)[0].argmax())
        mcc = matthews_correlation(int(cuts.hits[at]), int(cuts.taken[at]), cuts.positives, int(cuts.taken[-1]))
    values = (accuracy, accuracy_threshold, f1, f1_threshold, precision, recall, average_precision(cuts), mcc)
    return dict(zip(BINARY_METRICS, values, strict=True))


# --- several classes -------------------------------------------------------------------------------------------------


def class_f1(labels: Any, predictions: Any) -> dict[str, float]:
    """F1, the harmonic mean of precision and recall, over all classes that are a label or a prediction.

    Args:
        labels: (n,) class numbers, n >= 1. predictions: (n,) class numbers.

    Returns: "macro", the mean over the classes; "micro", of all classes together, the share of right predictions;
        "weighted", the mean over the labels.
    Raises: ValueError if there are none, or the lengths differ.
    Source: Opitz and Burst 2019, https://arxiv.org/abs/1911.03347, the mean of F1 scores
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.shape != guess.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"Expected as many predictions as labels, at least one, got shapes {guess.shape} and {truth.shape}."
        )
    classes, places = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    truth, guess = places[: len(truth)], places[len(truth) :]
    hits = np.bincount(truth[truth == guess], minlength=len(classes))
    labelled, taken = np.bincount(truth, minlength=len(classes)), np.bincount(guess, minlength=len(classes))
    scores = 2 * hits / (labelled + taken)
    return {
        "macro": float(scores.mean()),
        "micro": float(hits.sum() / len(truth)),
        "weighted": float((scores * labelled).sum() / len(truth)),
    }


def _f1(cuts: Cuts) -> tuple[Array, Array, Array]:
    """F1, precision and recall behind each group; some label is 1.

    F1 is the harmonic mean as rounded step by step, so that thresholds equally good but for rounding are chosen as by
    the reference implementation.
    """
    precision, recall = cuts.hits / cuts.taken, cuts.hits / cuts.positives
    both = precision + recall
    return 2 * precision * recall / np.where(both > 0, both, 1), precision, recall
