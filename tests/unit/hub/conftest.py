"""A tiny model as files, and a Hub on a local port that has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.unit.hub.fake_hub import FakeHub


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def model_files() -> dict[str, bytes]:
    """A repository as on the Hub: a transformer with pooling, in several formats, with things nobody needs."""
    weights = save({"weight": torch.arange(6.0).reshape(2, 3)})
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    return {
        "modules.json": as_json(modules),
        "config_sentence_transformers.json": as_json({"__version__": {"sentence_transformers": "2.0.0"}}),
        "config.json": as_json({"model_type": "bert"}),
        "tokenizer.json": as_json({"version": "1.0"}),
        "tokenizer_config.json": as_json({}),
        "model.safetensors": weights,
        "1_Pooling/config.json": as_json({"word_embedding_dimension": 3}),
        "README.md": b"# tiny",
        "custom_st.py": b"raise RuntimeError('remote code ran')\n",
        "pytorch_model.bin": b"old weights",
        "tf_model.h5": b"tensorflow",
        "rust_model.ot": b"rust",
        "flax_model.msgpack": b"flax",
        "onnx/model.onnx": b"graph",
        "openvino/openvino_model.xml": b"graph",
        ".gitattributes": b"*.bin filter=lfs",
    }


NEEDED = [
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "custom_st.py",
    "model.safetensors",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture
def needed() -> list[str]:
    """The files of ``model_files`` that loading reads."""
    return NEEDED


@pytest.fixture
def model_folder(tmp_path: Path, model_files: dict[str, bytes]) -> Path:
    """The files that loading reads, in a plain folder."""
    folder = tmp_path / "model"
    for name in NEEDED:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model_files[name])
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_files: dict[str, bytes]) -> Iterator[FakeHub]:
    """A running Hub with ``acme/tiny``; the cache of the test is ``tmp_path/cache``, and no token is known."""
    import huggingface_hub.constants

    state = FakeHub()
    state.add("acme/tiny", model_files)
    server = state.start()
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", state.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    yield state
    server.shutdown()
    server.server_close()
