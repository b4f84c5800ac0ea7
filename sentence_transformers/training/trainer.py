"""The trainer of all families of encoders: transformers' Trainer, with columns of inputs, losses and evaluators.

A family says its classes, its default loss, and how a loss is called. What is done with data, losses and learning rates
is in the files beside; the loop, checkpoints, logs and several processes are those of transformers and accelerate.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedTokenizerBase, ProcessorMixin, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from .._types import Features
from ..evaluation.base import BaseEvaluator, SequentialEvaluator
from ..losses.base import total
from ..modules.parts import renamed_arguments
from ..modules.router import Router
from . import checkpoints, datasets, features, loaders, objectives, optimizer
from .arguments import BaseTrainingArguments
from .collator import BaseDataCollator
from .components import Components
from .evaluating import evaluated

logger = logging.getLogger(__name__)


class BaseTrainer(Trainer):
    """Trains an encoder.

    Args:
        model: what is trained; None with ``model_init``.
        args: the settings; None for the defaults, with output in "tmp_trainer".
        train_dataset: of ``datasets``: columns of inputs, whose order counts, and at most one of labels ("label",
            "labels", "score" or "scores"); or several by name.
        eval_dataset: the same, for the loss on data that is not trained on.
        loss: a loss, or a function that makes one of the model; or, by names of datasets, several. None for the
            family's default.
        evaluator: measures the model whenever it is evaluated; several are run one after the other.
        data_collator: makes batches of examples; None for the family's own.
        processing_class: saved with the model; None for the model's own tokenizer.
        model_init: makes the model anew for each ``train``, and for each trial of a search for settings.
        compute_metrics: not supported, use ``evaluator``.
        callbacks: further callbacks.
        optimizers: optimizer and scheduler, where those of the settings are not wanted.
        optimizer_cls_and_kwargs: class and arguments of an optimizer, likewise.
        preprocess_logits_for_metrics: not supported.

    Raises:
        ImportError: ``accelerate`` is not installed.
        RuntimeError: neither model nor ``model_init``.
        ValueError: settings of another class; evaluation asked for without dataset and evaluator; columns, losses or
            routes that do not fit the datasets or the model.
    """

    model_class: ClassVar[type[Any]]
    model_card_data_class: ClassVar[type[Any]]
    model_card_callback_class: ClassVar[type[Any]]
    data_collator_class: ClassVar[type[BaseDataCollator]]
    training_args_class: ClassVar[type[BaseTrainingArguments]]

    loss_is_scaled_for_ga = False  # losses are means of their batch

    model: Any
    args: Any
    data_collator: Any
    model_init: Any
    train_dataset: Any
    eval_dataset: Any
    loss: nn.Module | dict[str, nn.Module]

    @renamed_arguments(tokenizer="processing_class")
    def __init__(
        self,
        model: Any = None,
        args: BaseTrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: BaseEvaluator | Sequence[BaseEvaluator] | None = None,
        data_collator: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        args = self._checked_arguments(args)
        if compute_metrics is not None:
            logger.warning("compute_metrics has no effect in training embeddings: pass an evaluator.")
        if model is None and model_init is None:
            raise RuntimeError("Expected a model or a model_init, found neither. Pass model=..., which is trained.")
        if model is not None and model_init is not None:
            logger.warning("Both model and model_init were given: the model of model_init is trained.")
        if model_init is not None:
            self.model_init = model_init
            model = self.call_model_init()
        train_dataset = self.check_dataset(train_dataset, "train")
        eval_dataset = self.check_dataset(eval_dataset, "eval")
        self.evaluator = evaluator if evaluator is None or callable(evaluator) else SequentialEvaluator(evaluator)
        self._check_evaluation(args, eval_dataset)
        self._components = Components()
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or self._default_collator(args, model),
            train_dataset=train_dataset,
            eval_dataset=_NOTHING if eval_dataset is None and self.evaluator is not None else eval_dataset,
            processing_class=processing_class or _processor(model),
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self.model_init = model_init
        self.can_return_loss, self.label_names = True, []
        self.model_accepts_loss_kwargs = False
        self._take_loss(self.default_loss if loss is None else loss)
        self._take_datasets(train_dataset, eval_dataset)
        self.add_callback(objectives.OwnParameters(lambda: objectives.own_parameters(self.loss, self.model)))
        self._begin_card()

    # --- what it is given --------------------------------------------------------------------------------------------

    def _checked_arguments(self, args: Any) -> BaseTrainingArguments:
        if args is None:
            logger.info("No training arguments were given: output goes to tmp_trainer.")
            return self.training_args_class(output_dir="tmp_trainer")
        if not isinstance(args, self.training_args_class):
            raise ValueError(
                f"Please pass an instance of `{self.training_args_class.__name__}` as args; got a "
                f"`{type(args).__name__}`."
            )
        return args

    def check_dataset(self, dataset: Any, what: str) -> Any:
        """A dataset, or several by name, ready for training.

        Args:
            what: "train", "eval" or "test", for messages.

        Raises: ValueError for data that cannot be trained on.
        """
        return datasets.checked(dataset, what)

    def _check_evaluation(self, args: BaseTrainingArguments, eval_dataset: Any) -> None:
        if args.eval_strategy != "no" and eval_dataset is None and self.evaluator is None:
            raise ValueError(
                f"You have set `args.eval_strategy` to {args.eval_strategy}, but you passed neither `eval_dataset` nor "
                "`evaluator`. Pass one of them, or set `args.eval_strategy` to `no`."
            )

    def _default_collator(self, args: BaseTrainingArguments, model: Any) -> BaseDataCollator:
        """Raises: ValueError for a model with routes, and no word about which columns take which."""
        if any(isinstance(module, Router) for module in model.children()) and not args.router_mapping:
            raise ValueError(
                "The model has routes (a Router), so training must know which column takes which. Expected "
                "router_mapping in the training arguments, e.g. router_mapping={'question': 'query', 'answer': "
                "'document'}; or dataset -> column -> route."
            )
        return self.data_collator_class(**self.collator_settings(args, model))

    def collator_settings(self, args: BaseTrainingArguments, model: Any) -> dict[str, Any]:
        """The arguments of the family's collator."""
        return {
            "preprocess_fn": model.preprocess,
            "router_mapping": args.router_mapping,
            "prompts": args.prompts,
        }

    def default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given."""
        raise NotImplementedError

    def _take_loss(self, loss: Any) -> None:
        self._given_loss = loss
        self.make_loss(self.model)
        if isinstance(self.loss, dict):
            datasets.check_named(self.loss, self.train_dataset, "train")
            if self.eval_dataset is not _NOTHING:
                datasets.check_named(self.loss, self.eval_dataset, "eval")

    def make_loss(self, model: Any) -> None:
        """Take the loss, or losses by name, for a model."""
        self.loss = self.prepare_loss(self._given_loss, model)

    def prepare_loss(self, loss: Any, model: Any) -> Any:
        """The loss, or losses by name, of a model; functions are called with it."""
        return objectives.made(loss, model)

    def _take_datasets(self, train_dataset: Any, eval_dataset: Any) -> None:
        """Examples say of which dataset they are, where something depends on it."""
        by_name = self.goes_by_datasets()
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        if by_name and isinstance(train_dataset, Mapping):
            self.train_dataset = datasets.with_names(train_dataset)
        if by_name and isinstance(eval_dataset, Mapping):
            self.eval_dataset = datasets.with_names(eval_dataset)

    def goes_by_datasets(self) -> bool:
        """Whether something depends on which dataset an example is of."""
        return isinstance(self.loss, dict) or isinstance(self.args.prompts, dict) or _is_nested(self.args)

    def _begin_card(self) -> None:
        """The model's card listens to the training."""
        card = self.model.model_card_data
        if self.args.hub_model_id and not card.model_id:
            card.set_model_id(self.args.hub_model_id)
        callback = self.model_card_callback_class(_defaults(self.training_args_class))
        self.add_callback(callback)
        callback.on_init_end(self.args, self.state, self.control, model=self.model, trainer=self)

    def call_model_init(self, trial: Any = None) -> Any:
        """A new model; losses and batches are for it from now on."""
        model: Any = super().call_model_init(trial)
        if "loss" in vars(self):  # not so for the first
            for one in objectives.each(self.loss):
                objectives.point(one, self.model, model)
            self.make_loss(model)
            if isinstance(self.data_collator, BaseDataCollator):
                self.data_collator.preprocess_fn = model.preprocess
        return model

    # --- batches -----------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches to train on, those of this process."""
        if self.train_dataset is None:
            raise ValueError("Training needs train_dataset: pass it to the trainer.")
        return self._loader(self.train_dataset, self._train_batch_size, is_training=True)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches to evaluate on.

        Args:
            eval_dataset: a dataset, or the name of one of ``eval_dataset``; None for all of that.
        """
        key = eval_dataset if isinstance(eval_dataset, str) else "eval"
        kept: dict[str, DataLoader[Any]] = self.__dict__.setdefault("_eval_dataloaders", {})
        if key in kept and self.args.dataloader_persistent_workers:
            return kept[key]
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        found = self.eval_dataset if eval_dataset is None else self.check_dataset(eval_dataset, "eval")
        if found is None:
            if self.evaluator is None:
                raise ValueError("Evaluation needs eval_dataset or evaluator: pass one to the trainer.")
            return loaders.empty_loader(self.data_collator)
        kept[key] = self._loader(found, self.args.eval_batch_size)
        return kept[key]

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Batches of another dataset."""
        return self._loader(self.check_dataset(test_dataset, "test"), self.args.eval_batch_size)

    def _loader(self, dataset: Any, batch_size: int, is_training: bool = False) -> DataLoader[Any]:
        valid = getattr(self.data_collator, "valid_label_columns", None)
        drop_last = self.args.dataloader_drop_last
        made = loaders.loader(
            dataset, self.args, self.data_collator, batch_size, drop_last=drop_last, valid_label_columns=valid
        )
        return loaders.of_this_process(made, self.accelerator, is_training)

    # --- the loss ----------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch.

        Args:
            model: the model, or what wraps it for several processes.
            inputs: as the collator makes them.
            return_outputs: also return outputs, which are empty: losses go by embeddings of several columns.

        Returns: the loss, (); or with ``return_outputs`` a pair.
        """
        inputs = dict(inputs)
        name = inputs.pop("dataset_name", None)
        loss = self.loss[name] if isinstance(self.loss, dict) else self.loss
        holder = self.model_wrapped if model is self.model else self.model
        objectives.point(loss, holder, model)
        found = self.loss_of_batch(loss, inputs)
        if isinstance(found, dict):
            self._components.add(found, is_training=model.training)
            found = total(found)
        return (found, {}) if return_outputs else found

    def loss_of_batch(self, loss: nn.Module, batch: dict[str, Any]) -> Any:
        """Call a loss with a batch."""
        return loss(*self.collect_features(batch))

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[list[Features], Tensor | None]:
        """A batch as the features of each column, and the labels."""
        return features.by_column(inputs), inputs.get("label")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; with the parts of the loss, where it has some."""
        if "loss" in logs:
            logs.update(self._components.take(is_training=True))
        super().log(logs, start_time)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The loss on a dataset, and what the evaluator measures: once for all datasets, while training."""
        output = super().evaluation_loop(
            dataloader,
            description,
            prediction_loss_only=prediction_loss_only,
            ignore_keys=ignore_keys,
            metric_key_prefix=metric_key_prefix,
        )
        metrics = output.metrics
        assert metrics is not None
        parts = self._components.take(is_training=False)
        metrics.update({f"{metric_key_prefix}_{name}": value for name, value in parts.items()})
        prefix = self._evaluator_prefix(metric_key_prefix)
        if self.evaluator is None or prefix is None:
            return output
        output_path = os.path.join(self.args.output_dir, "eval")
        epoch = -1 if self.state.epoch is None else self.state.epoch
        is_whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        steps = self.state.global_step
        found = evaluated(self.evaluator, self.model, output_path, epoch, steps, is_whole=is_whole)
        for name, value in found.items():
            metrics[name if name.startswith(f"{prefix}_") else f"{prefix}_{name}"] = value
        return output

    def _evaluator_prefix(self, prefix: str) -> str | None:
        """What metrics of the evaluator begin with at this dataset; None where it is not its turn."""
        if self.is_in_train and isinstance(self.eval_dataset, dict) and prefix.startswith("eval_"):
            if prefix.removeprefix("eval_") not in self.eval_dataset:
                return prefix
            return "eval" if prefix.removeprefix("eval_") == next(iter(self.eval_dataset)) else None
        return prefix

    # --- what is optimised -------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the model and of what losses have of their own, with the rates of the settings.

        Raises: ValueError for an expression of ``learning_rate_mapping`` that finds no parameter.
        """
        if self.optimizer is not None:
            if self.args.learning_rate_mapping:
                logger.warning("learning_rate_mapping has no effect on an optimizer that was passed.")
            return super().create_optimizer(model)
        whole = objectives.whole(self.loss)
        made = super().create_optimizer(whole)
        optimizer.leave_out(made, objectives.judged(self.loss))
        if self.args.learning_rate_mapping:
            optimizer.split_by_name(made, whole, self.args.learning_rate_mapping)
        return made

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the model as ``model.save`` does, and what training needs besides to go on."""
        if not self.args.should_save:  # all processes come here, and one of them writes
            return
        folder = Path(output_dir or self.args.output_dir)
        logger.info("Saving the model to %s.", folder)
        checkpoints.save(self.model, self.loss, self.args, folder, state_dict)
        if self.processing_class is not None and self.processing_class is not _processor(self.model):
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load(self.model if model is None else model, self.loss, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        best = str(self.state.best_model_checkpoint)
        logger.info("Taking the best model, of %s (score: %s).", best, self.state.best_metric)
        checkpoints.load(self.model, self.loss, Path(best))
        self.model.model_card_data.set_best_model_step(int(Path(best).name.rpartition("-")[2]))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Transformers uploads the output folder: put into it all that the model is, not only its weights."""
        if self.is_world_process_zero():
            checkpoints.copy_model(Path(checkpoint_folder), Path(self.args.output_dir))
        super()._push_from_checkpoint(checkpoint_folder)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write ``README.md`` into the output folder; the given facts are added to those of the model's card."""
        if not self.is_world_process_zero():
            return
        card = self.model.model_card_data
        if language:
            card.set_language(language)
        if license:
            card.set_license(license)
        if tags:
            card.add_tags(*([tags] if isinstance(tags, str) else tags))
        if model_name:
            card.model_name = model_name
        self.model.write_model_card(self.args.output_dir)


_NOTHING: Any = ()
"""Stands for an evaluation dataset while transformers checks that there is one: an evaluator is enough."""


def _processor(model: Any) -> Any:
    """The model's own tokenizer or processor, where it is one that transformers knows."""
    found = model.processor
    return found if isinstance(found, (PreTrainedTokenizerBase, ProcessorMixin)) else None


def _defaults(kind: type[BaseTrainingArguments]) -> dict[str, Any]:
    """Setting -> its default. Making an instance would begin accelerate's state anew."""
    plain = {one.name: one.default for one in fields(kind) if one.default is not MISSING}
    return plain | {one.name: one.default_factory() for one in fields(kind) if one.default_factory is not MISSING}


def _is_nested(args: BaseTrainingArguments) -> bool:
    mapping = args.router_mapping
    return isinstance(mapping, dict) and any(isinstance(value, dict) for value in mapping.values())
