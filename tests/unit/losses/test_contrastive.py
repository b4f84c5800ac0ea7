"""Losses with in-batch negatives against loops over candidates, written from the papers."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import losses_gathering
import pytest
import torch
import torch.nn.functional as F
from losses_checking import assert_agrees, assert_same, cosine, relu, trained
from losses_contrastive_facts import ALL_SETS, HARDNESS, SYMMETRIC
from losses_pairs_facts import Given, column
from torch import Tensor, nn

from sentence_transformers.losses.contrastive import (
    CachedMultipleNegativesRankingLoss,
    CachedMultipleNegativesSymmetricRankingLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
    MultipleNegativesSymmetricRankingLoss,
    info_nce,
)
from sentence_transformers.losses.wrappers import MatryoshkaLoss
from sentence_transformers.ops.similarity import dot_score

ROWS = 5
COLUMNS = [column(seed, rows=ROWS) for seed in range(4)]
DEPRECATED = [
    (MultipleNegativesSymmetricRankingLoss, MultipleNegativesRankingLoss),
    (CachedMultipleNegativesSymmetricRankingLoss, CachedMultipleNegativesRankingLoss),
]


class Layers(nn.Module):
    """Two layers on given numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6)).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": self.layers(features["given"])}


def features(count: int) -> list[dict[str, Any]]:
    return [{"given": one} for one in COLUMNS[:count]]


def slow_ranking(
    *columns: Tensor,
    scale: float = 20.0,
    directions: tuple[str, ...] = ("query_to_doc",),
    partition_mode: str = "joint",
    hardness_mode: str | None = None,
    hardness_strength: float = 0.0,
) -> Tensor:
    queries, *documents = columns
    losses = []
    for i, query in enumerate(queries):
        sums: dict[str, Any] = dict.fromkeys(directions, 0)
        for j, other in enumerate(queries):
            if j != i and "query_to_query" in sums:
                sums["query_to_query"] += (scale * cosine(query, other)).exp()
            if "doc_to_query" in sums:
                sums["doc_to_query"] += (scale * cosine(documents[0][i], other)).exp()
            for place, some in enumerate(documents):
                closeness = cosine(query, some[j])
                hard = {
                    "in_batch_negatives": j != i,
                    "hard_negatives": j == i and place > 0,
                    "all_negatives": j != i or place > 0,
                    None: False,
                }[hardness_mode]
                weight = (hardness_strength * closeness.detach()).exp() if hard else 1
                sums["query_to_doc"] += weight * (scale * closeness).exp()
                if j != i and "doc_to_doc" in sums:
                    sums["doc_to_doc"] += (scale * cosine(documents[0][i], some[j])).exp()
        positive = (scale * cosine(query, documents[0][i])).exp()
        if partition_mode == "joint":
            losses.append(-(positive / sum(sums.values())).log())
        else:
            losses.append(torch.stack([-(positive / one).log() for one in sums.values()]).mean())
    return torch.stack(losses).mean()


# --- ranking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("directions", ALL_SETS)
def test_candidates_are_those_of_the_directions(directions: tuple[str, ...], count: int) -> None:
    loss = MultipleNegativesRankingLoss(Given(), directions=directions)
    assert_agrees(loss, COLUMNS[:count], None, lambda *some: slow_ranking(*some, directions=directions))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("partition", ["joint", "per_direction"])
@pytest.mark.parametrize("mode", HARDNESS)
def test_hard_negatives_weigh_more(mode: str, partition: str, count: int) -> None:
    settings: dict[str, Any] = {
        "directions": SYMMETRIC, "partition_mode": partition, "hardness_mode": mode, "hardness_strength": 2.5,
    }  # fmt: skip
    loss = MultipleNegativesRankingLoss(Given(), 3.0, **settings)
    assert_agrees(loss, COLUMNS[:count], None, lambda *some: slow_ranking(*some, scale=3.0, **settings))


def test_hardness_without_strength_changes_nothing() -> None:
    loss = MultipleNegativesRankingLoss(Given(), hardness_mode="all_negatives")
    assert_agrees(loss, COLUMNS, None, slow_ranking)


def test_each_direction_has_a_loss_of_its_own() -> None:
    settings: dict[str, Any] = {"directions": SYMMETRIC, "partition_mode": "per_direction"}
    loss = MultipleNegativesRankingLoss(Given(), **settings)
    assert_agrees(loss, COLUMNS[:3], None, lambda *some: slow_ranking(*some, **settings))


def test_pairs_are_classified_as_by_cross_entropy() -> None:
    a, p = COLUMNS[:2]
    expected = F.cross_entropy(0.5 * a @ p.T, torch.arange(ROWS))
    found = MultipleNegativesRankingLoss(Given(), 0.5, dot_score).compute_loss_from_embeddings([a, p])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_hand_value() -> None:
    # cosines: 1 and 0 for the first anchor, 0 and 1 for the second
    two = torch.eye(2, dtype=torch.float64)
    found = MultipleNegativesRankingLoss(Given(), 2.0).compute_loss_from_embeddings([two, two])
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2.0)), rel=1e-12)


def test_directions_count_once_and_in_any_order() -> None:
    twice = MultipleNegativesRankingLoss(Given(), directions=["doc_to_doc", "query_to_doc", "query_to_doc"])
    assert_agrees(twice, COLUMNS, None, lambda *some: slow_ranking(*some, directions=("query_to_doc", "doc_to_doc")))


def test_one_row_has_no_negatives_and_a_gradient_of_zero() -> None:
    leaves = [one[:1].clone().requires_grad_() for one in COLUMNS[:2]]
    directions = ("query_to_doc", "query_to_query", "doc_to_doc")
    value = MultipleNegativesRankingLoss(Given(), directions=directions).compute_loss_from_embeddings(leaves)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    for leaf in leaves:
        torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf), rtol=0, atol=1e-12)


def test_very_different_logits_do_not_overflow() -> None:
    blocks = [torch.tensor([[1e5, -1e5, -torch.inf]]), torch.tensor([[-torch.inf, 3.0]])]
    assert info_nce(blocks, torch.tensor([1e5])).item() == 0


def test_labels_are_ignored() -> None:
    loss = MultipleNegativesRankingLoss(Given())
    assert torch.equal(loss(features(2), torch.arange(ROWS)), loss(features(2)))


@pytest.mark.parametrize("size", [1, 2, 50])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"directions": ALL_SETS[-1], "hardness_mode": "all_negatives", "hardness_strength": 2.0},
        {"directions": SYMMETRIC, "partition_mode": "per_direction"},
    ],
)
def test_the_cached_form_changes_nothing(settings: dict[str, Any], size: int) -> None:
    model = Layers()
    plain = trained(MultipleNegativesRankingLoss(model, **settings), features(4), None)
    assert_same(
        trained(CachedMultipleNegativesRankingLoss(model, mini_batch_size=size, **settings), features(4), None), plain
    )


@pytest.mark.parametrize("cached", [True, False])
def test_several_widths_are_summed(cached: bool) -> None:
    model = Layers()
    inner = (
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=2) if cached else MultipleNegativesRankingLoss(model)
    )
    value = MatryoshkaLoss(model, inner, [6, 3])(features(3))
    embeddings = [model(one)["sentence_embedding"] for one in features(3)]
    expected = sum(slow_ranking(*(one[:, :width] for one in embeddings)) for width in (6, 3))
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("deprecated", "instead"), DEPRECATED)
def test_symmetric_losses_are_deprecated_names_of_a_setting(deprecated: Any, instead: Any) -> None:
    message = f"{instead.__name__} with `directions=\\('query_to_doc', 'doc_to_query'\\)` and `partition_mode='per_dir"
    model = Layers()
    with pytest.warns(DeprecationWarning, match=message) as caught:
        loss = deprecated(model, 7.0)
    assert caught[0].filename == __file__
    assert isinstance(loss, instead)
    expected = instead(model, 7.0, directions=SYMMETRIC, partition_mode="per_direction")
    assert_same(trained(loss, features(3), None), trained(expected, features(3), None))


def test_cached_settings_are_taken_by_place() -> None:
    def dot(x: Tensor, y: Tensor) -> Tensor:
        return x @ y.T

    loss = CachedMultipleNegativesRankingLoss(
        Given(), 3.0, dot, 4, 90, True, SYMMETRIC, "per_direction", True, "all_negatives", 0.5
    )
    assert loss.get_config_dict() == {
        "scale": 3.0, "similarity_fct": "dot", "mini_batch_size": 4, "mini_batch_num_tokens": 90,
        "gather_across_devices": True, "directions": list(SYMMETRIC), "partition_mode": "per_direction",
        "show_progress_bar": True, "hardness_mode": "all_negatives", "hardness_strength": 0.5,
    }  # fmt: skip
    assert loss.uses_gradient_cache


def test_the_deprecated_cached_form_takes_its_settings_by_place() -> None:
    with pytest.warns(DeprecationWarning):
        loss = CachedMultipleNegativesSymmetricRankingLoss(Given(), 3.0, dot_score, 4, 90, True, True)
    assert loss.get_config_dict() == {
        "scale": 3.0, "similarity_fct": "dot_score", "mini_batch_size": 4, "mini_batch_num_tokens": 90,
        "gather_across_devices": True, "show_progress_bar": True,
    }  # fmt: skip


def test_temperature_is_the_inverse_of_the_scale() -> None:
    loss = MultipleNegativesRankingLoss(Given(), scale=20.0)
    assert loss.temperature == 0.05
    loss.scale = 4.0
    assert loss.temperature == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "Scale must be a positive value, got 0"),
        ({"scale": -1.0}, "Scale must be a positive value"),
        ({"scale": math.nan}, "Scale must be a positive value, got nan"),
        ({"directions": ()}, "At least one direction must be specified"),
        ({"directions": ("doc_to_query",)}, "'query_to_doc' direction is required"),
        ({"directions": ("query_to_doc", "doc_to_dog")}, "got 'doc_to_dog'. Did you mean 'doc_to_doc'"),
        ({"partition_mode": "apart"}, "partition_mode must be .*'joint', 'per_direction'; got 'apart'"),
        (
            {"partition_mode": "per_direction", "directions": ("query_to_doc", "doc_to_doc")},
            "partition_mode='per_direction' requires every direction's candidates to include the positive pair",
        ),
        ({"hardness_mode": "soft"}, "hardness_mode must be one of .*got 'soft'"),
        ({"hardness_mode": "all_negatives", "hardness_strength": -1}, "hardness_strength must be non-negative, got -1"),
        ({"hardness_strength": math.nan}, "hardness_strength must be non-negative"),
    ],
)
@pytest.mark.parametrize("kind", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss])
def test_settings_that_cannot_be_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(Given(), **settings)


def test_hardness_without_strength_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        MultipleNegativesRankingLoss(Given(), hardness_mode="hard_negatives")
    assert "hardness_mode='hard_negatives' has no effect with hardness_strength=0.0" in caplog.text


@pytest.mark.parametrize("kind", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss])
def test_one_column_is_too_few(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} expects at least 2 columns .*but got 1"):
        kind(Given())(features(1))


def test_columns_with_other_numbers_of_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have the same number of rows, got \[5, 3\]"):
        MultipleNegativesRankingLoss(Given())([{"given": COLUMNS[0]}, {"given": COLUMNS[1][:3]}])


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (MultipleNegativesRankingLoss, "oord2018representation"),
        (CachedMultipleNegativesRankingLoss, "gao2021scaling"),
        (MegaBatchMarginLoss, "wieting2018paranmt"),
    ],
)
def test_citations(kind: Any, key: str) -> None:
    assert f"{{{key},\n" in kind(Given()).citation


@pytest.mark.parametrize("kind", [kind for kind, _ in DEPRECATED])
def test_citations_of_the_deprecated(kind: Any) -> None:
    with pytest.warns(DeprecationWarning):
        assert "title" in kind(Given()).citation


# --- several processes -----------------------------------------------------------------------------------------------


def test_two_processes_are_as_one_with_the_rows_of_both(tmp_path: Path) -> None:
    script, package = Path(losses_gathering.__file__), Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, str(script), str(rank), "2", str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    joined = losses_gathering.results(slice(None))
    assert halves[0].keys() == joined.keys() == losses_gathering.CASES.keys()
    for name, expected in joined.items():
        for one, other, whole in zip(halves[0][name], halves[1][name], expected, strict=True):
            # what wrappers for several processes do with losses and gradients: take the mean
            torch.testing.assert_close((one + other) / 2, whole, rtol=1e-11, atol=1e-11, msg=name)


def test_alone_there_is_nothing_to_gather() -> None:
    gathering = MultipleNegativesRankingLoss(Given(), gather_across_devices=True)
    assert_agrees(gathering, COLUMNS[:3], None, slow_ranking)


# --- margins ---------------------------------------------------------------------------------------------------------


def slow_margin(anchors: Tensor, positives: Tensor, positive: float = 0.8, negative: float = 0.3) -> Tensor:
    losses = []
    for i, anchor in enumerate(anchors):
        others = [cosine(anchor, one) for j, one in enumerate(positives) if j != i]
        losses.append(relu(positive - cosine(anchor, positives[i])) + (relu(max(others) - negative) if others else 0))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_positives_are_near_and_others_far(rows: int) -> None:
    loss = MegaBatchMarginLoss(Given(), use_mini_batched_version=False)
    assert_agrees(loss, [one[:rows] for one in COLUMNS[:2]], None, slow_margin)


def test_margins_can_be_set() -> None:
    loss = MegaBatchMarginLoss(Given(), 0.2, -0.4, False)
    assert_agrees(loss, COLUMNS[:2], None, lambda *some: slow_margin(*some, 0.2, -0.4))


@pytest.mark.parametrize("size", [1, 2, 50])
def test_the_mini_batched_version_changes_nothing(size: int) -> None:
    model = Layers()
    plain = trained(MegaBatchMarginLoss(model, use_mini_batched_version=False), features(2), None)
    assert_same(trained(MegaBatchMarginLoss(model, mini_batch_size=size), features(2), None), plain)


@pytest.mark.parametrize(("mini", "sizes"), [(True, [2, 2, 1, 2, 2, 1]), (False, [5, 5])])
def test_the_mini_batched_version_runs_parts(mini: bool, sizes: list[int]) -> None:
    seen: list[int] = []

    class Counting(Given):
        def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            seen.append(len(features["given"]))
            return super().forward(features)

    loss = MegaBatchMarginLoss(Counting(), use_mini_batched_version=mini, mini_batch_size=2)
    assert loss.uses_gradient_cache is mini
    loss(features(2))
    assert seen == sizes


@pytest.mark.parametrize("mini", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_margins_need_two_columns(count: int, mini: bool) -> None:
    with pytest.raises(ValueError, match=f"MegaBatchMarginLoss expects 2 columns .*but got {count}"):
        MegaBatchMarginLoss(Given(), use_mini_batched_version=mini)(features(count))


def test_settings_of_margins_are_taken_by_place() -> None:
    assert MegaBatchMarginLoss(Given(), 0.7, 0.2, False, 3, 40, True).get_config_dict() == {
        "positive_margin": 0.7, "negative_margin": 0.2, "use_mini_batched_version": False, "mini_batch_size": 3,
        "mini_batch_num_tokens": 40, "show_progress_bar": True,
    }  # fmt: skip
