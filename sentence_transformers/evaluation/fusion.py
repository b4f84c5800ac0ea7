"""How well two searches, merged, rank what answers a query."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import positive
from ..search.fusion import RRF_K, reciprocal_rank_fusion
from .hits import Array
from .reporting import Measured, ReportingEvaluator, csv_name
from .reranking import as_list, found_relevance, metrics_of_one, rank_means, with_cutoff

STEM = "ReciprocalRankFusion_evaluation"
FIELDS = ("query_id", "query", "positive", "documents")

Samples = Sequence[Mapping[str, Any]]


class ReciprocalRankFusionEvaluator(ReportingEvaluator):
    """Merges the results of a dense and a sparse search, and compares the three rankings. Needs no model.

    Args:
        dense_samples: ``{"query_id": id, "query": text, "positive": texts, "documents": texts}`` each; documents are
            the results, best first.
        sparse_samples: those of the other search, for the same queries in the same order; what is positive is read
            from the dense ones.
        at_k: how many documents MRR and nDCG look at.
        rrf_k: a document at rank r, counted from 1, gets 1 / (rrf_k + r) from each search that found it.
        name: of the data, put before every metric. batch_size, show_progress_bar: not used.
        write_csv: add a row to ``ReciprocalRankFusion_evaluation_<name>_results.csv``.
        write_predictions: write the merged results, one line a query, in the form of the samples.

    Metrics: ``map``, ``mrr@k`` and ``ndcg@k`` (primary) of the merged results, and those of both searches after
    ``dense_`` and ``sparse_``. Positives that a ranking lacks come last in it; a ranking without any counts 0.

    Raises: ValueError unless both have the same queries, for a sample that lacks a field, and a negative ``rrf_k``;
        when it is called, if there are no samples.
    Source: Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114
    """

    def __init__(
        self,
        dense_samples: Samples,
        sparse_samples: Samples,
        at_k: int = 10,
        rrf_k: int = RRF_K,
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        write_predictions: bool = False,
    ) -> None:
        super().__init__(csv_name(STEM, name), name, write_csv)
        self.at_k, self.rrf_k = positive("at_k", at_k), rrf_k
        if not rrf_k >= 0:
            raise ValueError(f"rrf_k must be at least 0, got {rrf_k!r}.")
        self.batch_size, self.show_progress_bar = batch_size, show_progress_bar
        self.write_predictions = write_predictions
        self.predictions_file = csv_name(STEM, name, end="_predictions.jsonl")
        self.dense_samples, self.sparse_samples = _listed(dense_samples), _listed(sparse_samples)
        _check_aligned(self.dense_samples, self.sparse_samples)
        self.primary_metric = f"ndcg@{at_k}"
        self.csv_headers = ["epoch", "steps", *self._columns().values()]

    def __call__(  # type: ignore[override]  # there is no model
        self, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure the rankings; arguments and result are those of ``BaseEvaluator``, without a model."""
        self.announce(epoch, steps)
        merged = [self.merged(*pair) for pair in zip(self.dense_samples, self.sparse_samples, strict=True)]
        if output_path is not None and self.write_predictions:
            self._write(Path(output_path), merged)
        return self.report(None, self._measured(merged), output_path, epoch, steps)

    def merged(self, dense: Mapping[str, Any], sparse: Mapping[str, Any]) -> list[Any]:
        """The documents of both samples, best first; of equal sums those of the dense search first."""
        rankings = [list(dict.fromkeys(sample["documents"])) for sample in (dense, sparse)]
        return [document for document, _ in reciprocal_rank_fusion(rankings, self.rrf_k)]

    def compute_metrics(self, y_true: Any, y_pred: Any) -> tuple[float, float, float]:
        """Of one query: (MRR, nDCG, average precision).

        Args:
            y_true: (n,) 0 or 1, which documents are relevant. y_pred: (n,) scores.
        """
        return metrics_of_one(y_true, y_pred, self.at_k)

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Nothing: there is no model."""

    def get_config_dict(self) -> dict[str, Any]:
        return {"at_k": self.at_k, "rrf_k": self.rrf_k, "write_predictions": self.write_predictions}

    # --- parts of it -------------------------------------------------------------------------------------------------

    def _columns(self) -> dict[str, str]:
        """Metric -> column of the CSV file."""
        names = ("map", f"mrr@{self.at_k}", f"ndcg@{self.at_k}")
        kinds = {"dense_": "Dense", "sparse_": "Sparse", "": "Fusion"}
        return {f"{kind}{name}": f"{title}_{name.upper()}" for kind, title in kinds.items() for name in names}

    def _measured(self, merged: Sequence[list[Any]]) -> Measured:
        if not merged:
            raise ValueError("There are no samples: dense_samples and sparse_samples are empty.")
        positives = [sample["positive"] for sample in self.dense_samples]
        rankings = {
            "dense_": [sample["documents"] for sample in self.dense_samples],
            "sparse_": [sample["documents"] for sample in self.sparse_samples],
            "": merged,
        }
        metrics: dict[str, float] = {}
        for kind, lists in rankings.items():
            found = [found_relevance(*pair) for pair in zip(lists, positives, strict=True)]
            means = with_cutoff(rank_means([_falling(one) for one in found], found, self.at_k), self.at_k)
            metrics |= {f"{kind}{name}": value for name, value in means.items()}
        row = {column: metrics[metric] for metric, column in self._columns().items()}
        return Measured(metrics, row, f"ndcg@{self.at_k}")

    def _write(self, folder: Path, merged: Sequence[list[Any]]) -> None:
        """The merged results of every query, as JSON lines."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / self.predictions_file).open("w", encoding="utf-8") as file:
            for sample, documents in zip(self.dense_samples, merged, strict=True):
                line = {**{field: sample[field] for field in FIELDS}, "documents": documents}
                file.write(json.dumps(line, default=str) + "\n")


def _falling(ranking: Array) -> Array:
    """Scores that give a ranking."""
    return -np.arange(len(ranking))


def _listed(samples: Samples) -> list[dict[str, Any]]:
    """Samples whose texts are in lists. Raises: ValueError if one lacks a field."""
    for at, sample in enumerate(samples):
        for field in FIELDS:
            if field not in sample:
                raise ValueError(f"Sample at index {at} missing '{field}' field")
    return [{**sample, **{field: as_list(sample[field]) for field in ("positive", "documents")}} for sample in samples]


def _check_aligned(dense: Samples, sparse: Samples) -> None:
    """Raises: ValueError unless both are of the same queries in the same order."""
    if len(dense) != len(sparse):
        raise ValueError(f"Dense samples ({len(dense)}) and sparse samples ({len(sparse)}) must have the same length")
    for at, (one, other) in enumerate(zip(dense, sparse, strict=True)):
        if one["query_id"] != other["query_id"]:
            raise ValueError(f"Query ID mismatch at index {at}: {one['query_id']} != {other['query_id']}")
