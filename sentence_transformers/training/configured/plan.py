"""A training from a file: read, checked as far as it can be before anything is fetched, and described.

The keys of the file are said in ``KEYS``; what is below them, by the files beside.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

from datasets import Dataset, DatasetDict

from ...errors import need, one_of
from . import document
from .data import DatasetPlan, dataset_plan, is_dataset
from .document import Section
from .evaluators import EvaluatorPlan, check_names, evaluator_plan
from .kinds import KINDS, Kind
from .models import ModelPlan, model_plan
from .parts import Known, Part, loss_part
from .trial import check_loss
from .values import described, fits

KEYS = ("kind", "model", "train", "eval", "loss", "evaluators", "arguments", "curves")

Datasets: TypeAlias = DatasetPlan | dict[str, DatasetPlan]
Losses: TypeAlias = Part | dict[str, Part]


@dataclass
class Plan:
    """A training, as a file describes it.

    Attributes:
        settings: the file, with overrides, absolute paths and defaults in it: it can be run again.
        train, eval: a dataset, or several by name.
        loss: a loss, or several by names of datasets.
        arguments: of the class of arguments; ``output_dir`` among them.
        curves: whether a picture is made.
    """

    settings: dict[str, Any]
    kind: Kind
    model: ModelPlan
    train: Datasets
    eval: Datasets | None
    loss: Losses
    evaluators: list[EvaluatorPlan]
    arguments: dict[str, Any]
    curves: bool
    _built: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The folder that everything is written to."""
        return Path(self.arguments["output_dir"])

    def check(self) -> None:
        """Check all that can be known without a network: files, their columns, what losses and evaluators say of them.

        Raises: ValueError, ImportError (of matplotlib), OSError.
        """
        if self.curves:
            need("matplotlib", extra="train", what="The picture of the curves (or set curves: false)")
        self.training_arguments()
        for name, one in [*named(self.train), *named(self.eval)]:
            if one.is_local:
                self._check_rows(name, one)
        for evaluator in self.evaluators:
            is_local = evaluator.datasets and all(one.is_local for one in evaluator.datasets)
            if is_local and not any(isinstance(value, ModelPlan) for value in evaluator.settings.values()):
                self._built[evaluator.place] = evaluator.build(lambda plan: plan.open())

    def _check_rows(self, name: str, one: DatasetPlan) -> Dataset:
        rows = one.training_rows()
        losses = (
            [self.loss] if isinstance(self.loss, Part) else [part for key, part in self.loss.items() if key == name]
        )
        for loss in losses:
            check_loss(loss, rows, one.place, self.kind.collator(), self.model.settings.get("num_labels"))
        return rows

    def training_arguments(self, **changes: Any) -> Any:
        """The training arguments. Raises: ValueError, with the place, for values that cannot be."""
        try:
            return self.kind.named(self.kind.arguments)(**self.arguments, **changes)
        except ValueError as error:
            raise ValueError(f"arguments: {error}") from error

    def rows(self, which: Datasets | None) -> Any:
        """A dataset, or several by name; fetched, where they are of the Hub, and checked. None for None."""
        if which is None:
            return None
        if isinstance(which, DatasetPlan):
            return self._check_rows("", which)
        return DatasetDict({name: self._check_rows(name, one) for name, one in which.items()})

    def open_losses(self, model: Any) -> Any:
        """The loss, or losses by name, for a model."""
        if isinstance(self.loss, Part):
            return self.loss.loss(model, ModelPlan.open)
        return {name: part.loss(model, ModelPlan.open) for name, part in self.loss.items()}

    def open_evaluators(self) -> list[Any]:
        """The evaluators, with their data read."""
        return [self._built.get(one.place) or one.build(ModelPlan.open) for one in self.evaluators]

    def describe(self) -> list[str]:
        """What would be done, for people: a line each."""
        lines = [f"model       {self.model}"]
        for key, which in (("train", self.train), ("eval", self.eval)):
            for name, one in named(which):
                lines.append(f"{key:<12}{f'{name}: ' if name else ''}{_described(one)}")
        losses = {"": self.loss} if isinstance(self.loss, Part) else self.loss
        lines += [f"loss        {f'{name}: ' if name else ''}{part}" for name, part in losses.items()]
        lines += [f"evaluator   {one}" for one in self.evaluators]
        given = {name: value for name, value in self.arguments.items() if name != "output_dir"}
        lines.append(f"arguments   {', '.join(f'{name}={value}' for name, value in given.items())}")
        steps = self.steps()
        lines += [f"steps       about {steps:,}"] if steps is not None else []
        return [*lines, f"output      {self.output}"]

    def steps(self) -> int | None:
        """How many steps are trained, about; None where datasets have to be fetched first."""
        arguments = self.training_arguments()
        if arguments.max_steps > 0:
            return int(arguments.max_steps)
        plans = [one for _, one in named(self.train)]
        if not all(one.is_there for one in plans):
            return None
        batches = sum(-(-len(one.raw()) // arguments.train_batch_size) for one in plans) // arguments.world_size
        return int(arguments.num_train_epochs * max(batches // arguments.gradient_accumulation_steps, 1))


def named(which: Datasets | None) -> list[tuple[str, DatasetPlan]]:
    """All datasets with their names; the name of a single one is empty."""
    if which is None:
        return []
    return [("", which)] if isinstance(which, DatasetPlan) else list(which.items())


def read(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a file, and check all that it says.

    Args:
        path: a YAML file; relative paths in it begin at its folder.
        overrides: "key.key=value", as ``document.override`` takes them.

    Raises: ValueError, naming the key, for what cannot be; OSError.
    """
    settings = document.load(path)
    document.override(settings, overrides)
    return understood(settings, path.resolve().parent)


def understood(settings: Mapping[str, Any], folder: Path) -> Plan:
    """The plan that settings describe. folder: relative paths begin here. Raises: ValueError, naming the key."""
    whole = Section.of(copy.deepcopy(dict(settings)), "")
    whole.only(KEYS)
    kind = KINDS[one_of("kind", whole.get("kind", str, default="dense"), list(KINDS))]
    encoder = kind.named(kind.model)
    whole.need("model", str, dict, what="what is trained: a name or a folder")
    whole.need("train", str, dict, what="the data: {path: a file} or {hub: a name}, or several by name")
    whole.need("loss", str, dict, what="what is minimised, such as MultipleNegativesRankingLoss for pairs")

    def open_plan(holder: dict[str, Any], key: str, place: str) -> ModelPlan:
        return model_plan(holder, key, place, encoder, folder, kind.from_nothing)

    model = open_plan(whole.values, "model", "model")
    train = _datasets(whole, "train", folder)
    evaluated = None if whole.values.get("eval") is None else _datasets(whole, "eval", folder)
    losses = _losses(whole, train, evaluated, Known(kind.known_losses(), kind.known_functions(), open_plan))
    classes = kind.known_evaluators()
    evaluators = [
        evaluator_plan(one, f"evaluators.{at}", classes, folder, open_plan)
        for at, one in enumerate(whole.get("evaluators", list, default=[]))
    ]
    check_names(evaluators)
    arguments = _arguments(whole, kind, folder, measures=bool(evaluators) or evaluated is not None)
    curves = whole.get("curves", bool, default=True)
    return Plan(whole.values, kind, model, train, evaluated, losses, evaluators, arguments, curves)


def _datasets(whole: Section, key: str, folder: Path) -> Datasets:
    value = whole.values[key]
    if is_dataset(value):
        return dataset_plan(whole, key, folder)
    section = whole.section(key)
    if not section.values or not all(is_dataset(one) for one in section.values.values()):
        raise ValueError(
            f"{key}: expected a dataset, with path (a file) or hub (a name on the Hub); or name: dataset for several; "
            f"found the keys {list(section.values)}."
        )
    return {name: dataset_plan(section, name, folder) for name in section.values}


def _losses(whole: Section, train: Datasets, evaluated: Datasets | None, known: Known) -> Losses:
    value = whole.values["loss"]
    names = [name for name, _ in named(train)] if isinstance(train, dict) else []
    if not isinstance(value, dict) or not names or not set(value) & {*names}:
        if isinstance(value, dict) and len(value) > 1:
            raise ValueError(
                "loss: expected one loss, or one for each dataset by the names of train "
                f"({', '.join(names) or 'which has no names'}); found {list(value)}."
            )
        return loss_part(value, "loss", known)
    section = whole.section("loss")
    section.only(names)
    missing = [name for name in [*names, *(name for name, _ in named(evaluated))] if name not in value]
    if missing:
        raise ValueError(f"loss: every dataset of train and eval needs a loss of its name; {missing} have none.")
    return {name: loss_part(one, f"loss.{name}", known) for name, one in section.values.items()}


def _arguments(whole: Section, kind: Kind, folder: Path, measures: bool) -> dict[str, Any]:
    """The training arguments: known, of the right types, and with defaults that suit a run from the command line."""
    if whole.values.get("arguments") is None:
        whole.values["arguments"] = {}
    section = whole.section("arguments")
    arguments = kind.named(kind.arguments)
    takes = {one.name: one for one in fields(arguments) if one.init}
    section.only(takes)
    hints = get_type_hints(arguments)
    values = section.values
    for name, value in values.items():
        if value is not None and not fits(value, hints[name]):
            default = takes[name].default
            standard = "" if default is MISSING or default is None else f" (default: {default!r})"
            words = described(hints[name]) or "something that cannot be said in a file"
            raise ValueError(f"{section.at(name)}: expected {words}{standard}, found {document.shown(value)}.")
    output = section.need("output_dir", str, what="the folder for the model and all that is written")
    values["output_dir"] = str((folder / Path(output).expanduser()).resolve())
    if measures and not {"eval_strategy", "evaluation_strategy"} & set(values):
        values["eval_strategy"] = "steps" if "eval_steps" in values else "epoch"
    return dict(values)


def _described(one: DatasetPlan) -> str:
    if not one.is_local:
        return f"{one.source}; fetched, then checked"
    rows = one.training_rows()
    return f"{one.source}: {len(rows):,} rows; {', '.join(rows.column_names)}"
