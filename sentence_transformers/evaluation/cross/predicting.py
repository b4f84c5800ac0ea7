"""What evaluators of rerankers share: all pairs are scored in one call of the model. Knows no metric.

One call, as the model then puts pairs of like length together and computes each different pair once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..reporting import ReportingEvaluator, modes_kept

Array = npt.NDArray[Any]
Evaluator = TypeVar("Evaluator", bound="LabelledPairsEvaluator")


class PredictingEvaluator(ReportingEvaluator):
    """Scores pairs.

    Args:
        csv_file, name, write_csv: see ``ReportingEvaluator``.
        prompt_name: name of a prompt of the model to put before the first text of each pair.
        batch_size: the most pairs that are computed together.
        show_progress_bar: while scoring; None is what the model does.
    """

    def __init__(
        self,
        csv_file: str,
        name: str,
        prompt_name: str | None,
        batch_size: int,
        show_progress_bar: bool | None,
        write_csv: bool,
    ) -> None:
        super().__init__(csv_file, name, write_csv)
        self.prompt_name = prompt_name
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar

    def predict(self, model: Any, pairs: Sequence[Any]) -> Array:
        """The scores of n pairs: (n,), or (n, labels) where the model has several labels."""
        with modes_kept(model):
            scores = model.predict(
                pairs,
                prompt_name=self.prompt_name,
                batch_size=self.batch_size,
                show_progress_bar=self.show_progress_bar,
                convert_to_numpy=True,
            )
        return np.asarray(scores)

    def score(self, model: Any, pairs: Sequence[Any]) -> Array:
        """One score for each of n pairs: (n,). Raises: ValueError if the model has several labels."""
        scores = self.predict(model, pairs)
        if scores.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} needs one score for each pair: a model with num_labels=1, got scores of shape "
                f"{scores.shape}. For a model of classes there is CrossEncoderClassificationEvaluator."
            )
        return scores


class LabelledPairsEvaluator(PredictingEvaluator):
    """Has pairs, and what is known of each.

    Args:
        sentence_pairs: n pairs of texts. known: n labels, or scores; what: they are called.
        Others: see ``PredictingEvaluator``.

    Raises: ValueError if the lengths differ.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Any],
        known: Sequence[Any],
        *,
        what: str,
        csv_file: str,
        name: str,
        prompt_name: str | None,
        batch_size: int,
        show_progress_bar: bool | None,
        write_csv: bool,
    ) -> None:
        if len(sentence_pairs) != len(known):
            raise ValueError(
                f"sentence_pairs and {what} must have the same length, got {len(sentence_pairs)} and {len(known)}."
            )
        super().__init__(csv_file, name, prompt_name, batch_size, show_progress_bar, write_csv)
        self.sentence_pairs = sentence_pairs

    @classmethod
    def from_input_examples(cls: type[Evaluator], examples: Sequence[Any], **kwargs: Any) -> Evaluator:
        """Of ``InputExample`` objects with two texts and a label; other arguments as the constructor."""
        pairs, labels = [example.texts for example in examples], [example.label for example in examples]
        return cls(pairs, labels, **kwargs)
