"""An evaluator that measures numbers, and tells the log, the model's card and a CSV file about them.

Knows neither what is measured nor of which kind of model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from .base import BaseEvaluator, progress_text, write_row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What an evaluator found out.

    Attributes:
        metrics: metric -> value, without the evaluator's name; what the caller gets.
        row: column of the CSV file -> value.
        primary: which of the metrics says how good the model is.
    """

    metrics: dict[str, float]
    row: dict[str, float]
    primary: str


class ReportingEvaluator(BaseEvaluator):
    """Runs ``measure``, which a subclass has to write.

    Args:
        csv_file: the name of its CSV file.
        name: of the data; put before every metric.
        write_csv: add a row to the CSV file.
    """

    def __init__(self, csv_file: str, name: str = "", write_csv: bool = True) -> None:
        self.csv_file = csv_file
        self.name = name
        self.write_csv = write_csv
        self.csv_headers = ["epoch", "steps"]

    def measure(self, model: Any) -> Measured:
        """Measure a model; nothing is written."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures.")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure a model; arguments and result are those of ``BaseEvaluator``."""
        self.announce(epoch, steps)
        return self.report(model, self.measure(model), output_path, epoch, steps)

    def announce(self, epoch: int, steps: int) -> None:
        """Tell the log that a model is measured."""
        logger.info("%s: evaluating the model %s", type(self).__name__, progress_text(self.name, epoch, steps))

    def report(
        self, model: Any, measured: Measured, output_path: str | None, epoch: int, steps: int
    ) -> dict[str, float]:
        """Tell the log, the CSV file and the model's card.

        Returns: metric -> value, with the evaluator's name.
        """
        for metric, value in measured.metrics.items():
            logger.info("%s: %.4f", metric, value)
        self.csv_headers = ["epoch", "steps", *measured.row]
        if self.write_csv:
            write_row(output_path, self.csv_file, self.csv_headers, [epoch, steps, *measured.row.values()])
        metrics = self.prefix_name_to_metrics(measured.metrics, self.name)
        self.primary_metric = f"{self.name}_{measured.primary}" if self.name else measured.primary
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics


def csv_name(stem: str, *parts: str | None, end: str = "_results.csv") -> str:
    """The name of a CSV file: the stem and all parts that are not empty.

    >>> csv_name("triplet_evaluation", "dev")
    'triplet_evaluation_dev_results.csv'
    """
    return "_".join([stem, *(part for part in parts if part)]) + end


@contextmanager
def modes_kept(*models: Any) -> Iterator[None]:
    """Put back in the end which parts of models are in training mode: encoding leaves a model without."""
    modes = [(part, part.training) for model in models if isinstance(model, nn.Module) for part in model.modules()]
    try:
        yield
    finally:
        for part, is_training in modes:
            part.training = is_training
