"""Texts in and texts out: models that encode, a store that keeps and finds, and perhaps a model that ranks anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, overload

from ..errors import positive
from .stores.base import Match, VectorStore

if TYPE_CHECKING:
    from ..encoders.cross import CrossEncoder
    from ..encoders.dense import SentenceTransformer
    from ..encoders.sparse import SparseEncoder
    from .stores.where import Where

logger = logging.getLogger(__name__)

WINDOW = 2048
"""Texts that are encoded and then kept together; a kill loses no earlier ones."""
CANDIDATES = 100
"""So many rows are ranked anew, where nothing else is said."""
ID_DIGITS = 32


class Index:
    """A store, and the models that fill it and ask it.

    With both a dense and a sparse model the search is hybrid: two searches, fused by their ranks.

    Args:
        store: empty, or filled with the same models.
        model: for dense embeddings. sparse_model: for sparse ones. At least one of the two.
        reranker: scores the best rows of a search again, together with the query.

    Raises: ValueError without a model, or if a model makes embeddings of another width than those in the store.
    """

    def __init__(
        self,
        store: VectorStore,
        model: SentenceTransformer | None = None,
        *,
        sparse_model: SparseEncoder | None = None,
        reranker: CrossEncoder | None = None,
    ) -> None:
        if model is None and sparse_model is None:
            raise ValueError("An Index needs a model that encodes: model, sparse_model, or both.")
        self.store, self.model, self.sparse_model, self.reranker = store, model, sparse_model, reranker
        settings = store.settings
        for name, one, known in (
            ("model", model, settings.width),
            ("sparse_model", sparse_model, settings.sparse_width),
        ):
            width = None if one is None else one.get_embedding_dimension()
            if None not in (width, known) and width != known:
                raise ValueError(
                    f"The store holds embeddings of width {known}, but {name} makes such of width {width}. Use the "
                    "model that filled the store, or another store."
                )
        if model is not None and model.similarity_fn_name != settings.similarity:
            logger.warning(
                "The model compares by %s, and the store by %s: the order of answers may differ from that of "
                "model.similarity(). Open the store with similarity=... of the model.",
                model.similarity_fn_name,
                settings.similarity,
            )

    def add(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
    ) -> list[str]:
        """Encode texts and keep them, some thousand at a time; after a kill or an error those that were kept are there.

        Args:
            texts: n of them.
            ids: a row of the same id is replaced. By default an id is made from the text, so that a text is kept once
                however often it is added, with the metadata of the last time.
            metadata: n dictionaries to filter by. batch_size, show_progress_bar: of ``encode_document``.

        Returns: the ids.
        Raises: ValueError for arguments of different lengths or an id given twice; TypeError for a single string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings, got one string.")
        keys = [text_id(text) for text in texts] if ids is None else list(ids)
        for name, values in (("ids", keys), ("metadata", metadata)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"add() got {len(texts)} texts, but {len(values)} {name}. Nothing was added.")
        if ids is not None and len(set(keys)) < len(keys):
            raise ValueError("add() got an id twice; ids must differ from each other. Nothing was added.")
        places = list({key: place for place, key in enumerate(keys)}.values())  # the last of equal texts
        for start in range(0, len(places), WINDOW):
            some = places[start : start + WINDOW]
            window = [texts[place] for place in some]
            self.store.add(
                [keys[place] for place in some],
                **self.encode_documents(window, batch_size, show_progress_bar),
                texts=window,
                metadata=None if metadata is None else [metadata[place] for place in some],
            )
        return keys

    @overload
    def search(
        self, queries: str, top_k: int = ..., *, where: Where | None = ..., candidates: int = ..., batch_size: int = ...
    ) -> list[Match]: ...

    @overload
    def search(
        self,
        queries: list[str],
        top_k: int = ...,
        *,
        where: Where | None = ...,
        candidates: int = ...,
        batch_size: int = ...,
    ) -> list[list[Match]]: ...

    def search(
        self,
        queries: str | list[str],
        top_k: int = 10,
        *,
        where: Where | None = None,
        candidates: int = CANDIDATES,
        batch_size: int = 32,
    ) -> list[Match] | list[list[Match]]:
        """The rows that answer the queries best, best first.

        Args:
            queries: one, or a list.
            top_k: at most so many for each, >= 1.
            where: only rows whose metadata fulfil this, such as ``{"lang": "en", "year": {"$gte": 2000}}``.
            candidates: with a reranker, so many rows are scored by it, at least ``top_k``.
            batch_size: of the models.

        Returns: for one query its matches, otherwise a list for each. A score is the similarity; with two models the
            sum of reciprocal ranks; with a reranker what it says.
        Raises: ValueError for a ``top_k`` or ``candidates`` below 1, an unknown operator in ``where``, or rows without
            a text that should be ranked again.
        """
        limit, ranked = positive("top_k", top_k), positive("candidates", candidates)
        asked = [queries] if isinstance(queries, str) else list(queries)
        if not asked:
            return []
        found = self.store.search(
            **self._encode("encode_query", asked, batch_size, False),
            top_k=limit if self.reranker is None else max(limit, ranked),
            where=where,
        )
        if self.reranker is not None:
            found = [matches[:limit] for matches in self._reranked(self.reranker, asked, found, batch_size)]
        return found[0] if isinstance(queries, str) else found

    def encode_documents(
        self, texts: list[str], batch_size: int = 32, show_progress_bar: bool | None = False, **options: Any
    ) -> dict[str, Any]:
        """The embeddings of n texts, under the names by which ``VectorStore.add`` takes them.

        Args:
            texts: n of them. batch_size, show_progress_bar, options: of ``encode_document``.
        """
        return self._encode("encode_document", texts, batch_size, show_progress_bar, **options)

    def _encode(
        self, method: str, texts: list[str], batch_size: int, show_progress_bar: bool | None, **options: Any
    ) -> dict[str, Any]:
        """What ``VectorStore.add`` and ``search`` call these embeddings."""
        models = {"embeddings": self.model, "sparse_embeddings": self.sparse_model}
        options = {
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "convert_to_tensor": True,
            **options,
        }
        return {name: getattr(model, method)(texts, **options) for name, model in models.items() if model is not None}

    def _reranked(
        self, reranker: CrossEncoder, queries: list[str], found: list[list[Match]], batch_size: int
    ) -> list[list[Match]]:
        """The matches of all queries in the order of the reranker, which gets all pairs at once."""
        pairs = [(query, match.text) for query, matches in zip(queries, found, strict=True) for match in matches]
        if any(text is None for _, text in pairs):
            raise ValueError(
                "A reranker reads texts, but some rows have none. Add rows with texts=..., or search without."
            )
        if not pairs:
            return found
        predicted = reranker.predict(pairs, batch_size=batch_size, show_progress_bar=False)
        if predicted.ndim != 1:
            raise ValueError(
                f"A reranker gives one score for a pair, but this one has {predicted.shape[1]} labels. Use a "
                "CrossEncoder with num_labels=1."
            )
        scores = iter(predicted.tolist())
        scored = [[replace(match, score=next(scores)) for match in matches] for matches in found]
        return [sorted(matches, key=lambda match: -match.score) for matches in scored]


def text_id(text: str) -> str:
    """An id made from the text: 32 hexadecimal digits of its SHA-256."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_DIGITS]
