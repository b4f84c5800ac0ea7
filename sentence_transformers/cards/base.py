"""The facts of a model card: what users, evaluators and trainers tell it, and what the model itself says.

Knows a model only by its public properties. How the facts are written down is in the files beside.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .guard import logged

if TYPE_CHECKING:
    from .datasets import Rows
    from .evaluation import Evaluation
    from .history import Row
    from .usage import Script

# what writes cards is imported where it is used: most models are loaded, and never get one

logger = logging.getLogger(__name__)

TRAINED = "generated_from_trainer"
"""The tag of models that were trained here: they get a card of their own."""
ASSETS = "assets"
LARGEST = 512
"""Pixels of the longer side of an image beside a card."""


@dataclass
class ModelCardData:
    """The facts of a model card.

    Args:
        language: codes such as "en". license: as the Hub spells it. model_name: the title.
        model_id: "user/name", used in the example. train_datasets, eval_datasets: names, or dicts with "name" and "id".
        task_name: what the model is for. tags: for the Hub's search. local_files_only: never ask the Hub.
        generate_widget_examples: show texts of the training data: in the widget on the Hub, and in the example.

    Attributes:
        base_model, base_model_revision: what the model was made from, on the Hub.
        evaluations: what was measured last. earlier_evaluations: step -> what was measured then.
        training_logs: rows of the log, by column. best_model_step: the step whose weights the model has.
        non_default_hyperparameters, all_hyperparameters: settings of the training.
        ir_model: whether queries and documents are encoded apart; None lets the model say.
        co2_eq_emissions: what codecarbon measured. durations: of the training, seconds. version: of packages, then.
        assets: files beside the card, path -> content.
    """

    language: str | list[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[Any] = field(default_factory=list)
    eval_datasets: list[Any] = field(default_factory=list)
    task_name: str | None = None
    tags: list[str] = field(default_factory=list)
    local_files_only: bool = False
    generate_widget_examples: bool = True

    family: ClassVar[str]
    """Name of the encoder's class."""
    family_tag: ClassVar[str] = ""
    """What all models of the family are tagged with on the Hub."""
    docs: ClassVar[str]
    """The part of the documentation that is about the family."""
    default_task: ClassVar[str] = ""
    default_pipeline: ClassVar[str] = "feature-extraction"

    def __post_init__(self) -> None:
        self.language = [self.language] if isinstance(self.language, str) else list(self.language or ())
        self.tags = list(self.tags)
        self.train_datasets, self.eval_datasets = list(self.train_datasets), list(self.eval_datasets)
        self.task_name = self.task_name or self.default_task or None
        if self.model_id is not None and self.model_id.count("/") != 1:
            logger.warning("model_id must be 'user/name', got %r: the model card leaves it out.", self.model_id)
            self.model_id = None
        self.base_model: str | None = None
        self.base_model_revision: str | None = None
        self.evaluations: list[Evaluation] = []
        self.earlier_evaluations: dict[int, list[Evaluation]] = {}
        self.training_logs: list[Row] = []
        self.best_model_step: int | None = None
        self.non_default_hyperparameters: dict[str, Any] = {}
        self.all_hyperparameters: dict[str, Any] = {}
        self.widget: list[dict[str, Any]] = []
        self.usage_examples: list[list[str]] = []
        self.label_example_list: list[dict[str, str]] = []
        self.citations: dict[str, str] = {}
        self.ir_model: bool | None = None
        self.co2_eq_emissions: dict[str, Any] = {}
        self.durations: dict[str, float] = {}
        self.version: dict[str, str] = {}
        self.assets: dict[str, bytes] = {}
        self.pipeline_tag: str | None = None
        self.library_name: str = "sentence-transformers"
        self.model: Any = None

    # --- what is told ------------------------------------------------------------------------------------------------

    def register_model(self, model: Any) -> None:
        """Take the model that the card is about."""
        self.model = model
        self.task_name = self.task_of(model)
        self.pipeline_tag = self.pipeline_of(model)

    def came_from(self, name: str, revision: str | None) -> None:
        """Take the name that the model was loaded by from the Hub; the Hub is not asked."""
        if self.base_model is None:
            self.base_model, self.base_model_revision = name, revision

    def set_base_model(self, model_id: str, revision: str | None = None) -> bool:
        """Set what the model was made from, as the Hub spells it.

        Returns: False for what the Hub does not have; that is not set. A Hub that is not asked, or does not answer, is
            taken to have it.
        """
        from . import hub

        found = hub.Answer(model_id) if self.local_files_only and hub.is_id(model_id) else None
        if not self.local_files_only:
            found = hub.ask("model", model_id, revision)
        if found is None:
            return False
        self.base_model, self.base_model_revision = found.id, revision or found.commit
        return True

    def set_model_id(self, model_id: str) -> None:
        """Set the name the example code uses."""
        self.model_id = model_id

    def set_language(self, language: str | list[str]) -> None:
        """Set the language codes."""
        self.language = [language] if isinstance(language, str) else list(language)

    def set_license(self, license: str) -> None:
        """Set the licence."""
        self.license = license

    def add_tags(self, *tags: str | Iterable[str]) -> None:
        """Add tags, or lists of them, that are not there yet."""
        for one in tags:
            for tag in [one] if isinstance(one, str) else one:
                if tag not in self.tags:
                    self.tags.append(tag)

    def add_train_datasets(self, names: Iterable[str]) -> None:
        """Name data that the model was trained on: "user/name" on the Hub, or any other name."""
        known = {one if isinstance(one, str) else one.get("id") or one.get("name") for one in self.train_datasets}
        for name in names:
            if name not in known:
                self.train_datasets.append({"name": name, "id": name} if name.count("/") == 1 else {"name": name})

    def set_best_model_step(self, step: int) -> None:
        """Set the step whose weights the model has; what was measured then is what holds."""
        self.best_model_step = step
        for found in self.earlier_evaluations.get(step, ()):
            self._replace(found)

    def set_evaluation_metrics(
        self, evaluator: Any, metrics: Mapping[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Take what an evaluator measured; its primary metric is also put into the log."""
        from . import history
        from .evaluation import Evaluation

        with logged("an evaluation"):
            found = Evaluation.of(evaluator, metrics)
            self._replace(found)
            then = [one for one in self.earlier_evaluations.get(step, ()) if one.key != found.key]
            self.earlier_evaluations[step] = [*then, found]
            if found.primary is not None and found.primary in found.metrics:
                value = found.shown(found.primary)
                history.note(self.training_logs, epoch, step, {evaluator.primary_metric: value})

    def _replace(self, found: Evaluation) -> None:
        others = [one for one in self.evaluations if one.key != found.key]
        place = next((i for i, one in enumerate(self.evaluations) if one.key == found.key), len(others))
        self.evaluations = [*others[:place], found, *others[place:]]

    # --- what data and losses say ------------------------------------------------------------------------------------

    def set_losses(self, losses_: Sequence[Any]) -> None:
        """Take what the model is trained with: tags, and papers to cite."""
        from . import losses

        self.add_tags(losses.tags(losses_))
        for loss in losses_:
            if text := losses.citation(loss):
                self.citations[type(loss).__name__] = text

    def set_widget_examples(self, dataset: Any) -> None:
        """Take a few rows of data for the widget on the Hub, and for the example code."""
        from . import widgets

        found = widgets.samples(dataset)
        if any(widgets.is_retrieval(list(rows)) for rows in found):
            self.ir_model = True
        if self.generate_widget_examples:
            self.widget = self.widgets_of(found)
            self.usage_examples = widgets.usage(found)

    def widgets_of(self, found: Sequence[Rows]) -> list[dict[str, Any]]:
        """The widgets that the Hub has for models of this family."""
        from . import widgets

        return widgets.alone(found)

    def set_label_examples(self, dataset: Any) -> None:
        """Take a few texts of each label."""
        from . import widgets

        self.label_example_list = widgets.by_label(dataset)

    def infer_datasets(self, dataset: Any, dataset_name: str | None = None) -> list[dict[str, Any]]:
        """What a dataset, or several by name, know of where they come from.

        Returns: for each a dict with what is known of "name", "id", "revision", "config", "split".
        """
        from . import datasets

        return [datasets.origin(one, name or dataset_name) for name, one in datasets.by_name(dataset).items()]

    def extract_dataset_metadata(
        self,
        dataset: Any,
        dataset_metadata: Sequence[Mapping[str, Any]],
        loss: Any,
        dataset_type: Literal["train", "eval"],
        router_mapping: Any = None,
    ) -> list[dict[str, Any]]:
        """All facts of a dataset, or of several by name.

        Args:
            dataset_metadata: what is known of each, in the same order; another number of them is not used.
            loss: what they are trained with, or losses by the same names.
            dataset_type: the size of data to train on becomes a tag.
            router_mapping: has no effect: tokens are counted as the model makes them without a task.
        """
        from . import datasets, losses, tokens

        named = datasets.by_name(dataset)
        known = list(dataset_metadata)
        if len(known) != len(named):
            known = list(self.infer_datasets(dataset))
        count = tokens.counter(self.model)
        found = []
        for (name, one), facts in zip(named.items(), known, strict=True):
            own_loss = loss.get(name) if isinstance(loss, Mapping) else loss
            with logged(f"the dataset {name or ''}".rstrip()):
                about_loss = losses.described(own_loss)
                found.append(datasets.described(one, self._confirmed(facts), about_loss, count, self._keep_image))
        sizes = [facts["size"] for facts in found]
        if dataset_type == "train" and sizes and None not in sizes:
            self.tags = [tag for tag in self.tags if not tag.startswith("dataset_size:")]
            self.add_tags(f"dataset_size:{sum(sizes)}")
        return found

    def _confirmed(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a dataset, with what the Hub says; languages become those of the model where it has none."""
        from . import hub

        found = dict(facts)
        if not found.get("id") or self.local_files_only:
            return found
        answer = hub.ask("dataset", found["id"], found.get("revision"))
        if answer is None:
            logger.warning("The Hub has no dataset %r: the model card names it without a link.", found["id"])
            return {**found, "id": None}
        if answer.languages and not self.language:
            self.language = list(answer.languages)
        return {**found, "id": answer.id}

    def _keep_image(self, image: Any) -> str:
        small = image.convert("RGB")
        small.thumbnail((LARGEST, LARGEST))
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        content = buffer.getvalue()
        path = f"{ASSETS}/{hashlib.sha256(content).hexdigest()[:16]}.png"
        self.assets[path] = content
        return path

    # --- the card ----------------------------------------------------------------------------------------------------

    @property
    def is_trained(self) -> bool:
        """Whether the model was trained here."""
        return TRAINED in self.tags

    def to_dict(self) -> dict[str, Any]:
        """The metadata block of the card."""
        return self.header(self.model)

    def to_yaml(self, line_break: str | None = None) -> str:
        """The metadata block as it is written."""
        from . import render

        text = render.yaml(self.to_dict())
        return text if line_break is None else text.replace("\n", line_break)

    def header(self, model: Any) -> dict[str, Any]:
        """The metadata block of the card of a model; only what is known."""
        from . import evaluation

        ids = [one["id"] for one in self.train_datasets if isinstance(one, Mapping) and one.get("id")]
        found = {
            "language": self.language,
            "license": self.license,
            "library_name": self.library_name,
            "tags": list(dict.fromkeys([*self.tags, *self.tags_of(model)])),
            "datasets": list(dict.fromkeys(ids)),
            "metrics": evaluation.metric_names(self.evaluations),
            "pipeline_tag": self.pipeline_of(model),
            "widget": self.widget,
            "model-index": evaluation.model_index(self.title(model), self.evaluations),
            "co2_eq_emissions": self.co2_eq_emissions,
            "base_model": self.base_model,
        }
        return {name: value for name, value in found.items() if value}

    def render(self, model: Any) -> str:
        """The whole card as Markdown. A card that came with an unchanged model is kept, but for its placeholder."""
        from . import render

        text: str | None = model._model_card_text
        if text and not self.is_trained:
            return text.replace(model._model_card_model_id_placeholder, self.model_id) if self.model_id else text
        card: str | None = None
        with logged("everything but its title"):
            card = render.card(self, model)
        return card or f"# {self.model_name or self.family}\n"

    def write_assets(self, folder: Path) -> None:
        """Write the files that the card refers to into its folder."""
        for path, content in self.assets.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    # --- what the model says -----------------------------------------------------------------------------------------

    def title(self, model: Any) -> str:
        """The heading of the card."""
        return self.model_name or self.default_name(model) + (f" based on {self.base_model}" if self.base_model else "")

    def default_name(self, model: Any) -> str:
        """What a model without a name is called."""
        return self.family

    def kind(self, model: Any) -> str:
        """The kind of the model, in words."""
        raise NotImplementedError

    def sentence_of(self, model: Any) -> str:
        """What the model does with what, up to "for <task>"."""
        raise NotImplementedError

    def usage_of(self, model: Any) -> str:
        """The example code."""
        raise NotImplementedError

    def tags_of(self, model: Any) -> list[str]:
        """Further tags, by what the model is made of; None for no model."""
        return []

    def task_of(self, model: Any) -> str:
        """What the model is for."""
        return self.task_name or self.default_task

    def pipeline_of(self, model: Any) -> str:
        """What the Hub calls the task."""
        return self.pipeline_tag or self.default_pipeline

    def facts(self, model: Any) -> dict[str, str]:
        """What the list of the card says about the model: name -> Markdown."""
        from .markdown import code, escape

        limit = model.max_seq_length
        found = {"Maximum Sequence Length": "unlimited" if limit in (None, math.inf) else f"{limit} tokens"}
        kinds = [one if isinstance(one, str) else " and ".join(one) for one in model.modalities if one != "message"]
        found["Supported Modalities"] = escape(", ".join(kind.capitalize() for kind in kinds))
        if any(model.prompts.values()):
            found["Prompts"] = code(json.dumps(model.prompts, ensure_ascii=False))
        return found

    def opening(self, model: Any) -> Script:
        """The example code up to a loaded model."""
        from . import usage

        return usage.opening(self.family, model, self.model_id or model._model_card_model_id_placeholder)

    def inputs_in_words(self, model: Any) -> str:
        """The kinds of inputs, for a sentence."""
        from .markdown import listing

        known = {"text": "texts", "image": "images", "audio": "sounds", "video": "videos"}
        return listing([known[kind] for kind in known if kind in model.modalities]) or "inputs"


def generate_model_card(model: Any) -> str:
    """The card of a model as Markdown."""
    return str(model.model_card_data.render(model))
