"""Evaluators of late interaction models: those of dense encoders, for embeddings that are lists of token vectors.

Each class says only what differs. Queries and documents are compared by "maxsim" or "meanmaxsim", a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from ..encoders.signatures import arguments_and_those_of
from ..errors import positive
from ..ops.late_scores import XTRScores, xtr_kd_scores, xtr_scores, xtr_scores_pairwise
from .hits import Scores
from .nano_beir import NanoBEIREvaluator
from .reranking import RerankingEvaluator
from .retrieval import InformationRetrievalEvaluator
from .triplet import TripletEvaluator

DOCUMENTS = 5000
"""The token vectors of so many documents are held at once: they take a hundred times the space of one vector each."""


class WholeVectors:
    """Token vectors are never shortened."""

    @property
    def truncate_dim(self) -> int | None:
        """None. Setting anything else raises ValueError."""
        return None

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        if value is not None:
            raise ValueError(
                f"truncate_dim is not supported by evaluators of MultiVectorEncoder, got {value!r}: token vectors are "
                "trained and compared as a whole. Leave it out."
            )

    def width(self) -> dict[str, int | None]:
        """The argument of ``encode`` that shortens embeddings: there is none."""
        return {}


class TokenVectors(WholeVectors):
    """Embeddings are lists of (t_i, D) tensors."""

    similarities: ClassVar[tuple[str, ...]] = ("maxsim", "meanmaxsim")

    def encode_settings(self) -> dict[str, Any]:
        """Further arguments for the ``encode`` of the model."""
        return {}


class MultiVectorInformationRetrievalEvaluator(TokenVectors, InformationRetrievalEvaluator):
    """``InformationRetrievalEvaluator`` of a late interaction model.

    Args: those of ``InformationRetrievalEvaluator``, and
        corpus_chunk_size: so many documents are embedded and compared at once.
        chunk_elements: how many products of tokens are held at once, see ``maxsim``; for the similarity of the model.
        score_functions: name -> function, lists of q and n (t_i, D) tensors -> (q, n), higher is closer.
        **kwargs: by name only; ``truncate_dim`` must be None.

    Raises: ValueError for ``truncate_dim``, for XTR, which would have to see all documents at once, and for
        ``chunk_elements`` with ``score_functions``, which it would not reach.
    """

    @arguments_and_those_of(InformationRetrievalEvaluator.__init__)
    def __init__(
        self,
        queries: Mapping[str, Any],
        corpus: Mapping[str, Any],
        relevant_docs: Mapping[str, set[str]],
        *,
        corpus_chunk_size: int = DOCUMENTS,
        chunk_elements: int | None = None,
        score_functions: Mapping[str, Scores] | None = None,
        **kwargs: Any,
    ) -> None:
        self.chunk_elements = None if chunk_elements is None else positive("chunk_elements", chunk_elements)
        _check_functions(score_functions, chunk_elements)
        super().__init__(queries, corpus, relevant_docs, corpus_chunk_size, score_functions=score_functions, **kwargs)

    def default_score_functions(self, model: Any) -> dict[str, Scores]:
        if self.chunk_elements is None:
            return super().default_score_functions(model)
        return {model.similarity_fn_name: partial(model.similarity, chunk_elements=self.chunk_elements)}


class MultiVectorNanoBEIREvaluator(WholeVectors, NanoBEIREvaluator):
    """``NanoBEIREvaluator`` of a late interaction model.

    Args: those of ``NanoBEIREvaluator``, of which ``truncate_dim`` must be None, and
        corpus_chunk_size, chunk_elements: see ``MultiVectorInformationRetrievalEvaluator``.
    """

    information_retrieval_class = MultiVectorInformationRetrievalEvaluator

    @arguments_and_those_of(NanoBEIREvaluator.__init__)
    def __init__(
        self, *args: Any, corpus_chunk_size: int = DOCUMENTS, chunk_elements: int | None = None, **kwargs: Any
    ) -> None:
        self.corpus_chunk_size, self.chunk_elements = corpus_chunk_size, chunk_elements
        super().__init__(*args, **kwargs)

    def evaluator_settings(self) -> dict[str, Any]:
        own = {"corpus_chunk_size": self.corpus_chunk_size, "chunk_elements": self.chunk_elements}
        return {**super().evaluator_settings(), **own}


class MultiVectorTripletEvaluator(TokenVectors, TripletEvaluator):
    """``TripletEvaluator`` of a late interaction model.

    Args: those of ``TripletEvaluator``; functions are "maxsim" and "meanmaxsim", and ``truncate_dim`` must be None.
    """


class MultiVectorRerankingEvaluator(TokenVectors, RerankingEvaluator):
    """``RerankingEvaluator`` of a late interaction model.

    Args: those of ``RerankingEvaluator``, by name, and
        similarity_fct: lists of 1 and n (t_i, D) tensors -> (1, n), higher is closer; None: that of the model.
        use_batched_encoding: encode the texts of many samples together; else sample after sample.
    """

    most_texts = DOCUMENTS

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        *,
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        similarity_fct: Scores | None = None,
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        use_batched_encoding: bool = True,
    ) -> None:
        super().__init__(
            samples,
            at_k,
            name,
            write_csv,
            similarity_fct,
            batch_size,
            show_progress_bar,
            use_batched_encoding,
        )


def _check_functions(functions: Mapping[str, Scores] | None, chunk_elements: int | None) -> None:
    """Raises: ValueError for functions that cannot be used a chunk of the corpus at a time, or without effect."""
    if functions and chunk_elements is not None:
        raise ValueError(
            "chunk_elements is for the similarity of the model, and score_functions are given: bind it to them, as in "
            "functools.partial(maxsim, chunk_elements=...)."
        )
    for name, function in (functions or {}).items():
        if _is_xtr(function):
            raise ValueError(
                f"score_functions[{name!r}] uses XTR scoring, whose top_k tokens are of all documents, and this "
                "evaluator compares a chunk of them at a time. Use maxsim instead."
            )


def _is_xtr(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return isinstance(function, XTRScores) or function in (xtr_scores, xtr_kd_scores, xtr_scores_pairwise)
