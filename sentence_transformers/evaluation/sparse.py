"""Evaluators of sparse encoders: those of dense ones, whose metrics also say how sparse the embeddings are.

Each class says only what differs. Arguments are those of the dense evaluator, but for ``max_active_dims`` in the place
of ``truncate_dim``: keep so many values of every vector, those of largest magnitude; None is what the model does. The
embeddings are sparse tensors all the way. ``active_dims`` is the mean number of values of a vector that are not 0,
``sparsity_ratio`` the share of zeros.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import positive
from ..ops.sparse import sparsity
from ..ops.tensors import compute_count_vector
from .classification import BinaryClassificationEvaluator
from .embedding import Encoded
from .mse import MSEEvaluator
from .nano_beir import NanoBEIREvaluator
from .reporting import Measured
from .reranking import RerankingEvaluator
from .retrieval import InformationRetrievalEvaluator, Observer
from .similarity import EmbeddingSimilarityEvaluator
from .translation import TranslationEvaluator
from .triplet import TripletEvaluator

ROLES = ("query", "corpus")


def with_max_active_dims(dense: Callable[..., None]) -> Any:
    """A constructor with the arguments of a dense one, in their order, but for ``max_active_dims``.

    It stands in the place of ``truncate_dim``; there is no ``precision``. The new constructor sets it as an attribute
    first. Raises: ValueError unless it is None or a positive integer.
    """
    given = inspect.signature(dense)
    names = {"truncate_dim": "max_active_dims"}
    kept = [one for one in given.parameters.values() if one.name != "precision"]
    signature = given.replace(parameters=[one.replace(name=names.get(one.name, one.name)) for one in kept])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        arguments = signature.bind(self, *args, **kwargs).arguments
        most = arguments.pop("max_active_dims", None)
        self.max_active_dims = None if most is None else positive("max_active_dims", most)
        dense(**arguments)

    __init__.__annotations__ = {"max_active_dims": int | None}
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


class ActiveDims:
    """Embeddings are shortened to some active dimensions, not to the first ones.

    Attributes:
        max_active_dims: so many; None is what the model does.
    """

    max_active_dims: int | None

    def width(self) -> dict[str, int | None]:
        """The argument of ``encode`` that shortens embeddings."""
        return {"max_active_dims": self.max_active_dims}


class SparseEmbeddings(ActiveDims):
    """Embeddings are sparse tensors, on the CPU."""

    def encode_settings(self) -> dict[str, Any]:
        """Further arguments for the ``encode`` of the model."""
        return {"convert_to_tensor": True, "convert_to_sparse_tensor": True, "save_to_cpu": True, **self.width()}

    def statistics(self, encoded: Mapping[str, Encoded]) -> dict[str, float]:
        """``active_dims`` and ``sparsity_ratio`` of the embeddings of all columns, which are equally long."""
        found = [sparsity(column.take()) for column in encoded.values()]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


class SparsityObserver(Observer):
    """``query_active_dims``, ``query_sparsity_ratio``, and of the corpus likewise, whatever the chunks."""

    def __init__(self) -> None:
        self.rows = dict.fromkeys(ROLES, 0)
        self.active: dict[str, Tensor] = {}

    def see(self, role: str, embeddings: Any) -> None:
        counts = compute_count_vector(embeddings).cpu().to(torch.int64)
        self.rows[role] += len(embeddings)
        self.active[role] = self.active[role] + counts if role in self.active else counts

    def include(self, other: SparsityObserver) -> None:
        """Take in what another one has seen."""
        for role, counts in other.active.items():
            self.rows[role] += other.rows[role]
            self.active[role] = self.active[role] + counts if role in self.active else counts

    def frequencies(self, role: str) -> Tensor:
        """How often each dimension is not 0: (V,) float64, 0..1; (0,) of nothing."""
        return self.active.get(role, torch.empty(0)).double() / max(1, self.rows[role])

    def statistics(self) -> dict[str, float]:
        found = {}
        for role in ROLES:
            shares = self.frequencies(role)
            found[f"{role}_active_dims"] = float(shares.sum())
            found[f"{role}_sparsity_ratio"] = 1 - float(shares.sum()) / max(1, len(shares))
        return found


class SearchCostObserver(SparsityObserver):
    """Also ``avg_flops``, the mean number of products of a query with a document whose factors both are not 0.

    Source: Paria et al. 2020, https://arxiv.org/abs/2004.05665
    """

    def statistics(self) -> dict[str, float]:
        queries, documents = (self.frequencies(role) for role in ROLES)
        cost = float(queries @ documents) if len(documents) and len(queries) else 0.0
        return {**super().statistics(), "avg_flops": cost}


class SparseEmbeddingSimilarityEvaluator(SparseEmbeddings, EmbeddingSimilarityEvaluator):
    """``EmbeddingSimilarityEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``, and
    without ``precision``.
    Metrics: also ``active_dims`` and ``sparsity_ratio``.
    """

    __init__ = with_max_active_dims(EmbeddingSimilarityEvaluator.__init__)


class SparseBinaryClassificationEvaluator(SparseEmbeddings, BinaryClassificationEvaluator):
    """``BinaryClassificationEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also ``active_dims`` and ``sparsity_ratio``, in which a text counts once.
    """

    __init__ = with_max_active_dims(BinaryClassificationEvaluator.__init__)

    def statistics(self, encoded: Mapping[str, Encoded]) -> dict[str, float]:
        return sparsity(encoded["sentences1"].rows)  # of the distinct texts of both columns


class SparseTripletEvaluator(SparseEmbeddings, TripletEvaluator):
    """``TripletEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also ``anchor_active_dims``, ``anchor_sparsity_ratio``, and likewise those of "positive" and "negative".
    """

    __init__ = with_max_active_dims(TripletEvaluator.__init__)

    def statistics(self, encoded: Mapping[str, Encoded]) -> dict[str, float]:
        found = {role: sparsity(column.take()) for role, column in encoded.items()}
        return {f"{role}_{name}": value for role, one in found.items() for name, value in one.items()}


class SparseTranslationEvaluator(SparseEmbeddings, TranslationEvaluator):
    """``TranslationEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also ``active_dims`` and ``sparsity_ratio``.
    """

    __init__ = with_max_active_dims(TranslationEvaluator.__init__)


class SparseMSEEvaluator(SparseEmbeddings, MSEEvaluator):
    """``MSEEvaluator`` of a sparse encoder, whose teacher is one, too.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also ``active_dims`` and ``sparsity_ratio`` of the student.
    """

    __init__ = with_max_active_dims(MSEEvaluator.__init__)


class SparseInformationRetrievalEvaluator(SparseEmbeddings, InformationRetrievalEvaluator):
    """``InformationRetrievalEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also those of ``SearchCostObserver``.
    """

    __init__ = with_max_active_dims(InformationRetrievalEvaluator.__init__)
    observed: SearchCostObserver
    """Of the last evaluation."""

    def observer(self) -> Observer:
        self.observed = SearchCostObserver()
        return self.observed


class SparseNanoBEIREvaluator(ActiveDims, NanoBEIREvaluator):
    """``NanoBEIREvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also those of ``SearchCostObserver``, of each data set, and of the queries and documents of all of them
    together, whatever ``aggregate_fn`` is.
    """

    evaluators: Sequence[SparseInformationRetrievalEvaluator]
    information_retrieval_class = SparseInformationRetrievalEvaluator
    __init__ = with_max_active_dims(NanoBEIREvaluator.__init__)

    def total(self, means: dict[str, float]) -> Measured:
        together = SearchCostObserver()
        for one in self.evaluators:
            together.include(one.observed)
        return super().total({**means, **together.statistics()})


class SparseRerankingEvaluator(SparseEmbeddings, RerankingEvaluator):
    """``RerankingEvaluator`` of a sparse encoder.

    Args: those, but for ``max_active_dims``, how many values of every vector are kept, instead of ``truncate_dim``.
    Metrics: also those of ``SparsityObserver``.
    """

    __init__ = with_max_active_dims(RerankingEvaluator.__init__)

    def observer(self) -> Observer:
        return SparsityObserver()
