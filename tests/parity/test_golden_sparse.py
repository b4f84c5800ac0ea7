"""SparseEncoder against the numbers that ``record_encoders.py`` took from the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encoder_facts as facts
import pytest
import tiny_heads as heads
import torch
from comparing import GOLDEN, assert_close, assert_fact, assert_sparse, rebuilt
from numpy.testing import assert_allclose
from sentence_transformers.sparse_encoder.modules import SpladePooling

from sentence_transformers import SparseEncoder

REAL: dict[str, Any] = GOLDEN["sparse"]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> _Masked:
    return _Masked(tmp_path_factory.mktemp("masked"))


class _Masked(dict[str, SparseEncoder]):
    """Name -> model, filled by the tests as they need them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> SparseEncoder:
        recorded = GOLDEN["masked"][name]["fingerprint"]
        path = rebuilt(lambda folder: heads.build_masked(name, folder), self.folder / name, recorded)
        self[name] = SparseEncoder(str(path), device="cpu")
        return self[name]


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    folder = tmp_path_factory.mktemp("routes")
    path = rebuilt(heads.build_inference_free, folder, REAL["routed_query"]["fingerprint"])
    return SparseEncoder(str(path), device="cpu")


@pytest.fixture(scope="module")
def csr(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    path = rebuilt(heads.build_csr, tmp_path_factory.mktemp("csr"), REAL["csr"]["fingerprint"])
    return SparseEncoder(str(path), device="cpu")


@pytest.fixture(scope="module")
def csr_normalize(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    folder = tmp_path_factory.mktemp("csr_normalize")
    path = rebuilt(lambda at: heads.build_csr(at, True), folder, REAL["csr_normalize"]["fingerprint"])
    return SparseEncoder(str(path), device="cpu")


def test_every_masked_model_is_recorded() -> None:
    assert set(GOLDEN["masked"]) == set(heads.MASKED)


@pytest.mark.parametrize("name", heads.MASKED)
def test_masked_model_has_the_same_weights(name: str, masked: _Masked) -> None:
    golden = GOLDEN["masked"][name]
    assert_sparse(masked[name].encode(facts.TEXTS[: len(golden["rows"])]), golden)


@pytest.mark.parametrize("name", heads.MASKED)
def test_masked_model_has_the_same_weights_one_by_one(name: str, masked: _Masked) -> None:
    golden = GOLDEN["masked"][name]
    alone = [masked[name].encode(text).to_dense() for text in facts.TEXTS[: len(golden["rows"])]]
    assert_sparse(torch.stack(alone), golden)


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_splade_pooling(strategy: str, activation: str, tmp_path: Path) -> None:
    model = SparseEncoder(str(heads.build_splade(tmp_path, strategy, activation)), device="cpu")
    assert_sparse(model.encode(facts.TEXTS[:4]), REAL[f"{strategy}-{activation}"])


def test_splade_pooling_in_chunks_of_tokens(masked: _Masked) -> None:
    model = masked["bert"]
    model.splade_pooling_chunk_size = 5
    try:
        assert_sparse(model.encode(facts.TEXTS), GOLDEN["masked"]["bert"])
    finally:
        model.splade_pooling_chunk_size = None


def test_max_active_dims(masked: _Masked) -> None:
    assert_sparse(masked["bert"].encode(facts.TEXTS, max_active_dims=8), REAL["max_active_dims"])


def test_max_active_dims_of_the_model(masked: _Masked) -> None:
    model = SparseEncoder(modules=list(masked["bert"]), max_active_dims=8, device="cpu")
    assert_sparse(model.encode(facts.TEXTS), REAL["max_active_dims"])


def test_query_prompt(masked: _Masked) -> None:
    model = SparseEncoder(modules=list(masked["bert"]), prompts={"query": facts.INSTRUCTION}, device="cpu")
    assert_sparse(model.encode_query(facts.TEXTS[:2]), REAL["query_prompt"])


def test_inference_free_queries(routed: SparseEncoder) -> None:
    assert_sparse(routed.encode_query(facts.TEXTS), REAL["routed_query"])


def test_inference_free_documents(routed: SparseEncoder) -> None:
    assert_sparse(routed.encode_document(facts.TEXTS[:3]), REAL["routed_document"])


def test_inference_free_similarity(routed: SparseEncoder) -> None:
    scores = routed.similarity(routed.encode_query(facts.TEXTS), routed.encode_document(facts.TEXTS))
    golden = torch.tensor(REAL["routed_similarity"], dtype=torch.float64)
    assert_allclose(scores.numpy(), golden, rtol=0, atol=5e-6 * golden.max().item())


def test_auto_encoder(csr: SparseEncoder) -> None:
    assert_sparse(csr.encode(facts.TEXTS), REAL["csr"])


def test_auto_encoder_that_normalizes(csr_normalize: SparseEncoder) -> None:
    assert_sparse(csr_normalize.encode(facts.TEXTS), REAL["csr_normalize"])


def test_auto_encoder_with_fewer_dimensions(csr_normalize: SparseEncoder) -> None:
    assert_sparse(csr_normalize.encode(facts.TEXTS, max_active_dims=3), REAL["csr_3"])


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(name: str, masked: _Masked) -> None:
    model = SparseEncoder(modules=list(masked["bert"]), similarity_fn_name=name, device="cpu")
    rows, golden = model.encode(facts.TEXTS), REAL[f"similarity_{name}"]
    found, matrix = model.similarity(rows, rows).double(), torch.tensor(golden["matrix"], dtype=torch.float64)
    if name == "euclidean":  # the distance of a row to itself is the root of a rounding error
        assert found.diagonal().abs().max() < 5e-3
        found, matrix = (scores.fill_diagonal_(0) for scores in (found, matrix))
    assert_allclose(found, matrix, rtol=0, atol=5e-6 * matrix.abs().max().item())
    pairs = model.similarity_pairwise(model.encode(facts.TEXTS[:3]), model.encode(facts.TEXTS[3:]))
    assert_close(pairs, golden["pairwise"])


def test_decode(masked: _Masked) -> None:
    found = masked["bert"].decode(masked["bert"].encode(facts.TEXTS), top_k=5)
    assert [[token for token, _ in row] for row in found] == [[token for token, _ in row] for row in REAL["decode"]]
    assert_close([[weight for _, weight in row] for row in found], [[w for _, w in row] for row in REAL["decode"]])


def test_sparsity(masked: _Masked) -> None:
    assert masked["bert"].sparsity(masked["bert"].encode(facts.TEXTS)) == pytest.approx(REAL["sparsity"], rel=1e-6)


def test_intersection(masked: _Masked) -> None:
    rows = masked["bert"].encode(facts.TEXTS)
    assert_sparse(masked["bert"].intersection(rows[0], rows), REAL["intersection"])


@pytest.mark.parametrize(("call", "says"), facts.SPARSE.items())
def test_fact(call: str, says: str, masked: _Masked, routed: SparseEncoder, csr: SparseEncoder) -> None:
    rows = masked["bert"].encode(["the cat", "a dog"])
    names = {
        "m": masked["bert"], "cls": SparseEncoder, "path": str(masked.folder / "bert"), "rows": rows,
        "dense": rows.to_dense(), "routed": routed, "csr": csr, "SpladePooling": SpladePooling,
    }  # fmt: skip
    assert_fact(call, says, GOLDEN["facts_sparse"][call], names)
