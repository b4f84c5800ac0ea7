"""How well the scores of a reranker agree with scores that people gave to the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers.ops.correlation import pearson, spearman

from ..reporting import Measured, csv_name
from .predicting import LabelledPairsEvaluator


class CrossEncoderCorrelationEvaluator(LabelledPairsEvaluator):
    """Correlates the scores of pairs of texts with gold scores.

    Args:
        sentence_pairs: n pairs of texts. scores: n numbers, higher is more similar.
        name: of the data, put before every metric.
        prompt_name: name of a prompt of the model to put before the first text of each pair.
        batch_size: the most pairs that are computed together.
        show_progress_bar: while scoring; None shows it where this package logs at INFO.
        write_csv: add a row to ``CrossEncoderCorrelationEvaluator_<name>_results.csv``.

    Metrics: ``pearson`` and ``spearman`` (primary); nan if all scores are equal.

    Raises: ValueError if the lengths differ; when it is called, for a model with several labels or less than two pairs.

    Example:
        >>> evaluator = CrossEncoderCorrelationEvaluator([("a cat", "a kitten")], [0.9], name="sts-dev")
    """

    primary_metric = "spearman"

    def __init__(
        self,
        sentence_pairs: Sequence[Any],
        scores: Sequence[float],
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
    ) -> None:
        super().__init__(
            sentence_pairs,
            scores,
            what="scores",
            csv_file=csv_name("CrossEncoderCorrelationEvaluator", name),
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
        )
        self.scores = scores
        self.csv_headers = ["epoch", "steps", "Pearson_Correlation", "Spearman_Correlation"]

    def measure(self, model: Any) -> Measured:
        found = self.score(model, self.sentence_pairs)
        metrics = {"pearson": pearson(self.scores, found), "spearman": spearman(self.scores, found)}
        row = {f"{metric.capitalize()}_Correlation": value for metric, value in metrics.items()}
        return Measured(metrics, row, "spearman")
