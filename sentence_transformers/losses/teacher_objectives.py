"""Objectives that make a student agree with a teacher: on embeddings, on margins, on a ranking. Pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def embedding_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of all numbers: (..., D), (..., D) -> ()."""
    return (student - teacher).square().mean()


def embedding_l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean length of the differences: (..., D), (..., D) -> ()."""
    lengths: Tensor = torch.linalg.vector_norm(student - teacher, dim=-1)
    return lengths.mean()


def embedding_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 less the cosine: (..., D), (..., D) -> ()."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def margin_mse(scores: Tensor, margins: Tensor) -> Tensor:
    """Mean squared difference of the margins of student and teacher.

    Args:
        scores: (B, 1 + N) the student's, of the positive first and then of the negatives.
        margins: (B, N) the teacher's, of the positive over each negative.

    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666
    """
    return (scores[:, :1] - scores[:, 1:] - margins).square().mean()


def margins_of(labels: Tensor, rows: int, negatives: int) -> Tensor:
    """Labels as margins of the positive over each negative, (B, N).

    Args:
        labels: (B,) or (B, N) margins, or (B, 1 + N) scores of the positive and the negatives.

    Raises: ValueError for any other shape.
    """
    given = labels[:, None] if labels.dim() == 1 and len(labels) == rows else labels
    if given.shape == (rows, negatives + 1):
        return given[:, :1] - given[:, 1:]
    if given.shape != (rows, negatives) or not negatives:
        raise ValueError(
            f"Labels shape {given.shape} does not match expected shape {(rows, negatives)}. Ensure that your dataset "
            "labels/scores are 1) lists of differences between positive scores and negatives scores (length "
            "`num_negatives`), or 2) lists of positive and negative scores (length `num_negatives + 1`)."
        )
    return given


def ranking_kl(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's distribution over candidates from the teacher's, mean of the rows.

    Args:
        scores: (B, N) the student's.
        targets: (B, N) the teacher's distribution; rows sum to 1.
        temperature: T of the student; the result is multiplied by T squared, so that gradients keep their size.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    return F.kl_div((scores / temperature).log_softmax(dim=1), targets, reduction="batchmean") * temperature**2
