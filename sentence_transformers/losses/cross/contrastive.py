"""Losses that need no negatives: a reranker must find the text that belongs to an anchor among others of the batch."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import at_least
from ..contrastive import info_nce
from ..gradcache import GradCache
from .base import Pair, PairLoss

SIGMOID = nn.Sigmoid()  # has no state, so that losses can share it


class MultipleNegativesRankingLoss(PairLoss):
    """Each anchor must find its positive among a few texts of the other rows, and its own negatives (InfoNCE).

    With s the scaled score, the loss of anchor a with positive p is log(sum of exp(s(a, d)) over the candidates d) -
    s(a, p), and the mean of the anchors is taken. As each candidate of each anchor is a forward of its own, only some
    are taken from the batch; they are drawn with torch's random numbers, another set for each anchor.

    Args:
        model: the ``CrossEncoder`` to train, with one label.
        num_negatives: how many positives and negatives of the other rows each anchor is compared with, drawn without
            replacement; None, or more than there are: all.
        scale: inverse temperature; multiplies the activated scores.
        activation_fn: applied to the scores first; None: nothing.

    Columns: anchor, positive, any number of negatives. No labels.
    Raises: ValueError for fewer columns, a model with several labels, or a number of negatives below 0.
    Source: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748
    """

    citations: ClassVar[tuple[str, ...]] = ("oord2018representation",)

    def __init__(
        self,
        model: nn.Module,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: nn.Module | None = SIGMOID,
    ) -> None:
        super().__init__(model, activation_fn)
        if num_negatives is not None and num_negatives < 0:
            raise ValueError(f"num_negatives must be an integer from 0, or None for all; got {num_negatives!r}.")
        self.num_negatives = num_negatives
        self.scale = scale

    def pairs(self, columns: list[Any], labels: Any) -> list[list[Pair]]:
        """The anchors with their positives, with what is drawn for them, with each column of negatives."""
        anchors, *candidates = at_least(type(self).__name__, columns, 2, "an anchor and a positive")
        texts = [text for column in candidates for text in column]
        drawn = others(len(anchors), len(candidates), self.num_negatives)
        found: list[Any] = [candidates[0], *([texts[place] for place in places] for places in drawn), *candidates[1:]]
        return [list(zip(anchors, column, strict=True)) for column in found]

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        logits = self.scale * self.table(embeddings)  # (B, candidates); the positive is the first
        return info_nce([logits], logits[:, 0])


class CachedMultipleNegativesRankingLoss(GradCache, MultipleNegativesRankingLoss):
    """``MultipleNegativesRankingLoss`` with a gradient cache: any number of candidates in the memory of a few.

    Args:
        model: the ``CrossEncoder`` to train, with one label.
        num_negatives, scale, activation_fn: see ``MultipleNegativesRankingLoss``.
        mini_batch_size: so many pairs are run at once; changes memory and speed, not the loss.
        show_progress_bar: show one for the second run.

    Columns: anchor, positive, any number of negatives. No labels.
    Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """

    citations = ("gao2021scaling",)

    def __init__(
        self,
        model: nn.Module,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: nn.Module | None = SIGMOID,
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model, num_negatives, scale, activation_fn)
        self.keep_parts(mini_batch_size, None, show_progress_bar)


def others(rows: int, columns: int, count: int | None) -> list[list[int]]:
    """For each row, some texts of the other rows, drawn without replacement from all of them.

    Args:
        rows: how many texts a column has. columns: how many there are.
        count: how many are drawn for each row; None, or more than the others have: all of them, in order.

    Returns: count lists, one for each draw, with a place for each row; places count through the first column, then
        through the second.
    """
    places = torch.arange(rows * columns)
    is_other = places % rows != torch.arange(rows)[:, None]  # (rows, rows * columns)
    available = (rows - 1) * columns
    if count is None or count >= available:
        drawn = places.expand_as(is_other)[is_other].reshape(rows, available)
    elif count:
        drawn = torch.multinomial(is_other.float(), count)
    else:
        drawn = places.new_empty(rows, 0)
    found: list[list[int]] = drawn.T.tolist()
    return found
