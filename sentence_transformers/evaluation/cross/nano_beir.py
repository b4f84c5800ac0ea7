"""How well a reranker improves a search: the mean over small versions of the BEIR benchmark's corpora.

Source: https://huggingface.co/collections/zeta-alpha-ai/nanobeir; Thakur et al. 2021, https://arxiv.org/abs/2104.08663
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...errors import positive
from ..nano_beir import DATASET_ID, SPLITS, NanoData, NanoEvaluator, load_subset, with_progress
from ..reporting import Measured
from .reranking import BASE, CrossEncoderRerankingEvaluator

DEFAULT = [name for name in SPLITS if name not in ("arguana", "touche2020")]
"""Not the two of arguments: what speaks for or against the query is not what rerankers are trained to find."""


class CrossEncoderNanoBEIREvaluator(NanoEvaluator):
    """Reranks the BM25 results of several data sets, and takes the mean of each metric.

    Args:
        dataset_names: of the 13 of NanoBEIR, in any case; default: all but "arguana" and "touche2020".
        dataset_id: the repository, or folder, that has them, with the subset "bm25": the best results of each query.
        rerank_k: so many of these are reranked.
        at_k, always_rerank_positives, prompt_name, batch_size: see ``CrossEncoderRerankingEvaluator``.
        show_progress_bar: while loading and scoring.
        write_csv: add a row to ``NanoBEIR_evaluation_<aggregate_key>_results.csv``, and to the file of each data set.
        aggregate_fn: numbers of all data sets -> one number. aggregate_key: what it is called.

    Metrics: those of ``CrossEncoderRerankingEvaluator`` for every data set, under ``Nano<name>_R<rerank_k>``, and the
    aggregates, under ``NanoBEIR_R<rerank_k>_<aggregate_key>``.

    Raises: ValueError for an unknown name, or data that cannot be loaded; ImportError without ``datasets``.
    """

    baseline: ClassVar[str] = BASE
    evaluators: list[CrossEncoderRerankingEvaluator]

    def __init__(
        self,
        dataset_names: Sequence[str] | None = None,
        dataset_id: str = DATASET_ID,
        rerank_k: int = 100,
        at_k: int = 10,
        always_rerank_positives: bool = True,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        aggregate_fn: Callable[[list[float]], Any] = np.mean,
        aggregate_key: str = "mean",
    ) -> None:
        names = DEFAULT if dataset_names is None else dataset_names
        name = f"NanoBEIR_R{rerank_k}_{aggregate_key}"
        super().__init__(name, write_csv, names, dataset_id, aggregate_fn, aggregate_key)
        self.rerank_k, self.at_k = positive("rerank_k", rerank_k), positive("at_k", at_k)
        self.always_rerank_positives, self.prompt_name = always_rerank_positives, prompt_name
        self.batch_size, self.show_progress_bar = batch_size, show_progress_bar
        self.primary_metric = f"ndcg@{at_k}"
        self.evaluators = [self._evaluator(one) for one in with_progress(self.dataset_names, show_progress_bar)]
        self.csv_headers = self.evaluators[0].csv_headers

    def total(self, means: dict[str, float]) -> Measured:
        row = {metric.upper(): value for metric, value in means.items() if not metric.startswith(BASE)}
        return Measured(means, row, f"ndcg@{self.at_k}")

    def get_config_dict(self) -> dict[str, Any]:
        names = ("dataset_names", "dataset_id", "rerank_k", "at_k", "always_rerank_positives")
        return {name: getattr(self, name) for name in names}

    def _evaluator(self, name: str) -> CrossEncoderRerankingEvaluator:
        split = SPLITS[name.lower()]
        return CrossEncoderRerankingEvaluator(
            load_samples(self.dataset_id, split, self.rerank_k),
            name=f"{split}_R{self.rerank_k}",
            at_k=self.at_k,
            always_rerank_positives=self.always_rerank_positives,
            prompt_name=self.prompt_name,
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
            write_csv=self.write_csv,
        )


def load_samples(dataset_id: str, split: str, count: int) -> list[dict[str, Any]]:
    """Samples for a ``CrossEncoderRerankingEvaluator``: queries with the texts that are relevant, and of BM25 results.

    Args:
        dataset_id, split: see ``NanoData.load``. count: so many results of each query.

    Returns: of all queries of which something is relevant; with texts that are empty, too.
    Raises: ValueError if something cannot be loaded, has no such columns, or lacks a text.
    """
    data = NanoData.load(dataset_id, split, with_empty=True)
    rows = load_subset(dataset_id, "bm25", split, ["query-id", "corpus-ids"])
    where = f"dataset '{dataset_id}', split '{split}'"
    return [
        {
            **row,
            "query": _texts("queries", data.queries, [row["query-id"]], where)[0],
            "positive": _texts("corpus", data.corpus, sorted(data.relevant[row["query-id"]]), where),
            "documents": _texts("corpus", data.corpus, row["corpus-ids"][:count], where),
        }
        for row in rows
        if row["query-id"] in data.relevant
    ]


def _texts(subset: str, texts: Mapping[str, str], ids: Iterable[str], where: str) -> list[str]:
    """Texts of ids. Raises: ValueError if one has none."""
    wanted = list(ids)
    missing = [one for one in wanted if one not in texts]
    if missing:
        raise ValueError(f"Subset '{subset}' of {where} lacks texts that other subsets name: {missing[:5]}.")
    return [texts[one] for one in wanted]
