"""Tells a model's card what happens in a training: data, losses, settings, the log, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback

from ..cards import environment, history, losses
from ..cards.base import TRAINED, ModelCardData
from ..cards.guard import logged
from ..evaluation.base import SequentialEvaluator

EVAL = "eval_"
DERIVED = {
    "prediction_loss_only": True,
    "accelerator_config": {
        "split_batches": False,
        "dispatch_batches": None,
        "even_batches": True,
        "use_seedable_sampler": True,
        "non_blocking": False,
        "gradient_accumulation_kwargs": None,
    },
}
"""Settings that are something else once the arguments are made, and no choice of anybody."""


class BaseModelCardCallback(TrainerCallback):
    """Fills in the card of the model that is trained. It only looks on: what fails is logged, and training goes on.

    Args:
        default_args_dict: setting -> its default; settings that differ are named apart.
    """

    def __init__(self, default_args_dict: dict[str, Any]) -> None:
        super().__init__()
        self.default_args_dict = {**default_args_dict, **DERIVED}
        self.trainer: Any = None
        self.card: ModelCardData | None = None
        self.began = 0.0
        self.evaluating = 0.0

    def on_init_end(
        self, args: Any, state: Any, control: Any, model: Any = None, trainer: Any = None, **kwargs: Any
    ) -> None:
        """Take data and losses of a trainer.

        Args:
            trainer: has ``train_dataset``, ``eval_dataset``, ``loss``, ``evaluator``; without one nothing is known yet.
        """
        if trainer is None:
            return
        self.trainer = trainer
        if model is not None:
            self._begin(args, state, model)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the settings; the log goes on where the training does."""
        if not state.is_world_process_zero:
            return
        if self.trainer is not None and _card(model) is not self.card:  # the model was made anew
            self._begin(args, state, model)
        self.began, self.evaluating = time.monotonic(), 0.0
        with logged("the settings of the training"):
            card = _card(model)
            card.add_tags(TRAINED)
            card.version = environment.get_versions()
            given = args.to_dict()
            card.all_hyperparameters = history.settings(given)
            card.non_default_hyperparameters = history.changed(card.all_hyperparameters, self.default_args_dict)
            card.best_model_step, card.earlier_evaluations = None, {}
            card.training_logs = [row for row in card.training_logs if row["Step"] <= 0]
            for entry in state.log_history:  # of a training that is resumed
                self._note(card, entry.get("epoch", 0.0), entry.get("step", 0), entry)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A row for the loss."""
        values = {"loss": logs["loss"]} if logs and "loss" in logs else {}
        self._measured(state, model, values)

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A row for losses on other data; evaluators tell the card themselves what they find."""
        found = metrics or {}
        self.evaluating += sum(value for name, value in found.items() if name.endswith("_runtime"))
        self._measured(state, model, {name: value for name, value in found.items() if name.startswith(EVAL)})

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """How long it took, and what it emitted."""
        if not state.is_world_process_zero:
            return
        with logged("the duration of the training"):
            total = time.monotonic() - self.began
            parts = {"Training": total - self.evaluating, "Evaluation": self.evaluating, "Total": total}
            _card(model).durations = parts if 0 < self.evaluating < total else {"Training": total}
        with logged("what the training emitted"):
            handler = getattr(self.trainer, "callback_handler", None)
            for one in [] if handler is None else handler.callbacks:
                if type(one).__name__ == "CodeCarbonCallback":
                    _card(model).co2_eq_emissions = environment.emissions(one.tracker)

    # --- what is written ---------------------------------------------------------------------------------------------

    def _begin(self, args: Any, state: Any, model: Any) -> None:
        """Everything that is known before the first step."""
        self.card = card = _card(model)
        if not state.is_world_process_zero:
            return
        trainer = self.trainer
        if args.hub_model_id and not card.model_id:
            card.set_model_id(args.hub_model_id)
        with logged("the losses"):
            card.set_losses(losses.all_of(trainer.loss))
        with logged("examples"):
            if trainer.train_dataset is not None:
                card.set_widget_examples(trainer.train_dataset)
        with logged("the base model"):
            if card.base_model and not card.local_files_only:
                card.set_base_model(card.base_model, card.base_model_revision)
        with logged("the training data"):
            card.train_datasets = self._described(card, trainer.train_dataset, card.train_datasets, "train")
        with logged("the evaluation data"):
            card.eval_datasets = self._described(card, trainer.eval_dataset, card.eval_datasets, "eval")

    def _described(self, card: ModelCardData, dataset: Any, known: Iterable[Any], kind: Any) -> list[Any]:
        """Facts of the data; what users said of them counts, what was found out before a last training does not."""
        told = [{"name": one} if isinstance(one, str) else one for one in known]
        if dataset is None:
            return told
        told = [one for one in told if "columns" not in one]
        inferred = card.infer_datasets(dataset)
        if len(told) == len(inferred):
            inferred = [{**one, **own} for one, own in zip(inferred, told, strict=True)]
        return card.extract_dataset_metadata(dataset, inferred, self.trainer.loss, kind)

    def _measured(self, state: Any, model: Any, values: Mapping[str, Any]) -> None:
        if state.is_world_process_zero and values:
            with logged("a row of its log"):
                self._note(_card(model), state.epoch or 0.0, state.global_step, values)

    def _note(self, card: ModelCardData, epoch: float, step: int, values: Mapping[str, Any]) -> None:
        """Add what belongs into the log of what a trainer reports."""
        row = {}
        if "loss" in values:
            row["Training Loss"] = values["loss"]
        if f"{EVAL}loss" in values:
            row["Validation Loss"] = values[f"{EVAL}loss"]
        for name in self._eval_names():
            if f"{EVAL}{name}_loss" in values:
                row[f"{name} loss"] = values[f"{EVAL}{name}_loss"]
        primary = self._primary()
        if primary is not None and f"{EVAL}{primary}" in values:
            row[primary] = values[f"{EVAL}{primary}"]
        if row:
            history.note(card.training_logs, epoch, step, row)

    def _eval_names(self) -> list[str]:
        dataset = getattr(self.trainer, "eval_dataset", None)
        return list(dataset) if isinstance(dataset, Mapping) else []

    def _primary(self) -> str | None:
        """The metric of an evaluator that does not tell the card itself; a mean of several is none."""
        evaluator = getattr(self.trainer, "evaluator", None)
        if evaluator is None or isinstance(evaluator, SequentialEvaluator):
            return None
        return getattr(evaluator, "primary_metric", None) or "evaluator"


def _card(model: Any) -> ModelCardData:
    """The card of a model, which may be wrapped for several processes."""
    while not isinstance(card := getattr(model, "model_card_data", None), ModelCardData):
        model = model.module
    return card
