"""How well similarities of pairs agree with scores that people gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sentence_transformers.ops.correlation import pearson, spearman

from .._types import Precision
from ..ops.quantize import PRECISIONS
from ..ops.similarity import SimilarityFunction
from .base import arguments_of
from .embedding import Encoded, SimilarityEvaluator, equally_many
from .reporting import Measured, csv_name


class EmbeddingSimilarityEvaluator(SimilarityEvaluator):
    """Correlates the similarities of pairs of texts with gold scores.

    Args:
        sentences1: the n first texts. sentences2: the second ones. scores: n numbers, higher is more similar.
        batch_size: the most texts that are encoded together.
        main_similarity: the function whose Spearman correlation is the primary metric; default: the only one, or the
            highest.
        similarity_fn_names: some of "cosine", "dot", "manhattan" and "euclidean"; default: ``main_similarity``, else
            that of the model.
        name: of the data, put before every metric. show_progress_bar: while encoding. write_csv: add a row to
            ``similarity_evaluation_<name>_<precision>_results.csv``.
        precision: compare embeddings of length 1 that are quantised so; binary ones as vectors of 0 and 1.
        truncate_dim: keep only the first so many dimensions.

    Metrics: ``pearson_<function>`` and ``spearman_<function>``; of several functions also ``pearson_max`` and
    ``spearman_max``. Distances count negative, so that higher always is more similar.

    Raises: ValueError if the lengths differ, or for an unknown function or precision.

    Example:
        >>> evaluator = EmbeddingSimilarityEvaluator(["a cat"], ["a kitten"], [0.9], name="sts-dev")
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[float],
        batch_size: int = 16,
        main_similarity: str | SimilarityFunction | None = None,
        similarity_fn_names: Sequence[str | SimilarityFunction] | None = None,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        precision: Precision | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        equally_many(sentences1=sentences1, sentences2=sentences2, scores=scores)
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"Precision {precision!r} is not supported, must be one of {PRECISIONS}.")
        super().__init__(
            csv_name("similarity_evaluation", name, precision),
            name,
            batch_size,
            show_progress_bar,
            write_csv,
            truncate_dim,
            similarity_fn_names,
            main_similarity,
        )
        self.main_similarity = self._main
        self.sentences1, self.sentences2, self.scores = sentences1, sentences2, scores
        self.precision = precision

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """Of ``InputExample`` objects with two texts and a score as label; other arguments as the constructor."""
        first, second = [example.texts[0] for example in examples], [example.texts[1] for example in examples]
        return cls(first, second, [example.label for example in examples], **kwargs)

    def encode_settings(self) -> dict[str, Any]:
        # one form of bits: encode(precision="binary") is -1 and 1 here, packed bytes in other implementations
        precision = "ubinary" if self.precision == "binary" else self.precision
        return {**super().encode_settings(), "precision": precision, "normalize_embeddings": bool(precision)}

    def measure(self, model: Any) -> Measured:
        main = self.choose(model)
        columns = self.encode(model, self.sentences1, self.sentences2)  # in one call: int8 shares ranges
        if self.precision in ("binary", "ubinary"):
            bits = np.unpackbits(np.asarray(columns[0].rows), axis=-1)
            columns = [Encoded(bits, column.places) for column in columns]
        metrics, row = {}, {}
        for name, scores in self.compare(*columns).items():
            for kind, correlation in (("pearson", pearson), ("spearman", spearman)):
                metrics[f"{kind}_{name}"] = row[f"{name}_{kind}"] = correlation(self.scores, scores)
        if len(self.similarity_fn_names) > 1:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = max(metrics[f"{kind}_{name}"] for name in self.similarity_fn_names)
        encoded = {"sentences1": columns[0], "sentences2": columns[1]}
        return self.measured(encoded, metrics, row, f"spearman_{main}")

    @property
    def description(self) -> str:
        return "Semantic Similarity"

    def get_config_dict(self) -> dict[str, Any]:
        return arguments_of(self, ["precision", *self.width()])
