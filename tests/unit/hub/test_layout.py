"""Whether a folder has all that loading reads, and which files of a listing to fetch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentence_transformers.hub.layout import is_complete, wanted_files


def put(folder: Path, *names: str, **contents: object) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def modules(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in pairs]


def test_the_model_folder_is_complete_and_each_needed_file_matters(model_folder: Path) -> None:
    assert is_complete(model_folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        content = (model_folder / name).read_bytes()
        (model_folder / name).unlink()
        assert not is_complete(model_folder), name
        (model_folder / name).write_bytes(content)


def test_a_bare_transformer_needs_config_weights_and_tokenizer(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "pytorch_model.bin")
    assert not is_complete(tmp_path)
    put(tmp_path, "vocab.txt")
    assert is_complete(tmp_path)


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "model.safetensors", tokenizer_config={"tokenizer_class": "ByT5Tokenizer"})
    assert is_complete(tmp_path)


def test_every_shard_counts(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "tokenizer.json", "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not is_complete(tmp_path)
    put(tmp_path, "b.safetensors")
    assert is_complete(tmp_path)


def test_the_first_module_may_be_in_a_folder_of_its_own(tmp_path: Path) -> None:
    put(
        tmp_path,
        "0_Transformer/config.json",
        "0_Transformer/model.safetensors",
        modules=modules(("0_Transformer", "Transformer")),
    )
    assert not is_complete(tmp_path)
    put(tmp_path, "0_Transformer/tokenizer.json")
    assert is_complete(tmp_path)


@pytest.mark.parametrize("config", ["router_config.json", "config.json"])
def test_the_parts_of_a_router_count(config: str, tmp_path: Path) -> None:
    types = {
        "query_0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding",
        "d_0_Dense": "sentence_transformers.models.Dense",
    }
    put(tmp_path, modules=modules(("", "Router")))
    (tmp_path / config).write_text(json.dumps({"types": types}))
    put(
        tmp_path,
        "query_0_StaticEmbedding/tokenizer.json",
        "query_0_StaticEmbedding/model.safetensors",
        "d_0_Dense/config.json",
    )
    assert not is_complete(tmp_path)
    put(tmp_path, "d_0_Dense/model.safetensors")
    assert is_complete(tmp_path)


def test_an_adapter_needs_only_its_own_weights(tmp_path: Path) -> None:
    put(tmp_path, "adapter_config.json", modules=modules(("", "Transformer")))
    assert not is_complete(tmp_path)
    put(tmp_path, "adapter_model.safetensors")
    assert is_complete(tmp_path)


def test_a_foreign_transformer_needs_weights(tmp_path: Path) -> None:
    put(tmp_path, modules=[{"path": "", "type": "custom_st.Transformer"}], config={"model_type": "x"})
    assert not is_complete(tmp_path)
    put(tmp_path, "model.safetensors")
    assert is_complete(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '[{"path": "../x", "type": "x.Pooling"}]'])
def test_a_folder_with_bad_modules_is_not_complete(content: str, model_folder: Path) -> None:
    (model_folder / "modules.json").write_text(content)
    assert not is_complete(model_folder)


def test_a_folder_that_is_not_there_is_not_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path / "none")


def test_a_partial_copy_must_have_looked_for_the_optional_files(model_folder: Path) -> None:
    assert not is_complete(model_folder, lambda name: False)
    assert is_complete(model_folder, lambda name: name == "sentence_bert_config.json")


def test_a_listing_is_cut_to_what_loading_reads(model_files: dict[str, bytes], needed: list[str]) -> None:
    assert wanted_files(model_files) == needed
    assert wanted_files(model_files, ["onnx/*"]) == sorted([*needed, "onnx/model.onnx"])


def test_weights_in_other_precisions_and_checkpoints_are_left() -> None:
    names = [
        "model.safetensors",
        "model.fp16.safetensors",
        "consolidated.safetensors",
        "checkpoint-9/model.safetensors",
    ]
    assert wanted_files(names) == ["model.safetensors"]


def test_vocabularies_of_every_kind_are_fetched() -> None:
    names = [
        "merges.txt",
        "sentencepiece.bpe.model",
        "spiece.model",
        "vocab.bpe",
        "qwen.tiktoken",
        "chat_template.jinja",
    ]
    assert wanted_files(names) == sorted(names)
