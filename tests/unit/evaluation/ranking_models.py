"""Models for evaluators that rank: given embeddings, compared by a function of ``ops``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sentence_transformers.ops.similarity import SimilarityFunction
from tests.unit.evaluation.evaluating import Given


class Comparing(Given):
    """With a ``similarity``, which is that of its name."""

    def similarity(self, left: Any, right: Any) -> Tensor:
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(left, right)
