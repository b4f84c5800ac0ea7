"""Exports of whole encoders: where the files go, what they are called, how near 8-bit numbers come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_heads

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.backend.graphs.facts import EMBEDDING, IDS, KEY, LOGITS, MASK, STATES, TYPES, Facts
from sentence_transformers.encoders import exporting
from sentence_transformers.encoders.exporting import (
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from tests.integration.snippets import serve_dataset

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

TEXTS = [
    "A man is eating food.", "The girl carries a baby through the park.", "Someone rides a horse.", "Two dogs",
    "Cheetahs run behind their prey in the morning, and sleep at night.", "An orchestra plays.", "Rain!",
]  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(model: Any, path: Path, name: str = EMBEDDING) -> np.ndarray[Any, Any]:
    """What the graph says of every text of ``TEXTS``, alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = [model.preprocess([text]) for text in TEXTS]
    feeds = [{key: row[key].numpy() for key in (IDS, MASK, TYPES) if key in row} for row in made]
    return np.concatenate([session.run([name], feed)[0] for feed in feeds])


def cosines(left: Any, right: Any) -> np.ndarray[Any, Any]:
    left, right = (np.asarray(part) / np.linalg.norm(part, axis=-1, keepdims=True) for part in (left, right))
    return np.asarray((left * right).sum(-1))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model"


# --- optimised -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["O1", "O2", "O3", "O4"])
def test_a_level_becomes_one_file_in_the_folder(level: str, bert: SentenceTransformer, target: Path) -> None:
    assert export_optimized_onnx_model(bert, level, str(target)) is None
    assert files(target) == [f"onnx/model_{level}.onnx"]
    assert cosines(run(bert, target / "onnx" / f"model_{level}.onnx"), bert.encode(TEXTS)).min() > 0.9999


def test_an_object_is_called_optimized(bert: SentenceTransformer, target: Path) -> None:
    export_optimized_onnx_model(bert, SimpleNamespace(optimization_level=2, fp16=False), str(target))
    assert files(target) == ["onnx/model_optimized.onnx"]


def test_a_suffix_may_be_given(bert: SentenceTransformer, target: Path) -> None:
    export_optimized_onnx_model(bert, "O2", str(target), file_suffix="mine")
    assert files(target) == ["onnx/model_mine.onnx"]


def test_other_files_of_the_folder_stay(bert: SentenceTransformer, target: Path) -> None:
    bert.save(str(target))
    (target / "onnx").mkdir()
    (target / "onnx" / "model.onnx").write_bytes(b"another")
    before = files(target)
    export_optimized_onnx_model(bert, "O1", str(target))
    assert files(target) == sorted([*before, "onnx/model_O1.onnx"])
    assert (target / "onnx" / "model.onnx").read_bytes() == b"another"


def test_a_name_and_a_path_give_a_whole_model(bert_folder: Path, bert: SentenceTransformer, target: Path) -> None:
    export_optimized_onnx_model(model_name=str(bert_folder), output_path=target)
    assert {"modules.json", "model.safetensors", "tokenizer.json", "onnx/model.onnx"} <= set(files(target))
    assert not any(".saving" in name or ".whole" in name for name in files(target))
    np.testing.assert_allclose(SentenceTransformer(str(target)).encode(TEXTS), bert.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(run(bert, target / "onnx" / "model.onnx"), bert.encode(TEXTS), atol=1e-5)


def test_a_whole_model_may_have_a_suffix(bert: SentenceTransformer, target: Path) -> None:
    export_optimized_onnx_model(bert, "O3", output_path=str(target), file_suffix="O3")
    assert "onnx/model_O3.onnx" in files(target)
    assert "onnx/model.onnx" not in files(target)


def test_large_weights_move_along(bert: SentenceTransformer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentence_transformers.backend.graphs.builder.EXTERNAL_FROM", 1000)
    export_optimized_onnx_model(bert, "O2", str(target))
    assert files(target) == ["onnx/model_O2.onnx", "onnx/model_O2.onnx_data"]
    assert cosines(run(bert, target / "onnx" / "model_O2.onnx"), bert.encode(TEXTS)).min() > 0.99999


# --- families of encoders --------------------------------------------------------------------------------------------


def test_a_reranker_gives_its_logits(tmp_path: Path, target: Path) -> None:
    folder = tiny_heads.build_classifier("bert", tmp_path / "reranker")
    export_optimized_onnx_model(model_name=str(folder), output_path=target)
    model = CrossEncoder(str(target), device="cpu")
    query = TEXTS[0]
    features = model.preprocess([(query, text) for text in TEXTS])
    session = onnxruntime.InferenceSession(str(target / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run([LOGITS], {key: features[key].numpy() for key in (IDS, MASK, TYPES)})[0]
    wanted = model.predict([(query, text) for text in TEXTS], activation_fn=None, convert_to_tensor=False)
    np.testing.assert_allclose(1 / (1 + np.exp(-found[:, 0])), wanted, atol=1e-5)


def test_a_sparse_encoder_gives_its_embeddings(tmp_path: Path, target: Path) -> None:
    model = SparseEncoder(str(tiny_heads.build_splade(tmp_path / "splade", "max", "relu")), device="cpu")
    export_optimized_onnx_model(model, "O1", str(target))
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False)
    np.testing.assert_allclose(run(model, target / "onnx" / "model_O1.onnx"), wanted.numpy(), atol=1e-5)


def test_a_multi_vector_encoder_gives_its_hidden_states(bert_folder: Path, target: Path) -> None:
    model = MultiVectorEncoder(str(bert_folder), device="cpu")
    export_optimized_onnx_model(model, "O1", str(target))
    written = onnx.load(target / "onnx" / "model_O1.onnx")
    assert [output.name for output in written.graph.output] == [STATES]


# --- 8-bit weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processor", "suffix"),
    [("arm64", "qint8_arm64"), ("avx2", "quint8_avx2"), ("avx512", "qint8_avx512"),
     ("avx512_vnni", "qint8_avx512_vnni")],
)  # fmt: skip
def test_every_processor_has_its_file(processor: str, suffix: str, bert: SentenceTransformer, target: Path) -> None:
    export_dynamic_quantized_onnx_model(bert, processor, str(target))
    assert files(target) == [f"onnx/model_{suffix}.onnx"]
    found = cosines(run(bert, target / "onnx" / f"model_{suffix}.onnx"), bert.encode(TEXTS))
    assert found.min() > 0.99
    written = onnx.load(target / "onnx" / f"model_{suffix}.onnx")
    kind = onnx.TensorProto.UINT8 if processor == "avx2" else onnx.TensorProto.INT8
    matrices = [value for value in written.graph.initializer if len(value.dims) == 2 and "MatMul" not in value.name]
    assert sum(value.data_type == kind for value in matrices) == 3 * 4  # the four projections of each layer
    metadata = {entry.key: entry.value for entry in written.metadata_props}
    assert list(metadata) == [KEY]
    assert len(Facts.from_json(metadata[KEY]).modules) == 1


def test_the_tables_of_the_real_model_are_small_and_it_says_nearly_the_same(
    minilm_folder: Path, data_folder: Path, target: Path
) -> None:
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    lines = (data_folder / "stsb" / "dev.csv").read_text(encoding="utf-8").splitlines()[1:201:2]
    texts = [line.split(",")[0] for line in lines]
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(target))
    path = target / "onnx" / "model_qint8_avx512_vnni.onnx"
    assert path.stat().st_size < 25e6
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = [model.preprocess([text]) for text in texts]
    found = [session.run([EMBEDDING], {key: row[key].numpy() for key in (IDS, MASK, TYPES)})[0] for row in made]
    near = cosines(np.concatenate(found), model.encode(texts))
    assert near.mean() > 0.99 and near.min() > 0.96


def test_a_quantisation_object_says_what_to_do(bert: SentenceTransformer, target: Path) -> None:
    config = SimpleNamespace(
        is_static=False, weights_dtype=SimpleNamespace(name="QUInt8"), per_channel=False, reduce_range=False,
        operators_to_quantize=["MatMul"], nodes_to_quantize=[], nodes_to_exclude=["layer.0/attention/qkv"],
    )  # fmt: skip
    export_dynamic_quantized_onnx_model(bert, config, str(target))
    assert files(target) == ["onnx/model_quint8_quantized.onnx"]
    written = onnx.load(target / "onnx" / "model_quint8_quantized.onnx")
    assert [node.name for node in written.graph.node if node.op_type == "MatMul"].count("layer.0/attention/qkv") == 1
    assert sum(node.op_type == "MatMulInteger" for node in written.graph.node) == 3 * 4 - 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("avx3", "one of 'arm64', 'avx2', 'avx512', 'avx512_vnni'; got 'avx3'"),
        (SimpleNamespace(is_static=True), "is_static=True"),
        (SimpleNamespace(weights_dtype="QInt4"), "'qint8', 'quint8'; got 'qint4'"),
    ],
)
def test_a_quantisation_that_is_not_known_is_refused(
    config: Any, message: str, bert: SentenceTransformer, target: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_dynamic_quantized_onnx_model(bert, config, str(target))
    assert not target.exists()


def test_quantised_large_weights_have_one_file_of_their_own(
    bert: SentenceTransformer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("builder", "quantize"):
        monkeypatch.setattr(f"sentence_transformers.backend.graphs.{module}.EXTERNAL_FROM", 1000)
    export_dynamic_quantized_onnx_model(bert, "avx512", str(target))
    assert files(target) == ["onnx/model_qint8_avx512.onnx", "onnx/model_qint8_avx512.onnx_data"]
    assert cosines(run(bert, target / "onnx" / "model_qint8_avx512.onnx"), bert.encode(TEXTS)).min() > 0.99


# --- OpenVINO --------------------------------------------------------------------------------------------------------


def by_openvino(model: Any, path: Path) -> np.ndarray[Any, Any]:
    openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
    compiled = openvino.compile_model(str(path), "CPU")
    made = [model.preprocess([text]) for text in TEXTS]
    rows = [compiled({key: row[key].numpy() for key in (IDS, MASK, TYPES)})[EMBEDDING] for row in made]
    return np.concatenate(rows)


def test_openvino_is_calibrated_on_texts(bert: SentenceTransformer, target: Path) -> None:
    pytest.importorskip("nncf", reason="needs nncf")
    export_static_quantized_openvino_model(bert, None, str(target), calibration_texts=TEXTS)
    stem = "openvino/openvino_model_qint8_quantized"
    assert files(target) == [f"{stem}.bin", f"{stem}.xml"]
    assert cosines(by_openvino(bert, target / f"{stem}.xml"), bert.encode(TEXTS)).min() > 0.98
    assert '"u8"' in (target / f"{stem}.xml").read_text("utf-8") or '"i8"' in (target / f"{stem}.xml").read_text(
        "utf-8"
    )


def test_openvino_says_what_it_holds(bert: SentenceTransformer, target: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("nncf", reason="needs nncf")
    settings = {"num_samples": 2, "ignored_scope": {"types": ["Add"]}, "sym": True}
    export_static_quantized_openvino_model(
        bert, settings, output_path=target, calibration_texts=TEXTS, file_suffix="small"
    )
    read = openvino.Core().read_model(target / "openvino" / "openvino_model_small.xml")
    assert len(Facts.from_json(read.get_rt_info(KEY).astype(str)).modules) == 1


def test_the_data_set_of_calibration_is_sst2(
    bert: SentenceTransformer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    pytest.importorskip("nncf", reason="needs nncf")
    rows = datasets.Dataset.from_dict({"sentence": [f"{text} {i}" for i in range(60) for text in TEXTS]})
    serve_dataset(tmp_path / "cache", "glue", {"train": rows}, monkeypatch, config="sst2")
    seen = []
    monkeypatch.setattr(exporting, "quantize_to_openvino", lambda *arguments: seen.append(arguments))
    export_static_quantized_openvino_model(bert, None, str(target))
    [(_, _, samples, settings)] = seen
    inputs = list(samples(settings.num_samples))
    assert len(inputs) == 300
    assert inputs[7][IDS].tolist() == bert.preprocess([f"{TEXTS[0]} 1"])[IDS].tolist()


def test_a_data_set_of_ones_own(
    bert: SentenceTransformer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    serve_dataset(tmp_path / "cache", "mine", {"test": datasets.Dataset.from_dict({"text": TEXTS})}, monkeypatch)
    seen = []
    monkeypatch.setattr(exporting, "quantize_to_openvino", lambda *arguments: seen.append(list(arguments[2](3))))
    export_static_quantized_openvino_model(bert, None, str(target), "mine", "default", "test", "text")
    assert [len(inputs) for inputs in seen] == [3]
    with pytest.raises(ValueError, match=r"column_name must be one of \['text'\]; got 'sentence'"):
        export_static_quantized_openvino_model(bert, None, str(target), "mine", "default", "test", "sentence")


def test_the_arguments_of_a_data_set_belong_together(bert: SentenceTransformer, target: Path) -> None:
    with pytest.raises(ValueError, match="given together or not at all"):
        export_static_quantized_openvino_model(bert, None, str(target), dataset_name="glue")


@pytest.mark.parametrize(
    ("config", "message"), [({"bits": 4}, r"one of 8; got 4"), ({"sim": True}, "Did you mean 'sym'")]
)
def test_static_settings_that_are_not_known_are_refused(
    config: dict[str, Any], message: str, bert: SentenceTransformer, target: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_static_quantized_openvino_model(bert, config, str(target), calibration_texts=TEXTS)


# --- the Hub, and refusals -------------------------------------------------------------------------------------------


def test_an_upload_is_one_commit_with_one_file(
    bert: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = []

    def push(folder: str, repo_id: str, **settings: Any) -> str:
        pushed.append((files(Path(folder)), repo_id, settings))
        return ""

    monkeypatch.setattr(exporting, "push_folder", push)
    monkeypatch.chdir(tmp_path)
    export_optimized_onnx_model(bert, "O3", "acme/tiny", push_to_hub=True, create_pr=True)
    message = "Add exported onnx model 'model_O3.onnx'"
    settings = {"commit_message": message, "exist_ok": True, "create_pr": True}
    assert pushed == [(["onnx/model_O3.onnx"], "acme/tiny", settings)]
    assert files(tmp_path) == []


def test_another_architecture_is_refused_and_leaves_nothing(tiny_folder: Callable[[str], Path], target: Path) -> None:
    model = SentenceTransformer(str(tiny_folder("albert")), device="cpu")
    for export in (export_optimized_onnx_model, export_dynamic_quantized_onnx_model):
        with pytest.raises(ValueError, match="Only a Transformer of one of the families"):
            export(model, model_name_or_path=str(target))
    with pytest.raises(ValueError, match="Only a Transformer of one of the families"):
        export_optimized_onnx_model(model, output_path=str(target))
    assert not target.exists()


def test_an_unknown_level_is_refused_before_anything_is_opened(target: Path) -> None:
    with pytest.raises(ValueError, match="'O1', 'O2', 'O3', 'O4'; got 'O9'"):
        export_optimized_onnx_model(model_name="no such model", optimization_config="O9", output_path=target)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output_path": "there"}, "either model .* or model_name"),
        ({"model": "a", "model_name": "b", "output_path": "there"}, "either model .* or model_name"),
        ({"model": 3, "output_path": "there"}, "must be a SentenceTransformer, CrossEncoder"),
    ],
)
def test_the_model_is_given_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_optimized_onnx_model(**given)


def test_the_place_is_given_once(bert: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="either model_name_or_path .* or output_path"):
        export_optimized_onnx_model(bert)
    with pytest.raises(ValueError, match="either model_name_or_path .* or output_path"):
        export_optimized_onnx_model(bert, "O1", "here", output_path="there")
    with pytest.raises(ValueError, match="output_path is a folder"):
        export_optimized_onnx_model(bert, "O1", output_path="there", push_to_hub=True)


def test_a_failed_quantisation_leaves_the_folder_as_it_was(
    bert: SentenceTransformer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_dynamic_quantized_onnx_model(bert, "arm64", str(target))
    before = (target / "onnx" / "model_qint8_arm64.onnx").read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("sentence_transformers.backend.graphs.quantize.store", fail)
    with pytest.raises(OSError, match="No space left"):
        export_dynamic_quantized_onnx_model(bert, "arm64", str(target))
    assert files(target) == ["onnx/model_qint8_arm64.onnx"]
    assert (target / "onnx" / "model_qint8_arm64.onnx").read_bytes() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a read-only folder stops neither Windows nor root")
def test_a_readonly_folder_is_refused(bert: SentenceTransformer, target: Path) -> None:
    target.mkdir()
    target.chmod(0o500)
    with pytest.raises(PermissionError):
        export_optimized_onnx_model(bert, "O1", str(target))


def test_a_file_in_place_of_the_folder_is_refused(bert: SentenceTransformer, target: Path) -> None:
    target.write_bytes(b"not a folder")
    with pytest.raises(OSError, match="model"):
        export_optimized_onnx_model(bert, "O1", str(target))
    assert target.read_bytes() == b"not a folder"
