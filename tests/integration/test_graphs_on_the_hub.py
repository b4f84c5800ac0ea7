"""Graphs in repositories: the one that is used is fetched, an exported one can be uploaded; a Hub on a local port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny

from sentence_transformers import GraphEncoder, SentenceTransformer, export_dynamic_quantized_onnx_model
from tests.unit.hub.fake_hub import TOKEN, FakeHub

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

TEXTS = ["a dog", "two dogs in the sun", "rain"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A running Hub with ``acme/tiny``, which has two graphs; the cache of the test is empty."""
    import huggingface_hub.constants

    tiny.build("bert", tmp_path / "plain")
    model = SentenceTransformer(str(tmp_path / "plain"), backend="onnx")
    model.save_pretrained(tmp_path / "saved")
    files = {
        path.relative_to(tmp_path / "saved").as_posix(): path.read_bytes()
        for path in (tmp_path / "saved").rglob("*")
        if path.is_file()
    }
    other = onnx.load_from_string(files["onnx/model.onnx"])
    other.doc_string = "another file"  # what is the same is not fetched twice
    files["onnx/model_O3.onnx"] = other.SerializeToString()
    state = FakeHub()
    state.add("acme/tiny", files)
    server = state.start()
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "SENTENCE_TRANSFORMERS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", state.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    yield state
    server.shutdown()
    server.server_close()


def graphs(hub: FakeHub) -> list[str]:
    return [name for name in hub.fetched() if name.endswith(".onnx")]


def test_only_the_graph_that_is_used_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    exact = SentenceTransformer(str(tmp_path / "plain"), device="cpu").encode(TEXTS)
    model = SentenceTransformer("acme/tiny", backend="onnx")
    np.testing.assert_allclose(model.encode(TEXTS), exact, atol=1e-5)
    assert graphs(hub) == ["onnx/model.onnx"]
    np.testing.assert_allclose(GraphEncoder("acme/tiny").encode(TEXTS), exact, atol=1e-5)
    assert graphs(hub) == ["onnx/model.onnx"]  # from the cache
    other = SentenceTransformer("acme/tiny", backend="onnx", model_kwargs={"file_name": "onnx/model_O3.onnx"})
    np.testing.assert_allclose(other.encode(TEXTS), exact, atol=1e-5)
    assert graphs(hub) == ["onnx/model.onnx", "onnx/model_O3.onnx"]


def test_a_model_in_torch_fetches_no_graph(hub: FakeHub) -> None:
    SentenceTransformer("acme/tiny", device="cpu")
    assert graphs(hub) == []


def test_an_exported_graph_is_uploaded(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    model = SentenceTransformer("acme/tiny", backend="onnx")
    export_dynamic_quantized_onnx_model(model, "avx2", "acme/tiny", push_to_hub=True)
    commits = hub.repositories["acme/tiny"]
    assert "onnx/model_quint8_avx2.onnx" in commits.commits[commits.revisions["main"]]
