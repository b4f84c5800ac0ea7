"""What a model card says about a model, and the card made from it. Knows a model only by its public properties."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Any


@dataclass
class SentenceTransformerModelCardData:
    """The facts of a model card.

    Args:
        language: codes such as "en". license: as the Hub spells it. model_name: the title.
        model_id: "user/name", used in the example. train_datasets, eval_datasets: names or dicts with "name" and "id".
        task_name: what the model is for. tags: for the Hub's search. generate_widget_examples: kept for compatibility.
    """

    language: str | list[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[Any] = field(default_factory=list)
    eval_datasets: list[Any] = field(default_factory=list)
    task_name: str = "semantic textual similarity, semantic search, paraphrase mining, clustering, and more"
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "sentence-similarity", "feature-extraction", "dense"]
    )
    local_files_only: bool = False
    generate_widget_examples: bool = True
    pipeline_tag: str = "sentence-similarity"
    library_name: str = "sentence-transformers"

    def __post_init__(self) -> None:
        if isinstance(self.language, str):
            self.language = [self.language]
        self._model: Any = None

    def register_model(self, model: Any) -> None:
        """Take the model that the card is about."""
        self._model = model

    def set_model_id(self, model_id: str) -> None:
        """Set the name the example code uses."""
        self.model_id = model_id

    def set_language(self, language: str | list[str]) -> None:
        """Set the language codes."""
        self.language = [language] if isinstance(language, str) else list(language)

    def set_license(self, license: str) -> None:
        """Set the licence."""
        self.license = license

    def add_tags(self, *tags: str) -> None:
        """Add tags that are not there yet."""
        self.tags.extend(tag for tag in tags if tag not in self.tags)

    def to_dict(self) -> dict[str, Any]:
        """The metadata block of the card."""
        names = ("language", "license", "tags", "pipeline_tag", "library_name")
        return {name: value for name in names if (value := getattr(self, name))}

    def render(self, model: Any) -> str:
        """The whole card as Markdown. A card that came with an unchanged model is kept as it is."""
        if model._model_card_text:
            return str(model._model_card_text)
        metadata = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.to_dict().items())
        template = Template(resources.files(__package__).joinpath("template.md").read_text(encoding="utf-8"))
        name = self.model_id or "sentence_transformers_model_id"
        return template.substitute(
            metadata=metadata,
            title=self.model_name or self.model_id or "SentenceTransformer",
            task=self.task_name,
            dimension=model.get_embedding_dimension(),
            limit=model.max_seq_length if model.max_seq_length is not None else "unlimited",
            similarity=model.similarity_fn_name,
            prompts=json.dumps(model.prompts, ensure_ascii=False),
            modules=repr(model),
            model_id=name,
        )
