"""What ``fit`` and ``old_fit`` do step by step, for the recorder and for the tests: batches, rates, evaluations.

Knows nothing of either implementation: classes are looked up in a namespace, and a method is called by its name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import torch
from legacy_facts import seeded
from torch import Tensor, nn
from torch.utils.data import DataLoader

# name -> method, examples and batch size of each objective, scores of the evaluations, settings
CASES: dict[str, tuple[str, list[tuple[int, int]], list[float] | None, dict[str, Any]]] = {
    "plain": ("fit", [(8, 4)], None, {"warmup_steps": 1}),
    "epochs": ("fit", [(8, 4)], [1, 3, 2], {"epochs": 3}),
    "steps": ("fit", [(20, 4)], [3, 1, 2, 5], {"epochs": 2, "evaluation_steps": 2}),
    "steps at ends": ("fit", [(8, 4)], [3, 1, 2, 5], {"epochs": 2, "evaluation_steps": 2}),
    "two": ("fit", [(20, 4), (8, 4)], [1, 2], {"epochs": 2, "weight_decay": 0.1}),
    "short epoch": ("fit", [(20, 4)], None, {"steps_per_epoch": 3}),
    "best is not saved": ("fit", [(8, 4)], [1, 3, 2], {"epochs": 3, "save_best_model": False}),
    "lower is better": ("fit", [(8, 4)], [2, 3, 0, 1], {"epochs": 4, "lower": True}),
    **{
        f"{method}, {name}": (method, [(20, 4)], None, {"scheduler": name, "warmup_steps": 2})
        for method in ("fit", "old_fit")
        for name in ("constantlr", "warmupconstant", "WarmupLinear", "warmupcosine", "warmupCosineWithHardRestarts")
    },
    "old, plain": ("old_fit", [(10, 4)], None, {"warmup_steps": 1}),
    "old, epochs": ("old_fit", [(10, 4)], [1, 3, 2], {"epochs": 3}),
    "old, steps": ("old_fit", [(20, 4)], [3, 1, 2, 5], {"epochs": 2, "evaluation_steps": 2}),
    "old, two": ("old_fit", [(20, 4), (9, 3)], [1, 2], {"epochs": 2, "weight_decay": 0.1}),
    "old, two, steps": ("old_fit", [(20, 4), (9, 3)], [1, 2], {"steps_per_epoch": 4}),
    "old, short epochs": ("old_fit", [(12, 4)], [1, 2], {"epochs": 2, "steps_per_epoch": 2}),
}


def evaluator(space: Any, scores: list[float], lower: bool, is_number: bool) -> Any:
    """Gives these scores, one after the other, and notes when, and what the model was."""

    class Given(space.BaseEvaluator):  # type: ignore[misc]
        greater_is_better = not lower
        primary_metric = "score"

        def __init__(self) -> None:
            self.calls: list[list[float]] = []
            self.models: list[Tensor] = []

        def __call__(self, model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> Any:
            self.models.append(mark(model))
            self.calls.append([epoch, steps])
            score = float(scores[(len(self.calls) - 1) % len(scores)])
            return score if is_number else {"other": 7.0, "score": score}

    return Given()


class Counting(nn.Module):
    """A loss that notes its batches."""

    def __init__(self, model: nn.Module, name: int, seen: list[Any], with_labels: bool) -> None:
        super().__init__()
        self.model = model
        self.name, self.seen, self.with_labels = name, seen, with_labels

    def forward(self, features: list[dict[str, Any]], labels: Tensor | None) -> Tensor:
        known = labels.tolist() if labels is not None and self.with_labels else labels is not None
        self.seen.append([self.name, len(features), len(features[0]["input_ids"]), known])
        found: Tensor = self.model(dict(features[0]))["sentence_embedding"]
        return found.square().mean()


def mark(model: Any) -> Tensor:
    """Tells states of a model apart."""
    return next(model.parameters()).detach().double().sum()


def run(
    space: Any, open_model: Callable[[str], Any], call: Callable[[Any, str], Callable[..., None]], name: str
) -> dict[str, Any]:
    """What happens in a case.

    Args:
        call: a model, and the name of a method -> what is called.
    """
    method, sizes, scores, given = CASES[name]
    settings = {"warmup_steps": 0, "scheduler": "WarmupLinear", **given}
    lower = settings.pop("lower", False)
    is_old = method == "old_fit"
    rates: list[Any] = []
    seen: list[Any] = []
    told: list[list[float]] = []

    class Noting(torch.optim.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            rates.append([[group["lr"], group["weight_decay"], len(group["params"])] for group in self.param_groups])
            return super().step(*args, **kwargs)

    with tempfile.TemporaryDirectory() as root:
        model = open_model(str(tiny.build("bert", Path(root) / "model")))
        seeded(0)
        # the second objective has no labels
        objectives = [
            (
                DataLoader(
                    [
                        space.InputExample(texts=[f"a cat {i}", "the mat"], label=0 if place else i / 2)
                        for i in range(count)
                    ],  # type: ignore[arg-type]
                    batch_size=size,
                ),
                Counting(model, place, seen, is_old),
            )
            for place, (count, size) in enumerate(sizes)
        ]
        judge = None if scores is None else evaluator(space, scores, lower, is_old)
        call(model, method)(
            objectives,
            evaluator=judge,
            optimizer_class=Noting,
            optimizer_params={"lr": 0.01},
            output_path=f"{root}/output",
            callback=lambda *values: told.append([float(value) for value in values]),
            show_progress_bar=False,
            **settings,
        )
        saved = None
        if (Path(root) / "output" / "modules.json").is_file():
            kept = mark(open_model(f"{root}/output"))
            states = [mark(model)] if judge is None else judge.models
            saved = [bool((one - kept).abs() < 1e-7) for one in states]
    return {
        "batches": seen,
        "rates": rates,
        "callback": told,
        "evaluations": [] if judge is None else judge.calls,
        "saved": saved,
    }
