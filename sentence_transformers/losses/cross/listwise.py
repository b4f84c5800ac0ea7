"""List-wise losses: a query, its documents and their labels. Which documents are scored together in a step is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from ..base import Components, Embed, Features, Objective
from ..checks import positive_finite
from ..joining import cat_rows
from .base import Pair, PairLoss
from .listwise_objectives import adr_mse, in_order_of, listnet, padded, plackett_luce

PlaceWeights: TypeAlias = Callable[[Tensor], Tensor]
"""Mask (Q, N) of the documents -> weights (Q, N) of their places, the first one's first."""
HIGHEST_POWER = 127
"""2 to this power is still a float32, and so is the sum of all lower ones."""


class ListLoss(PairLoss):
    """A loss on the scores of lists of documents: what is optimised is for the subclass (``objective``).

    Args:
        model: the ``CrossEncoder`` to train.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all of the batch. With gradients, so that it saves padding more than memory.

    Columns: queries, and for each a list of documents, of any length. Labels: a list with those of each query's
    documents.
    """

    needs_lists: ClassVar[bool] = True
    labels_wanted: ClassVar[str] = "a list of labels for each sample, but got a single value for each sample"

    def __init__(
        self, model: nn.Module, activation_fn: nn.Module | None = None, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, activation_fn)
        self.mini_batch_size = mini_batch_size

    def objective(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The loss of matrices (Q, N), padded behind the documents of each query; ``mask`` is true for documents."""
        raise NotImplementedError

    def pairs(self, columns: list[list[Any]], labels: Any) -> list[list[Pair]]:
        """The pairs of all queries, one query after the other, in mini-batches.

        Raises: ValueError for other columns or labels than asked for, or no document at all.
        """
        name = type(self).__name__
        wanted = [len(some) for some in self._lists(labels)]
        if len(columns) != 2:
            raise ValueError(f"{name} expects two inputs (queries, documents_list), but got {len(columns)} inputs.")
        queries, lists = columns
        if len(queries) != len(lists):
            raise ValueError(f"{name} expects a list of documents for each query, got {len(lists)} for {len(queries)}.")
        counts = [len(documents) for documents in lists]
        if counts != wanted:
            raise ValueError(
                f"Number of documents per query in inputs ({counts}) does not match number of labels per query "
                f"({wanted})."
            )
        found: list[Pair] = [(query, one) for query, some in zip(queries, lists, strict=True) for one in some]
        if not found:
            raise ValueError(f"{name} expects documents, but no query of the batch has one.")
        size = len(queries) if self.mini_batch_size is None else self.mini_batch_size
        size = size if size > 0 else len(found)
        return [found[start : start + size] for start in range(0, len(found), size)]

    def run(
        self, features: list[Features], labels: Any, objective: Objective, embed: Embed | None = None
    ) -> Tensor | Components:
        """Run mini-batches one by one, and the objective on all their logits as one column."""
        embed = embed or self.embed
        return objective([cat_rows([embed(part) for part in features])], labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Any = None) -> Tensor:
        """The loss of the logits of all pairs, (P, 1), as the only column, and the labels of each query's documents."""
        return self.objective(*padded(self.scores(torch.cat(embeddings)), self._lists(labels)))

    def _lists(self, labels: Any) -> list[Tensor]:
        """Raises: ValueError unless each query has a list of labels."""
        lists = [torch.as_tensor(some) for some in labels] if isinstance(labels, (list, tuple)) else None
        if lists is None or not all(some.dim() for some in lists):
            wanted = self.labels_wanted if labels is not None else "a list of labels for each sample, but got none"
            raise ValueError(f"{type(self).__name__} expects {wanted}.")
        return lists


class ListNetLoss(ListLoss):
    """The softmax of the scores of a query's documents should be that of their labels.

    Args:
        model: the ``CrossEncoder`` to train.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all.

    Columns: queries, lists of documents. Labels: lists of float.
    Source: Cao et al. 2007, https://doi.org/10.1145/1273496.1273513
    """

    citations = ("cao2007learning",)

    def objective(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return listnet(scores, labels, mask)


class PListMLELambdaWeight(nn.Module):
    """Weights of the places in a list of n documents: 2^(n - i) - 1 for the i-th, or those of a function.

    Args:
        rank_discount_fn: mask (Q, N) of the documents, bool -> weights (Q, N) >= 0.

    Source: Lan et al. 2014, https://auai.org/uai2014/proceedings/individuals/164.pdf
    """

    def __init__(self, rank_discount_fn: PlaceWeights | None = None) -> None:
        super().__init__()
        self.rank_discount_fn = rank_discount_fn

    def forward(self, mask: Tensor) -> Tensor:
        """(Q, N) bool -> (Q, N), only relative: rows with more than 127 documents are scaled down as a whole."""
        if self.rank_discount_fn is not None:
            return self.rank_discount_fn(mask)
        counts = mask.sum(1, keepdim=True)
        scale = counts.clamp(max=HIGHEST_POWER)
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        weights = torch.exp2((scale - places).float()) - torch.exp2((scale - counts).float())
        return weights.masked_fill(~mask, 0)


class PListMLELoss(ListLoss):
    """The order of a query's documents should be likely: the first places count most.

    Args:
        model: the ``CrossEncoder`` to train.
        lambda_weight: weights of the places: mask (Q, N) -> (Q, N), scaled to the sum 1 for each query. A class is
            called without arguments first; None: 1 for every place, not scaled.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all.
        respect_input_order: the documents come in the order that is right, the best first, and labels say only how
            many they are; False: the order is that of falling labels.

    Columns: queries, lists of documents. Labels: lists of float.
    Source: Lan et al. 2014, https://auai.org/uai2014/proceedings/individuals/164.pdf
    """

    citations = ("lan2014position",)

    def __init__(
        self,
        model: nn.Module,
        lambda_weight: PlaceWeights | type[PListMLELambdaWeight] | None = PListMLELambdaWeight,
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        self.lambda_weight: PlaceWeights | None = lambda_weight() if isinstance(lambda_weight, type) else lambda_weight
        self.respect_input_order = respect_input_order

    def objective(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        if not self.respect_input_order:
            (scores,) = in_order_of(labels, mask, scores)
        weights = None if self.lambda_weight is None else self.lambda_weight(mask)
        return plackett_luce(scores, mask, weights)


class ListMLELoss(PListMLELoss):
    """The order of a query's documents should be likely: all places count alike.

    Args:
        model: the ``CrossEncoder`` to train.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all.
        respect_input_order: as for ``PListMLELoss``.

    Columns: queries, lists of documents. Labels: lists of float.
    Source: Xia et al. 2008, https://doi.org/10.1145/1390156.1390306
    """

    citations = ("xia2008listwise",)

    def __init__(
        self,
        model: nn.Module,
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, None, activation_fn, mini_batch_size, respect_input_order)


class ADRMSELoss(ListLoss):
    """The ranks that the scores give, smoothed, should be those of the labels; errors at the top count most.

    Args:
        model: the ``CrossEncoder`` to train.
        alpha: how sharp the smooth ranks are, > 0; multiplies the scores.
        activation_fn: applied to the logits first.
        mini_batch_size: so many pairs go through the model at once; None: as many as there are queries; not above 0:
            all.

    Columns: queries, lists of documents. Labels: lists of float, higher is better; only their order matters.
    Raises: ValueError for an alpha that is not above 0.
    Source: Schlatt et al. 2024, https://arxiv.org/abs/2405.07920
    """

    citations = ("schlatt2025rankdistillm",)
    labels_wanted = "`labels` to be a list of per-query Tensors (list[Tensor]), but got a single Tensor"

    def __init__(
        self,
        model: nn.Module,
        alpha: float = 1.0,
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        self.alpha = positive_finite("alpha", alpha)

    def objective(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return adr_mse(scores, labels, mask, self.alpha)
