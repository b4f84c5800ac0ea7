"""How well a model ranks given candidates of each query: those that answer it should come first."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..ops.similarity import cos_sim
from ..ops.tensors import to_tensor
from .embedding import EmbeddingEvaluator
from .hits import Array, Rows, Scores, as_rows, rows_between
from .ranking import ScoredLists
from .reporting import Measured, csv_name
from .retrieval import Observer

logger = logging.getLogger(__name__)


class RerankingEvaluator(EmbeddingEvaluator):
    """Compares every query with its own positives and negatives.

    Args:
        samples: ``{"query": text, "positive": text or list, "negative": text or list}`` each; those without a positive
            or without a negative are left out. Of a mapping, its values.
        at_k: how many candidates MRR and nDCG look at.
        name: of the data, put before every metric.
        write_csv: add a row to ``RerankingEvaluator_<name>_results_@<k>.csv``.
        similarity_fct: (1, D), (n, D) -> (1, n), higher is closer; None: that of the model.
        batch_size: the most texts that are encoded together. show_progress_bar: while encoding.
        use_batched_encoding: encode the texts of all samples together, which is faster; else sample after sample, which
            needs less memory.
        truncate_dim: keep only the first so many dimensions.
        mrr_at_k: the old name of ``at_k``.

    Metrics: ``map``, ``mrr@k`` and ``ndcg@k``. Candidates with equal scores share what they gain; for MRR, which needs
    an order, they stay in that of the sample, positives first.
    """

    most_texts: ClassVar[int | None] = None
    """The embeddings of so many candidates are held at once, or of one sample, if it has more; None: of all."""

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        similarity_fct: Scores | None = cos_sim,
        batch_size: int = 64,
        show_progress_bar: bool | None = False,
        use_batched_encoding: bool = True,
        truncate_dim: int | None = None,
        mrr_at_k: int | None = None,
    ) -> None:
        at_k = cutoff_of(at_k, mrr_at_k)
        file = csv_name("RerankingEvaluator", name, end=f"_results_@{at_k}.csv")
        super().__init__(file, name, batch_size, show_progress_bar, write_csv, truncate_dim)
        self.at_k = at_k
        self.similarity_fct = similarity_fct
        self.use_batched_encoding = use_batched_encoding
        given = samples.values() if isinstance(samples, Mapping) else samples
        lists = [{**one, **{side: as_list(one[side]) for side in ("positive", "negative")}} for one in given]
        self.samples = [one for one in lists if len(one["positive"]) and len(one["negative"])]
        self.primary_metric = f"ndcg@{at_k}"
        self.csv_headers = ["epoch", "steps", "MAP", f"MRR@{at_k}", f"NDCG@{at_k}"]

    # --- what an encoder of another kind changes ---------------------------------------------------------------------

    def encode_settings(self) -> dict[str, Any]:
        return {"convert_to_tensor": True, **self.width()}

    def similarity(self, model: Any) -> Scores:
        """The function that compares one query with its candidates."""
        compare: Scores = model.similarity if self.similarity_fct is None else self.similarity_fct
        return compare

    def observer(self) -> Observer:
        """A new one, which sees all embeddings of an evaluation."""
        return Observer()

    # --- evaluation --------------------------------------------------------------------------------------------------

    def measure(self, model: Any) -> Measured:
        observer = self.observer()
        metrics = with_cutoff(self._computed(model, self.use_batched_encoding, observer), self.at_k)
        row = {metric.upper(): value for metric, value in metrics.items()}
        extra = observer.statistics()
        return Measured({**metrics, **extra}, {**row, **extra}, f"ndcg@{self.at_k}")

    def compute_metrics(self, model: Any) -> dict[str, float]:
        """ "map", "mrr" and "ndcg" of a model; nothing is written. Raises: ValueError without samples."""
        return self._computed(model, self.use_batched_encoding, Observer())

    def compute_metrics_batched(self, model: Any) -> dict[str, float]:
        """As ``compute_metrics``, all texts encoded together."""
        return self._computed(model, True, Observer())

    def compute_metrics_individual(self, model: Any) -> dict[str, float]:
        """As ``compute_metrics``, sample after sample."""
        return self._computed(model, False, Observer())

    compute_metrices = compute_metrics
    compute_metrices_batched = compute_metrics_batched
    compute_metrices_individual = compute_metrics_individual

    def get_config_dict(self) -> dict[str, Any]:
        return {"at_k": self.at_k, **super().get_config_dict()}

    def _computed(self, model: Any, is_batched: bool, observer: Observer) -> dict[str, float]:
        if not self.samples:
            raise ValueError(
                "There are no samples to rank: each needs a query, at least one positive and at least one negative."
            )
        compare = self.similarity(model)
        scores = []
        for query, candidates in self._embedded(model, is_batched, observer):
            found = to_tensor(compare(query, candidates)).reshape(-1)
            scores.append(found.detach().cpu().float().numpy() if found.element_size() < 4 else found.cpu().numpy())
        return rank_means(scores, [_relevance(one) for one in self.samples], self.at_k)

    def _embedded(self, model: Any, is_batched: bool, observer: Observer) -> Iterator[tuple[Rows, Rows]]:
        """(1, D) of the query and (n, D) of the candidates of each sample."""
        for some in in_groups(self.samples, self.most_texts if is_batched else 1):
            texts = [one["query"] for one in some], [text for one in some for text in _candidates(one)]
            # the bar of a single sample would be gone at once
            shown = self.show_progress_bar if is_batched else False
            queries = as_rows(self.embed_inputs(model, texts[0], "encode_query", show_progress_bar=shown))
            documents = as_rows(self.embed_inputs(model, texts[1], "encode_document", show_progress_bar=shown))
            observer.see("query", queries)
            observer.see("corpus", documents)
            at = 0
            for place, one in enumerate(some):
                count = len(one["positive"]) + len(one["negative"])
                yield rows_between(queries, place, place + 1), rows_between(documents, at, at + count)
                at += count


def in_groups(samples: Sequence[dict[str, Any]], most: int | None) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring samples with at most ``most`` candidates, or one with more; None: all samples."""
    group: list[dict[str, Any]] = []
    held = 0
    for one in samples:
        count = len(_candidates(one))
        if group and most is not None and held + count > most:
            yield group
            group, held = [], 0
        group.append(one)
        held += count
    if group:
        yield group


def found_relevance(documents: Sequence[Any], positives: Collection[Any]) -> Array:
    """Which results of a search are relevant, and then those that it did not find; if it found none, there are none.

    Args:
        documents: n results, best first. positives: all that are relevant.

    Returns: (n + missed,) bool.
    """
    hits = np.array([text in positives for text in documents], dtype=bool)
    missed = max(0, len(positives) - int(hits.sum())) if hits.any() else 0
    return np.append(hits, np.ones(missed, dtype=bool))


def metrics_of_one(relevance: Any, scores: Any, limit: int, later_first: bool = False) -> tuple[float, float, float]:
    """Of one query: (MRR, nDCG, average precision).

    Args:
        relevance: (n,) 0 or 1. scores, limit, later_first: see ``rank_means``.
    """
    means = rank_means([np.asarray(scores)], [np.asarray(relevance)], limit, later_first)
    return means["mrr"], means["ndcg"], means["map"]


def rank_means(
    scores: Sequence[Array], relevance: Sequence[Array], limit: int, later_first: bool = False
) -> dict[str, float]:
    """Means over all queries of "map", and of "mrr" and "ndcg" of the first ``limit`` candidates.

    Args: see ``ScoredLists.of``, of at least one query.
    """
    lists = ScoredLists.of(scores, relevance, later_first)
    return {
        "map": float(lists.average_precision().mean()),
        "mrr": float(lists.reciprocal_rank(limit).mean()),
        "ndcg": float(lists.ndcg(limit).mean()),
    }


def with_cutoff(means: Mapping[str, float], limit: int) -> dict[str, float]:
    """The means of ``rank_means`` under the names of metrics: "map", "mrr@k" and "ndcg@k"."""
    return {name if name == "map" else f"{name}@{limit}": value for name, value in means.items()}


def cutoff_of(at_k: int, mrr_at_k: int | None) -> int:
    """How many candidates count, where they may be given by their old name."""
    if mrr_at_k is None:
        return at_k
    logger.warning("mrr_at_k is now at_k: taking at_k=%d.", mrr_at_k)
    return mrr_at_k


def as_list(value: Any) -> Sequence[Any]:
    """A list of texts; of one text, it alone."""
    listed: Sequence[Any] = [value] if isinstance(value, str) else value
    return listed


def _candidates(sample: Mapping[str, Any]) -> list[Any]:
    return [*sample["positive"], *sample["negative"]]


def _relevance(sample: Mapping[str, Any]) -> Array:
    return np.arange(len(sample["positive"]) + len(sample["negative"])) < len(sample["positive"])
