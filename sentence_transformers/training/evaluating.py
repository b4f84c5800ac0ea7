"""Runs an evaluator during training: once for all processes, whose encoders help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..evaluation.base import BaseEvaluator
from ..ops.gather import get_rank
from . import helping


def evaluated(
    evaluator: Callable[..., Any],
    model: Any,
    output_path: str,
    epoch: float,
    steps: int,
    *,
    is_whole: bool = True,
) -> dict[str, Any]:
    """What an evaluator measures; a bare number is called "evaluator".

    Of several processes, rank 0 runs it, and all of them compute the embeddings that it asks for; files are written
    by rank 0 alone. To be called by all processes, which all get the result.

    Args:
        is_whole: every process has all weights of the model. If not, each runs the evaluator, for none can encode by
            itself.

    Raises: in all processes, what the evaluator raises, or the model in any of them.
    """

    def run() -> tuple[Any, str | None]:
        path = output_path if get_rank() == 0 else None
        return evaluator(model, path, epoch, steps), getattr(evaluator, "primary_metric", None)

    found, primary = helping.together(run, model) if is_whole and helping.is_possible() else run()
    if get_rank() and isinstance(evaluator, BaseEvaluator) and evaluator.primary_metric != primary:
        evaluator.primary_metric = primary  # evaluators put their name before it when they run
    return found if isinstance(found, dict) else {"evaluator": found}
