"""The sparse autoencoder: inference, what the losses read, idle latents, and files of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.sparse_autoencoder import DECODER, ENCODER, SparseAutoEncoder

KEYS = {
    "sentence_embedding",
    "sentence_embedding_backbone",
    "sentence_embedding_encoded",
    "sentence_embedding_encoded_4k",
    "auxiliary_embedding",
    "decoded_embedding_k",
    "decoded_embedding_4k",
    "decoded_embedding_aux",
    "decoded_embedding_k_pre_bias",
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def part(**settings: Any) -> SparseAutoEncoder:
    module = SparseAutoEncoder(6, 24, **{"k": 2, "k_aux": 3, "dead_threshold": 1, **settings}).double().eval()
    with torch.no_grad():
        module.pre_bias.copy_(random(6, seed=1) / 3)
        module.latent_bias.copy_(random(24, seed=2) / 3)
        module.encoder.weight.copy_(random(24, 6, seed=3) / 3)
    return module


def by_hand() -> SparseAutoEncoder:
    """W = identity over two of three latents, and their sum as the third."""
    module = SparseAutoEncoder(2, 3, k=1, k_aux=1)
    with torch.no_grad():
        module.encoder.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        module.pre_bias.copy_(torch.tensor([1.0, 0.0]))
        module.latent_bias.copy_(torch.tensor([0.0, 0.0, -2.5]))
    return module


def run(module: SparseAutoEncoder, x: Tensor, **settings: Any) -> dict[str, Tensor]:
    return module({"sentence_embedding": x}, **settings)


def test_hand_computed_values() -> None:
    out = run(by_hand(), torch.tensor([[3.0, 1.0], [0.0, -1.0]]))
    assert out["sentence_embedding_encoded"].tolist() == [[2.0, 1.0, 0.5], [-1.0, -1.0, -4.5]]
    assert out["sentence_embedding"].tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert out["sentence_embedding_encoded_4k"].tolist() == [[2.0, 1.0, 0.5], [0.0, 0.0, 0.0]]
    assert out["decoded_embedding_k_pre_bias"].tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert out["decoded_embedding_k"].tolist() == [[3.0, 0.0], [1.0, 0.0]]
    assert out["decoded_embedding_4k"].tolist() == [[3.5, 1.5], [1.0, 0.0]]


@pytest.mark.parametrize("normalize", [False, True])
def test_every_key_by_a_slow_formula(normalize: bool) -> None:
    module, x = part(normalize=normalize), random(5, 6, seed=4)
    module.stats_last_nonzero[::2] = 9  # every other latent is idle
    out = run(module, x)
    weight, bias = module.encoder.weight, module.pre_bias
    mean = x.mean(1, keepdim=True) if normalize else torch.zeros(5, 1).double()
    deviation = x.std(1, keepdim=True) if normalize else torch.ones(5, 1).double()
    standard = (x - mean) / (deviation + 1e-5) if normalize else x
    latents = torch.stack([weight @ (row - bias) + module.latent_bias for row in standard])

    def keep(rows: Tensor, count: int) -> Tensor:
        kept = [[v if v > 0 and sorted(row)[-count] <= v else 0.0 for v in row] for row in rows.tolist()]
        return torch.tensor(kept, dtype=torch.float64)

    idle = latents.clone()
    idle[:, 1::2] = 0
    expected = {
        "sentence_embedding_backbone": x,
        "sentence_embedding_encoded": latents,
        "sentence_embedding": keep(latents, 2),
        "sentence_embedding_encoded_4k": keep(latents, 8),
        "auxiliary_embedding": keep(idle, 3),
        "decoded_embedding_k": (keep(latents, 2) @ weight + bias) * deviation + mean,
        "decoded_embedding_k_pre_bias": keep(latents, 2) @ weight * deviation + mean,
        "decoded_embedding_4k": (keep(latents, 8) @ weight + bias) * deviation + mean,
        "decoded_embedding_aux": (keep(idle, 3) @ weight + bias) * deviation,
    }
    assert out.keys() == KEYS
    for key, value in expected.items():
        assert_close(out[key], value, msg=key)


def test_inference_writes_the_embedding_alone() -> None:
    with torch.inference_mode():
        assert run(part(), random(2, 6)).keys() == {"sentence_embedding"}


def test_inference_gives_the_same_embedding() -> None:
    module, x = part(), random(5, 6)
    with torch.inference_mode():
        inferred = run(module, x)["sentence_embedding"]
    assert torch.equal(inferred, run(module, x)["sentence_embedding"])


def test_evaluation_of_a_loss_has_all_keys() -> None:
    with torch.no_grad():
        assert run(part(), random(2, 6)).keys() == KEYS


@pytest.mark.parametrize(("given", "kept"), [(None, 2), (0, 2), (1, 1), (5, 5), (99, 24)])
def test_max_active_dims_replaces_k(given: int | None, kept: int) -> None:
    module = part()
    with torch.no_grad():
        module.latent_bias += 100  # all latents are above 0
    active = (run(module, random(3, 6), max_active_dims=given)["sentence_embedding"] != 0).sum(1)
    assert active.tolist() == [kept] * 3


def test_max_active_dims_is_asked_for() -> None:
    assert SparseAutoEncoder.forward_kwargs == {"max_active_dims"}


def test_half_input_meets_float_weights() -> None:
    assert run(part().float(), random(2, 6).half())["sentence_embedding"].dtype == torch.float32


def test_training_counts_two_choices_a_step() -> None:
    module = by_hand().train()
    run(module, torch.tensor([[3.0, 1.0]]))
    assert module.stats_last_nonzero.tolist() == [1, 1, 1]  # all are among the 4k
    run(module, torch.tensor([[3.0, -9.0]]))
    assert module.stats_last_nonzero.tolist() == [1, 3, 3]


def test_evaluation_counts_nothing() -> None:
    module = part()
    run(module, random(2, 6))
    assert not module.stats_last_nonzero.any()


def test_idle_latents_are_chosen_for_the_auxiliary_loss() -> None:
    module, x = part().train(), random(5, 6)
    used: set[int] = set()
    for _ in range(2):
        out = run(module, x)
        used = {int(i) for i in out["sentence_embedding_encoded_4k"].any(0).nonzero()}
    revived = {int(i) for i in out["auxiliary_embedding"].any(0).nonzero()}
    assert revived
    assert not revived & {int(i) for i in out["sentence_embedding"].any(0).nonzero()}
    assert module.stats_last_nonzero[sorted(used)].tolist() == [1] * len(used)


def test_no_auxiliary_embedding_without_k_aux() -> None:
    out = run(part(k_aux=0), random(2, 6))
    assert out["auxiliary_embedding"] is out["decoded_embedding_aux"] is None


def test_counts_above_the_width_take_all() -> None:
    out = run(part(k=20, k_aux=99), random(2, 6))
    assert out["sentence_embedding_encoded_4k"].shape == out["auxiliary_embedding"].shape == (2, 24)


def test_gradients_by_finite_differences() -> None:
    module = part(normalize=True)
    module.stats_last_nonzero += 9

    def losses(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        out = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), ({"sentence_embedding": x},))
        return tuple(out[key] for key in sorted(KEYS - {"sentence_embedding_backbone"}))

    names, weights = zip(*module.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(losses, (random(2, 6, seed=4).requires_grad_(), *weights))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 25}, "k must be at most hidden_dim = 24, got 25"),
        ({"k": 0}, "k must be a positive integer"),
        ({"input_dim": 0}, "input_dim must be a positive integer"),
        ({"hidden_dim": -1}, "hidden_dim must be a positive integer"),
    ],
)
def test_refused_settings(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseAutoEncoder(**{"input_dim": 6, "hidden_dim": 24, **settings})


def test_names_and_shapes_of_the_weights() -> None:
    shapes = {name: tuple(value.shape) for name, value in part().state_dict().items()}
    assert shapes == {
        "pre_bias": (6,),
        "latent_bias": (24,),
        "stats_last_nonzero": (24,),
        "encoder.weight": (24, 6),
    }
    assert part().get_embedding_dimension() == 24


@pytest.mark.parametrize("safe", [True, False])
def test_saved_and_loaded(tmp_path: Path, safe: bool) -> None:
    module, x = part(normalize=True).float(), random(4, 6).float()
    module.stats_last_nonzero += 7
    module.save(str(tmp_path), safe_serialization=safe)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "input_dim": 6,
        "hidden_dim": 24,
        "k": 2,
        "k_aux": 3,
        "normalize": True,
        "dead_threshold": 1,
    }
    loaded = SparseAutoEncoder.load(str(tmp_path))
    assert loaded.stats_last_nonzero.tolist() == [7] * 24
    assert torch.equal(run(loaded, x)["sentence_embedding"], run(module, x)["sentence_embedding"])


def test_a_pickle_names_the_matrix_twice(tmp_path: Path) -> None:
    part().save(str(tmp_path), safe_serialization=False)
    saved = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert torch.equal(saved[ENCODER], saved[DECODER])


@pytest.mark.parametrize("names", [[DECODER], [ENCODER], [ENCODER, DECODER]])
def test_the_matrix_may_have_either_name(tmp_path: Path, names: list[str]) -> None:
    module = part().float()
    module.save(str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    matrix = weights.pop(ENCODER)
    save_file({**weights, **{name: matrix.clone() for name in names}}, tmp_path / "model.safetensors")
    assert torch.equal(SparseAutoEncoder.load(str(tmp_path)).encoder.weight, matrix)


def test_a_file_without_the_matrix_is_refused(tmp_path: Path) -> None:
    part().float().save(str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != ENCODER}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="encoder.weight"):
        SparseAutoEncoder.load(str(tmp_path))
