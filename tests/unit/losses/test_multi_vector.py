"""Losses on token vectors: their values and gradients by slow formulas, and that no way of running changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import losses_late_facts as facts
import pytest
import tiny_heads
import torch
from losses_checking import assert_same, trained, value_and_gradients
from torch import Tensor

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.losses.multi_vector import (
    CachedMultiVectorMultipleNegativesRankingLoss,
    MultiVectorDistillKLDivLoss,
    MultiVectorMarginMSELoss,
    MultiVectorMultipleNegativesRankingLoss,
    apart,
)
from sentence_transformers.losses.wrappers import MatryoshkaLoss
from sentence_transformers.ops.late_scores import XTRScores, colbert_scores
from tests.contracts.loss_cases import TEXTS

RANKING, CACHED = MultiVectorMultipleNegativesRankingLoss, CachedMultiVectorMultipleNegativesRankingLoss
KL, MARGIN = MultiVectorDistillKLDivLoss, MultiVectorMarginMSELoss
LABELS: dict[Any, Tensor | None] = {RANKING: None, CACHED: None, KL: facts.SCORES[:, :2], MARGIN: facts.MARGINS}
EVERY = [pytest.param(kind, id=kind.__name__) for kind in LABELS]
PLAIN = [pytest.param(kind, id=kind.__name__) for kind in (RANKING, KL, MARGIN)]
EXPANSION = {"query_expansion": {"strategy": "fixed", "length": 12, "attend": False}}


def columns(count: int, barely: bool = False) -> list[dict[str, Any]]:
    return [facts.features(place, barely and place < 2) for place in range(count)]


def outcome(loss: Any, given: list[dict[str, Any]], labels: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
    """The loss, and the gradients of all token vectors; by ``backward``, which a gradient cache waits for."""
    leaves = [column["given"].clone().requires_grad_() for column in given]
    value = loss([{**column, "given": leaf} for column, leaf in zip(given, leaves, strict=True)], labels)
    value.backward()
    return value.detach(), [leaf.grad for leaf in leaves]


def assert_agrees(loss: Any, given: list[dict[str, Any]], labels: Tensor | None, slow: Callable[..., Tensor]) -> None:
    """``slow`` gets of each column a list of (t_i, D)."""

    def compute(leaves: list[Tensor]) -> Tensor:
        masks = [column.get("kept", column["attention_mask"]).bool() for column in given]
        return slow(*([row[real] for row, real in zip(*pair, strict=True)] for pair in zip(leaves, masks, strict=True)))

    found, expected = outcome(loss, given, labels), value_and_gradients(compute, [one["given"] for one in given])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


# --- slow formulas ---------------------------------------------------------------------------------------------------


def score(query: Tensor, document: Tensor) -> Tensor:
    """ColBERT's: for every token of the query the largest product, summed."""
    return torch.stack([torch.stack([token @ other for other in document]).max() for token in query]).sum()


def slow_ranking(queries: list[Tensor], *documents: list[Tensor], scale: float = 1.0) -> Tensor:
    losses = []
    for i, query in enumerate(queries):
        candidates = torch.stack([scale * score(query, one) for column in documents for one in column])
        losses.append(candidates.exp().sum().log() - scale * score(query, documents[0][i]))
    return torch.stack(losses).mean()


def slow_kl(
    labels: Tensor, queries: list[Tensor], *documents: list[Tensor], own: float = 1.0, teacher: float = 1.0
) -> Tensor:
    losses = []
    for i, query in enumerate(queries):
        scores = torch.stack([score(query, column[i]) for column in documents]) / own
        wanted = (labels[i] / teacher).exp() / (labels[i] / teacher).exp().sum()
        losses.append((wanted * (wanted.log() - (scores.exp() / scores.exp().sum()).log())).sum())
    return torch.stack(losses).mean() * own**2


def slow_margin(labels: Tensor, queries: list[Tensor], *documents: list[Tensor]) -> Tensor:
    squares = []
    for i, query in enumerate(queries):
        positive, *negatives = (score(query, column[i]) for column in documents)
        squares += [(positive - one - labels[i][j]) ** 2 for j, one in enumerate(negatives)]
    return torch.stack(squares).mean()


@pytest.mark.parametrize("barely", [False, True])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", [RANKING, CACHED])
def test_ranking_is_that_of_the_formula(kind: Any, count: int, barely: bool) -> None:
    assert_agrees(kind(facts.Given()), columns(count, barely), None, slow_ranking)


def test_scale_multiplies_the_scores() -> None:
    loss = RANKING(facts.Given(), scale=0.3)
    assert_agrees(loss, columns(3), None, lambda *given: slow_ranking(*given, scale=0.3))


@pytest.mark.parametrize("barely", [False, True])
@pytest.mark.parametrize(("own", "teacher"), [(1.0, 1.0), (3.0, 0.5)])
def test_kl_is_that_of_the_formula(own: float, teacher: float, barely: bool) -> None:
    loss = KL(facts.Given(), student_temperature=own, teacher_temperature=teacher)
    assert_agrees(
        loss, columns(4, barely), facts.SCORES, lambda *given: slow_kl(facts.SCORES, *given, own=own, teacher=teacher)
    )


@pytest.mark.parametrize("barely", [False, True])
@pytest.mark.parametrize("labels", [facts.MARGINS, facts.SCORES[:, :1]])
def test_margins_are_those_of_the_formula(labels: Tensor, barely: bool) -> None:
    wanted = labels.reshape(-1, 1)
    assert_agrees(MARGIN(facts.Given()), columns(3, barely), labels, lambda *given: slow_margin(wanted, *given))


def test_scores_of_the_teacher_stand_for_their_margins() -> None:
    margins = facts.SCORES[:, :1] - facts.SCORES[:, 1:]
    assert_agrees(MARGIN(facts.Given()), columns(4), facts.SCORES, lambda *given: slow_margin(margins, *given))


# --- what counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY)
def test_tokens_that_do_not_count_have_no_part(kind: Any) -> None:
    given = columns(3, barely=True)
    value, gradients = outcome(kind(facts.Given()), given, LABELS[kind])
    for column, gradient in zip(given, gradients, strict=True):
        kept = column.get("kept", column["attention_mask"]).bool()
        assert not gradient[~kept].any()
        column["given"] = torch.where(kept[..., None], column["given"], 1e6)
    torch.testing.assert_close(outcome(kind(facts.Given()), given, LABELS[kind])[0], value, rtol=1e-14, atol=0)


def test_a_vector_of_zeros_counts_if_its_token_does() -> None:
    given = columns(2)
    given[0]["given"][0], given[1]["given"][0, 0] = -1.0, 0.0
    given[1]["given"][0, 1:] = 1.0 + torch.arange(5.0)[:, None]  # all other products are below 0
    assert_agrees(RANKING(facts.Given()), given, None, slow_ranking)


@pytest.mark.parametrize("kind", PLAIN)
def test_scores_are_asked_with_masks(kind: Any) -> None:
    seen: list[Any] = []

    def remember(queries: Tensor, documents: Tensor, **masks: Tensor) -> Tensor:
        seen.append((queries.shape, documents.shape, {name: (mask.shape, mask.dtype) for name, mask in masks.items()}))
        return usual(queries, documents, **masks)

    usual = kind(facts.Given()).similarity_fct
    kind(facts.Given(), similarity_fct=remember)(columns(3), LABELS[kind])
    queries, documents, masks = seen[0]
    assert queries == (5, 4, 4)
    assert documents == ((5, 6, 4) if kind is MARGIN else (5, 2, 6, 4))
    assert masks == {"queries_mask": (queries[:-1], torch.bool), "documents_mask": (documents[:-1], torch.bool)}


@pytest.mark.parametrize("kind", EVERY)
def test_the_first_column_is_queries_the_others_are_documents(kind: Any) -> None:
    model = facts.Given()
    kind(model)(columns(3), LABELS[kind])
    assert model.tasks == [("query", 5), ("document", 5), ("document", 5)]


def test_features_may_name_another_task() -> None:
    model, given = facts.Given(), columns(3)
    given[0]["task"], given[2]["task"] = "document", "query"
    RANKING(model)(given)
    assert [task for task, _ in model.tasks] == ["document", "document", "query"]
    assert "task" not in given[1]


# --- running in parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("kind", EVERY)
def test_small_parts_change_nothing(kind: Any, size: int) -> None:
    model = facts.Given()
    expected = outcome(kind(model), columns(3), LABELS[kind])
    model.tasks.clear()
    found = outcome(kind(model, mini_batch_size=size), columns(3), LABELS[kind])
    assert max(rows for _, rows in model.tasks) == min(size, 5)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("similarity", [colbert_scores, XTRScores(4)])
@pytest.mark.parametrize("kind", [RANKING, CACHED])
@pytest.mark.parametrize("size", [1, 2, 5, 50])
def test_scoring_few_queries_at_once_changes_nothing(kind: Any, size: int, similarity: Any) -> None:
    seen: list[int] = []

    def remember(queries: Tensor, *given: Any, **masks: Any) -> Tensor:
        seen.append(len(queries))
        found: Tensor = similarity(queries, *given, **masks)
        return found

    expected = outcome(RANKING(facts.Given(), similarity_fct=similarity), columns(3), None)
    loss = kind(facts.Given(), similarity_fct=remember, score_mini_batch_size=size)
    torch.testing.assert_close(outcome(loss, columns(3), None), expected, rtol=1e-13, atol=1e-13)
    assert max(seen) == min(size, 5)


def test_what_was_scored_at_once_is_not_kept() -> None:
    def kept(loss: Any) -> set[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: shapes.append(one.shape) or one, lambda one: one):
            loss(columns(3))
        return {shape[1:] for shape in shapes}

    of_every_pair = (4, 10)  # tokens of the queries, documents
    assert of_every_pair in kept(RANKING(facts.Given()))
    assert of_every_pair not in kept(RANKING(facts.Given(), score_mini_batch_size=1))


def test_the_cached_loss_scores_as_many_queries_as_inputs_at_once() -> None:
    assert CACHED(facts.Given(), mini_batch_size=7).score_mini_batch_size == 7
    assert CACHED(facts.Given(), mini_batch_size=7, score_mini_batch_size=3).score_mini_batch_size == 3


def test_a_limit_of_tokens_changes_nothing() -> None:
    model = facts.Given()
    expected = outcome(RANKING(model), columns(3), None)
    found = outcome(CACHED(model, mini_batch_num_tokens=6), columns(3), None)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


# --- a small model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def late_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MultiVectorEncoder]:
    root = tmp_path_factory.mktemp("late")

    def build(family: str = "bert", **settings: Any) -> MultiVectorEncoder:
        folder = root / f"{family}-{len(list(root.iterdir()))}"
        return MultiVectorEncoder(str(tiny_heads.build_late(family, folder, **settings)), device="cpu").double().eval()

    return build


def preprocessed(model: Any) -> list[dict[str, Any]]:
    tasks = ("query", "document", "document")
    return [
        model.preprocess(texts, prompt=model.prompts[task], task=task) for texts, task in zip(TEXTS, tasks, strict=True)
    ]


@pytest.mark.parametrize("settings", [{}, EXPANSION, {"pooled": True}], ids=["plain", "expanded", "pooled"])
@pytest.mark.parametrize("sizes", [{"mini_batch_size": 1}, {"mini_batch_size": 4}, {"mini_batch_num_tokens": 30}])
def test_values_and_gradients_with_a_cache_are_those_without(late_model: Any, settings: Any, sizes: Any) -> None:
    model = late_model(**settings)
    features = preprocessed(model)
    expected = trained(RANKING(model), features, None)
    assert len(expected[1]) > 40
    assert all(gradient.isfinite().all() for gradient in expected[1].values())
    assert_same(trained(CACHED(model, **sizes), features, None), expected)


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
@pytest.mark.parametrize("kind", PLAIN)
def test_small_parts_of_texts_change_nothing(late_model: Any, kind: Any, family: str) -> None:
    model = late_model(family, **EXPANSION) if family == "bert" else late_model(family)
    features, labels = preprocessed(model), torch.linspace(-1, 1, 12).reshape(6, 2) if kind is not RANKING else None
    assert_same(
        trained(kind(model, mini_batch_size=2), features, labels), trained(kind(model), features, labels), 1e-11
    )


@pytest.mark.parametrize("settings", [{}, EXPANSION, {"pooled": True}], ids=["plain", "expanded", "pooled"])
def test_embeddings_are_those_of_encode(late_model: Any, settings: Any) -> None:
    model = late_model(**settings)
    loss, seen = RANKING(model), []
    loss.compute_loss_from_embeddings = lambda embeddings, labels: seen.extend(embeddings) or embeddings[0].sum()
    loss(preprocessed(model))
    encoded = [model.encode_query(TEXTS[0]), *(model.encode_document(texts) for texts in TEXTS[1:])]
    for column, rows in zip(seen, encoded, strict=True):
        vectors, kept = apart(column)
        for found, real, expected in zip(vectors, kept, rows, strict=True):
            torch.testing.assert_close(found[real], expected, rtol=1e-10, atol=1e-10)


def test_documents_are_run_at_once_and_apart_from_queries(late_model: Any) -> None:
    model, seen = late_model(), []
    features = preprocessed(model)
    hook = model[0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0]["input_ids"])))
    RANKING(model)(features)
    hook.remove()
    assert seen == [6, 12]


@pytest.mark.parametrize("kind", EVERY)
def test_without_gradients_the_value_is_the_same(late_model: Any, kind: Any) -> None:
    model = late_model(**EXPANSION)
    labels = None if LABELS[kind] is None else torch.linspace(-1, 1, 12).reshape(6, 2)
    loss, features = kind(model, mini_batch_size=4), preprocessed(model)
    expected = loss(features, labels)
    with torch.no_grad():
        torch.testing.assert_close(loss(features, labels), expected.detach(), rtol=1e-10, atol=1e-10)


def test_half_precision_keeps_which_tokens_count(late_model: Any) -> None:
    model = late_model().bfloat16()
    features = preprocessed(model)
    column = RANKING(model).embed({**features[1], "task": "document"})
    assert column.dtype == torch.bfloat16
    assert [int(real.sum()) for real in apart(column)[1]] == [len(one) for one in model.encode_document(TEXTS[1])]


@pytest.mark.parametrize("kind", [RANKING, CACHED])
def test_alone_there_is_nothing_to_gather(kind: Any) -> None:
    assert_agrees(kind(facts.Given(), gather_across_devices=True), columns(3), None, slow_ranking)


# --- what is refused, and what is told -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RANKING, CACHED])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_must_be_positive(kind: Any, scale: float) -> None:
    with pytest.raises(ValueError, match="Scale must be a positive value"):
        kind(facts.Given(), scale=scale)


@pytest.mark.parametrize("kind", EVERY)
def test_parts_have_at_least_one_row(kind: Any) -> None:
    with pytest.raises(ValueError, match="mini_batch_size must be a positive integer, got 0"):
        kind(facts.Given(), mini_batch_size=0)


@pytest.mark.parametrize("kind", [RANKING, CACHED])
def test_at_least_one_query_is_scored_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="score_mini_batch_size must be a positive integer, got 0"):
        kind(facts.Given(), score_mini_batch_size=0)


def test_temperatures_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"teacher_temperature must be a positive finite number, got 0\.0"):
        KL(facts.Given(), teacher_temperature=0.0)


@pytest.mark.parametrize(
    ("kind", "count", "message"),
    [
        (RANKING, 1, "at least 2 columns"),
        (CACHED, 1, "at least 2 columns"),
        (KL, 2, "MultiVectorDistillKLDivLoss expects at least 3 columns"),
        (MARGIN, 2, "MultiVectorMarginMSELoss expects at least 3 columns"),
    ],
)
def test_columns_that_are_missing_are_named(kind: Any, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(facts.Given())(columns(count), facts.SCORES[:, : count - 1])


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        (KL, facts.MARGINS, r"teacher scores of shape \(batch_size, N\) = \(5, 2\)"),
        (KL, None, "but got None"),
        (MARGIN, facts.SCORES, "does not match expected shape"),
        (MARGIN, None, "teacher's margins or scores"),
    ],
)
def test_labels_of_another_shape_are_refused(kind: Any, labels: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(facts.Given())(columns(3), labels)


@pytest.mark.parametrize("size", [None, 2])
def test_scores_of_the_own_documents_alone_are_refused(size: int | None) -> None:
    def own(queries: Tensor, documents: Tensor, **masks: Tensor) -> Tensor:
        return colbert_scores(queries, documents, **masks)[:, :2]

    with pytest.raises(ValueError, match=r"must score every query with every document, \([52], 10\)"):
        RANKING(facts.Given(), similarity_fct=own, score_mini_batch_size=size)(columns(3))


def test_columns_of_several_lengths_are_refused() -> None:
    given = columns(2)
    given[1] = {name: value[:3] for name, value in given[1].items()}
    with pytest.raises(ValueError, match=r"same number of rows, got \[5, 3\]"):
        RANKING(facts.Given())(given)


def test_a_loss_that_narrows_embeddings_is_refused(late_model: Any) -> None:
    model = late_model()
    loss = MatryoshkaLoss(model, RANKING(model), [16, 8])
    with pytest.raises(ValueError, match="MatryoshkaLoss or AdaptiveLayerLoss, cannot be around it"):
        loss(preprocessed(model))


def test_settings_are_written_down() -> None:
    assert RANKING(facts.Given(), scale=2.0).get_config_dict() == {
        "scale": 2.0,
        "similarity_fct": "colbert_scores",
        "mini_batch_size": None,
        "score_mini_batch_size": None,
        "gather_across_devices": False,
    }
    assert CACHED(facts.Given(), mini_batch_size=3).get_config_dict() == {
        "scale": 1.0,
        "similarity_fct": "colbert_scores",
        "mini_batch_size": 3,
        "mini_batch_num_tokens": None,
        "score_mini_batch_size": 3,
        "gather_across_devices": False,
        "show_progress_bar": False,
    }
    assert KL(facts.Given(), temperature=2.0).get_config_dict()["similarity_fct"] == "colbert_kd_scores"
    assert MARGIN(facts.Given()).get_config_dict() == {
        "similarity_fct": "colbert_scores_pairwise",
        "mini_batch_size": None,
    }


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (RANKING, "henderson2017efficient"),
        (CACHED, "gao2021scaling"),
        (KL, "santhanam2022colbertv2"),
        (MARGIN, "hofstaetter2020margin"),
    ],
)
def test_citations(kind: Any, key: str) -> None:
    assert f"{{{key},\n" in kind(facts.Given()).citation
