"""With a gradient cache, everything that an objective reads is trained, not only the embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from losses_checking import assert_same, trained
from losses_pairs_facts import column
from torch import Tensor, nn

from sentence_transformers.losses.base import Wrapper
from sentence_transformers.losses.distillation import MSELoss
from sentence_transformers.losses.gradcache import GradCache

FEATURES: list[dict[str, Any]] = [{"given": column(seed, rows=5)} for seed in range(2)]
TEACHER = column(7, rows=5)


class Cached(GradCache, MSELoss):
    def __init__(self, model: nn.Module, projection_dim: int | None = None) -> None:
        super().__init__(model, projection_dim)
        self.keep_parts(2, None, False)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def get_embedding_dimension(self) -> int:
        return 6

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": self.linear(features["given"])}


class Turned(Wrapper):
    """Has a layer of its own, and uses one of the model once more."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__(model, loss)
        self.turn = nn.Linear(6, 6)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        turned = [self.turn(self.model.linear(one)) for one in embeddings]  # type: ignore[operator, union-attr]
        return 3 * self.loss.compute_loss_from_embeddings(turned, labels)


def test_parameters_of_a_loss_around_and_of_the_model_are_trained() -> None:
    model = Encoder()
    cached = Turned(model, Cached(model)).double()
    plain = Turned(model, MSELoss(model)).double()
    plain.turn = cached.turn
    expected = trained(plain, FEATURES, TEACHER)
    assert "turn.weight" in expected[1]
    assert_same(trained(cached, FEATURES, TEACHER), expected)


def test_below_a_frozen_model_parameters_of_the_loss_are_trained() -> None:
    model = Encoder().requires_grad_(False)
    cached, plain = Cached(model, 6).double(), MSELoss(model, 6).double()
    plain.projection = cached.projection
    expected = trained(plain, FEATURES, TEACHER)
    assert sorted(expected[1]) == ["projection.bias", "projection.weight"]
    assert_same(trained(cached, FEATURES, TEACHER), expected)


def test_gradients_follow_the_scale_of_the_loss() -> None:
    model = Encoder()
    loss = Cached(model, 6).double()
    whole, tripled = [], []
    for scale, kept in ((1, whole), (3, tripled)):
        loss.zero_grad()
        (scale * loss(FEATURES, TEACHER)).backward()
        kept += [parameter.grad.clone() for parameter in loss.parameters() if parameter.grad is not None]
    assert len(whole) == 4
    for one, other in zip(whole, tripled, strict=True):
        torch.testing.assert_close(3 * one, other)


def test_inputs_in_one_row_are_not_cut() -> None:
    flat = {"input_ids": torch.arange(6), "offsets": torch.tensor([0, 2, 4])}
    with pytest.raises(ValueError, match="Cached cannot cut the inputs of a StaticEmbedding"):
        Cached(Encoder())([flat], TEACHER)
