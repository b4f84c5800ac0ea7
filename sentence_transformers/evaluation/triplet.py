"""How often an anchor is closer to its positive than to its negative."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ops.similarity import SimilarityFunction
from .base import arguments_of
from .embedding import SimilarityEvaluator, equally_many
from .reporting import Measured, csv_name


class TripletEvaluator(SimilarityEvaluator):
    """The share of triplets (anchor, positive, negative) whose anchor is more similar to the positive.

    Args:
        anchors: n texts, encoded as queries. positives, negatives: n texts each, encoded as documents.
        main_similarity_function: the function whose accuracy is the primary metric; default: the only one, or the
            highest.
        margin: the least difference of the similarities; a number for all functions, or one per function, others 0.
        name: of the data, put before every metric. batch_size: the most texts that are encoded together.
        show_progress_bar: while encoding. write_csv: add a row to ``triplet_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions.
        similarity_fn_names: some of "cosine", "dot", "manhattan" and "euclidean"; default:
            ``main_similarity_function``, else that of the model.
        main_distance_function: the old name of ``main_similarity_function``.

    Metrics: ``<function>_accuracy``; of several functions also ``max_accuracy``.

    Raises: ValueError if the lengths differ, for an unknown function, or a margin that is no number.
    """

    def __init__(
        self,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        negatives: Sequence[Any],
        main_similarity_function: str | SimilarityFunction | None = None,
        margin: float | Mapping[str, float] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
        main_distance_function: str | SimilarityFunction | None = "deprecated",
    ) -> None:
        equally_many(anchors=anchors, positives=positives, negatives=negatives)
        if main_distance_function != "deprecated":
            warnings.warn("main_distance_function is now main_similarity_function.", FutureWarning, stacklevel=2)
            main_similarity_function = main_similarity_function or main_distance_function
        super().__init__(
            csv_name("triplet_evaluation", name),
            name,
            batch_size,
            show_progress_bar,
            write_csv,
            truncate_dim,
            similarity_fn_names,
            main_similarity_function,
        )
        self.main_similarity_function = self._main
        self.anchors, self.positives, self.negatives = anchors, positives, negatives
        self.margin = self._margins(margin)

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> TripletEvaluator:
        """Of ``InputExample`` objects with three texts; other arguments as the constructor."""
        anchors, positives, negatives = ([example.texts[at] for example in examples] for at in range(3))
        return cls(anchors, positives, negatives, **kwargs)

    def measure(self, model: Any) -> Measured:
        main = self.choose(model)
        (anchors,) = self.encode(model, self.anchors, encode_fn_name="encode_query")
        near, far = self.encode(model, self.positives, self.negatives, encode_fn_name="encode_document")
        close, distant = self.compare(anchors, near), self.compare(anchors, far)
        metrics, row = {}, {}
        for name in self.similarity_fn_names:
            is_right = close[name] > distant[name] + self.margin[name]
            share = float(np.float32(is_right.mean())) if len(is_right) else 0.0  # rounded as by the reference
            metrics[f"{name}_accuracy"] = row[f"accuracy_{name}"] = share
        if len(row) > 1:
            metrics["max_accuracy"] = max(row.values())
        encoded = {"anchor": anchors, "positive": near, "negative": far}
        return self.measured(encoded, metrics, row, f"{main}_accuracy")

    def get_config_dict(self) -> dict[str, Any]:
        margin = {"margin": self.margin} if any(self.margin.values()) else {}
        return {**margin, **arguments_of(self, list(self.width()))}

    def _margins(self, margin: Any) -> dict[str, float]:
        """One for every function."""
        if margin is None:
            margin = 0
        if isinstance(margin, (int, float)):
            return dict.fromkeys(self.similarities, margin)
        if not isinstance(margin, Mapping):
            raise ValueError(f"`margin` should be a float or a dictionary with keys in {list(self.similarities)}.")
        unknown = [name for name in margin if name not in self.similarities]
        if unknown:
            raise ValueError(f"`margin` got unexpected keys {unknown}, expected keys in {list(self.similarities)}.")
        return {**dict.fromkeys(self.similarities, 0), **margin}
