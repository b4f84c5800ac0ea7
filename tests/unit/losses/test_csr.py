"""The loss of sparse autoencoders: parts against slow formulas, and autoencoders that are run in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_heads
import torch
from losses_checking import assert_same, trained
from losses_sparse_facts import TEXTS, Handed, autoencoded, column
from torch import Tensor, nn

from sentence_transformers import SparseEncoder
from sentence_transformers.losses.contrastive import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.losses.regularisation import GlobalOrthogonalRegularizationLoss
from sentence_transformers.losses.sparse import (
    CSRLoss,
    CSRReconstructionLoss,
)
from sentence_transformers.losses.sparse_inner import SparseMarginMSELoss, SparseMultipleNegativesRankingLoss
from sentence_transformers.modules.sparse_autoencoder import SparseAutoEncoder

COLUMNS = [column(seed) for seed in range(3)]
FEATURES: list[dict[str, Any]] = [{"given": one} for one in COLUMNS]
MARGINS = torch.linspace(-1, 1, len(COLUMNS[0]), dtype=torch.float64)


class Coded(nn.Module):
    """A layer and an autoencoder on given numbers."""

    def __init__(self, k_aux: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.layer = nn.Linear(6, 5).double()
        self.encoder = SparseAutoEncoder(5, 20, k=2, k_aux=k_aux, dead_threshold=4).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.encoder({"sentence_embedding": self.layer(features["given"])})
        return found


def dot(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T


def slow_reconstruction(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of one column; without beta."""
    read, rows = found["sentence_embedding_backbone"], len(found["sentence_embedding_backbone"])

    def error(name: str, target: Tensor) -> Tensor:
        differences = [(found[name][i, j] - target[i, j]) ** 2 for i in range(rows) for j in range(target.shape[1])]
        return sum(differences) / len(differences)

    left = read - found["decoded_embedding_k_pre_bias"].detach()
    middle = sum(left) / rows
    spread = sum((row - middle).square().sum() for row in left) / left.numel()
    return {
        "reconstruction_loss_k": error("decoded_embedding_k", read),
        "reconstruction_loss_4k": error("decoded_embedding_4k", read) / 8,
        "reconstruction_loss_aux": error("decoded_embedding_aux", left) / spread,
    }


def test_reconstructions_are_averaged_over_columns() -> None:
    columns = [autoencoded(seed, "idle") for seed in range(3)]
    found = CSRReconstructionLoss(Handed(), beta=0.5).compute_loss_from_embeddings(columns)
    each = [slow_reconstruction(one) for one in columns]
    expected = {name: sum(one[name] for one in each) / 3 for name in each[0]}
    expected["reconstruction_loss_aux"] = 0.5 * expected["reconstruction_loss_aux"]
    torch.testing.assert_close(found, expected)


# --- CSR -------------------------------------------------------------------------------------------------------------


def test_parts_of_csr_are_reconstructions_and_the_weighted_loss_inside() -> None:
    columns = [autoencoded(seed, "idle") for seed in range(3)]
    leaves = [value for one in columns for value in one.values()]
    model = Handed()
    loss = CSRLoss(model, SparseMarginMSELoss(model), beta=0.5, gamma=3.0)
    found = loss(columns, MARGINS)
    expected = CSRReconstructionLoss(model, 0.5).compute_loss_from_embeddings(columns)
    expected["base_loss"] = 3.0 * SparseMarginMSELoss(model).compute_loss_from_embeddings(
        [one["sentence_embedding"] for one in columns], MARGINS
    )
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(sum(some.values()), leaves, allow_unused=True, materialize_grads=True)
        for some in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_nothing_flows_into_what_is_left_over() -> None:
    columns = [autoencoded(seed, "idle") for seed in range(2)]
    sum(CSRLoss(Handed())(columns).values()).backward()
    bias, read = (columns[0][f"{name}"] for name in ("decoded_embedding_k_pre_bias", "sentence_embedding_backbone"))
    assert not bias.grad.any()
    assert read.grad.all()


def test_ranking_by_dot_products_is_inside_of_csr_by_default() -> None:
    model = Handed()
    loss = CSRLoss(model)
    assert isinstance(loss.loss, SparseMultipleNegativesRankingLoss)
    assert loss.get_config_dict() == {"loss": "SparseMultipleNegativesRankingLoss", "beta": 0.1, "gamma": 1.0}
    assert "Beyond Matryoshka" in loss.citation
    dense = MultipleNegativesRankingLoss(model, 1.0, dot)
    columns = [autoencoded(seed, "idle") for seed in range(2)]
    expected = dense.compute_loss_from_embeddings([one["sentence_embedding"] for one in columns])
    torch.testing.assert_close(loss(columns)["base_loss"], expected)


def test_the_weight_of_idle_latents_can_be_changed() -> None:
    columns = [autoencoded(seed, "idle") for seed in range(2)]
    loss = CSRLoss(Handed())
    before = loss(columns)["reconstruction_loss_aux"]
    loss.beta = 0.3
    torch.testing.assert_close(loss(columns)["reconstruction_loss_aux"], 3 * before)


def test_parts_of_the_loss_inside_csr_stay_parts() -> None:
    model = Handed()
    inner = GlobalOrthogonalRegularizationLoss(model)
    columns = [autoencoded(seed, "idle") for seed in range(2)]
    found = CSRLoss(model, inner, gamma=2.0)(columns)
    for name, part in inner.compute_loss_from_embeddings([one["sentence_embedding"] for one in columns]).items():
        torch.testing.assert_close(found[name], 2 * part)
    assert "base_loss" not in found


def test_without_idle_latents_their_part_is_nothing() -> None:
    found = CSRLoss(Coded(k_aux=0).train())(FEATURES)
    assert found["reconstruction_loss_aux"] == 0
    assert found["reconstruction_loss_k"] > 0


def test_a_model_without_autoencoder_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with a SparseAutoEncoder; this one does not give sentence_emb"):
        CSRLoss(Handed())(FEATURES)


def test_csr_is_not_computed_from_embeddings() -> None:
    with pytest.raises(NotImplementedError, match="make it the outermost loss"):
        CSRLoss(Handed()).compute_loss_from_embeddings(COLUMNS)


# --- autoencoders, in parts ------------------------------------------------------------------------------------------


def csr(model: Coded, size: int | None = None) -> CSRLoss:
    if size is None:
        return CSRLoss(model)
    return CSRLoss(model, CachedMultipleNegativesRankingLoss(model, 1.0, dot, mini_batch_size=size))


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("k_aux", [0, 3])
def test_an_autoencoder_may_be_run_in_parts(size: int, k_aux: int) -> None:
    model = Coded(k_aux).eval()
    model.encoder.stats_last_nonzero.copy_(10 * (torch.arange(20) % 2))
    assert_same(trained(csr(model, size), FEATURES, None), trained(csr(model), FEATURES, None))


def test_in_training_too_the_second_run_finds_the_same_latents_idle() -> None:
    found = []
    for size in (None, 8):
        model = Coded().train()
        model.encoder.stats_last_nonzero.copy_(10 * (torch.arange(20) % 2))
        found.append(trained(csr(model, size), FEATURES, None))
    assert_same(found[1], found[0])


@pytest.mark.parametrize("size", [None, 1, 3])
def test_use_of_latents_is_noted_once_for_a_batch(size: int | None) -> None:
    model = Coded().train()
    trained(csr(model, size), FEATURES, None)
    latents = model({"given": torch.cat(COLUMNS)})
    used = (latents["sentence_embedding_encoded_4k"] > 1e-5).any(0)
    by_k = (latents["sentence_embedding"] > 1e-5).any(0)
    expected = torch.where(used, 1, 2)
    assert used.any()
    assert not used.all()
    assert (used | ~by_k).all()
    again = Coded().train()
    trained(csr(again, size), FEATURES, None)
    assert torch.equal(again.encoder.stats_last_nonzero, expected)


def test_latents_get_idle_over_several_steps() -> None:
    model = Coded().train()
    loss = csr(model)
    for _ in range(3):
        trained(loss, FEATURES, None)
    assert set(model.encoder.stats_last_nonzero.tolist()) == {1, 6}


def test_columns_of_a_small_model_run_together_give_what_each_gives_alone(tmp_path: Path) -> None:
    model = SparseEncoder(str(tiny_heads.build_csr(tmp_path / "csr")), device="cpu").double().eval()
    texts = [model.preprocess(one) for one in TEXTS]
    columns = [dict(model(one)) for one in texts]
    found = CSRLoss(model, beta=0.5)(texts)
    expected = CSRReconstructionLoss(model, 0.5).compute_loss_from_embeddings(columns)
    torch.testing.assert_close({name: found[name] for name in expected}, expected)
