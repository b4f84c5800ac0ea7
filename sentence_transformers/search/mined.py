"""What mining hands back: the columns of the data set, and what it says about them. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .negatives import Chosen, Dropped
from .rows import Column

if TYPE_CHECKING:
    from .negatives import Array

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
PERCENTILES = (("25%", 25), ("50%", 50), ("75%", 75))


@dataclass(frozen=True)
class Mined:
    """Queries with their positives and negatives.

    Attributes:
        queries, corpus: the texts, each once.
        names: of the column of the queries and of that of the positives.
        query_ids, positive_ids, positive_scores: (P,), one for each different pair, in order of the queries.
        chosen: the negatives of every query.
    """

    queries: Sequence[Any]
    corpus: Sequence[Any]
    names: tuple[str, str]
    query_ids: Array
    positive_ids: Array
    positive_scores: Array
    chosen: Chosen

    def columns(self, output_format: str, with_scores: bool) -> dict[str, Column]:
        """Name of a column -> its values, in one of ``FORMATS``."""
        if output_format == "triplet":
            return self._triplets(with_scores)
        if output_format == "n-tuple":
            return self._tuples(with_scores)
        return self._labeled_pairs(with_scores) if output_format == "labeled-pair" else self._labeled_lists(with_scores)

    def scores(self, only_full: bool) -> tuple[Array, Array, Array]:
        """Scores of the positives; of the negatives of every pair; and how far these are below the positive.

        Args:
            only_full: leave out the negatives of queries that have fewer than wanted.
        """
        kept = self.chosen.is_there()[self.query_ids]  # (P, n)
        if only_full:
            kept &= kept.all(axis=1, keepdims=True)
        pairs, places = kept.nonzero()
        negatives = self.chosen.scores[self.query_ids[pairs], places]
        return self.positive_scores, negatives, self.positive_scores[pairs] - negatives

    def missing(self, output_format: str) -> tuple[int, int]:
        """How many rows there are too few, and how many there would be if every query had all its negatives."""
        counts, wanted = self.chosen.counts, self.chosen.ids.shape[1]
        pairs = len(self.query_ids)
        if output_format == "triplet":
            return int((wanted - counts)[self.query_ids].sum()), pairs * wanted
        if output_format == "n-tuple":
            return int((counts < wanted)[self.query_ids].sum()), pairs
        if output_format == "labeled-pair":
            return int((wanted - counts).sum()), pairs + len(counts) * wanted
        return int((counts == 0)[self.query_ids].sum()), pairs

    def _triplets(self, with_scores: bool) -> dict[str, Column]:
        pairs, places = self.chosen.is_there()[self.query_ids].nonzero()
        queries = self.query_ids[pairs]
        found = self._of_pairs(pairs)
        found["negative"] = Column(self.chosen.ids[queries, places], self.corpus)
        if with_scores:
            both = [self.positive_scores[pairs], self.chosen.scores[queries, places]]
            found["scores"] = Column.of_matrix(np.stack(both, axis=1).astype(np.float64))
        return found

    def _tuples(self, with_scores: bool) -> dict[str, Column]:
        wanted = self.chosen.ids.shape[1]
        pairs = (self.chosen.counts == wanted)[self.query_ids].nonzero()[0]
        queries = self.query_ids[pairs]
        found = self._of_pairs(pairs)
        for place in range(wanted):
            found[f"negative_{place + 1}"] = Column(self.chosen.ids[queries, place], self.corpus)
        if with_scores:
            both = [self.positive_scores[pairs, None], self.chosen.scores[queries]]
            found["scores"] = Column.of_matrix(np.concatenate(both, axis=1).astype(np.float64))
        return found

    def _labeled_pairs(self, with_scores: bool) -> dict[str, Column]:
        negative_queries, places = self.chosen.is_there().nonzero()
        queries = np.concatenate([self.query_ids, negative_queries])
        order = np.argsort(queries, kind="stable")  # the positives of a query, then its negatives
        documents = np.concatenate([self.positive_ids, self.chosen.ids[negative_queries, places]])[order]
        found = {self.names[0]: Column(queries[order], self.queries), self.names[1]: Column(documents, self.corpus)}
        if with_scores:
            scores = np.concatenate([self.positive_scores, self.chosen.scores[negative_queries, places]])
            found["score"] = Column(scores[order].astype(np.float64))
        else:
            found["label"] = Column((order < len(self.query_ids)).astype(np.int64))
        return found

    def _labeled_lists(self, with_scores: bool) -> dict[str, Column]:
        pairs = (self.chosen.counts > 0)[self.query_ids].nonzero()[0]
        queries = self.query_ids[pairs]
        lengths = self.chosen.counts[queries] + 1
        documents = np.concatenate([self.positive_ids[pairs, None], self.chosen.ids[queries]], axis=1)
        is_there = np.arange(documents.shape[1]) < lengths[:, None]
        found = {
            self.names[0]: Column(queries, self.queries),
            self.names[1]: Column(documents[is_there], self.corpus, lengths),
        }
        if with_scores:
            both = [self.positive_scores[pairs, None], self.chosen.scores[queries]]
            scores = np.concatenate(both, axis=1).astype(np.float64)
            found["scores"] = Column(scores[is_there], lengths=lengths)
        else:
            labels = np.zeros(documents.shape, dtype=np.int64)
            labels[:, 0] = 1
            found["labels"] = Column(labels[is_there], lengths=lengths)
        return found

    def _of_pairs(self, pairs: Array) -> dict[str, Column]:
        """The first two columns of the given pairs."""
        return {
            self.names[0]: Column(self.query_ids[pairs], self.queries),
            self.names[1]: Column(self.positive_ids[pairs], self.corpus),
        }


def statistics_table(positives: Array, negatives: Array, differences: Array) -> str:
    """Three sets of scores, each (any number,), described in ten lines; of no scores there is only the count.

    "Std" divides by n - 1; "Median" is the lower of two middle values, "50%" lies between them.
    """
    lines = [f"{'Metric':6}{'Positive':>15}{'Negative':>15}{'Difference':>15}"]
    lines.append(f"{'Count':6}{len(positives):15,}{len(negatives):15,}{'':15}")
    described = [_described(scores) for scores in (positives, negatives, differences)]
    for name in described[0]:
        lines.append(f"{name:6}" + "".join(f"{one[name]:15.4f}" for one in described))
    return "\n".join(lines)


def _described(scores: Array) -> dict[str, float]:
    names = ("Mean", "Median", "Std", "Min", *(name for name, _ in PERCENTILES), "Max")
    if len(scores) == 0:
        return dict.fromkeys(names, float("nan"))
    wide = np.sort(scores.astype(np.float64))
    middle = wide[(len(wide) - 1) // 2]
    spread = wide.std(ddof=1) if len(wide) > 1 else float("nan")
    between = np.percentile(wide, [percent for _, percent in PERCENTILES])
    return dict(zip(names, map(float, (wide.mean(), middle, spread, wide[0], *between, wide[-1])), strict=True))


def dropped_text(dropped: Dropped, limits: Mapping[str, float | None]) -> Iterable[str]:
    """A line for each limit that dropped candidates; the share is of those that the limits before it left."""
    for name, (count, present) in dropped.counts.items():
        if count:
            value = limits[name]
            yield f"Skipped {count:,} potential negatives ({count / present:.2%}) due to the {name} of {value}."


def missing_text(missing: int, possible: int, limits: Sequence[str]) -> str:
    """What to do where there are fewer rows than possible."""
    names = ["range_max", *limits]
    listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return (
        f"Could not find enough negatives for {missing:,} samples ({missing / possible:.2%}). Consider adjusting the "
        f"{listed} parameter{'s' if len(names) > 1 else ''} if you'd like to find more valid negatives."
    )
