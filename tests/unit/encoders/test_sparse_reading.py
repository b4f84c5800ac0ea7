"""What one reads off sparse vectors: words and weights, formats of search engines, sparsity, what two texts share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_heads as heads
import torch
from torch import Tensor

from sentence_transformers import SparseEncoder
from tests.unit.encoders.folders import TEXTS


@pytest.fixture(scope="module")
def splade(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    """Shared by all tests; don't change it."""
    return SparseEncoder(str(heads.build_masked("bert", tmp_path_factory.mktemp("masked"))), device="cpu")


def vector(model: SparseEncoder, weights: dict[str, float], sparse: bool = False) -> Tensor:
    """(V,) with these weights of words."""
    out = torch.zeros(model.get_embedding_dimension() or 0)
    for word, weight in weights.items():
        out[model.tokenizer.convert_tokens_to_ids(word)] = weight
    return out.to_sparse() if sparse else out


WEIGHTS = {"sat": 0.5, "and": 2.0, "the": 1.25, "[SEP]": 0.25}


# --- decode and token_weights


@pytest.mark.parametrize("sparse", [True, False])
def test_words_come_by_falling_weight(sparse: bool, splade: SparseEncoder) -> None:
    found = splade.decode(vector(splade, WEIGHTS, sparse))
    assert found == [("and", 2.0), ("the", 1.25), ("sat", 0.5), ("[SEP]", 0.25)]


def test_only_so_many_words_of_each_row(splade: SparseEncoder) -> None:
    rows = torch.stack([vector(splade, WEIGHTS), vector(splade, {"sat": 1.0}), vector(splade, {})])
    assert splade.decode(rows, top_k=2) == [[("and", 2.0), ("the", 1.25)], [("sat", 1.0)], []]


def test_a_batch_of_one_stays_a_batch(splade: SparseEncoder) -> None:
    assert splade.decode(vector(splade, WEIGHTS)[None], top_k=1) == [[("and", 2.0)]]
    assert splade.token_weights(vector(splade, WEIGHTS)[None], top_k=1) == [{"and": 2.0}]


def test_token_weights_are_what_decode_says(splade: SparseEncoder) -> None:
    assert splade.token_weights(vector(splade, WEIGHTS)) == WEIGHTS
    assert list(splade.token_weights(vector(splade, WEIGHTS), top_k=2)) == ["and", "the"]
    rows = splade.encode(TEXTS)
    assert splade.token_weights(rows) == [dict(row) for row in splade.decode(rows)]


def test_token_weights_can_be_written_as_json(splade: SparseEncoder) -> None:
    found = splade.token_weights(splade.encode(TEXTS))
    assert json.loads(json.dumps(found)) == found
    assert all(type(weight) is float for row in found for weight in row.values())


def test_token_weights_hold_every_value_of_the_vector(splade: SparseEncoder) -> None:
    rows = splade.encode(TEXTS)
    again = torch.stack([vector(splade, row) for row in splade.token_weights(rows)])
    assert torch.equal(again, rows.to_dense())


def test_embeddings_of_half_precision_can_be_read(splade: SparseEncoder) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        assert splade.token_weights(vector(splade, WEIGHTS).to(dtype)) == WEIGHTS


def test_numbers_beyond_the_tokenizer_have_no_word(tmp_path: Path) -> None:
    """Vocabularies of models are often rounded up; as in the reference, the word is None."""
    model = SparseEncoder(
        str(tiny.build("bert", tmp_path, model_class="BertForMaskedLM", settings={"vocab_size": 200})), device="cpu"
    )
    assert len(model.tokenizer) < 199
    weights = torch.zeros(200)
    weights[199], weights[model.tokenizer.convert_tokens_to_ids("sat")] = 2, 1
    assert model.decode(weights) == [(None, 2.0), ("sat", 1.0)]


def test_added_tokens_have_their_words(tmp_path: Path) -> None:
    folder = heads.build_masked("bert", tmp_path)
    model = SparseEncoder(str(folder), device="cpu")
    model.tokenizer.add_tokens(["newword"])
    at = model.tokenizer.convert_tokens_to_ids("newword")
    assert model.decode(torch.eye(at + 1)[at]) == [("newword", 1.0)]


def test_looked_up_queries_are_read_with_the_words_of_the_documents(tmp_path: Path) -> None:
    routed = SparseEncoder(str(heads.build_inference_free(tmp_path)), device="cpu")
    words = routed.token_weights(routed.encode_query("the dog"))
    assert words.keys() == {"the", *routed.tokenizer.tokenize("dog")}
    assert all(weight > 0 for weight in words.values())


# --- formats of search engines


def test_scipy_matrix(splade: SparseEncoder) -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rows = splade.encode(TEXTS)
    found = splade.to_scipy_csr(rows)
    assert scipy_sparse.isspmatrix_csr(found)
    assert (found.shape, found.nnz, found.dtype) == (tuple(rows.shape), rows.values().numel(), np.float32)
    np.testing.assert_array_equal(found.toarray(), rows.to_dense().numpy())


def test_scipy_scores_are_those_of_the_model(splade: SparseEncoder) -> None:
    pytest.importorskip("scipy.sparse")
    rows = splade.encode(TEXTS)
    matrix = splade.to_scipy_csr(rows)
    np.testing.assert_allclose((matrix @ matrix.T).toarray(), splade.similarity(rows, rows), rtol=2e-6)


def test_scipy_is_named_where_it_is_missing(splade: SparseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"to_scipy_csr\(\) needs scipy.*sentence-transformers\[sparse\]"):
        splade.to_scipy_csr(splade.encode(TEXTS))


def test_indices_and_values(splade: SparseEncoder) -> None:
    rows = splade.encode(TEXTS)
    found = splade.to_indices_values(rows)
    assert len(found) == len(TEXTS)
    for (indices, values), row in zip(found, rows.to_dense(), strict=True):
        assert (indices.dtype, values.dtype) == (np.int32, np.float32)
        assert indices.tolist() == row.nonzero()[:, 0].tolist()
        assert values.tolist() == row[row > 0].tolist()


def test_indices_and_values_of_one_vector_are_one_row(splade: SparseEncoder) -> None:
    ((indices, values),) = splade.to_indices_values(vector(splade, {"sat": 0.5}))
    assert indices.tolist() == [splade.tokenizer.convert_tokens_to_ids("sat")]
    assert values.tolist() == [0.5]


def test_lists_of_vectors_are_refused_in_words(splade: SparseEncoder) -> None:
    rows = splade.encode(TEXTS, convert_to_tensor=False)
    for read in (splade.decode, splade.token_weights, splade.to_scipy_csr, splade.to_indices_values):
        with pytest.raises(TypeError, match="Expected torch.Tensor, got <class 'list'>"):
            read(rows)


# --- sparsity, and what two texts share


def test_sparsity_counts_the_words_of_a_text(splade: SparseEncoder) -> None:
    rows = splade.encode(TEXTS)
    words = [len(row) for row in splade.decode(rows)]
    found = splade.sparsity(rows)
    assert found["active_dims"] == sum(words) / len(words)
    assert found["sparsity_ratio"] == pytest.approx(1 - found["active_dims"] / rows.shape[1], rel=1e-12)


def test_no_model_is_needed_to_count_and_to_export() -> None:
    rows = torch.tensor([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 4.0]])
    assert SparseEncoder.sparsity(rows) == {"active_dims": 1.5, "sparsity_ratio": 0.625}
    assert SparseEncoder.intersection(rows[0], rows[1]).to_dense().tolist() == [0, 0, 0, 4]
    assert [values.tolist() for _, values in SparseEncoder.to_indices_values(rows)] == [[2, 1], [4]]


def test_what_two_texts_share_explains_their_score(splade: SparseEncoder) -> None:
    query, documents = splade.encode("the cat"), splade.encode(TEXTS)
    shared = splade.decode(splade.intersection(query, documents))
    scores = splade.similarity(query, documents)[0]
    np.testing.assert_allclose([sum(weight for _, weight in row) for row in shared], scores, rtol=2e-6)
    assert {word for row in shared for word, _ in row} <= splade.token_weights(query).keys()
