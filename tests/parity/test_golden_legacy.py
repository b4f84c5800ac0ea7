"""Old datasets and readers give the recorded examples, and losses without labels the recorded values."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import legacy_facts as facts
import pytest

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import unsupervised
from sentence_transformers.training.legacy import data, parallel_data, readers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_legacy.json").read_text(encoding="ascii"))
SPACE = SimpleNamespace(**{k: v for one in (data, parallel_data, readers, unsupervised) for k, v in vars(one).items()})


@pytest.mark.parametrize("name", facts.READ)
def test_readers_give_the_recorded_examples(name: str, tmp_path: Path) -> None:
    assert facts.read(SPACE, name, tmp_path) == GOLDEN["read"][name]


@pytest.mark.parametrize("kind", ["unique", "grouped", "tension", "translations", "deleted"])
def test_seeds_draw_what_was_recorded(kind: str) -> None:
    assert facts.data(SPACE)[kind] == GOLDEN["data"][kind]


@pytest.mark.parametrize("name", facts.LOSSES)
def test_values_and_gradients_are_the_recorded_ones(name: str) -> None:
    found = facts.LOSSES[name](SPACE, lambda folder: SentenceTransformer(str(folder), device="cpu"))
    golden = GOLDEN["losses"][name]
    assert found["value"] == pytest.approx(golden["value"], rel=1e-7)
    assert found.get("config") == golden.get("config")
    for mine, recorded in zip(found["gradients"], golden["gradients"], strict=True):
        assert mine == pytest.approx(recorded, rel=1e-6, abs=1e-9)
