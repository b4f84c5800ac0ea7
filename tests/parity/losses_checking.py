"""How unit tests of losses compare a loss with a slow formula: its value, and its gradient by every embedding."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def value_and_gradients(
    compute: Callable[[list[Tensor]], Any], columns: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Of the sum of all parts; columns without a part in it have gradient 0."""
    leaves = [column.clone().requires_grad_() for column in columns]
    result = compute(leaves)
    total = sum(result.values()) if isinstance(result, dict) else result
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    gradients = [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]
    return total.detach(), gradients


def assert_agrees(
    loss: nn.Module,
    columns: Sequence[Tensor],
    labels: Tensor | None,
    slow: Callable[..., Tensor],
    tolerance: float = 1e-10,
) -> None:
    """``slow`` gets the columns. The model hands on what is ``given`` (see ``losses_pairs_facts.Given``)."""
    value, gradients = value_and_gradients(lambda some: loss([{"given": one} for one in some], labels), columns)
    expected, slow_gradients = value_and_gradients(lambda some: slow(*some), columns)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    for found, golden in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(found, golden, rtol=tolerance, atol=tolerance)


def trained(loss: nn.Module, features: list[dict[str, Any]], labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradients of all parameters, by name."""
    loss.zero_grad()
    torch.manual_seed(0)
    random.seed(0)
    result = loss(features, labels)
    value = sum(result.values()) if isinstance(result, dict) else result
    value.backward()
    gradients = {name: one.grad.clone() for name, one in loss.named_parameters() if one.grad is not None}
    return value.detach(), gradients


def assert_same(found: tuple[Any, Any], expected: tuple[Any, Any], tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=tolerance, atol=tolerance)


def zero(columns: Tensor) -> Tensor:
    """A 0 to start a sum with, that has a gradient."""
    return (columns * 0).sum()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y) / ((x @ x).sqrt() * (y @ y).sqrt())


def relu(value: Tensor) -> Tensor:
    return value if value > 0 else value * 0
