"""What evaluators of embeddings share: each distinct input is encoded once, and compared by named functions.

Knows no metric. An encoder of another kind changes how inputs are embedded (``encode_settings``, ``width``), which
functions there are (``similarities``), and what else is told of its embeddings (``statistics``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..ops.similarity import BLOCK_ELEMENTS, SimilarityFunction
from ..ops.tensors import is_sparse
from .base import arguments_of
from .reporting import Measured, ReportingEvaluator, modes_kept

Array = npt.NDArray[Any]

CACHED_ELEMENTS = 2**18
"""So many values of either side at once on a CPU: they, and what is computed from them, stay in a cache."""
MANY_ROWS = 1024
"""So many pairs of embeddings at once, where an embedding is a list of vectors."""


@dataclass(frozen=True)
class Encoded:
    """The embeddings of a column of n inputs.

    Attributes:
        rows: of its distinct inputs, and perhaps of those of other columns: an array, a tensor or a list.
        places: (n,) int64, for every input the place of its embedding in ``rows``.
    """

    rows: Any
    places: Array

    def __len__(self) -> int:
        return len(self.places)

    @property
    def is_plain(self) -> bool:
        """Whether they are dense and on the CPU."""
        if isinstance(self.rows, Tensor):
            return self.rows.device.type == "cpu" and not is_sparse(self.rows)
        return isinstance(self.rows, np.ndarray)

    def take(self, some: slice = slice(None)) -> Any:
        """The embeddings of some inputs, in their order, as ``rows`` are: array, tensor or list."""
        places = self.places[some]
        if self.is_plain and len(places) and is_run(places):
            return self.rows[places[0] : places[-1] + 1]  # not a copy
        if isinstance(self.rows, np.ndarray):
            return self.rows[places]
        if not isinstance(self.rows, Tensor):
            return [self.rows[place] for place in places]
        index = torch.from_numpy(places).to(self.rows.device)
        return self.rows.index_select(0, index).coalesce() if is_sparse(self.rows) else self.rows[index]

    def blocks(self) -> Iterator[slice]:
        """The n inputs in pieces whose embeddings are not too large to be computed with at once."""
        size = MANY_ROWS
        if isinstance(self.rows, Tensor) and is_sparse(self.rows):
            size = max(1, len(self))  # takes little space; picking rows takes time that depends on all rows
        elif isinstance(self.rows, (np.ndarray, Tensor)):
            most = CACHED_ELEMENTS if self.is_plain else BLOCK_ELEMENTS
            size = max(1, most // max(1, self.rows.shape[-1]))
        return (slice(at, at + size) for at in range(0, len(self), size))


def is_run(places: Array) -> bool:
    """Whether each of the (n,) places is the next after the one before."""
    first = int(places[0])
    return int(places[-1]) - first == len(places) - 1 and bool((places == np.arange(first, first + len(places))).all())


def distinct(*columns: Sequence[Any]) -> tuple[list[Any], list[Array]]:
    """The different inputs of columns, in order, and for every column the places of its inputs among them.

    Equal texts are one input; anything else only is the same if it is the same object.
    """
    items = [list(column) for column in columns]  # kept, so that no other object gets the id of one
    keys = [_keys(column) for column in items]
    found = dict(zip(chain(*keys), chain(*items), strict=True))  # in the order in which they come first
    if len(found) == sum(map(len, items)):
        ends = np.cumsum([len(column) for column in items])
        return list(found.values()), np.split(np.arange(len(found)), ends[:-1])
    known = dict(zip(found, range(len(found)), strict=True))
    places = [np.fromiter(map(known.__getitem__, column), np.int64, len(column)) for column in keys]
    return list(found.values()), places


def _keys(items: list[Any]) -> list[Hashable]:
    """What tells items apart."""
    if set(map(type, items)) <= {str}:
        return items
    return [item if isinstance(item, str) else id(item) for item in items]


def pair_scores(compare: Callable[[Any, Any], Tensor], left: Encoded, right: Encoded) -> Array:
    """``compare`` of each pair of embeddings: (n,) floats."""

    def scores_of(some: slice) -> Array:
        scores: Array = compare(left.take(some), right.take(some)).detach().cpu().numpy()
        return scores

    scores = [scores_of(some) for some in left.blocks()]
    return np.concatenate(scores) if scores else np.empty(0)


class EmbeddingEvaluator(ReportingEvaluator):
    """Encodes inputs.

    Args:
        csv_file, name, write_csv: see ``ReportingEvaluator``.
        batch_size: the most inputs that are encoded together.
        show_progress_bar: while encoding.
        truncate_dim: keep only the first so many dimensions; None is what the model does.
    """

    def __init__(
        self,
        csv_file: str,
        name: str,
        batch_size: int,
        show_progress_bar: bool | None,
        write_csv: bool,
        truncate_dim: int | None,
    ) -> None:
        super().__init__(csv_file, name, write_csv)
        self.batch_size = batch_size
        self.show_progress_bar = bool(show_progress_bar)
        self.truncate_dim = truncate_dim

    def width(self) -> dict[str, int | None]:
        """The argument of ``encode`` that shortens embeddings."""
        return {"truncate_dim": self.truncate_dim}

    def encode_settings(self) -> dict[str, Any]:
        """Further arguments for the ``encode`` of the model."""
        return {"convert_to_numpy": True, **self.width()}

    def embed_inputs(self, model: Any, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any) -> Any:
        """The embeddings of inputs.

        Args:
            encode_fn_name: "encode_query" or "encode_document"; default "encode".
            **kwargs: arguments for it, before those of ``encode_settings``.
        """
        encode = getattr(model, encode_fn_name or "encode")
        settings = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress_bar}
        with modes_kept(model):
            return encode(sentences, **{**settings, **self.encode_settings(), **kwargs})

    def encode(self, model: Any, *columns: Sequence[Any], **kwargs: Any) -> list[Encoded]:
        """Columns of inputs, in one call of ``embed_inputs``; the arguments are for it."""
        inputs, places = distinct(*columns)
        rows = self.embed_inputs(model, inputs, **kwargs)
        return [Encoded(rows, some) for some in places]

    def statistics(self, encoded: Mapping[str, Encoded]) -> dict[str, float]:
        """Further metrics that say something of embeddings alone; they are columns of the CSV file, too.

        Args:
            encoded: what the inputs are for, such as "anchor" -> embeddings.
        """
        return {}

    def measured(
        self, encoded: Mapping[str, Encoded], metrics: dict[str, float], row: dict[str, float], primary: str
    ) -> Measured:
        """The result of ``measure``, with the statistics."""
        extra = self.statistics(encoded)
        return Measured({**metrics, **extra}, {**row, **extra}, primary)

    def get_config_dict(self) -> dict[str, Any]:
        return arguments_of(self, list(self.width()))


class SimilarityEvaluator(EmbeddingEvaluator):
    """Compares embeddings by one or more functions.

    Args:
        similarity_fn_names: of ``similarities``; default ``main``, else that of the first model that is evaluated.
        main: the one whose metrics count; it is computed even if it is not among the names.
        Others: see ``EmbeddingEvaluator``.

    Raises: ValueError for an unknown function.
    """

    similarities: ClassVar[tuple[str, ...]] = ("cosine", "dot", "manhattan", "euclidean")

    def __init__(
        self,
        csv_file: str,
        name: str,
        batch_size: int,
        show_progress_bar: bool | None,
        write_csv: bool,
        truncate_dim: int | None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None,
        main: str | SimilarityFunction | None = None,
    ) -> None:
        super().__init__(csv_file, name, batch_size, show_progress_bar, write_csv, truncate_dim)
        self._main = SimilarityFunction(main) if main else None
        names = self._known(similarity_fn_names or [])
        if self._main is not None and self._main.value not in names:
            names += self._known([self._main])
        self.similarity_fn_names = names

    def choose(self, model: Any) -> str:
        """Fill ``similarity_fn_names`` if it is empty.

        Returns: the name whose metrics count: that of a function, or "max", the best of several.
        """
        if not self.similarity_fn_names:
            self.similarity_fn_names = self._known([model.similarity_fn_name])
        if self._main is not None:
            return str(self._main.value)
        return self.similarity_fn_names[0] if len(self.similarity_fn_names) == 1 else "max"

    def pairwise(self, name: str) -> Callable[[Any, Any], Tensor]:
        """The function for pairs of rows; higher is closer."""
        return SimilarityFunction.to_similarity_pairwise_fn(name)

    def compare(self, left: Encoded, right: Encoded) -> dict[str, Array]:
        """Name of a function -> (n,) scores of pairs; higher is closer."""
        return {name: pair_scores(self.pairwise(name), left, right) for name in self.similarity_fn_names}

    def _known(self, names: Sequence[str | SimilarityFunction | None]) -> list[str]:
        values = [name.value if isinstance(name, SimilarityFunction) else name for name in names]
        unknown = [value for value in values if value not in self.similarities]
        if unknown:
            raise ValueError(
                f"`similarity_fn_names` got unexpected names {unknown}, expected names in {list(self.similarities)}."
            )
        return [str(value) for value in values]


def equally_many(**columns: Sequence[Any]) -> None:
    """Raise ``ValueError`` unless all columns are equally long."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"{name} ({length})" for name, length in lengths.items())
        raise ValueError(f"{told} must have the same length.")
