"""Parts and gradients of the losses of sparse encoders are the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import losses_sparse_facts as facts
import pytest
import tiny_heads
from losses_pairs_facts import namespace

from sentence_transformers import SparseEncoder
from sentence_transformers.losses import sparse, sparse_inner

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses_sparse.json").read_text(encoding="ascii"))
LOSSES = namespace(sparse_inner, sparse)


def assert_golden(found: dict[str, Any], golden: dict[str, Any], rel: float) -> None:
    assert list(found["parts"]) == list(golden["parts"])
    assert found["parts"] == pytest.approx(golden["parts"], rel=rel, abs=rel)
    assert found["gradients"].keys() == golden["gradients"].keys()
    assert golden["gradients"]
    for name, theirs in golden["gradients"].items():
        assert found["gradients"][name] == pytest.approx(theirs, rel=10 * rel, abs=10 * rel), name


@pytest.mark.parametrize("name", facts.SPLADE)
def test_splade_is_as_recorded(name: str) -> None:
    found = facts.sparse(LOSSES, name)
    assert_golden(found, GOLDEN[name], 1e-6)
    assert found["similarity"] == GOLDEN[name]["similarity"]


@pytest.mark.parametrize("name", facts.CSR)
def test_csr_is_as_recorded(name: str) -> None:
    assert_golden(facts.reconstructed(LOSSES, name), GOLDEN[name], 1e-6)


@pytest.mark.parametrize("name", facts.TRAINED)
def test_a_small_model_gets_the_recorded_gradients(name: str, tmp_path: Path) -> None:
    model = SparseEncoder(str(facts.folder_of(tiny_heads, name, tmp_path / "model")), device="cpu").double().eval()
    assert_golden(facts.trained(LOSSES, name, model), GOLDEN[name], 1e-6)
