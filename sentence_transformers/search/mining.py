"""Hard negatives: texts that a model finds close to a query although they do not answer it.

Queries go through in blocks, of which only the best candidates are kept; no matrix of all scores is ever held. The
search is in ``nearest``, the choice in ``negatives``, the columns of the data set in ``mined`` and ``rows``.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from ..errors import one_of, positive
from .mined import FORMATS, Mined, dropped_text, missing_text, statistics_table
from .negatives import Chosen, Dropped, Limits, Sample, choose, members, ranked, within
from .rows import to_dataset
from .scoring import Encode, pair_scorer, reranker, searcher

if TYPE_CHECKING:
    from .negatives import Array
    from .scoring import Score, Search

logger = logging.getLogger(__name__)

STRATEGIES = ("random", "top")
BLOCK_QUERIES = 4096
BLOCK_CANDIDATES = 2**20
"""So many queries, and candidates of them, are looked at together."""


def mine_hard_negatives(
    dataset: Any,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: Any | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: str = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    seed: int | None = None,
) -> Any:
    """Add hard negatives to a data set of (anchor, positive) pairs.

    For every different anchor the corpus is ranked by similarity. Its positives are left out, then the candidates that
    do not keep to the limits; of the rest, those at the ranks ``range_min`` to ``range_max`` are taken from. Where an
    anchor has several positives, the one with the lowest score counts.

    Args:
        dataset: a ``datasets.Dataset`` with a column of anchors and one of positives; others are ignored.
        model: a ``SentenceTransformer``.
        anchor_column_name, positive_column_name: the first and the second column where absent or unknown.
        corpus: more candidates than the positives of the data set; equal texts count once.
        cross_encoder: scores candidates and positives anew, if there is any limit.
        range_min: so many of the highest candidates are skipped, >= 0.
        range_max: no more than this many are looked at. Default: ``range_min + num_negatives`` and the most positives
            that an anchor has, and 9 more for each negative if a limit can be expected to drop some.
        max_score, min_score: highest and lowest score of a negative; these too are taken.
        absolute_margin: a negative's score is at least so much below that of the positive.
        relative_margin: likewise, as a share of the positive's score: 0.05 is at most 95% of it.
        num_negatives: at most so many for each anchor, >= 1.
        sampling_strategy: "top" takes the highest, "random" any, in order of their scores.
        query_prompt_name, query_prompt, corpus_prompt_name, corpus_prompt: for encoding anchors, and all else.
        include_positives: leave positives in the ranking; the format is then "n-tuple".
        output_format: "triplet" has the columns (anchor, positive, negative); "n-tuple" (anchor, positive, negative_1,
            ...), without the anchors that have too few; "labeled-pair" (anchor, text, label 1 or 0); "labeled-list"
            (anchor, [positive, negatives], labels). The first two columns keep their names.
        output_scores: with a column ``scores``, positive first; ``score`` for "labeled-pair". No labels then.
        batch_size: texts that are encoded at once.
        faiss_batch_size: anchors that FAISS searches for at once.
        use_faiss: search with ``faiss.IndexFlatIP`` where faiss is installed. The results are the same.
        use_multi_process: encode in several processes: True, or their devices.
        verbose: show progress, and print what was found.
        cache_folder: keep the embeddings there, and use those of an earlier call with the same texts and prompts.
        as_triplets, margin: old names of ``output_format`` and ``absolute_margin``.
        seed: of "random"; None draws from Python's ``random``, as it was seeded.

    Returns: a ``datasets.Dataset``, anchors in the order of their first appearance.
    Raises: ValueError for an empty data set, fewer than two columns, a range with too few ranks, an unknown format or
        strategy; ImportError without ``datasets``.
    """
    output_format, output_scores, absolute_margin = _renamed(
        output_format, output_scores, absolute_margin, as_triplets, margin
    )
    limits = Limits(absolute_margin, relative_margin, max_score, min_score)
    sample = _sample(sampling_strategy, seed)
    if include_positives:
        is_narrowed = bool(limits.given() or range_min or range_max is not None or sample)
        output_format = _with_positives(output_format, is_narrowed)
    pairs = Pairs.of(_columns(dataset, anchor_column_name, positive_column_name), corpus)
    is_reranked = cross_encoder is not None and bool(limits.given())
    is_thinned = is_reranked or bool(limits.ceiling_names())
    ranks = _ranks((range_min, range_max, num_negatives), pairs.most_positives, is_thinned)
    _say(pairs.report(ranks.stop if range_max is None else None) if verbose else [])
    encode = Encode(model, batch_size, use_multi_process, verbose, cache_folder)
    with encode.processes():
        corpus_rows = encode("corpus", pairs.corpus, corpus_prompt_name, corpus_prompt)
        query_rows = encode("query", pairs.queries, query_prompt_name, query_prompt)
    search = searcher(model, corpus_rows, faiss_batch_size if use_faiss else None)
    miner = _Miner(pairs, search, query_rows, limits, ranks, num_negatives, include_positives, sample, verbose)
    if is_reranked:
        with reranker(cross_encoder, pairs.queries, pairs.corpus, batch_size, use_multi_process) as rescore:
            mined = miner.run(rescore, is_reranked)
    else:
        mined = miner.run(pair_scorer(model, query_rows, corpus_rows), is_reranked)
    _say(miner.report(mined, output_format) if verbose else [])
    return to_dataset(mined.columns(output_format, output_scores))


@dataclass(frozen=True)
class Pairs:
    """The data set, with every text once.

    Attributes:
        names: of the columns of anchors and positives.
        queries: the different anchors. corpus: the different candidates, positives last.
        query_ids, positive_ids: (P,) int64, one for each different pair, in order of the queries.
        rows: of the data set. most_positives: rows of one query.
    """

    names: tuple[str, str]
    queries: list[Any]
    corpus: list[Any]
    query_ids: Array
    positive_ids: Array
    rows: int
    most_positives: int

    @classmethod
    def of(cls, columns: dict[str, list[Any]], corpus: Sequence[Any] | None) -> Pairs:
        """From the two columns, anchors first, and more candidates."""
        anchors, positives = columns.values()
        anchor, positive = columns
        queries, documents = list(dict.fromkeys(anchors)), list(dict.fromkeys([*(corpus or ()), *positives]))
        place_of_query, place_of_document = (
            {text: place for place, text in enumerate(one)} for one in (queries, documents)
        )
        query_ids = np.array([place_of_query[text] for text in anchors], dtype=np.int64)
        positive_ids = np.array([place_of_document[text] for text in positives], dtype=np.int64)
        most = int(np.bincount(query_ids).max())
        first = np.sort(np.unique(query_ids * len(documents) + positive_ids, return_index=True)[1])
        order = first[np.argsort(query_ids[first], kind="stable")]
        return cls((anchor, positive), queries, documents, query_ids[order], positive_ids[order], len(anchors), most)

    def report(self, range_max: int | None) -> list[str]:
        """What there is to say before it starts; with a ``range_max`` that was not given."""
        lines = [] if range_max is None else [f"Setting range_max to {range_max} based on the provided parameters."]
        if self.rows > len(self.queries):
            lines.append(f"Found {len(self.queries):,} unique queries out of {self.rows:,} total queries.")
            lines.append(f"Found an average of {self.rows / len(self.queries):.3f} positives per query.")
        return lines


@dataclass
class _Miner:
    """Goes through the queries in blocks."""

    pairs: Pairs
    search: Search
    query_rows: Tensor
    limits: Limits
    ranks: range
    wanted: int
    include_positives: bool
    sample: Sample | None
    is_verbose: bool
    dropped: Dropped = field(default_factory=lambda: Dropped({}))

    def run(self, score: Score, is_reranked: bool) -> Mined:
        """Mine with ``score`` for positives, and for candidates too if these are reranked."""
        from tqdm.auto import tqdm

        pairs = self.pairs
        positive_scores = score(pairs.query_ids, pairs.positive_ids)
        limit = min(self.ranks.stop + pairs.most_positives, len(pairs.corpus))
        rows = max(1, min(BLOCK_QUERIES, BLOCK_CANDIDATES // limit))
        found = []
        with tqdm(total=len(pairs.queries), desc="Mining", unit="query", disable=not self.is_verbose) as bar:
            for first in range(0, len(pairs.queries), rows):
                candidates = self.search(self.query_rows[first : first + rows], limit)
                scores, ids = (part.cpu().numpy() for part in candidates)
                found.append(self._mine(first, (scores, ids), positive_scores, score if is_reranked else None))
                bar.update(len(ids))
        chosen = Chosen.join(found)
        return Mined(
            pairs.queries, pairs.corpus, pairs.names, pairs.query_ids, pairs.positive_ids, positive_scores, chosen
        )

    def _mine(
        self, first: int, candidates: tuple[Array, Array], positive_scores: Array, rescore: Score | None
    ) -> Chosen:
        """The negatives of the queries from ``first`` on."""
        scores, ids = candidates
        pairs = slice(*np.searchsorted(self.pairs.query_ids, [first, first + len(ids)]))
        query_rows, positive_scores = self.pairs.query_ids[pairs] - first, positive_scores[pairs]
        there, columns = members(ids, query_rows, self.pairs.positive_ids[pairs])
        kept = np.ones(ids.shape, dtype=bool)
        kept[query_rows[there], columns] = False
        if rescore is not None:
            rows, _ = kept.nonzero()
            scores = np.full_like(scores, -np.inf)
            scores[kept] = rescore(rows + first, ids[kept])
        if self.include_positives:
            kept[query_rows[there], columns] = True
            scores[query_rows[there], columns] = positive_scores[there]  # to the last bit what limits are made of
        if rescore is not None:
            scores, ids, kept = ranked(scores, ids, kept)
        lowest = np.minimum.reduceat(positive_scores, np.searchsorted(query_rows, np.arange(len(ids))))
        kept = within(scores, kept, lowest, self.limits, self.dropped)
        return choose((scores, ids), kept, self.ranks, self.wanted, self.sample)

    def report(self, mined: Mined, output_format: str) -> list[str]:
        """What there is to say afterwards."""
        lines = ["Negative candidates mined, preparing dataset..."]
        lines.append(statistics_table(*mined.scores(only_full=output_format == "n-tuple")))
        lines += dropped_text(self.dropped, asdict(self.limits))
        missing, possible = mined.missing(output_format)
        if missing:
            names = ["range_min"] if self.ranks.start else []
            lines.append(missing_text(missing, possible, [*names, *self.limits.given()]))
        return lines


def _renamed(
    output_format: str,
    output_scores: bool,
    absolute_margin: float | None,
    as_triplets: bool | None,
    margin: float | None,
) -> tuple[str, bool, float | None]:
    """Format, whether with scores, and absolute margin, where the old names were used too."""
    caller = 3  # of mine_hard_negatives
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
        text = f"mine_hard_negatives(as_triplets={as_triplets}) is now output_format={output_format!r}."
        warnings.warn(text, FutureWarning, stacklevel=caller)
    if margin is not None:
        text = "mine_hard_negatives(margin=...) is now absolute_margin=... (or relative_margin=...)."
        warnings.warn(text, FutureWarning, stacklevel=caller)
        absolute_margin = margin
    if output_format == "n-tuple-scores":
        text = 'output_format="n-tuple-scores" is now output_format="n-tuple" with output_scores=True.'
        warnings.warn(text, FutureWarning, stacklevel=caller)
        output_format, output_scores = "n-tuple", True
    one_of("output_format", output_format, FORMATS)
    return output_format, output_scores, absolute_margin


def _with_positives(output_format: str, is_narrowed: bool) -> str:
    """The format where positives are ranked too; warns of what the caller may not expect."""
    if is_narrowed:
        logger.warning(
            "With include_positives=True, limits on scores, a range or random sampling may still leave positives out."
        )
    if output_format != "n-tuple":
        logger.warning(
            'With include_positives=True, output_format is "n-tuple": only that keeps the order of the ranking.'
        )
    return "n-tuple"


def _columns(dataset: Any, anchor_name: str | None, positive_name: str | None) -> dict[str, list[Any]]:
    """The columns of anchors and of positives, by name."""
    names = list(dataset.column_names)
    if len(dataset) == 0:
        raise ValueError("The dataset is empty. Please provide a non-empty dataset.")
    if len(names) < 2:
        raise ValueError(f"Dataset must contain at least two columns, of anchors and of positives; got {names}.")
    anchors, positives = (
        name if name is not None and name in names else names[place]
        for place, name in enumerate((anchor_name, positive_name))
    )
    if anchors == positives:
        raise ValueError(
            f"Anchors and positives must be in different columns, got {anchors!r} for both. Give anchor_column_name "
            f"and positive_column_name, each one of {names}."
        )
    return {anchors: dataset[anchors][:], positives: dataset[positives][:]}


def _ranks(asked: tuple[int, int | None, int], most_positives: int, is_thinned: bool) -> range:
    """The ranks that negatives may have, from ``range_min``, ``range_max`` and ``num_negatives``."""
    start, stop, wanted = asked
    positive("num_negatives", wanted)
    if stop is None:
        stop = start + wanted * (10 if is_thinned else 1) + most_positives
    if start < 0:
        raise ValueError(f"range_min must be non-negative, got range_min={start}.")
    if start >= stop:
        raise ValueError(f"range_min must be smaller than range_max, got range_min={start} and range_max={stop}.")
    if wanted > stop - start:
        raise ValueError(
            f"Cannot mine {wanted} negatives per query: only {stop - start} candidates remain after skipping the first "
            f"range_min={start} of range_max={stop}. Consider decreasing num_negatives or range_min, or increasing "
            "range_max."
        )
    return range(start, stop)


def _sample(strategy: str, seed: int | None) -> Sample | None:
    one_of("sampling_strategy", strategy, STRATEGIES)
    if strategy == "top":
        return None
    return random.sample if seed is None else random.Random(seed).sample


def _say(lines: Sequence[str]) -> None:
    """What ``verbose`` asks for."""
    for line in lines:
        print(line)  # noqa: T201
