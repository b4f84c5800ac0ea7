"""How well a model finds the documents that answer a query, in a corpus.

An encoder of another kind changes how inputs are embedded (``encode_settings``), how embeddings are compared
(``default_score_functions``), and what else is told of them (``observer``). The search is in ``hits``, the metrics are
in ``ranking``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..encoders.embedding import EmbeddingEncoder
from ..errors import positive
from ..ops.similarity import SimilarityFunction
from .base import arguments_of
from .embedding import EmbeddingEvaluator
from .hits import Array, BestHits, Rows, Scores, as_rows, rows_between
from .ranking import Cutoffs, discounts
from .reporting import Measured, csv_name

logger = logging.getLogger(__name__)

STEM = "Information-Retrieval_evaluation"


class Observer:
    """Looks at all embeddings of one evaluation, a chunk at a time. This one does not."""

    def see(self, role: str, embeddings: Any) -> None:
        """Take in embeddings; ``role``: "query" or "corpus"."""

    def statistics(self) -> dict[str, float]:
        """Further metrics, which are columns of the CSV file, too."""
        return {}


class Scoreboard:
    """Which score functions are compared, and by which of them a model is judged.

    Args:
        cutoffs: at how many results each metric is taken.
        main: the function that counts; None: the one with the highest nDCG in the first evaluation, and then always.
        functions: names of functions, where they are known.
        csv_file: for messages.
    """

    def __init__(self, cutoffs: Cutoffs, main: str | None, functions: Iterable[str], csv_file: str) -> None:
        self.cutoffs = cutoffs
        self.main = main
        self.csv_file = csv_file
        self.names = sorted(functions)
        self._best: str | None = None

    def use(self, functions: Iterable[str]) -> None:
        """Compare these functions from now on."""
        names = sorted(functions)
        if self.names not in ([], names):
            logger.warning("%s gets rows of the score functions %s; rows before are of others.", self.csv_file, names)
            self._best = None
        self.names = names

    @property
    def columns(self) -> dict[str, str]:
        """Column of the CSV file -> metric."""
        return {column: metric for name in self.names for column, metric in self.cutoffs.columns(name).items()}

    def measured(self, metrics: dict[str, float], statistics: Mapping[str, float]) -> Measured:
        """The metrics, such as "cosine_ndcg@10", with their row in the CSV file and the one that counts."""
        limit = max(self.cutoffs.ndcg)
        if self._best is None:
            self._best = self.main or max(self.names, key=lambda name: metrics[f"{name}_ndcg@{limit}"])
        row = {column: metrics[metric] for column, metric in self.columns.items()}
        return Measured({**metrics, **statistics}, {**row, **statistics}, f"{self._best}_ndcg@{limit}")


class InformationRetrievalEvaluator(EmbeddingEvaluator):
    """Searches a corpus for every query, and compares what is found with what is relevant.

    Documents with equal scores are ranked by their ids, ascending. Queries without relevant documents are left out.

    Args:
        queries: id -> text. corpus: id -> text, in any order.
        relevant_docs: id of a query -> ids of the documents that answer it; some may be missing in the corpus.
        corpus_chunk_size: so many documents are embedded and compared at once.
        mrr_at_k, ndcg_at_k, accuracy_at_k, precision_recall_at_k, map_at_k: numbers of results for each metric.
        show_progress_bar: while encoding. batch_size: the most texts that are encoded together.
        name: of the data, put before every metric.
        write_csv: add a row to ``Information-Retrieval_evaluation_<name>_results.csv``.
        truncate_dim: keep only the first so many dimensions.
        score_functions: name -> function, (q, D), (n, D) -> (q, n), higher is closer; default: the similarity of the
            model.
        main_score_function: the function whose nDCG is the primary metric; default: the one with the highest, in the
            first evaluation.
        query_prompt, query_prompt_name, corpus_prompt, corpus_prompt_name: see ``encode``.
        write_predictions: write the results, one line a query, to a JSON lines file for each score function.

    Metrics: for every function ``<function>_accuracy@k``, ``_precision@k``, ``_recall@k``, ``_ndcg@k``, ``_mrr@k`` and
    ``_map@k``.

    Raises: ValueError for a number below 1, without ``ndcg_at_k``, and for an unknown main function.
    """

    def __init__(
        self,
        queries: Mapping[str, Any],
        corpus: Mapping[str, Any],
        relevant_docs: Mapping[str, set[str]],
        corpus_chunk_size: int = 50000,
        mrr_at_k: Sequence[int] = (10,),
        ndcg_at_k: Sequence[int] = (10,),
        accuracy_at_k: Sequence[int] = (1, 3, 5, 10),
        precision_recall_at_k: Sequence[int] = (1, 3, 5, 10),
        map_at_k: Sequence[int] = (100,),
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
        score_functions: Mapping[str, Scores] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
    ) -> None:
        super().__init__(csv_name(STEM, name), name, batch_size, show_progress_bar, write_csv, truncate_dim)
        self.queries_ids = [one for one in queries if len(relevant_docs.get(one, ()))]
        self.queries = [queries[one] for one in self.queries_ids]
        self.corpus_ids, self.corpus = list(corpus), list(corpus.values())
        self.relevant_docs = relevant_docs
        self.corpus_chunk_size = positive("corpus_chunk_size", corpus_chunk_size)
        self.mrr_at_k, self.ndcg_at_k, self.accuracy_at_k = list(mrr_at_k), list(ndcg_at_k), list(accuracy_at_k)
        self.precision_recall_at_k, self.map_at_k = list(precision_recall_at_k), list(map_at_k)
        self.score_functions = None if score_functions is None else dict(score_functions)
        self.main_score_function = SimilarityFunction(main_score_function) if main_score_function else None
        self.query_prompt, self.query_prompt_name = query_prompt, query_prompt_name
        self.corpus_prompt, self.corpus_prompt_name = corpus_prompt, corpus_prompt_name
        self.write_predictions = write_predictions
        self.predictions_file = csv_name(STEM, name, end="_predictions.jsonl")
        cutoffs = Cutoffs.of(accuracy_at_k, precision_recall_at_k, mrr_at_k, ndcg_at_k, map_at_k)
        main = self.main_score_function.value if self.main_score_function else None
        self._board = Scoreboard(cutoffs, main, self.score_functions or (), self.csv_file)
        self.csv_headers = ["epoch", "steps", *self._board.columns]

    @property
    def score_function_names(self) -> list[str]:
        """Sorted; empty until the first evaluation, where no functions are given."""
        return self._board.names

    # --- what an encoder of another kind changes ---------------------------------------------------------------------

    def encode_settings(self) -> dict[str, Any]:
        return {"convert_to_tensor": True, **self.width()}

    def default_score_functions(self, model: Any) -> dict[str, Scores]:
        """Name -> function, where none are given: how the model compares its embeddings."""
        return {model.similarity_fn_name: model.similarity}

    def observer(self) -> Observer:
        """A new one, which sees all embeddings of an evaluation."""
        return Observer()

    # --- evaluation --------------------------------------------------------------------------------------------------

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
    ) -> dict[str, float]:
        """Measure a model.

        Args:
            model, output_path, epoch, steps: see ``BaseEvaluator``.
            corpus_model: embeds the corpus in place of ``model``.
            corpus_embeddings: (n, D) of the corpus, in its order, which is then not embedded.

        Returns: metric -> value. Raises: ValueError if no query has relevant documents, or for NaN scores.
        """
        self.announce(epoch, steps)
        measured = self.measure(model, corpus_model, corpus_embeddings, output_path)
        return self.report(model, measured, output_path, epoch, steps)

    def measure(
        self, model: Any, corpus_model: Any = None, corpus_embeddings: Any = None, output_path: str | None = None
    ) -> Measured:
        """Measure a model; only predictions are written. Arguments and errors are those of a call."""
        observer = self.observer()
        found = self.compute_all_metrics(model, corpus_model, corpus_embeddings, output_path, observer)
        return self._board.measured(flat(found), observer.statistics())

    def compute_all_metrics(
        self,
        model: Any,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
        output_path: str | None = None,
        observer: Observer | None = None,
    ) -> dict[str, dict[str, dict[int, float]]]:
        """Measure a model; only predictions are written.

        Returns: name of a score function -> metric, such as "ndcg@k" -> number of results -> value.
        """
        if not self.queries:
            raise ValueError("No query has relevant documents: are the keys of relevant_docs those of queries?")
        functions = self.score_functions or self.default_score_functions(model)
        self._board.use(functions)
        cutoffs = self._board.cutoffs
        observer = observer or Observer()
        queries = as_rows(self._embed(model, "query", self.queries))
        observer.see("query", queries)
        best = {
            name: BestHits(queries, known_function(function), cutoffs.largest, lambda: self.corpus_id_ranks)
            for name, function in functions.items()
        }
        for first, chunk in self._chunks(corpus_model or model, corpus_embeddings):
            observer.see("corpus", chunk)
            for hits in best.values():
                hits.add(chunk, first)
            del chunk  # before the next one is made
        if output_path is not None and self.write_predictions:
            for name, hits in best.items():
                self._write(Path(output_path), name, hits)
        counts = self._relevant_counts
        return {
            name: cutoffs.metrics(are_among(self._relevant_places, hits.places, len(self.corpus)), counts)
            for name, hits in best.items()
        }

    compute_metrices = compute_all_metrics

    def compute_metrics(
        self, queries_result_list: Sequence[Sequence[Mapping[str, Any]]]
    ) -> dict[str, dict[int, float]]:
        """The metrics of given results.

        Args:
            queries_result_list: for every one of ``queries``, in order, ``{"corpus_id": id, "score": number}`` of the
                documents found, in any order; equal scores stay in theirs.

        Returns: metric, such as "ndcg@k" -> number of results -> value.
        """
        cutoffs = self._board.cutoffs
        relevance = np.zeros((len(self.queries), cutoffs.largest), dtype=bool)
        for row, query, results in zip(relevance, self.queries_ids, queries_result_list, strict=True):
            ranked = sorted(results, key=lambda hit: -hit["score"])[: len(row)]
            row[: len(ranked)] = [hit["corpus_id"] in self.relevant_docs[query] for hit in ranked]
        return cutoffs.metrics(relevance, self._relevant_counts)

    @staticmethod
    def compute_dcg_at_k(relevances: Sequence[float], k: int) -> float:
        """Discounted cumulative gain of the first ``k`` results, which gain ``relevances``."""
        gains = np.asarray(relevances[:k], dtype=np.float64)
        return float(gains @ discounts(len(gains)))

    def output_scores(self, scores: Mapping[str, Mapping[str, Mapping[int, float]]]) -> None:
        """Tell the log; ``scores`` as from ``compute_all_metrics``."""
        logger.info("Queries: %d, documents: %d", len(self.queries), len(self.corpus))
        for metric, value in flat(scores).items():
            logger.info("%s: %.4f", metric, value)

    def get_config_dict(self) -> dict[str, Any]:
        prompts = ("query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        return arguments_of(self, [*self.width(), *prompts])

    # --- parts of it -------------------------------------------------------------------------------------------------

    @cached_property
    def corpus_id_ranks(self) -> Array:
        """(n,) int64: for each document the place of its id among all ids, sorted."""
        ranks = np.empty(len(self.corpus_ids), dtype=np.int64)
        ranks[sorted(range(len(ranks)), key=self.corpus_ids.__getitem__)] = np.arange(len(ranks))
        return ranks

    def get_corpus_id_ranks(self) -> Tensor:
        """``corpus_id_ranks`` as a tensor."""
        return torch.from_numpy(self.corpus_id_ranks)

    def _embed(self, model: Any, role: str, inputs: list[Any]) -> Any:
        is_query = role == "query"
        return self.embed_inputs(
            model,
            inputs,
            encode_fn_name="encode_query" if is_query else "encode_document",
            prompt_name=self.query_prompt_name if is_query else self.corpus_prompt_name,
            prompt=self.query_prompt if is_query else self.corpus_prompt,
        )

    def _chunks(self, model: Any, embeddings: Any) -> Iterator[tuple[int, Rows]]:
        """The embeddings of the corpus in pieces, each after where it starts."""
        given = None if embeddings is None else as_rows(embeddings)
        if given is not None and len(given) != len(self.corpus):
            raise ValueError(
                f"corpus_embeddings must be one for each of {len(self.corpus)} documents, got {len(given)}."
            )
        starts = range(0, len(self.corpus), self.corpus_chunk_size)
        for start in _with_progress(starts, self.show_progress_bar):
            stop = min(start + self.corpus_chunk_size, len(self.corpus))
            if given is not None:
                yield start, rows_between(given, start, stop)
            else:
                yield start, as_rows(self._embed(model, "document", self.corpus[start:stop]))

    @cached_property
    def _relevant_counts(self) -> Array:
        return np.array([len(self.relevant_docs[query]) for query in self.queries_ids])

    @cached_property
    def _relevant_places(self) -> Array:
        """(m,) int64, ascending: q * n + place of every relevant document in the corpus of n, of query q."""
        places = {one: place for place, one in enumerate(self.corpus_ids)}
        found = [
            row * len(places) + places[one]
            for row, query in enumerate(self.queries_ids)
            for one in self.relevant_docs[query]
            if one in places
        ]
        return np.unique(np.array(found, dtype=np.int64))

    def _write(self, folder: Path, function: str, hits: BestHits) -> None:
        """The results of every query, as JSON lines."""
        path = folder / self.predictions_file.replace(".jsonl", f"_{function}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(self.queries_ids, self.queries, hits.places.tolist(), hits.scores.tolist(), strict=True)
        with path.open("w", encoding="utf-8") as file:
            for query_id, query, places, scores in rows:
                results = [
                    {"corpus_id": self.corpus_ids[place], "score": score}
                    for place, score in zip(places, scores, strict=True)
                ]
                line = {"query_id": query_id, "query": query, "results": results}
                file.write(json.dumps(line, default=str) + "\n")


def flat(found: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, float]:
    """Function -> metric -> number of results -> value, as "cosine_ndcg@10" -> value."""
    return {
        f"{function}_{metric.removesuffix('k')}{limit}": value
        for function, metrics in found.items()
        for metric, values in metrics.items()
        for limit, value in values.items()
    }


def known_function(function: Scores) -> Scores:
    """The function itself, for the ``similarity`` of an encoder: those of ``ops`` are searched with much faster."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, EmbeddingEncoder) and getattr(function, "__func__", None) is EmbeddingEncoder.similarity:
        return SimilarityFunction.to_similarity_fn(owner.similarity_fn_name)
    return function


def are_among(relevant: Array, places: Array, count: int) -> Array:
    """Which results are relevant.

    Args:
        relevant: (m,) int64, ascending: query * count + place of every relevant document.
        places: (q, k) of the results of each query, in a corpus of ``count``.

    Returns: (q, k) bool.
    """
    if not len(relevant) or not places.size:
        return np.zeros(places.shape, dtype=bool)
    keys = places + np.arange(len(places))[:, None] * count
    near = np.minimum(np.searchsorted(relevant, keys), len(relevant) - 1)
    found: Array = relevant[near] == keys
    return found


def _with_progress(starts: range, show_progress_bar: bool) -> Any:
    if not show_progress_bar:
        return starts
    from tqdm.auto import tqdm

    return tqdm(starts, desc="Corpus Chunks")
