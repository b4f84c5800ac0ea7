"""What an evaluator is: it measures a model on data of its own, and may keep the numbers in a CSV file.

An evaluator says what its metrics are; names, files and what a model card is told are here.
"""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+\d*|\d+")


class BaseEvaluator:
    """Measures a model.

    Attributes:
        greater_is_better: whether a higher primary metric is better.
        primary_metric: the name of the one number that says how good a model is; None where there is none.
        baseline: what the names of metrics that the model has to beat begin with; a card shows how far it does. Empty
            where there are none.
    """

    greater_is_better: bool = True
    primary_metric: str | None = None
    baseline: ClassVar[str] = ""

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> float | dict[str, float]:
        """Measure a model.

        Args:
            model: of the kind that the evaluator is for.
            output_path: a folder for a CSV file, to which a row is added; None writes nothing.
            epoch, steps: how far training is, for that row; -1 outside of training.

        Returns: metric -> value.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures.")

    def prefix_name_to_metrics(self, metrics: Mapping[str, Any], name: str) -> dict[str, float]:
        """The metrics as floats, under ``<name>_<metric>`` if there is a name; so is ``primary_metric`` then, once."""
        found = {key: _number(value) for key, value in metrics.items()}
        if not name:
            return found
        if self.primary_metric is not None and not self.primary_metric.startswith(f"{name}_"):
            self.primary_metric = f"{name}_{self.primary_metric}"
        return {f"{name}_{key}": value for key, value in found.items()}

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Tell the model's card what was measured."""
        model.model_card_data.set_evaluation_metrics(self, metrics, epoch=epoch, step=step)

    @property
    def description(self) -> str:
        """What is evaluated, in words: the name of the class."""
        name = type(self).__name__.removesuffix("Evaluator")
        if name.startswith("CE"):
            name = "CrossEncoder" + name[2:]
        return " ".join(WORDS.findall(name))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a model card shows."""
        return {}


SentenceEvaluator = BaseEvaluator


def write_row(output_path: str | None, file_name: str, header: Sequence[str], row: Sequence[Any]) -> None:
    """Add a row to a CSV file in a folder, which is made; a new file begins with the header.

    Args:
        output_path: the folder; None writes nothing.
    """
    if output_path is None:
        return
    path = Path(output_path) / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(header)
        writer.writerow(row)


def progress_text(name: str, epoch: int, steps: int) -> str:
    """Where an evaluation takes place, for the log: "on the sts-dev dataset in epoch 1 after 100 steps"."""
    parts = [f"on the {name} dataset"] if name else []
    if epoch != -1:
        parts.append(f"after epoch {epoch}" if steps == -1 else f"in epoch {epoch} after {steps} steps")
    return " ".join(parts)


def arguments_of(evaluator: BaseEvaluator, names: Sequence[str]) -> dict[str, Any]:
    """Of the attributes with these names those that differ from the constructor's defaults."""
    defaults = {name: one.default for name, one in inspect.signature(type(evaluator)).parameters.items()}
    found = {name: getattr(evaluator, name) for name in names}
    return {name: value for name, value in found.items() if value is not None and value != defaults.get(name)}


class SequentialEvaluator(BaseEvaluator):
    """Several evaluators, one after the other.

    Args:
        evaluators: the evaluators.
        main_score_function: scores of all of them -> the one that counts; by default that of the last.
    """

    primary_metric = "sequential_score"

    def __init__(
        self,
        evaluators: Sequence[BaseEvaluator],
        main_score_function: Callable[[list[float]], float] = lambda scores: scores[-1],
    ) -> None:
        self.evaluators = list(evaluators)
        self.main_score_function = main_score_function

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """All metrics of all evaluators, and ``sequential_score``; a bare number becomes ``evaluator_<place>``."""
        metrics: dict[str, float] = {}
        scores: list[float] = []
        for place, evaluator in enumerate(self.evaluators):
            found = evaluator(model, output_path, epoch, steps)
            if not isinstance(found, dict):
                scores.append(found)
                metrics[f"evaluator_{place}"] = found
                continue
            primary = evaluator.primary_metric
            scores.append(found[primary] if primary is not None else next(iter(found.values())))
            metrics.update(found)
        metrics["sequential_score"] = self.main_score_function(scores) if scores else 0.0
        return metrics


def _number(value: Any) -> Any:
    """A float where it can be one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
