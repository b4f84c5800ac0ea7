"""What is particular about the cards of each family of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .base import ModelCardData as ModelCardData

if TYPE_CHECKING:
    from .datasets import Rows

SIMILARITIES = {
    "cosine": "Cosine Similarity",
    "dot": "Dot Product",
    "euclidean": "Euclidean Distance",
    "manhattan": "Manhattan Distance",
    "maxsim": "MaxSim",
}


class _Embeddings(ModelCardData):
    def facts(self, model: Any) -> dict[str, str]:
        width = model.get_embedding_dimension()
        found = {**super().facts(model), "Output Dimensionality": "unknown" if width is None else f"{width} dimensions"}
        name = model.similarity_fn_name
        return {**found, "Similarity Function": SIMILARITIES.get(name, name)}

    def is_retrieval(self, model: Any) -> bool:
        """Whether queries and documents are encoded apart: by prompts, routes, or what the model was trained on."""
        if self.ir_model is not None:
            return self.ir_model
        routes = (getattr(part, "sub_modules", ()) for part in model if type(part).__name__ == "Router")
        return any(model.prompts.get(name) for name in ("query", "document")) or any("query" in one for one in routes)

    def usage_of(self, model: Any) -> str:
        from . import usage

        texts = self.usage_examples[0] if self.usage_examples else None
        if self.is_retrieval(model):
            return usage.search_code(self.opening(model), model, self._search_texts(texts))
        return usage.embedding_code(self.opening(model), model, self._compared_texts(texts))

    def _search_texts(self, texts: Sequence[str] | None) -> Sequence[str] | None:
        """A query and documents: those of its row, else the second texts of all rows."""
        if texts is None or len(texts) < 2:
            return None
        return [texts[0], *dict.fromkeys([*texts[1:], *(row[1] for row in self.usage_examples[1:])])][:4]

    def _compared_texts(self, texts: Sequence[str] | None) -> Sequence[str] | None:
        if texts is None:
            return None
        found = list(dict.fromkeys([*texts, *(text for row in self.usage_examples[1:] for text in row)]))
        return found[:3] if len(found) >= 3 else None


@dataclass
class SentenceTransformerModelCardData(_Embeddings):
    """The facts of the model card of a ``SentenceTransformer``. Args: see ``ModelCardData``."""

    task_name: str | None = (
        "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, and more"
    )
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "sentence-similarity", "feature-extraction", "dense"]
    )
    family: ClassVar[str] = "SentenceTransformer"
    docs: ClassVar[str] = "sentence_transformer"
    default_pipeline: ClassVar[str] = "sentence-similarity"

    def kind(self, model: Any) -> str:
        """The kind of the model, in words."""
        return "Sentence Transformer"

    def sentence_of(self, model: Any) -> str:
        """What the model does with what, up to "for <task>"."""
        width = model.get_embedding_dimension()
        return f"it maps {self.inputs_in_words(model)} to dense vectors{'' if width is None else f' of width {width}'}"

    def widgets_of(self, found: Sequence[Rows]) -> list[dict[str, Any]]:
        """A source, and sentences that are compared with it."""
        from . import widgets

        return widgets.compared(found)


SPARSE_TAGS = {
    "Router": "asymmetric",
    "SparseStaticEmbedding": "inference-free",
    "SpladePooling": "splade",
    "SparseAutoEncoder": "csr",
}
"""Class of a module -> what the Hub calls models that have one."""
SPARSE_KINDS = {"asymmetric": "Asymmetric", "inference-free": "Inference-free", "splade": "SPLADE", "csr": "CSR"}


@dataclass
class SparseEncoderModelCardData(_Embeddings):
    """The facts of the model card of a ``SparseEncoder``. Args: see ``ModelCardData``."""

    task_name: str | None = "semantic search and sparse retrieval"
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "sparse-encoder", "sparse"])
    family: ClassVar[str] = "SparseEncoder"
    family_tag: ClassVar[str] = "sparse-encoder"
    docs: ClassVar[str] = "sparse_encoder"

    def kind(self, model: Any) -> str:
        """The kind of the model, in words."""
        return " ".join([*(SPARSE_KINDS[tag] for tag in self.tags_of(model)), "Sparse Encoder"])

    def default_name(self, model: Any) -> str:
        """What a model without a name is called."""
        return self.kind(model)

    def sentence_of(self, model: Any) -> str:
        """What the model does with what, up to "for <task>"."""
        width = model.get_embedding_dimension()
        return f"it maps {self.inputs_in_words(model)} to sparse vectors{'' if width is None else f' of width {width}'}"

    def tags_of(self, model: Any) -> list[str]:
        """Further tags, by what the model is made of."""
        parts = set() if model is None else {type(part).__name__ for part in (*model, *model.parts())}
        return [tag for name, tag in SPARSE_TAGS.items() if name in parts]


@dataclass
class MultiVectorEncoderModelCardData(_Embeddings):
    """The facts of the model card of a ``MultiVectorEncoder``. Args: see ``ModelCardData``."""

    task_name: str | None = "semantic search with late interaction"
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "multi-vector", "colbert", "late-interaction"]
    )
    family: ClassVar[str] = "MultiVectorEncoder"
    family_tag: ClassVar[str] = "multi-vector"
    docs: ClassVar[str] = "multi_vector_encoder"

    def kind(self, model: Any) -> str:
        """The kind of the model, in words."""
        return "Multi-Vector Encoder"

    def default_name(self, model: Any) -> str:
        """What a model without a name is called."""
        return self.kind(model)

    def sentence_of(self, model: Any) -> str:
        """What the model does with what, up to "for <task>"."""
        width = model.get_embedding_dimension()
        of = "" if width is None else f" of width {width}"
        return f"it maps every token of {self.inputs_in_words(model)} to a vector{of}"

    def facts(self, model: Any) -> dict[str, str]:
        """What the list of the card says about the model."""
        first_part = model[0]
        lengths = {name: getattr(first_part, f"{name}_length", None) for name in ("query", "document")}
        if lengths["query"] is None:  # queries may be filled up to a length of their own
            lengths["query"] = (getattr(first_part, "query_expansion", None) or {}).get("length")
        found = super().facts(model)
        first = {"Maximum Sequence Length": found.pop("Maximum Sequence Length")}
        own = {f"{name.capitalize()} Length": f"{size} tokens" for name, size in lengths.items() if size is not None}
        return {**first, **own, **found}

    def usage_of(self, model: Any) -> str:
        from . import usage

        texts = self._search_texts(self.usage_examples[0] if self.usage_examples else None)
        return usage.search_code(self.opening(model), model, texts, "[tuple(one.shape) for one in {}]")


@dataclass
class CrossEncoderModelCardData(ModelCardData):
    """The facts of the model card of a ``CrossEncoder``. Args: see ``ModelCardData``.

    Task and pipeline depend on whether the model scores pairs, with one label, or sorts them into classes.
    """

    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "cross-encoder", "reranker"])
    family: ClassVar[str] = "CrossEncoder"
    family_tag: ClassVar[str] = "cross-encoder"
    docs: ClassVar[str] = "cross_encoder"

    def kind(self, model: Any) -> str:
        """The kind of the model, in words."""
        return "Cross Encoder"

    def sentence_of(self, model: Any) -> str:
        """What the model does with what, up to "for <task>"."""
        what = "scores the pair" if model.num_labels == 1 else f"gives the pair {model.num_labels} scores, one a class"
        return f"it reads two {self.inputs_in_words(model)} together and {what}"

    def task_of(self, model: Any) -> str:
        """What the model is for."""
        return self.task_name or self._by_labels(
            model, "text reranking and semantic search", "text pair classification"
        )

    def pipeline_of(self, model: Any) -> str:
        """What the Hub calls the task."""
        return self.pipeline_tag or self._by_labels(model, "text-ranking", "text-classification")

    def facts(self, model: Any) -> dict[str, str]:
        """What the list of the card says about the model."""
        count = model.num_labels
        return {**super().facts(model), "Number of Output Labels": f"{count} label{'' if count == 1 else 's'}"}

    def widgets_of(self, found: Sequence[Rows]) -> list[dict[str, Any]]:
        """None: the Hub has no widget for pairs."""
        return []

    def usage_of(self, model: Any) -> str:
        """The example code."""
        from . import usage

        return usage.pair_code(self.opening(model), model, self.usage_examples)

    @staticmethod
    def _by_labels(model: Any, scored: str, sorted_: str) -> str:
        return scored if model is None or model.num_labels == 1 else sorted_
