"""Values and gradients of the pointwise and contrastive losses of rerankers are the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import losses_cross_facts as facts
import pytest
import tiny_heads
from losses_pairs_facts import namespace

from sentence_transformers import CrossEncoder
from sentence_transformers.losses.cross import contrastive, pointwise

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses_cross.json").read_text(encoding="ascii"))
LOSSES = namespace(pointwise, contrastive)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, CrossEncoder]:
    """By the number of their labels."""
    folder = tmp_path_factory.mktemp("classifiers")
    return {
        count: facts.spread(
            CrossEncoder(str(tiny_heads.build_classifier("bert", folder / str(count), count)), device="cpu")
        )
        for count in (1, 3)
    }


def assert_same(found: dict[str, Any], golden: dict[str, Any], name: str) -> None:
    tolerance = 1e-5 if name.startswith("binary") else 1e-9  # this one the reference computes in float32
    assert found["loss"] == pytest.approx(golden["loss"], rel=tolerance)
    assert found["gradients"].keys() == golden["gradients"].keys()
    assert len(golden["gradients"]) == 3
    for parameter, theirs in golden["gradients"].items():
        ours = found["gradients"][parameter]
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance * theirs[1]), parameter


@pytest.mark.parametrize("name", facts.CASES)
def test_values_and_gradients_are_the_recorded_ones(name: str, models: dict[int, CrossEncoder]) -> None:
    found = facts.evaluated(LOSSES, name, models[facts.labels_of(name)])
    assert_same(found, GOLDEN["cases"][name], name)


@pytest.mark.parametrize("name", facts.PROMPTED)
def test_prompts_are_put_where_they_were(name: str, models: dict[int, CrossEncoder]) -> None:
    found = facts.evaluated(LOSSES, name, models[1], facts.PROMPT)
    assert_same(found, GOLDEN["prompted"][name], name)
    assert GOLDEN["prompted"][name]["loss"] != GOLDEN["cases"][name]["loss"]


@pytest.mark.parametrize("name", facts.REFUSED)
def test_what_is_refused_is_told_in_the_same_words(name: str, models: dict[int, CrossEncoder]) -> None:
    assert GOLDEN["refused"][name]
    assert facts.refused(LOSSES, name, models).startswith(GOLDEN["refused"][name])
