"""GraphEncoder: the answers of the other encoders, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_heads
import torch
from sentence_transformers.sentence_transformer.modules import LSTM, Dense, Normalize

from sentence_transformers import CrossEncoder, GraphEncoder, SentenceTransformer, SparseEncoder

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

CHECKOUT = Path(__file__).resolve().parents[3]
TEXTS = ["a dog", "two dogs and a cat sleep in the sun", "rain", "the train to the coast is late again today", "a"]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))


@pytest.fixture
def exact(tmp_path: Path) -> SentenceTransformer:
    tiny.build("bert", tmp_path / "plain")
    model = SentenceTransformer(str(tmp_path / "plain"), device="cpu", prompts={"query": "find: ", "document": "of: "})
    torch.manual_seed(0)
    model.append(Dense(int(model.get_embedding_dimension() or 0), 8))
    model.append(Normalize())
    model.save(tmp_path / "dense")
    return model


@pytest.fixture
def folder(exact: SentenceTransformer, tmp_path: Path) -> str:
    SentenceTransformer(str(tmp_path / "dense"), backend="onnx").save_pretrained(tmp_path / "graph")
    return str(tmp_path / "graph")


def close(found: Any, wanted: Any, atol: float = 1e-5) -> None:
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=0, atol=atol)


def test_dense(folder: str, exact: SentenceTransformer) -> None:
    model = GraphEncoder(folder)
    close(model.encode(TEXTS), exact.encode(TEXTS))
    close(model.encode(TEXTS[0]), exact.encode(TEXTS[0]))
    close(model.encode(TEXTS, batch_size=2, truncate_dim=3), exact.encode(TEXTS, truncate_dim=3))
    close(model.encode_query(TEXTS), exact.encode_query(TEXTS))
    close(model.encode_document(TEXTS), exact.encode_document(TEXTS))
    close(model.encode(TEXTS, prompt="x "), exact.encode(TEXTS, prompt="x "))
    close(
        model.encode(TEXTS, truncate_dim=3, normalize_embeddings=True),
        exact.encode(TEXTS, truncate_dim=3, normalize_embeddings=True),
    )
    embeddings = model.encode(TEXTS)
    close(model.similarity(embeddings, embeddings), exact.similarity(embeddings, embeddings))
    assert model.encode([]).shape[0] == 0
    assert model.max_seq_length == exact.max_seq_length


def test_openvino(tmp_path: Path, exact: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    SentenceTransformer(str(tmp_path / "dense"), backend="openvino").save_pretrained(tmp_path / "graph")
    close(GraphEncoder(str(tmp_path / "graph"), backend="openvino").encode(TEXTS), exact.encode(TEXTS))


def test_a_reranker(tmp_path: Path) -> None:
    tiny_heads.build_classifier("bert", tmp_path / "reranker")
    exact = CrossEncoder(str(tmp_path / "reranker"), device="cpu")
    CrossEncoder(str(tmp_path / "reranker"), backend="onnx").save_pretrained(tmp_path / "graph")
    model = GraphEncoder(str(tmp_path / "graph"))
    close(model.predict(PAIRS), exact.predict(PAIRS))
    found, wanted = model.rank(TEXTS[0], TEXTS, top_k=3), exact.rank(TEXTS[0], TEXTS, top_k=3)
    assert [hit["corpus_id"] for hit in found] == [hit["corpus_id"] for hit in wanted]
    with pytest.raises(ValueError, match="use predict or rank"):
        model.encode(TEXTS)


def test_a_sparse_encoder(tmp_path: Path) -> None:
    tiny_heads.build_splade(tmp_path / "splade", "max", "relu")
    SparseEncoder(str(tmp_path / "splade"), backend="onnx").save_pretrained(tmp_path / "graph")
    exact = SparseEncoder(str(tmp_path / "splade"), device="cpu")
    close(GraphEncoder(str(tmp_path / "graph")).encode(TEXTS), exact.encode(TEXTS).to_dense())


def test_a_graph_of_another_exporter(tmp_path: Path) -> None:
    """Hidden states only: the pooling is done here."""
    import onnx

    tiny.build("bert", tmp_path / "plain")
    exact = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    exact.append(Normalize())
    exact.save(tmp_path / "graph")
    SentenceTransformer(str(tmp_path / "graph"), backend="onnx").save_pretrained(tmp_path / "graph")
    path = str(tmp_path / "graph" / "onnx" / "model.onnx")
    graph = onnx.load(path)
    del graph.metadata_props[:]
    onnx.save(graph, path)
    close(GraphEncoder(str(tmp_path / "graph")).encode(TEXTS), exact.encode(TEXTS))


def test_too_long(folder: str, caplog: Any) -> None:
    model = GraphEncoder(folder, max_seq_length=4)
    model.encode(TEXTS)
    assert "3 of 5 inputs are longer than max_seq_length = 4 tokens" in caplog.text
    with pytest.raises(ValueError, match="longer than max_seq_length = 4"):
        model.encode(TEXTS, on_truncate="error")


def test_many_threads(folder: str) -> None:
    model = GraphEncoder(folder)
    wanted = model.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: model.encode(TEXTS), range(16)):
            close(found, wanted, 1e-6)


def test_refusals(folder: str, tmp_path: Path) -> None:
    model = GraphEncoder(folder)
    with pytest.raises(TypeError, match="one of them is int"):
        model.encode([1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="Prompt name 'nobody' not found"):
        model.encode(TEXTS, "nobody")
    with pytest.raises(ValueError, match="use encode"):
        model.predict(PAIRS)
    with pytest.raises(FileNotFoundError, match="export=False"):
        GraphEncoder(str(tmp_path / "dense"))
    with pytest.raises(ValueError, match="backend must be one of 'onnx', 'openvino'; got 'torch'"):
        GraphEncoder(folder, backend="torch")


def test_a_module_that_needs_torch(tmp_path: Path) -> None:
    tiny.build("bert", tmp_path / "plain")
    model = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    model.insert(1, LSTM(int(model.get_embedding_dimension() or 0), 4))
    model[2] = type(model[2])(8, "mean")
    model.save(tmp_path / "lstm")
    SentenceTransformer(str(tmp_path / "lstm"), backend="onnx").save_pretrained(tmp_path / "lstm")
    with pytest.raises(ValueError, match="ends before the module LSTM, which needs torch"):
        GraphEncoder(str(tmp_path / "lstm"))


def test_a_fresh_process_imports_neither_torch_nor_transformers(folder: str, exact: SentenceTransformer) -> None:
    code = (
        "import json, sys; from sentence_transformers import GraphEncoder; "
        f"found = GraphEncoder({folder!r}).encode({TEXTS[:3]!r}); "
        "heavy = [name for name in ('torch', 'transformers', 'onnx', 'scipy') if name in sys.modules]; "
        "print(json.dumps([found.tolist(), heavy]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    found, heavy = json.loads(done.stdout)
    assert heavy == []
    close(np.array(found, dtype=np.float32), exact.encode(TEXTS[:3]))
