"""How well a model finds the pairs of a set of sentences that mean the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..search.paraphrase import paraphrase_pairs
from .embedding import EmbeddingEvaluator
from .metrics import Cuts
from .reporting import Measured, csv_name

HEADERS = ("precision", "recall", "f1", "threshold", "average_precision")


class ParaphraseMiningEvaluator(EmbeddingEvaluator):
    """Mines pairs of sentences and compares them with those that are known.

    Args:
        sentences_map: id -> sentence.
        duplicates_list: pairs of ids of sentences that mean the same; pairs with an unknown id are left out.
        duplicates_dict: the same as id -> id -> True, in place of the list; one direction is enough.
        add_transitive_closure: if a means b and b means c, so does a c.
        query_chunk_size, corpus_chunk_size, max_pairs, top_k: see ``paraphrase_mining``.
        show_progress_bar: while encoding. batch_size: the most sentences that are encoded together.
        name: of the data, put before every metric.
        write_csv: add a row to ``paraphrase_mining_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions.

    Metrics: ``average_precision``; ``f1``, ``precision`` and ``recall`` at the ``threshold`` with the highest F1. A
    pair that is not mined counts as never found.
    """

    primary_metric = "average_precision"

    def __init__(
        self,
        sentences_map: Mapping[str, str],
        duplicates_list: Sequence[tuple[str, str]] | None = None,
        duplicates_dict: Mapping[str, Mapping[str, bool]] | None = None,
        add_transitive_closure: bool = False,
        query_chunk_size: int = 5000,
        corpus_chunk_size: int = 100000,
        max_pairs: int = 500000,
        top_k: int = 100,
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        file = csv_name("paraphrase_mining_evaluation", name)
        super().__init__(file, name, batch_size, show_progress_bar, write_csv, truncate_dim)
        self.ids, self.sentences = list(sentences_map), list(sentences_map.values())
        self.query_chunk_size, self.corpus_chunk_size = query_chunk_size, corpus_chunk_size
        self.max_pairs, self.top_k = max_pairs, top_k
        self._is_closed = add_transitive_closure
        graph = _both_ways(duplicates_list or [], duplicates_dict or {}, sentences_map)
        self.duplicates = self.add_transitive_closure(graph) if add_transitive_closure else graph
        self.total_num_duplicates = len(self._known_pairs())
        self.csv_headers = ["epoch", "steps", *HEADERS]

    @staticmethod
    def add_transitive_closure(graph: Mapping[str, Mapping[str, bool]]) -> dict[str, dict[str, bool]]:
        """Connect all that are connected by others.

        Args:
            graph: id -> id -> True, in one direction at least.

        Returns: the same in both directions, with every id connected to all others of its component.
        """
        links = _both_ways([], graph, None)
        closed: dict[str, dict[str, bool]] = {}
        for start in links:
            if start in closed:
                continue
            component, waiting = {start: None}, [start]  # a dict keeps the order
            while waiting:
                for near in links[waiting.pop()]:
                    if near not in component:
                        component[near] = None
                        waiting.append(near)
            for one in component:
                closed[one] = {other: True for other in component if other != one}
        return closed

    def measure(self, model: Any) -> Measured:
        rows = self.embed_inputs(model, self.sentences, convert_to_numpy=False, convert_to_tensor=True)
        limits = self.query_chunk_size, self.corpus_chunk_size, self.max_pairs, self.top_k
        scores, first, second = paraphrase_pairs(rows, *limits)
        is_duplicate = np.isin(first * len(self.ids) + second, self._known_pairs())
        metrics = pair_metrics(scores.astype(np.float64), is_duplicate, self.total_num_duplicates)
        return Measured(metrics, {column: metrics[column] for column in HEADERS}, "average_precision")

    def get_config_dict(self) -> dict[str, Any]:
        settings = {"max_pairs": self.max_pairs, "top_k": self.top_k}
        return {"add_transitive_closure": self._is_closed, **settings, **super().get_config_dict()}

    def _known_pairs(self) -> np.ndarray[Any, Any]:
        """(m,) int64, ascending: i * n + j of every pair of sentences i <= j that mean the same."""
        places = {one: place for place, one in enumerate(self.ids)}
        found = [
            min(places[one], places[other]) * len(places) + max(places[one], places[other])
            for one, others in self.duplicates.items()
            for other, is_one in others.items()
            if is_one and one in places and other in places
        ]
        return np.unique(np.array(found, dtype=np.int64))


def pair_metrics(scores: np.ndarray[Any, Any], is_duplicate: np.ndarray[Any, Any], total: int) -> dict[str, float]:
    """How well scores tell duplicates from other pairs, if some of the duplicates have no score.

    Args:
        scores: (p,) numbers, higher is closer. is_duplicate: (p,) bool. total: how many duplicates there are.

    Returns: "average_precision", the sum of the precisions at the duplicates, each taken with all pairs of its score,
        divided by ``total``; "f1", "precision", "recall" and "threshold" of the highest F1. All 0 if none was found.
    """
    names = ("average_precision", "f1", "precision", "recall", "threshold")
    if not is_duplicate.any():
        return dict.fromkeys(names, 0.0)
    cuts = Cuts.of(scores, is_duplicate)
    precision, recall = cuts.hits / cuts.taken, cuts.hits / total
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    at = int(f1.argmax())
    average = (np.diff(cuts.hits, prepend=0) * precision).sum() / total
    values = (average, f1[at], precision[at], recall[at], cuts.threshold(at))
    return dict(zip(names, map(float, values), strict=True))


def _both_ways(
    pairs: Sequence[tuple[str, str]], graph: Mapping[str, Mapping[str, bool]], known: Mapping[str, Any] | None
) -> dict[str, dict[str, bool]]:
    """id -> id -> True in both directions; ``known``: without other ids."""
    found: dict[str, dict[str, bool]] = defaultdict(dict)
    linked = [(one, other) for one, others in graph.items() for other, is_one in others.items() if is_one]
    for one, other in [*pairs, *linked]:
        if known is None or (one in known and other in known):
            found[one][other] = found[other][one] = True
    return dict(found)
