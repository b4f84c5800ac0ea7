"""backend="onnx" and "openvino": the same answers as torch for every encoder, and everything one does with a model."""

from __future__ import annotations

import copy
import logging
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_heads
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.backend.graphs.session import OnnxSession, OpenVinoSession
from sentence_transformers.encoders import graphs
from sentence_transformers.errors import ModelFileError

pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

TEXTS = ["a dog", "two dogs and a cat sleep in the sun", "rain", "the train to the coast is late again today", "a"]
BACKENDS = ["onnx", "openvino"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    if name == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return name


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A dense model: transformer, mean, dense layer, normalisation."""
    path = tmp_path / "dense"
    tiny.build("bert", path)
    model = SentenceTransformer(str(path), device="cpu")
    torch.manual_seed(0)
    model.append(Dense(int(model.get_embedding_dimension() or 0), 8))
    model.append(Normalize())
    model.prompts["query"] = "find: "
    model.save(path)
    return str(path)


def close(found: Any, wanted: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=atol)


def test_exported_saved_and_opened_again(backend: str, folder: str, tmp_path: Path, caplog: Any) -> None:
    exact = SentenceTransformer(folder, device="cpu")
    with caplog.at_level(logging.WARNING):
        model = SentenceTransformer(folder, backend=backend)
    assert "exporting the model" in caplog.text
    assert model.get_backend() == backend
    close(model.encode(TEXTS), exact.encode(TEXTS))
    close(model.encode_query(TEXTS[0]), exact.encode_query(TEXTS[0]))
    model.save_pretrained(tmp_path / "saved")
    names = {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*")}
    assert {"onnx/model.onnx"} if backend == "onnx" else {"openvino/openvino_model.xml"} < names
    assert "model.safetensors" in names
    caplog.clear()
    again = SentenceTransformer(str(tmp_path / "saved"), backend=backend)
    assert "exporting" not in caplog.text
    close(again.encode(TEXTS), exact.encode(TEXTS))
    close(SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), exact.encode(TEXTS))


def test_the_modules_in_the_graph_are_left_out_until_they_change(backend: str, folder: str) -> None:
    exact, model = SentenceTransformer(folder, device="cpu"), SentenceTransformer(folder, backend=backend)
    assert graphs._held(model) == 3
    called: list[int] = []
    handle = model[1].register_forward_hook(lambda *args: called.append(1))
    close(model.encode(TEXTS), exact.encode(TEXTS))
    assert called and graphs._held(model) == 0
    handle.remove()
    assert graphs._held(model) == 3
    with torch.no_grad():
        for encoder in (model, exact):
            encoder[2].linear.weight.mul_(-0.5)
    assert graphs._held(model) == 0
    close(model.encode(TEXTS), exact.encode(TEXTS))
    del model[3], exact[3]
    close(model.encode(TEXTS), exact.encode(TEXTS))


def test_token_embeddings_and_all_features(backend: str, folder: str) -> None:
    exact, model = SentenceTransformer(folder, device="cpu"), SentenceTransformer(folder, backend=backend)
    for found, wanted in zip(
        model.encode(TEXTS, output_value="token_embeddings"),
        exact.encode(TEXTS, output_value="token_embeddings"),
        strict=True,
    ):
        close(found, wanted)
    assert set(model.encode(TEXTS, output_value=None)[0]) == set(exact.encode(TEXTS, output_value=None)[0])
    features = model(model.preprocess(TEXTS))
    close(features["sentence_embedding"].detach(), exact.encode(TEXTS))


def test_texts_without_tokens(backend: str, tmp_path: Path) -> None:
    folder = str(tiny.build("llama", tmp_path / "llama"))
    exact = SentenceTransformer(folder, device="cpu").encode(["", *TEXTS])
    close(SentenceTransformer(folder, backend=backend).encode(["", *TEXTS]), exact)


@pytest.mark.parametrize("family", ["roberta", "mpnet", "modernbert", "qwen3"])
def test_other_families(family: str, tiny_folder: Callable[[str], Path]) -> None:
    exact = SentenceTransformer(str(tiny_folder(family)), device="cpu")
    model = SentenceTransformer(str(tiny_folder(family)), backend="onnx")
    assert model.max_seq_length == exact.max_seq_length
    close(model.encode(TEXTS, normalize_embeddings=True), exact.encode(TEXTS, normalize_embeddings=True))


def test_a_reranker(backend: str, tmp_path: Path) -> None:
    folder = str(tiny_heads.build_classifier("bert", tmp_path / "reranker", 3))
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    close(CrossEncoder(folder, backend=backend).predict(pairs), CrossEncoder(folder, device="cpu").predict(pairs))


def test_splade(backend: str, tmp_path: Path) -> None:
    folder = str(tiny_heads.build_splade(tmp_path / "splade", "max", "relu"))
    exact, model = SparseEncoder(folder, device="cpu"), SparseEncoder(folder, backend=backend)
    assert graphs._held(model) == 1
    close(model.encode(TEXTS).to_dense(), exact.encode(TEXTS).to_dense())
    close(model.encode(TEXTS, max_active_dims=5).to_dense(), exact.encode(TEXTS, max_active_dims=5).to_dense())


def test_late_interaction(backend: str, tmp_path: Path) -> None:
    folder = str(tiny_heads.build_late("bert", tmp_path / "late"))
    exact, model = MultiVectorEncoder(folder, device="cpu"), MultiVectorEncoder(folder, backend=backend)
    for found, wanted in zip(model.encode(TEXTS), exact.encode(TEXTS), strict=True):
        close(found, wanted)


def test_a_generative_reranker(tmp_path: Path) -> None:
    folder = str(tiny_heads.build_answering_saved(tmp_path / "answering"))
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    close(CrossEncoder(folder, backend="onnx").predict(pairs), CrossEncoder(folder, device="cpu").predict(pairs))


def test_many_threads(backend: str, folder: str) -> None:
    model = SentenceTransformer(folder, backend=backend)
    wanted = [model.encode(TEXTS[i:] + TEXTS[:i]) for i in range(5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: model.encode(TEXTS[i % 5 :] + TEXTS[: i % 5]), range(20)))
    for i, each in enumerate(found):
        close(each, wanted[i % 5], 1e-6)


def test_copies(backend: str, folder: str) -> None:
    model = SentenceTransformer(folder, backend=backend)
    wanted = model.encode(TEXTS)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    del model
    for other in others:
        close(other.encode(TEXTS), wanted, 1e-6)


def test_as_a_torch_module(folder: str, caplog: Any) -> None:
    model = SentenceTransformer(folder, backend="onnx")
    assert model[0].auto_model.config.model_type == "bert"
    assert {name.partition(".")[0] for name in model.state_dict()} == {"2"}  # the dense layer; the graph keeps its own
    features = model.preprocess(TEXTS)
    given = {name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in features}
    assert model[0].auto_model(**given).last_hidden_state.shape[:2] == features["input_ids"].shape
    assert "2 modules" not in repr(model)
    model.train()
    with pytest.raises(RuntimeError, match="backend='onnx' cannot be trained: open the model with backend='torch'"):
        model(features)
    with pytest.raises(ValueError, match="computes a graph, not Linear"):
        model[0].auto_model = torch.nn.Linear(1, 1)
    SentenceTransformer(folder, backend="onnx", device="meta")
    assert "device='meta' is ignored" in caplog.text


def test_from_modules(folder: str) -> None:
    transformer = Transformer(folder, backend="onnx")
    model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "cls")])
    assert model.get_backend() == "onnx"
    exact = SentenceTransformer(modules=[Transformer(folder), Pooling(transformer.get_embedding_dimension(), "cls")])
    close(model.encode(TEXTS), exact.encode(TEXTS))


def test_a_graph_of_another_exporter(folder: str, tmp_path: Path) -> None:
    """As optimum writes them: hidden states only, and nothing that the graph says of itself."""
    import onnx

    SentenceTransformer(folder, backend="onnx").save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "onnx" / "model.onnx"
    graph = onnx.load(str(path))
    del graph.metadata_props[:]
    kept = [output for output in graph.graph.output if output.name == "last_hidden_state"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    onnx.save(graph, str(path))
    model = SentenceTransformer(str(tmp_path / "other"), backend="onnx")
    assert graphs._held(model) == 0
    close(model.encode(TEXTS), SentenceTransformer(folder, device="cpu").encode(TEXTS))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"backend": "tflite"}, ValueError, "backend must be one of 'torch', 'onnx', 'openvino'; got 'tflite'"),
        ({"backend": "onnx", "model_kwargs": {"provider": "X"}}, ValueError, "must be one of those of the installed"),
        ({"backend": "onnx", "model_kwargs": {"quantize": "int8"}}, ValueError, "cannot be had with backend='onnx'"),
        ({"backend": "onnx", "model_kwargs": {"dtype": "float16"}}, ValueError, "cannot be had with backend='onnx'"),
        ({"backend": "onnx", "model_kwargs": {"export": False}}, FileNotFoundError, "and export=False"),
        ({"backend": "onnx", "model_kwargs": {"file_name": "x.xml"}}, ValueError, "must end in '.onnx'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], message: str, folder: str) -> None:
    with pytest.raises(error, match=message):
        SentenceTransformer(folder, **settings)


def test_openvino_settings(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text('{"INFERENCE_NUM_THREADS": 1}')
    for config in ({"INFERENCE_NUM_THREADS": 1}, str(tmp_path / "config.json")):
        model = SentenceTransformer(folder, backend="openvino", model_kwargs={"ov_config": config})
        assert model.encode(TEXTS).shape == (5, 8)
    assert any((tmp_path / "cache").rglob("*.blob"))
    for settings, message in (({"ov_config": "nowhere.json"}, "there is no 'nowhere.json'"), ({"device": "X"}, "'X'")):
        with pytest.raises(ValueError, match=message):
            SentenceTransformer(folder, backend="openvino", model_kwargs=settings)


def test_an_architecture_that_cannot_be_drawn(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="Only a Transformer of one of the families .*albert"):
        SentenceTransformer(str(tiny_folder("albert")), backend="onnx")


def test_a_missing_runtime(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "sentence-transformers\[onnx\]"'):
        SentenceTransformer(folder, backend="onnx")


@pytest.mark.parametrize("kind", [OnnxSession, OpenVinoSession])
def test_a_damaged_file(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    path = tmp_path / ("model.onnx" if kind is OnnxSession else "openvino_model.xml")
    path.write_bytes(b"no graph")
    with pytest.raises(ModelFileError, match="cannot open it"):
        kind(path)


@pytest.mark.parametrize(("inputs", "outputs", "message"), [
    (["input_ids", "past_key_values.0.key"], ["last_hidden_state"], "found input_ids, past_key_values.0.key"),
    (["input_ids", "attention_mask"], ["pooler"], "expected an output among .* found pooler"),
])  # fmt: skip
def test_a_graph_with_other_names(inputs: list[str], outputs: list[str], message: str, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])

    nodes = [helper.make_node("Identity", inputs[:1], outputs[:1])]
    graph = helper.make_graph(nodes, "test", [value(name) for name in inputs], [value(name) for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ModelFileError, match=message):
        OnnxSession(tmp_path / "model.onnx")


def test_a_file_for_other_instructions_is_warned_of(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    import builtins
    import io

    SentenceTransformer(folder, backend="onnx").save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "onnx" / "model.onnx"
    path = path.rename(path.with_name("model_qint8_avx512_vnni.onnx"))
    real = builtins.open

    def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
        return io.StringIO("flags : sse avx2\n") if file == "/proc/cpuinfo" else real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", opened)
    OnnxSession(path)
    assert "was made for avx512_vnni, which this processor does not have" in caplog.text


def test_openvino_keeps_compiled_graphs_apart_by_their_properties(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    SentenceTransformer(folder, backend="openvino").save_pretrained(tmp_path / "saved")
    exact = SentenceTransformer(folder, device="cpu").encode(TEXTS)
    for hint, atol in (("f32", 1e-5), ("bf16", 0.05), ("f32", 1e-5), ("bf16", 0.05)):
        settings = {"ov_config": {"INFERENCE_PRECISION_HINT": hint}}
        model = SentenceTransformer(str(tmp_path / "saved"), backend="openvino", model_kwargs=settings)
        close(model.encode(TEXTS), exact, atol)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_the_graph_anew(folder: str) -> None:
    model = SentenceTransformer(folder, backend="onnx")
    graph = model[0].pretrained
    before = graph.network()
    assert graph.network() is before
    graph._process = -1  # as a child sees it
    assert graph.network() is not before
    assert model.encode(TEXTS).shape == (5, 8)
