"""What a card says about evaluations: tables to read, and entries of the ``model-index`` for the Hub.

Knows an evaluator by what it says of itself: description, name, primary metric, settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .losses import name_of
from .markdown import bold, code, escape, is_finite, number, plain, table


@dataclass(frozen=True)
class Evaluation:
    """What one evaluator measured.

    Attributes:
        description: what is evaluated, in words. evaluator: its class. config: its settings as JSON, or "".
        name: of the data, or "". primary: the metric that counts, without the name; None where none does.
        metrics: metric -> value, without the name.
        baselines: metric -> value that the model has to beat, of some metrics.
    """

    description: str
    evaluator: str
    config: str
    name: str
    primary: str | None
    metrics: dict[str, Any]
    baselines: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluator: Any, metrics: Mapping[str, Any]) -> Evaluation:
        """What an evaluator has found."""
        name = str(getattr(evaluator, "name", "") or "")
        config = evaluator.get_config_dict()
        primary = evaluator.primary_metric
        values = {_short(key, name): plain(value) for key, value in metrics.items()}
        prefix = str(getattr(evaluator, "baseline", "") or "")
        baselines = {metric: values[prefix + metric] for metric in values if prefix and prefix + metric in values}
        beaten = {prefix + metric for metric in baselines}
        return cls(
            description=str(evaluator.description),
            evaluator=name_of(evaluator),
            config=json.dumps(config, indent=4, ensure_ascii=False, default=str) if config else "",
            name=name,
            primary=None if primary is None else _short(primary, name),
            metrics={metric: value for metric, value in values.items() if metric not in beaten},
            baselines=baselines,
        )

    def shown(self, metric: str) -> Any:
        """The value of a metric; where there is a baseline, text that says by how much it is beaten: "0.9 (+0.1)"."""
        value, base = self.metrics[metric], self.baselines.get(metric)
        return value if base is None else f"{value:.4f} ({value - base:+.4f})"

    @property
    def key(self) -> tuple[str, str, str]:
        """Later results of the same replace earlier ones."""
        return self.evaluator, self.name, self.config

    @property
    def alike(self) -> tuple[Any, ...]:
        """What evaluations of one table have in common."""
        return self.description, self.evaluator, self.config, tuple(self.metrics), self.primary


@dataclass(frozen=True)
class Shown:
    """A section of a card: what was evaluated, on which data, by what, and the table."""

    description: str
    names: list[str]
    evaluator: str
    config: str
    table: str


def sections(found: Sequence[Evaluation]) -> list[Shown]:
    """Tables for all evaluations; those of the same metrics in one table."""
    groups: dict[tuple[Any, ...], list[Evaluation]] = {}
    for one in found:
        groups.setdefault(one.alike, []).append(one)
    return [_section(group) for group in groups.values()]


def _section(group: Sequence[Evaluation]) -> Shown:
    first = group[0]
    names = [one.name for one in group if one.name]
    header = ["Metric", *(["Value"] if len(group) == 1 else [escape(one.name or "unnamed") for one in group])]
    rows = []
    for metric in first.metrics:
        cells = [escape(metric), *(number(one.shown(metric)) for one in group)]
        rows.append([bold(cell) for cell in cells] if metric == first.primary else cells)
    return Shown(first.description, names, code(first.evaluator), first.config, table(header, rows))


def model_index(title: str, found: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The ``model-index`` of the YAML header; numbers that cannot be written are left out."""
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    results = [
        EvalResult(
            task_type=one.description.lower().replace(" ", "-"),
            task_name=one.description,
            dataset_type=one.name or "unknown",
            dataset_name=one.name.replace("_", " ").replace("-", " ") or "Unknown",
            metric_type=metric,
            metric_name=metric.replace("_", " ").title(),
            metric_value=value,
        )
        for one in found
        for metric, value in one.metrics.items()
        if is_finite(value)
    ]
    return eval_results_to_model_index(title, results) if results else []


def metric_names(found: Sequence[Evaluation]) -> list[str]:
    """All metrics once, for the ``metrics`` of the YAML header."""
    return list(dict.fromkeys(name for one in found for name, value in one.metrics.items() if is_finite(value)))


def _short(metric: str, name: str) -> str:
    """A metric without the name of the data before it."""
    return metric.removeprefix(f"{name}_") if name else metric
