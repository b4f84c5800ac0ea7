"""How often the nearest text of the other language is the translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from ..ops.similarity import cos_sim
from ..ops.tensors import to_tensor
from .embedding import Array, EmbeddingEvaluator, Encoded, distinct, equally_many
from .hits import nearest_rows
from .reporting import Measured, csv_name

SHOWN = 5
"""So many nearest targets are told of a wrong match."""


class TranslationEvaluator(EmbeddingEvaluator):
    """The share of texts whose translation is the nearest of all texts of the other language, by cosine.

    Args:
        source_sentences: n texts. target_sentences: their translations.
        show_progress_bar: while encoding. batch_size: the most texts that are encoded together.
        name: of the data, put before every metric.
        print_wrong_matches: print every source whose nearest target is another one.
        write_csv: add a row to ``translation_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions.

    Metrics: ``src2trg_accuracy``, ``trg2src_accuracy`` and ``mean_accuracy``. A match is right if its text is.

    Raises: ValueError if the lengths differ, or there are no texts.
    """

    primary_metric = "mean_accuracy"

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        print_wrong_matches: bool = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        equally_many(source_sentences=source_sentences, target_sentences=target_sentences)
        if not len(source_sentences):
            raise ValueError("source_sentences and target_sentences must not be empty.")
        super().__init__(
            csv_name("translation_evaluation", name), name, batch_size, show_progress_bar, write_csv, truncate_dim
        )
        self.source_sentences, self.target_sentences = source_sentences, target_sentences
        self.print_wrong_matches = print_wrong_matches

    def encode_settings(self) -> dict[str, Any]:
        return {"convert_to_numpy": False, "convert_to_tensor": True, **self.width()}

    def measure(self, model: Any) -> Measured:
        texts, places = zip(
            *(distinct(column) for column in (self.source_sentences, self.target_sentences)), strict=True
        )
        rows = [to_tensor(column.take()) for column in self.encode(model, *texts)]
        source, target = (Encoded(some, where) for some, (where,) in zip(rows, places, strict=True))
        forward = nearest(source.rows, target.rows)[source.places] == target.places
        backward = nearest(target.rows, source.rows)[target.places] == source.places
        if self.print_wrong_matches:
            self._print(source, target, np.flatnonzero(~forward))
        row = {"src2trg": float(forward.mean()), "trg2src": float(backward.mean())}
        metrics = {f"{direction}_accuracy": value for direction, value in row.items()}
        metrics["mean_accuracy"] = (row["src2trg"] + row["trg2src"]) / 2
        return self.measured({"source": source, "target": target}, metrics, row, "mean_accuracy")

    def _print(self, source: Encoded, target: Encoded, wrong: Array) -> None:
        """Tell the nearest targets of sources; ``wrong``: which."""
        first = np.unique(target.places, return_index=True)[1]  # distinct text -> where it stands first
        for at in wrong.tolist():
            scores = cos_sim(source.take(slice(at, at + 1)), target.rows)[0]
            best = scores.sort(descending=True, stable=True)  # of equal scores the first, as in ``nearest``
            places = first[best.indices[:SHOWN].cpu().numpy()].tolist()
            lines = [
                "",
                f"Incorrect  : Source {at} is most similar to target {places[0]} instead of target {at}",
                f"Source     : {self.source_sentences[at]}",
                f"Pred Target: {self.target_sentences[places[0]]} (Score: {best.values[0]:.4f})",
                f"True Target: {self.target_sentences[at]} (Score: {scores[int(target.places[at])]:.4f})",
                *(
                    f"\t {place} (Score: {score:.4f}) {self.target_sentences[place]}"
                    for place, score in zip(places, best.values[:SHOWN].tolist(), strict=True)
                ),
            ]
            tqdm.write("\n".join(lines))


def nearest(left: Tensor, right: Tensor) -> Array:
    """For each row of ``left`` the row of ``right`` with the highest cosine; of equal ones the first.

    Args:
        left: (n, D), at least one row; dense or sparse. right: (m, D).

    Returns: (n,) int64. Raises: ValueError for embeddings with NaN.
    """
    return nearest_rows(left, right, cos_sim, 1)[1][:, 0]
