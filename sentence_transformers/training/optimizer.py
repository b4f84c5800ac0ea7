"""Learning rates of some parameters apart from the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer


def leave_out(optimizer: Optimizer, parameters: Collection[int]) -> None:
    """Take parameters, by identity, from what an optimizer changes."""
    for group in optimizer.param_groups:
        group["params"] = [one for one in group["params"] if id(one) not in parameters]


def split_by_name(optimizer: Optimizer, module: nn.Module, rates: Mapping[str, float]) -> None:
    """Give parameters learning rates by their names; each group is split, so that all else in it stays.

    Args:
        optimizer: before its first step.
        module: names the parameters.
        rates: regular expression -> learning rate of all parameters whose names it finds; of two that find the same
            the later one counts.

    Raises: ValueError for an expression that finds none.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    wanted: dict[int, float] = {}
    for pattern, rate in rates.items():
        found = [one for one, name in names.items() if re.search(pattern, name)]
        if not found:
            raise ValueError(
                f"No parameter's name matches {pattern!r} of learning_rate_mapping. Names look like "
                f"{list(names.values())[:3]}; see [name for name, _ in loss.named_parameters()]."
            )
        wanted.update(dict.fromkeys(found, rate))
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        others = [one for one in group["params"] if id(one) not in wanted]
        split: list[tuple[dict[str, float], list[Any]]] = [({}, others)] if others else []
        for rate in dict.fromkeys(wanted.values()):
            chosen = [one for one in group["params"] if wanted.get(id(one)) == rate]
            split += [({"lr": rate}, chosen)] if chosen else []
        groups += [{**group, **changed, "params": params} for changed, params in split]
    optimizer.param_groups = groups
