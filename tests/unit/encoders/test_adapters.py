"""Adapters on all encoders: what computes with them and without, what is saved, what opens again."""

from __future__ import annotations

import copy
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads
import torch
from safetensors.torch import load_file, save_file

from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.encoders.adapters import PeftAdapterMixin, peft_wrapper
from sentence_transformers.errors import ModelFileError
from sentence_transformers.hub import cache
from sentence_transformers.modules.linear import Dense
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.modules.static import StaticEmbedding
from sentence_transformers.modules.transformer import Transformer
from tests.contracts.encoder_cases import CASES, Opened, assert_close, assert_same_numbers
from tests.unit.encoders.folders import TEXTS, read_json, write_json

KINDS = ("dense", "splade", "inference_free", "late", "cross", "cross_labels", "cross_decoder")
LINEAR = r".*\.(query|value|q_proj|v_proj|Wqkv)"
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors"}


def lora(**settings: Any) -> Any:
    """Settings of an adapter that changes results from the start; skips where there is no peft."""
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    return peft.LoraConfig(
        **{"target_modules": LINEAR, "r": 4, "lora_alpha": 16, "init_lora_weights": False, **settings}
    )


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A small model of every kind; don't change it."""
    torch.manual_seed(0)
    return Opened.of(CASES[request.param], CASES[request.param].build(tmp_path_factory.mktemp(request.param)))


@pytest.fixture
def adapted(changeable: SentenceTransformer) -> SentenceTransformer:
    """A dense model with an adapter."""
    torch.manual_seed(0)
    changeable.add_adapter(lora())
    return changeable


def is_native(model: Any) -> bool:
    return isinstance(next(part for part in model.parts() if isinstance(part, Transformer)).network(), NativeNetwork)


def in_cache(folder: Path, root: Path, name: str, revision: str = "main") -> Path:
    """Put a model into a cache as if it had been downloaded."""
    commit = "ab" * 20
    snapshot = cache.repository(root, name) / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    cache.remember(root, name, revision, commit, [path.name for path in folder.iterdir()])
    return snapshot


# --- what computes ----------------------------------------------------------------------------------------------------


def test_with_an_adapter_results_are_those_of_transformers_with_it(opened: Opened) -> None:
    model = opened.again()
    opened.rows(model)
    model.add_adapter(lora())
    found = opened.rows(model)
    assert max(np.abs(a - b).max(initial=0) for a, b in zip(found, opened.expected, strict=True)) > 1e-3
    with torch.enable_grad():  # transformers' own forward
        expected = [row.detach().double().numpy() for row in opened.case.last(model, opened.inputs[:8])]
    assert_close([np.asarray(row) for row in opened.rows(model, opened.inputs[:8])], expected, 2e-5)


def test_disabled_adapters_change_nothing_and_enabled_ones_do_again(opened: Opened) -> None:
    model = opened.again()
    model.add_adapter(lora())
    found = opened.rows(model)
    model.disable_adapters()
    opened.assert_same(model)
    model.enable_adapters()
    assert_same_numbers(opened.case, opened.rows(model), found)


def test_without_its_last_adapter_a_model_is_as_before(opened: Opened) -> None:
    model = opened.again()
    before = is_native(model)
    names = set(model.state_dict())
    model.add_adapter(lora())
    assert not is_native(model)
    opened.rows(model)
    model.delete_adapter("default")
    opened.assert_same(model)
    assert is_native(model) == before
    assert set(model.state_dict()) == names


def test_a_saved_adapter_gives_the_same_results_again(opened: Opened, tmp_path: Path) -> None:
    model = opened.again()
    model.add_adapter(lora())
    found = opened.rows(model)
    model.save(str(tmp_path / "saved"))
    again = opened.case.open(tmp_path / "saved")
    assert_same_numbers(opened.case, opened.rows(again), found)
    assert again.active_adapters() == ["default"]
    again.delete_adapter("default")
    opened.assert_same(again)


def test_of_several_adapters_the_chosen_one_is_used(adapted: SentenceTransformer, tmp_path: Path) -> None:
    first = adapted.encode(TEXTS)
    adapted.save(str(tmp_path / "one"))
    adapted.add_adapter(lora(r=2), "other")
    second = adapted.encode(TEXTS)
    assert adapted.active_adapters() == ["other"] and np.abs(first - second).max() > 1e-3
    adapted.set_adapter("default")
    assert adapted.active_adapter() == "default"
    np.testing.assert_array_equal(adapted.encode(TEXTS), first)
    adapted.load_adapter(str(tmp_path / "one"), "third")
    assert adapted.active_adapters() == ["third"]
    np.testing.assert_array_equal(adapted.encode(TEXTS), first)
    adapted.delete_adapter(["other", "third"])
    np.testing.assert_array_equal(adapted.encode(TEXTS), first)
    assert not is_native(adapted)


def test_training_an_adapter_changes_the_next_results(adapted: SentenceTransformer) -> None:
    before = adapted.encode(TEXTS)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.mul_(2)
    assert np.abs(adapted.encode(TEXTS) - before).max() > 1e-3


def test_a_merged_adapter_stays_when_it_is_deleted(adapted: SentenceTransformer) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    expected = adapted.encode(TEXTS)
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    np.testing.assert_allclose(adapted.encode(TEXTS), expected, atol=5e-6)
    adapted.delete_adapter("default")
    assert is_native(adapted)
    np.testing.assert_allclose(adapted.encode(TEXTS), expected, atol=5e-6)


def test_a_copy_has_the_adapter_too(adapted: SentenceTransformer) -> None:
    expected = adapted.encode(TEXTS)
    other = copy.deepcopy(adapted)
    adapted.delete_adapter("default")
    np.testing.assert_array_equal(other.encode(TEXTS), expected)


def test_the_wrapper_of_peft_is_used_saved_and_merged(changeable: SentenceTransformer, tmp_path: Path) -> None:
    settings = lora()
    from peft import get_peft_model

    before = changeable.encode(TEXTS)
    changeable[0].auto_model = get_peft_model(changeable[0].auto_model, settings)
    expected = changeable.encode(TEXTS)
    assert np.abs(expected - before).max() > 1e-3
    changeable.save(str(tmp_path))
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), expected)
    changeable[0].auto_model = changeable[0].auto_model.merge_and_unload()
    assert is_native(changeable)
    np.testing.assert_allclose(changeable.encode(TEXTS), expected, atol=5e-6)


# --- what is saved and opened -----------------------------------------------------------------------------------------


def test_only_the_adapter_is_saved(adapted: SentenceTransformer, bert_folder: Path, tmp_path: Path) -> None:
    adapted.append(Dense(32, 4))
    adapted.save(str(tmp_path))
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == ADAPTER_FILES | {
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
    }
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    assert read_json(tmp_path / "adapter_config.json")["base_model_name_or_path"] == str(bert_folder)
    again = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), adapted.encode(TEXTS))
    assert not any(parameter.requires_grad for parameter in again[0].parameters())


def test_the_base_is_saved_by_its_absolute_path(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bert_folder.parent)
    model = SentenceTransformer(bert_folder.name, device="cpu")
    model.add_adapter(lora())
    model.save(str(tmp_path))
    assert read_json(tmp_path / "adapter_config.json")["base_model_name_or_path"] == str(bert_folder)


def test_a_base_of_the_hub_is_saved_by_its_name_and_taken_from_the_cache(bert_folder: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "cache")
    in_cache(bert_folder, Path(root), "acme/tiny")
    model = SentenceTransformer("acme/tiny", device="cpu", cache_folder=root)
    model.add_adapter(lora())
    expected = model.encode(TEXTS)
    model.save(str(tmp_path / "saved"))
    assert read_json(tmp_path / "saved" / "adapter_config.json")["base_model_name_or_path"] == "acme/tiny"
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", cache_folder=root)
    np.testing.assert_array_equal(again.encode(TEXTS), expected)

    in_cache(tmp_path / "saved", Path(root), "acme/adapter")
    published = SentenceTransformer("acme/adapter", device="cpu", cache_folder=root, local_files_only=True)
    np.testing.assert_array_equal(published.encode(TEXTS), expected)
    published.save(str(tmp_path / "third"))
    assert read_json(tmp_path / "third" / "adapter_config.json")["base_model_name_or_path"] == "acme/tiny"


def test_the_revision_of_the_base_is_saved_and_asked_for(bert_folder: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "cache")
    in_cache(bert_folder, Path(root), "acme/tiny", "v1")  # there is no main
    model = SentenceTransformer("acme/tiny", device="cpu", cache_folder=root, revision="v1")
    model.add_adapter(lora())
    model.save(str(tmp_path / "saved"))
    assert read_json(tmp_path / "saved" / "adapter_config.json")["revision"] == "v1"
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", cache_folder=root)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_a_base_that_is_not_there_is_an_error_that_names_it(adapted: SentenceTransformer, tmp_path: Path) -> None:
    adapted.save(str(tmp_path))
    for name in ("acme/unknown", "/no/where"):
        write_json(
            tmp_path / "adapter_config.json",
            {**read_json(tmp_path / "adapter_config.json"), "base_model_name_or_path": name},
        )
        with pytest.raises(FileNotFoundError, match=f"is for the model '{name}', which was not found"):
            SentenceTransformer(str(tmp_path), device="cpu", cache_folder=str(tmp_path / "cache"))


def test_an_adapter_without_the_name_of_its_base_is_an_error(adapted: SentenceTransformer, tmp_path: Path) -> None:
    adapted.save(str(tmp_path))
    write_json(
        tmp_path / "adapter_config.json",
        {**read_json(tmp_path / "adapter_config.json"), "base_model_name_or_path": None},
    )
    with pytest.raises(ModelFileError, match="expected 'base_model_name_or_path' to be the name"):
        SentenceTransformer(str(tmp_path), device="cpu")


def test_a_folder_may_have_a_whole_model_and_an_adapter_for_it(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.save(str(tmp_path))
    model = SentenceTransformer(str(tmp_path), device="cpu")
    model.add_adapter(lora())
    model.save(str(tmp_path))
    assert (tmp_path / "model.safetensors").is_file()
    again = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert again.active_adapters() == ["default"]


def test_an_adapter_may_be_in_a_folder_of_its_own_route(bert_folder: Path, tmp_path: Path) -> None:
    parts = [Transformer(str(bert_folder)), Transformer(str(bert_folder))]
    model = SentenceTransformer(modules=[Router.for_query_document(parts[:1], parts[1:]), Pooling(32)], device="cpu")
    model.add_adapter(lora())  # to the first: of queries
    model.save(str(tmp_path))
    again = SentenceTransformer(str(tmp_path), device="cpu")
    for method in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(again, method)(TEXTS), getattr(model, method)(TEXTS), atol=5e-6)
    assert not np.allclose(again.encode_query(TEXTS), again.encode_document(TEXTS), atol=1e-3)


def bare(model: Any, folder: Path) -> Path:
    """Only the files of peft, as in many repositories of adapters."""
    model.transformers_model.save_pretrained(str(folder))
    assert {path.name for path in folder.iterdir()} - {"generation_config.json"} == ADAPTER_FILES
    return folder


def test_a_bare_adapter_opens_with_tokenizer_and_pooling_of_its_base(
    adapted: SentenceTransformer, tmp_path: Path
) -> None:
    opened = SentenceTransformer(str(bare(adapted, tmp_path)), device="cpu")
    assert [type(part) for part in opened] == [Transformer, Pooling]
    np.testing.assert_array_equal(opened.encode(TEXTS), adapted.encode(TEXTS))


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        (CrossEncoder, lambda folder: tiny_heads.build_classifier("roberta", folder, 3)),
        (SparseEncoder, lambda folder: tiny_heads.build_masked("bert", folder)),
    ],
)
def test_a_bare_adapter_is_for_the_head_of_its_base(kind: Any, build: Callable[[Path], Path], tmp_path: Path) -> None:
    model = kind(str(build(tmp_path / "base")), device="cpu")
    model.add_adapter(lora())
    opened = kind(str(bare(model, tmp_path / "bare")), device="cpu")
    inputs = [("a cat", "a dog"), ("rain", "snow")] if kind is CrossEncoder else TEXTS
    found, expected = ((one.predict if kind is CrossEncoder else one.encode)(inputs) for one in (opened, model))
    assert torch.equal(torch.as_tensor(found).to_dense(), torch.as_tensor(expected).to_dense())


def test_a_head_that_is_trained_in_full_is_saved_and_switched_with_the_adapter(
    bert_folder: Path, tmp_path: Path
) -> None:
    pairs = [("a cat", "a dog"), ("rain", "snow")]
    model = CrossEncoder(str(bert_folder), num_labels=3, device="cpu")
    before = model.predict(pairs)
    model.add_adapter(lora(task_type="SEQ_CLS", modules_to_save=["classifier"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    expected = model.predict(pairs)
    model.disable_adapters()
    np.testing.assert_allclose(model.predict(pairs), before, atol=5e-6)
    model.enable_adapters()
    np.testing.assert_array_equal(model.predict(pairs), expected)
    model.save(str(tmp_path))
    again = CrossEncoder(str(tmp_path), device="cpu")
    assert again.num_labels == 3
    np.testing.assert_array_equal(again.predict(pairs), expected)
    again.save(str(tmp_path / "second"))
    np.testing.assert_array_equal(CrossEncoder(str(tmp_path / "second"), device="cpu").predict(pairs), expected)
    model.delete_adapter("default")
    np.testing.assert_allclose(model.predict(pairs), before, atol=5e-6)


def test_weights_that_are_trained_but_not_saved_are_named(
    adapted: SentenceTransformer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        adapted.save(str(tmp_path / "frozen"))
    assert "trained too" not in caplog.text
    adapted[0].auto_model.embeddings.LayerNorm.requires_grad_(True)
    with caplog.at_level(logging.WARNING):
        adapted.save(str(tmp_path / "not_frozen"))
    assert "these weights are trained too: embeddings.LayerNorm.weight, embeddings.LayerNorm.bias." in caplog.text


def test_a_whole_model_saved_over_an_adapter_replaces_it(
    adapted: SentenceTransformer, bert: SentenceTransformer, tmp_path: Path
) -> None:
    adapted.save(str(tmp_path))
    bert.save(str(tmp_path))
    assert not any((tmp_path / name).exists() for name in ADAPTER_FILES)
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), bert.encode(TEXTS))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_missing_and_damaged_weights_are_errors_that_name_the_file(
    adapted: SentenceTransformer, tmp_path: Path
) -> None:
    adapted.save(str(tmp_path))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"adapter_model\.safetensors is damaged"):
        SentenceTransformer(str(tmp_path), device="cpu")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"adapter_model\.safetensors is missing"):
        SentenceTransformer(str(tmp_path), device="cpu")


def test_an_adapter_without_some_of_its_weights_is_an_error(adapted: SentenceTransformer, tmp_path: Path) -> None:
    adapted.save(str(tmp_path))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop("base_model.model.encoder.layer.1.attention.self.query.lora_A.weight")
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelFileError, match=r"no weights \['encoder.layer.1.attention.self.query.lora_A"):
        SentenceTransformer(str(tmp_path), device="cpu")


def test_without_peft_an_adapter_is_not_silently_left_out(
    adapted: SentenceTransformer, bert: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lora()
    adapted.save(str(tmp_path))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'needs peft\. Install it: pip install "sentence-transformers\[peft\]"'):
        SentenceTransformer(str(tmp_path), device="cpu")
    with pytest.raises(ImportError, match=r"needs peft\. Install it"):
        bert.add_adapter(settings)


METHODS = (
    "load_adapter",
    "add_adapter",
    "set_adapter",
    "disable_adapters",
    "enable_adapters",
    "active_adapters",
    "active_adapter",
    "get_adapter_state_dict",
    "delete_adapter",
    "check_peft_compatible_model",
)


@pytest.fixture
def static(bert: SentenceTransformer) -> SentenceTransformer:
    """A model without a transformer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(bert.tokenizer.backend_tokenizer.to_str())
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_a_transformer_has_no_adapters(name: str, static: SentenceTransformer) -> None:
    message = "PEFT methods are only supported for Sentence Transformer models that use the Transformer module."
    with pytest.raises(ValueError, match=message):
        getattr(static, name)()
    assert not static.has_peft_compatible_model()


def test_a_model_with_a_transformer_can_have_adapters(bert: SentenceTransformer) -> None:
    assert bert.has_peft_compatible_model() and isinstance(bert, PeftAdapterMixin)
    bert.check_peft_compatible_model()


def test_before_there_is_an_adapter_transformers_says_so(bert: SentenceTransformer) -> None:
    lora()
    for name in ("active_adapters", "active_adapter", "disable_adapters", "enable_adapters", "get_adapter_state_dict"):
        with pytest.raises(ValueError, match="No adapter loaded"):
            getattr(bert, name)()


def test_the_weights_of_an_adapter_can_be_had(adapted: SentenceTransformer) -> None:
    adapted.add_adapter(lora(r=2), "small")
    assert {min(tensor.shape) for tensor in adapted.get_adapter_state_dict().values()} == {2}
    assert {min(tensor.shape) for tensor in adapted.get_adapter_state_dict("default").values()} == {4}


def test_a_method_can_be_handed_on_by_a_subclass(changeable: SentenceTransformer) -> None:
    lora()

    def enable_peft_hotswap(self: Any, *args: Any) -> None:
        """Allow adapters of other ranks."""

    forwarded = peft_wrapper(enable_peft_hotswap)
    forwarded(changeable, 16)
    assert changeable.transformers_model._hotswap_enabled is True
    assert forwarded.__doc__ == "Allow adapters of other ranks."
