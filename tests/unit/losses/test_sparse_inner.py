"""The losses inside of those of sparse encoders: dense ones with other defaults, which do not train alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from losses_sparse_facts import INNER, Handed, column
from torch import nn

from sentence_transformers.losses import contrastive, distillation, pairs, sparse, sparse_inner, triplets
from sentence_transformers.ops.similarity import dot_score, pairwise_dot_score

ONLY_INSIDE = {
    "SparseMultipleNegativesRankingLoss": contrastive.MultipleNegativesRankingLoss,
    "SparseMarginMSELoss": distillation.MarginMSELoss,
    "SparseDistillKLDivLoss": distillation.DistillKLDivLoss,
    "SparseTripletLoss": triplets.TripletLoss,
    "SparseCoSENTLoss": pairs.CoSENTLoss,
    "SparseAnglELoss": pairs.AnglELoss,
    "SparseCosineSimilarityLoss": pairs.CosineSimilarityLoss,
}
CHANGED = {
    "SparseMultipleNegativesRankingLoss": {"scale": 1.0, "similarity_fct": dot_score},
    "SparseDistillKLDivLoss": {"temperature": 2.0},
}
COSINE = {"SparseCoSENTLoss", "SparseAnglELoss", "SparseCosineSimilarityLoss"}


def parameters(kind: type[Any]) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(kind).parameters.items()}


@pytest.mark.parametrize("name", ONLY_INSIDE)
def test_alone_they_are_refused(name: str) -> None:
    loss = getattr(sparse_inner, name)(Handed())
    message = f"{name} should not be used alone. Use it with SpladeLoss or CSRLoss"
    with pytest.raises(AttributeError, match=message):
        loss([{"given": column(0)}, {"given": column(1)}], None)
    with pytest.raises(AttributeError, match=message):
        loss([{"given": column(0)}])


@pytest.mark.parametrize("name", ONLY_INSIDE)
def test_they_take_the_arguments_of_the_dense_loss(name: str) -> None:
    expected = parameters(ONLY_INSIDE[name]) | CHANGED.get(name, {})
    assert list(parameters(getattr(sparse_inner, name)).items()) == list(expected.items())


@pytest.mark.parametrize("name", ONLY_INSIDE)
def test_they_are_computed_as_the_dense_loss(name: str) -> None:
    model = Handed()
    place = next(case for case in INNER.values() if case[0] == name)
    embeddings = [column(one) for one in range(place[2])]
    found = getattr(sparse_inner, name)(model).compute_loss_from_embeddings(embeddings, place[3])
    dense = ONLY_INSIDE[name](model, **CHANGED.get(name, {}))
    torch.testing.assert_close(found, dense.compute_loss_from_embeddings(embeddings, place[3]), rtol=0, atol=0)


@pytest.mark.parametrize("name", ONLY_INSIDE)
def test_losses_on_cosines_make_the_model_compare_by_them(name: str) -> None:
    model = Handed()
    getattr(sparse_inner, name)(model)
    assert model.similarity_fn_name == ("cosine" if name in COSINE else "dot")


def test_the_encoder_inside_a_wrapped_one_is_told() -> None:
    model = Handed()
    around = nn.Module()
    around.module = model
    sparse_inner.SparseCoSENTLoss(around)
    assert model.similarity_fn_name == "cosine"


def test_configuration_and_citation() -> None:
    loss = sparse_inner.SparseDistillKLDivLoss(Handed())
    assert loss.get_config_dict() == {
        "similarity_fct": "pairwise_dot_score",
        "temperature": 2.0,
        "student_temperature": 2.0,
        "teacher_temperature": 2.0,
    }
    assert loss.similarity_fct is pairwise_dot_score
    assert loss.citation == distillation.DistillKLDivLoss(Handed()).citation


def test_the_teachers_embeddings_may_be_learnt_alone() -> None:
    features, teacher = [{"given": column(0)}], column(5)
    found = sparse.SparseMSELoss(Handed())(features, teacher)
    assert found.item() == pytest.approx((column(0) - teacher).square().mean().item())
    with pytest.raises(ValueError, match="requires pre-computed teacher embeddings as labels"):
        sparse.SparseMSELoss(Handed())(features, None)
