"""How well a model searches: the mean over small versions of the BEIR benchmark's corpora, of 50 queries each.

Source: https://huggingface.co/collections/zeta-alpha-ai/nanobeir; Thakur et al. 2021, https://arxiv.org/abs/2104.08663
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import need
from ..ops.similarity import SimilarityFunction
from .hits import Scores
from .ranking import Cutoffs
from .reporting import Measured, ReportingEvaluator, csv_name
from .retrieval import InformationRetrievalEvaluator, Scoreboard

DATASET_ID = "sentence-transformers/NanoBEIR-en"
SPLITS = {
    name.lower(): f"Nano{name}"
    for name in (
        *("ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval"),
        *("SCIDOCS", "ArguAna", "SciFact", "Touche2020"),
    )
}
"""Name of a data set -> split that has it."""


@dataclass(frozen=True)
class NanoData:
    """One of the data sets.

    Attributes:
        queries: id -> text. corpus: id -> text. relevant: id of a query -> ids of documents.
    """

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, set[str]]

    @classmethod
    def load(cls, dataset_id: str, split: str, *, with_empty: bool = False) -> NanoData:
        """Of a repository, or folder, with the subsets "corpus", "queries" and "qrels".

        Args:
            with_empty: with empty texts, which are left out else.

        Raises: ValueError if it cannot be loaded or has no such columns; ImportError without ``datasets``.
        """
        corpus, queries = (load_subset(dataset_id, subset, split, ["_id", "text"]) for subset in ("corpus", "queries"))
        relevant: dict[str, set[str]] = {}
        for row in load_subset(dataset_id, "qrels", split, ["query-id", "corpus-id"]):
            ids = row["corpus-id"]
            relevant.setdefault(row["query-id"], set()).update(ids if isinstance(ids, list) else [ids])
        return cls(_texts(queries, with_empty), _texts(corpus, with_empty), relevant)


class NanoEvaluator(ReportingEvaluator):
    """Runs an evaluator on each of several data sets, and takes the mean of each metric.

    Args:
        name: of all of them, put before every mean. write_csv: add a row to
            ``NanoBEIR_evaluation_<aggregate_key>_results.csv``, and to the file of each data set.
        dataset_names: of ``SPLITS``, in any case; None: all. dataset_id: the repository, or folder, that has them.
        aggregate_fn: numbers of all data sets -> one number. aggregate_key: what it is called.

    Attributes:
        evaluators: of the data sets, which a subclass fills; metrics of each begin with its name.

    Raises: ValueError for an unknown name, or none.
    """

    evaluators: Sequence[ReportingEvaluator]

    def __init__(
        self,
        name: str,
        write_csv: bool,
        dataset_names: Sequence[str] | None,
        dataset_id: str,
        aggregate_fn: Callable[[list[float]], Any],
        aggregate_key: str,
    ) -> None:
        super().__init__(csv_name("NanoBEIR_evaluation", aggregate_key), name, write_csv)
        self.dataset_names, self.dataset_id = known_names(dataset_names, list(SPLITS)), dataset_id
        self.aggregate_fn, self.aggregate_key = aggregate_fn, aggregate_key

    def total(self, means: dict[str, float]) -> Measured:
        """What is reported of metric -> its aggregate, without names."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it reports.")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure a model; arguments and result are those of ``BaseEvaluator``."""
        return self.measure_all(model, output_path, epoch, steps)

    def measure_all(
        self, model: Any, output_path: str | None, epoch: int, steps: int, **options: Any
    ) -> dict[str, float]:
        """The metrics of all evaluators, which get the options, and the aggregates."""
        self.announce(epoch, steps)
        arguments = (output_path, epoch, steps)
        found = {one.name: one(model, *arguments, **options) for one in self.evaluators}
        total = self.report(model, self.total(aggregated(found, self.aggregate_fn)), *arguments)
        return {metric: value for some in [*found.values(), total] for metric, value in some.items()}

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Tell the model's card the aggregates, unless they are of one data set, which it was told of."""
        if len(self.evaluators) > 1:
            super().store_metrics_in_model_card_data(model, metrics, epoch, step)


class NanoBEIREvaluator(NanoEvaluator):
    """Runs an ``InformationRetrievalEvaluator`` on each of several data sets, and takes the mean of each metric.

    Args:
        dataset_names: of ``SPLITS``, in any case; default: all 13.
        dataset_id: the repository, or folder, that has them.
        mrr_at_k, ndcg_at_k, accuracy_at_k, precision_recall_at_k, map_at_k: numbers of results for each metric.
        show_progress_bar: while loading and encoding. batch_size: the most texts that are encoded together.
        write_csv: add a row to ``NanoBEIR_evaluation_<aggregate_key>_results.csv``, and to the file of each data set.
        truncate_dim: keep only the first so many dimensions.
        score_functions, main_score_function: see ``InformationRetrievalEvaluator``.
        aggregate_fn: numbers of all data sets -> one number. aggregate_key: what it is called.
        query_prompts, corpus_prompts: a prompt, or name of a data set -> prompt, of all of them.
        write_predictions: see ``InformationRetrievalEvaluator``.

    Metrics: those of every data set under ``Nano<name>``, and the aggregates under ``NanoBEIR_<aggregate_key>``; with
    ``truncate_dim`` after both.

    Raises: ValueError for an unknown or missing name or prompt, or data that cannot be loaded; ImportError without
        ``datasets``.
    """

    evaluators: Sequence[InformationRetrievalEvaluator]
    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = InformationRetrievalEvaluator

    def __init__(
        self,
        dataset_names: Sequence[str] | None = None,
        dataset_id: str = DATASET_ID,
        mrr_at_k: Sequence[int] = (10,),
        ndcg_at_k: Sequence[int] = (10,),
        accuracy_at_k: Sequence[int] = (1, 3, 5, 10),
        precision_recall_at_k: Sequence[int] = (1, 3, 5, 10),
        map_at_k: Sequence[int] = (100,),
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        score_functions: Mapping[str, Scores] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        aggregate_fn: Callable[[list[float]], Any] = np.mean,
        aggregate_key: str = "mean",
        query_prompts: str | Mapping[str, str] | None = None,
        corpus_prompts: str | Mapping[str, str] | None = None,
        write_predictions: bool = False,
    ) -> None:
        self.show_progress_bar, self.batch_size, self.truncate_dim = show_progress_bar, batch_size, truncate_dim
        name = self.with_width(f"NanoBEIR_{aggregate_key}")
        super().__init__(name, write_csv, dataset_names, dataset_id, aggregate_fn, aggregate_key)
        names = self.dataset_names
        self.query_prompts = prompts_of("query", query_prompts, names)
        self.corpus_prompts = prompts_of("corpus", corpus_prompts, names)
        self.mrr_at_k, self.ndcg_at_k, self.accuracy_at_k = list(mrr_at_k), list(ndcg_at_k), list(accuracy_at_k)
        self.precision_recall_at_k, self.map_at_k = list(precision_recall_at_k), list(map_at_k)
        self.score_functions = None if score_functions is None else dict(score_functions)
        self.main_score_function = SimilarityFunction(main_score_function) if main_score_function else None
        self.write_predictions = write_predictions
        cutoffs = Cutoffs.of(accuracy_at_k, precision_recall_at_k, mrr_at_k, ndcg_at_k, map_at_k)
        main = self.main_score_function.value if self.main_score_function else None
        self._board = Scoreboard(cutoffs, main, self.score_functions or (), self.csv_file)
        self.csv_headers = ["epoch", "steps", *self._board.columns]
        self.evaluators = [self._evaluator(name) for name in with_progress(names, show_progress_bar)]

    @property
    def score_function_names(self) -> list[str]:
        """Sorted; empty until the first evaluation, where no functions are given."""
        return self._board.names

    # --- what an encoder of another kind changes ---------------------------------------------------------------------

    def width(self) -> dict[str, int | None]:
        """The argument that shortens embeddings; its value becomes part of names."""
        return {"truncate_dim": self.truncate_dim}

    def evaluator_settings(self) -> dict[str, Any]:
        """Arguments for the evaluator of every data set."""
        limits = ("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k")
        others = ("show_progress_bar", "batch_size", "write_csv", "score_functions", "main_score_function")
        names = (*limits, *others, "write_predictions")
        return {**{name: getattr(self, name) for name in names}, **self.width()}

    # --- evaluation --------------------------------------------------------------------------------------------------

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        corpus_model: Any = None,
    ) -> dict[str, float]:
        """Measure a model; arguments and result are those of ``InformationRetrievalEvaluator``."""
        return self.measure_all(model, output_path, epoch, steps, corpus_model=corpus_model)

    def get_config_dict(self) -> dict[str, Any]:
        config = {"dataset_names": self.dataset_names, "dataset_id": self.dataset_id}
        more = {**self.width(), "query_prompts": self.query_prompts, "corpus_prompts": self.corpus_prompts}
        return {**config, **{name: value for name, value in more.items() if value is not None}}

    # --- parts of it -------------------------------------------------------------------------------------------------

    def total(self, means: dict[str, float]) -> Measured:
        self._board.use(self.evaluators[0].score_function_names)
        ranked = {metric: value for metric, value in means.items() if metric in self._board.columns.values()}
        return self._board.measured(ranked, {metric: value for metric, value in means.items() if metric not in ranked})

    def with_width(self, name: str) -> str:
        """The name, and the width of the embeddings where it is given."""
        return "_".join([name, *(str(value) for value in self.width().values() if value is not None)])

    def _evaluator(self, name: str) -> InformationRetrievalEvaluator:
        split = SPLITS[name.lower()]
        data = NanoData.load(self.dataset_id, split)
        return self.information_retrieval_class(
            data.queries,
            data.corpus,
            data.relevant,
            name=self.with_width(split),
            query_prompt=self.query_prompts[name] if self.query_prompts else None,
            corpus_prompt=self.corpus_prompts[name] if self.corpus_prompts else None,
            **self.evaluator_settings(),
        )


def known_names(names: Sequence[str] | None, valid: Sequence[str]) -> list[str]:
    """The names as they are, in any case; None: all that are valid. Raises: ValueError for others, or none."""
    if names is None:
        return list(valid)
    if not len(names):
        raise ValueError("dataset_names cannot be empty. Use None to evaluate on all datasets.")
    unknown = [name for name in names if name.lower() not in valid]
    if unknown:
        raise ValueError(
            f"Dataset(s) {unknown} are not valid NanoBEIR datasets. Valid dataset names are: {list(valid)}"
        )
    return list(names)


def prompts_of(kind: str, prompts: str | Mapping[str, str] | None, names: Sequence[str]) -> dict[str, str] | None:
    """Name of a data set -> prompt. Raises: ValueError if one has none; ``kind`` is for the message."""
    if prompts is None:
        return None
    if isinstance(prompts, str):
        return dict.fromkeys(names, prompts)
    missing = [name for name in names if name not in prompts]
    if missing:
        raise ValueError(f"The following datasets are missing {kind} prompts: {missing}")
    return dict(prompts)


def aggregated(found: Mapping[str, Mapping[str, float]], function: Callable[[list[float]], Any]) -> dict[str, float]:
    """Metric -> its aggregate.

    Args:
        found: name of a data set -> metrics, which begin with it. function: numbers of all data sets -> one number.
    """
    columns = [
        {metric.removeprefix(f"{name}_"): value for metric, value in metrics.items()} for name, metrics in found.items()
    ]
    return {metric: float(function([column[metric] for column in columns])) for metric in columns[0]}


def load_subset(dataset_id: str, subset: str, split: str, columns: Sequence[str]) -> Any:
    """A ``datasets.Dataset`` with these columns.

    Raises: ValueError if it cannot be loaded or lacks a column; ImportError without ``datasets``.
    """
    datasets = need("datasets", extra="train", what="NanoBEIR")
    try:
        found = datasets.load_dataset(dataset_id, subset, split=split)
    # DatasetNotFoundError is an OSError, unknown subsets and splits are a ValueError, files it cannot read neither
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"Could not load subset '{subset}' split '{split}' from dataset '{dataset_id}'.") from error
    missing = [column for column in columns if column not in found.column_names]
    if missing:
        raise ValueError(
            f"Subset '{subset}' split '{split}' from dataset '{dataset_id}' is missing required columns: {missing}."
        )
    return found


def with_progress(names: Sequence[str], show_progress_bar: bool | None) -> Any:
    """The names, with a bar that shows how many are done."""
    if not show_progress_bar:
        return names
    from tqdm.auto import tqdm

    return tqdm(names, desc="Loading NanoBEIR datasets", leave=False)


def _texts(rows: Any, with_empty: bool) -> dict[str, str]:
    return {row["_id"]: row["text"] for row in rows if with_empty or row["text"]}
