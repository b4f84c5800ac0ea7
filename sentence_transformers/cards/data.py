"""What a model card says about a model, and the card made from it. Knows a model only by its public properties."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Any, ClassVar


@dataclass
class ModelCardData:
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
    task_name: str = ""
    tags: list[str] = field(default_factory=list)
    local_files_only: bool = False
    generate_widget_examples: bool = True
    pipeline_tag: str = "sentence-similarity"
    library_name: str = "sentence-transformers"

    family: ClassVar[str]
    """Name of the encoder's class."""
    sentence: ClassVar[str]
    """What it does with what, up to "for <task>"."""
    example: ClassVar[str]
    """Lines of code behind the one that makes ``model``."""

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

    def tags_of(self, model: Any) -> list[str]:
        """Further tags, by what the model is made of."""
        return []

    def render(self, model: Any) -> str:
        """The whole card as Markdown. A card that came with an unchanged model is kept as it is."""
        if model._model_card_text:
            return str(model._model_card_text)
        tags = list(dict.fromkeys([*self.tags, *self.tags_of(model)]))
        block = {**self.to_dict(), **({"tags": tags} if tags else {})}
        metadata = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in block.items())
        template = Template(resources.files(__package__).joinpath("template.md").read_text(encoding="utf-8"))
        return template.substitute(
            metadata=metadata,
            title=self.model_name or self.model_id or self.family,
            sentence=self.sentence,
            task=self.task_name,
            facts="\n".join(f"| {name} | {_cell(value)} |" for name, value in self.facts(model).items()),
            family=self.family,
            model_id=self.model_id or model._model_card_model_id_placeholder,
            example=self.example,
            modules=repr(model),
        )

    def facts(self, model: Any) -> dict[str, Any]:
        """What the table of the card says about the model."""
        limit = model.max_seq_length
        return {
            "longest input": "unlimited" if limit in (None, math.inf) else f"{limit} tokens",
            "prompts": f"`{json.dumps(model.prompts, ensure_ascii=False)}`",
        }


def _cell(value: Any) -> str:
    """A value in a row of a table, where a bar would end it."""
    return str(value).replace("|", "\\|")


class _Embeddings(ModelCardData):
    def facts(self, model: Any) -> dict[str, Any]:
        width = {"vector width": model.get_embedding_dimension()}
        return {**width, **super().facts(model), "similarity": model.similarity_fn_name}


@dataclass
class SentenceTransformerModelCardData(_Embeddings):
    """The facts of the model card of a ``SentenceTransformer``. Args: see ``ModelCardData``."""

    task_name: str = "semantic textual similarity, semantic search, paraphrase mining, clustering, and more"
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "sentence-similarity", "feature-extraction", "dense"]
    )
    family: ClassVar[str] = "SentenceTransformer"
    sentence: ClassVar[str] = "it maps texts to dense vectors"
    example: ClassVar[str] = (
        'embeddings = model.encode(["The weather is lovely today.", "It\'s so sunny outside!"])\n'
        "print(embeddings.shape)\nprint(model.similarity(embeddings, embeddings))"
    )


SPARSE_TAGS = {
    "Router": "asymmetric",
    "SparseStaticEmbedding": "inference-free",
    "SpladePooling": "splade",
    "SparseAutoEncoder": "csr",
}
"""Class of a module -> what the Hub calls models that have one."""


@dataclass
class SparseEncoderModelCardData(_Embeddings):
    """The facts of the model card of a ``SparseEncoder``. Args: see ``ModelCardData``."""

    task_name: str = "semantic search and sparse retrieval"
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "sparse-encoder", "sparse"])
    pipeline_tag: str = "feature-extraction"
    family: ClassVar[str] = "SparseEncoder"
    sentence: ClassVar[str] = "it maps texts to sparse vectors"
    example: ClassVar[str] = (
        'embeddings = model.encode(["The weather is lovely today.", "It\'s so sunny outside!"])\n'
        "print(embeddings.shape)\nprint(model.decode(embeddings, top_k=5))"
    )

    def tags_of(self, model: Any) -> list[str]:
        """Further tags, by what the model is made of."""
        parts = {type(part).__name__ for part in (*model, *model.parts())}
        return [tag for name, tag in SPARSE_TAGS.items() if name in parts]


@dataclass
class MultiVectorEncoderModelCardData(_Embeddings):
    """The facts of the model card of a ``MultiVectorEncoder``. Args: see ``ModelCardData``."""

    task_name: str = "semantic search with late interaction"
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "multi-vector", "colbert", "late-interaction"]
    )
    pipeline_tag: str = "feature-extraction"
    family: ClassVar[str] = "MultiVectorEncoder"
    sentence: ClassVar[str] = "it maps every token of a text to a vector"
    example: ClassVar[str] = (
        'queries = model.encode_query(["What is the capital of France?"])\n'
        'documents = model.encode_document(["Paris is the capital of France.", "Berlin is in Germany."])\n'
        "print(model.similarity(queries, documents))"
    )


@dataclass
class CrossEncoderModelCardData(ModelCardData):
    """The facts of the model card of a ``CrossEncoder``. Args: see ``ModelCardData``."""

    task_name: str = "text reranking and semantic search"
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "cross-encoder", "reranker"])
    pipeline_tag: str = "text-ranking"
    family: ClassVar[str] = "CrossEncoder"
    sentence: ClassVar[str] = "it reads two texts together and scores the pair"
    example: ClassVar[str] = (
        'scores = model.predict([("How many people live in Berlin?", "Berlin had 3,520,031 inhabitants in 2013.")])\n'
        "print(scores)"
    )

    def facts(self, model: Any) -> dict[str, Any]:
        """What the table of the card says about the model."""
        return {"labels": model.num_labels, **super().facts(model)}
