"""How well a reranker orders given candidates of each query: those that answer it should come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import positive
from ..reporting import Measured, csv_name
from ..reranking import as_list, cutoff_of, found_relevance, metrics_of_one, rank_means, with_cutoff
from .predicting import Array, PredictingEvaluator

BASE = "base_"
"""Before the metrics of the order that is reranked."""


class CrossEncoderRerankingEvaluator(PredictingEvaluator):
    """Scores every query with its own candidates.

    Args:
        samples: ``{"query": text, "positive": text or list, "negative": text or list}`` each; or with "documents", the
            results of a search, best first, in place of "negative". Of a mapping, its values.
        at_k: how many candidates MRR and nDCG look at.
        always_rerank_positives: score positives that the search did not find, too; else only "documents" are scored.
        name: of the data, put before every metric.
        prompt_name: name of a prompt of the model to put before each query.
        batch_size: the most pairs that are computed together. show_progress_bar: while scoring.
        write_csv: add a row to ``CrossEncoderRerankingEvaluator_<name>_results_@<k>.csv``.
        mrr_at_k: the old name of ``at_k``.

    Metrics: ``map``, ``mrr@k`` and ``ndcg@k`` (primary), the means over all samples; one without anything relevant to
    score counts 0. Candidates with equal scores share what they gain; for MRR, which needs an order, the later ones
    come first, so negatives do. Of samples with "documents" also ``base_map``, ``base_mrr@k`` and ``base_ndcg@k``, of
    the order of the search: positives that it did not find come last, but if it found none, the sample counts 0.

    Raises: ValueError if a sample has no query, no "positive", or not exactly one of "negative" and "documents"; when
        it is called, for a model with several labels, a score that is nan, or if there are no samples.
    """

    baseline: ClassVar[str] = BASE

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        at_k: int = 10,
        always_rerank_positives: bool = True,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 64,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        mrr_at_k: int | None = None,
    ) -> None:
        self.at_k = positive("at_k", cutoff_of(at_k, mrr_at_k))
        file = csv_name("CrossEncoderRerankingEvaluator", name, end=f"_results_@{self.at_k}.csv")
        super().__init__(file, name, prompt_name, batch_size, show_progress_bar, write_csv)
        self.always_rerank_positives = always_rerank_positives
        self.samples = [_checked(one) for one in (samples.values() if isinstance(samples, Mapping) else samples)]
        self.primary_metric = f"ndcg@{self.at_k}"
        self.csv_headers = ["epoch", "steps", "MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}"]

    def measure(self, model: Any) -> Measured:
        if not self.samples:
            raise ValueError("There are no samples to rerank: samples is empty.")
        tasks = [Task.of(one, self.always_rerank_positives) for one in self.samples]
        scores = self.score(model, [pair for task in tasks for pair in task.pairs])
        ends = np.cumsum([len(task.pairs) for task in tasks])
        lists = np.split(scores, ends[:-1])
        metrics = with_cutoff(rank_means(lists, [task.relevance for task in tasks], self.at_k, True), self.at_k)
        row = {metric.upper(): value for metric, value in metrics.items()}
        found = [task.found for task in tasks if task.found is not None]
        if found:
            base = rank_means([-np.arange(len(one)) for one in found], found, self.at_k)
            metrics |= {f"{BASE}{metric}": value for metric, value in with_cutoff(base, self.at_k).items()}
        return Measured(metrics, row, f"ndcg@{self.at_k}")

    def compute_metrics(self, y_true: Any, y_pred: Any) -> tuple[float, float, float]:
        """Of one query: (MRR, nDCG, average precision).

        Args:
            y_true: (n,) 0 or 1, which candidates are relevant. y_pred: (n,) scores.
        """
        return metrics_of_one(y_true, y_pred, self.at_k, later_first=True)

    def get_config_dict(self) -> dict[str, Any]:
        config: dict[str, Any] = {"at_k": self.at_k}
        if any("documents" in one for one in self.samples):
            config["always_rerank_positives"] = self.always_rerank_positives
        return config


@dataclass(frozen=True)
class Task:
    """What is done for a sample.

    Attributes:
        pairs: n pairs to score; none where nothing relevant would be among them.
        relevance: (n,) bool.
        found: bool, what is relevant of the results of a search, and then of what it did not find; None without one.
    """

    pairs: list[tuple[Any, Any]]
    relevance: Array
    found: Array | None

    @classmethod
    def of(cls, sample: Mapping[str, Any], always_rerank_positives: bool) -> Task:
        """Of a sample with lists."""
        positives, found = sample["positive"], None
        if "documents" in sample:
            documents = sample["documents"]
            found = found_relevance(documents, positives)
            hits = found[: len(documents)]
            others = [text for text, is_hit in zip(documents, hits, strict=True) if not is_hit]
        else:
            others = sample["negative"]
        if found is not None and not always_rerank_positives:
            candidates, relevance = documents, hits
        else:
            candidates = [*positives, *others]
            relevance = np.arange(len(candidates)) < len(positives)
        pairs = [(sample["query"], text) for text in candidates] if relevance.any() else []
        return cls(pairs, relevance[: len(pairs)], found)


def _checked(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample whose texts are in lists."""
    name = CrossEncoderRerankingEvaluator.__name__
    for key in ("query", "positive"):
        if key not in sample:
            raise ValueError(f"{name} requires a '{key}' key in each sample.")
    if ("negative" in sample) == ("documents" in sample):
        raise ValueError(f"{name} requires exactly one of 'negative' and 'documents' in each sample.")
    return {**sample, **{key: as_list(sample[key]) for key in ("positive", "negative", "documents") if key in sample}}
