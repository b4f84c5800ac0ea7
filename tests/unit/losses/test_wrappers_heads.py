"""Losses behind several layers: refused for a transformer with a head; with an autoencoder, as for a dense model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_heads as heads
import torch

from sentence_transformers import CrossEncoder, SparseEncoder
from sentence_transformers.losses.cross.pointwise import BinaryCrossEntropyLoss
from sentence_transformers.losses.sparse import CachedSpladeLoss, SpladeLoss
from sentence_transformers.losses.sparse_inner import SparseMultipleNegativesRankingLoss
from sentence_transformers.losses.wrappers import AdaptiveLayerLoss, Matryoshka2dLoss

HEAD = (
    "needs a Transformer of the task 'feature-extraction', .*; got one with a head, of the task {!r}.* Leave this loss"
)
AROUND: dict[str, Callable[[Any, Any], Any]] = {
    "layers": AdaptiveLayerLoss,
    "both": lambda model, loss: Matryoshka2dLoss(model, loss, [128, 64]),
}


@pytest.fixture(scope="module")
def splade(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    folder = tmp_path_factory.mktemp("splade")
    heads.build_splade(folder, "max", "relu")
    return SparseEncoder(str(folder), device="cpu")


def regularised(model: Any, kind: Any = SpladeLoss) -> Any:
    return kind(model, SparseMultipleNegativesRankingLoss(model), 1e-3, 1e-3)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", [SpladeLoss, CachedSpladeLoss])
def test_splade_has_no_layers_to_take_off(around: str, kind: Any, splade: SparseEncoder) -> None:
    with pytest.raises(ValueError, match=HEAD.format("fill-mask")):
        AROUND[around](splade, regularised(splade, kind))


def test_rerankers_have_no_layers_to_take_off(tmp_path: Path) -> None:
    heads.build_classifier("bert", tmp_path, 1)
    model = CrossEncoder(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match=HEAD.format("sequence-classification")):
        AdaptiveLayerLoss(model, BinaryCrossEntropyLoss(model))


@pytest.mark.parametrize("around", AROUND)
def test_an_autoencoder_on_a_dense_model_is_trained_behind_layers(around: str, tmp_path: Path) -> None:
    tiny.build_with_pooling("bert", tmp_path, "mean")
    model = SparseEncoder(str(tmp_path), device="cpu")
    features = [model.preprocess(texts) for texts in (["the cat", "a dog"], ["the cat sat", "a dog ran"])]
    found = AROUND[around](model, regularised(model))(features, None)
    assert set(found) == {"base_loss", "document_regularizer_loss", "query_regularizer_loss", "kl_div"}
    torch.stack(list(found.values())).sum().backward()
    assert all(any(one.grad is not None and bool(one.grad.any()) for one in model[at].parameters()) for at in (0, 2))
