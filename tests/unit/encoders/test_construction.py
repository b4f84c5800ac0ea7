"""What the constructor takes: modules, devices, types, settings, old names; and what the finished model says."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers.sentence_transformer.modules import BoW, Dense, Normalize, Pooling, Transformer
from torch import nn

from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from tests.unit.encoders.folders import TEXTS, WIDTH, WINDOW


@pytest.fixture(scope="module")
def parts(bert_folder: Path) -> list[Any]:
    return [Transformer(str(bert_folder)), Pooling(WIDTH)]


def opened(folder: Path, **arguments: Any) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", **arguments)


# --- modules


@pytest.mark.parametrize("form", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_modules_are_numbered(form: Callable[[Any], Any], parts: list[Any]) -> None:
    model = SentenceTransformer(modules=form(parts), device="cpu")
    assert [name for name, _ in model.named_children()] == ["0", "1"]


def test_modules_of_an_ordered_dict_keep_their_names(parts: list[Any], bert: SentenceTransformer) -> None:
    named: OrderedDict[str, nn.Module] = OrderedDict(first=parts[0], second=parts[1])
    model = SentenceTransformer(modules=named, device="cpu")
    assert [name for name, _ in model.named_children()] == ["first", "second"]
    assert_array_equal(model.encode(TEXTS), bert.encode(TEXTS))


@pytest.mark.parametrize("empty", [[], (), OrderedDict()])
def test_no_modules_at_all_are_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="An empty modules list was passed to SentenceTransformer"):
        SentenceTransformer(modules=empty)


@pytest.mark.parametrize("name", [None, ""])
def test_neither_a_name_nor_modules_is_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match=r"SentenceTransformer needs a model name or path, or modules=\[...\]"):
        SentenceTransformer(name)


def test_a_name_wins_over_modules_with_a_warning(bert_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(opened(bert_folder, modules=[Normalize()])) == 2
    assert "modules are ignored" in caplog.text


def test_what_is_no_module_is_refused(parts: list[Any]) -> None:
    with pytest.raises(TypeError, match="not a Module subclass"):
        SentenceTransformer(modules=[*parts, 5], device="cpu")  # type: ignore[list-item]


def test_a_model_is_a_sequence_of_its_modules(bert: SentenceTransformer) -> None:
    assert isinstance(bert, nn.Sequential)
    assert len(bert) == 2
    assert [type(module) for module in bert] == [Transformer, Pooling]
    assert (bert[0], bert[-1]) == (bert._first_module(), bert._last_module())


def test_a_module_may_be_added(changeable: SentenceTransformer) -> None:
    changeable.append(Normalize())
    assert_allclose(np.linalg.norm(changeable.encode(TEXTS), axis=1), np.ones(3), rtol=1e-6)


def test_a_bare_transformer_gets_the_mean(bert: SentenceTransformer) -> None:
    assert bert[1].get_config_dict() == {"embedding_dimension": WIDTH, "pooling_mode": "mean", "include_prompt": True}


def test_a_bare_causal_language_model_gets_the_last_token(tiny_folder: Callable[[str], Path]) -> None:
    model: Any = opened(tiny_folder("qwen3"))
    assert model[1].pooling_mode == "lasttoken"


def test_a_bare_decoder_without_a_language_head_gets_the_mean(tiny_folder: Callable[[str], Path]) -> None:
    model: Any = opened(tiny_folder("llama"))
    assert model[1].pooling_mode == "mean"


def test_later_modules_get_the_type_of_the_first(bert_folder: Path) -> None:
    half = Transformer(str(bert_folder), model_kwargs={"dtype": "float16"})
    model = SentenceTransformer(modules=[half, Pooling(WIDTH), Dense(WIDTH, 4)], device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float16}
    assert (model.encode(TEXTS).shape, model.encode(TEXTS).dtype) == ((3, 4), np.float16)


# --- places of arguments, old names


def test_only_the_name_has_a_place(bert_folder: Path) -> None:
    with pytest.raises(TypeError, match="positional"):
        SentenceTransformer(str(bert_folder), None)  # type: ignore[misc]


def test_an_unknown_argument_is_refused(bert_folder: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        opened(bert_folder, foo=1)


def test_a_path_object_is_a_folder(bert_folder: Path, bert: SentenceTransformer) -> None:
    model = SentenceTransformer(bert_folder, device="cpu")  # type: ignore[arg-type]
    assert_array_equal(model.encode(TEXTS), bert.encode(TEXTS))


def test_tokenizer_kwargs_is_the_old_name_of_processor_kwargs(bert_folder: Path) -> None:
    with pytest.warns(FutureWarning, match="processor_kwargs"):
        assert opened(bert_folder, tokenizer_kwargs={"model_max_length": 6}).max_seq_length == 6


def test_the_new_name_wins_over_tokenizer_kwargs(bert_folder: Path) -> None:
    settings = {"tokenizer_kwargs": {"model_max_length": 6}, "processor_kwargs": {"model_max_length": 7}}
    with pytest.warns(FutureWarning, match="processor_kwargs"):
        assert opened(bert_folder, **settings).max_seq_length == 7


def test_use_auth_token_is_the_old_name_of_token(bert_folder: Path) -> None:
    with pytest.warns(FutureWarning, match="token"):
        opened(bert_folder, use_auth_token=False)


@pytest.mark.parametrize("token", ["a", "b"])
def test_both_names_of_token_are_refused(token: str, bert_folder: Path) -> None:
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="use_auth_token"):
        opened(bert_folder, use_auth_token="a", token=token)


@pytest.mark.parametrize(
    ("old", "value", "fact", "expected"),
    [
        ("model_args", {"dtype": "float16"}, lambda part: part.dtype, torch.float16),
        ("tokenizer_args", {"model_max_length": 6}, lambda part: part.max_seq_length, 6),
        ("config_args", {"num_hidden_layers": 1}, lambda part: part.config.num_hidden_layers, 1),
    ],
)
def test_old_names_of_the_transformer(
    old: str, value: Any, fact: Callable[[Any], Any], expected: Any, bert_folder: Path
) -> None:
    with pytest.warns(FutureWarning, match=old):
        assert fact(Transformer(str(bert_folder), **{old: value})) == expected


def test_the_old_way_to_open_a_model_warns(bert_folder: Path) -> None:
    with pytest.warns(DeprecationWarning, match=r"SentenceTransformer\(path\)"):
        assert type(SentenceTransformer.load(str(bert_folder))) is SentenceTransformer


# --- device


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_may_be_a_name_or_an_object(device: Any, bert_folder: Path) -> None:
    assert SentenceTransformer(str(bert_folder), device=device).device == torch.device("cpu")


def test_no_device_is_the_best_there_is(bert_folder: Path) -> None:
    from sentence_transformers.util import get_device_name

    assert SentenceTransformer(str(bert_folder)).device.type == torch.device(get_device_name()).type


def test_an_unknown_device_is_refused(bert_folder: Path) -> None:
    with pytest.raises(RuntimeError, match="device"):
        SentenceTransformer(str(bert_folder), device="nowhere")


# --- types and settings of the transformer


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ("auto", torch.float32),
        (None, torch.float32),
        ("float32", torch.float32),
        ("float16", torch.float16),
        (torch.float16, torch.float16),
        ("bfloat16", torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_a_type_may_be_asked_for_by_both_names(name: str, asked: Any, dtype: torch.dtype, bert_folder: Path) -> None:
    model = opened(bert_folder, model_kwargs={name: asked})
    assert (model.dtype, model.encode(TEXTS, convert_to_tensor=True).dtype) == (dtype, dtype)


def test_auto_is_the_type_that_was_saved(changeable: SentenceTransformer, tmp_path: Path) -> None:
    changeable.half().save(str(tmp_path / "half"))
    assert opened(tmp_path / "half", model_kwargs={"dtype": "auto"}).dtype == torch.float16


@pytest.mark.parametrize("wrong", ["foo", 5])
def test_an_unknown_type_is_refused(wrong: Any, bert_folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        opened(bert_folder, model_kwargs={"dtype": wrong})


def test_a_half_type_nobody_asked_for_is_a_warning_on_the_cpu(
    changeable: SentenceTransformer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changeable.half().save(str(tmp_path / "half"))
    caplog.clear()
    opened(tmp_path / "half")
    assert "float16" in caplog.text
    caplog.clear()
    opened(tmp_path / "half", model_kwargs={"dtype": "float16"})
    assert "float16" not in caplog.text


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_an_attention_may_be_asked_for(kind: str, bert_folder: Path, bert: SentenceTransformer) -> None:
    model: Any = opened(bert_folder, model_kwargs={"attn_implementation": kind})
    assert_allclose(model.encode(TEXTS), bert.encode(TEXTS), rtol=0, atol=2e-6)
    assert model[0].auto_model.config._attn_implementation == kind


def test_settings_only_transformers_knows_are_handed_to_it(bert_folder: Path, bert: SentenceTransformer) -> None:
    model: Any = opened(bert_folder, model_kwargs={"add_pooling_layer": False})
    assert model[0].auto_model.pooler is None
    assert_allclose(model.encode(TEXTS), bert.encode(TEXTS), rtol=0, atol=2e-6)


def test_the_settings_of_the_caller_are_not_changed(bert_folder: Path) -> None:
    given = {"dtype": "float32", "trust_remote_code": False}
    opened(bert_folder, model_kwargs=given, trust_remote_code=True)
    assert given == {"dtype": "float32", "trust_remote_code": False}


def test_the_config_may_be_overridden(bert_folder: Path) -> None:
    model: Any = opened(bert_folder, config_kwargs={"num_hidden_layers": 2})
    assert model[0].auto_model.config.num_hidden_layers == 2


def test_hidden_states_may_be_asked_for(bert_folder: Path) -> None:
    features = opened(bert_folder, config_kwargs={"output_hidden_states": True}).encode(TEXTS, output_value=None)
    assert all("all_layer_embeddings" in row for row in features)


def test_the_limit_may_be_given(bert_folder: Path) -> None:
    model = opened(bert_folder, processor_kwargs={"model_max_length": 6})
    assert len(model.encode("the cat " * 9, output_value="token_embeddings", on_truncate="ignore")) == 6


def test_the_end_that_is_cut_may_be_given(bert_folder: Path, bert: SentenceTransformer) -> None:
    limit = len(bert.tokenizer("the cat")["input_ids"])
    model = opened(bert_folder, processor_kwargs={"truncation_side": "left", "model_max_length": limit})
    kept = model.encode("a dog and the cat", on_truncate="ignore")
    assert_allclose(kept, bert.encode("the cat"), rtol=0, atol=2e-6)


@pytest.mark.parametrize("backend", ["foo", ""])
def test_an_unknown_backend_is_refused(backend: str, bert_folder: Path) -> None:
    with pytest.raises(ValueError, match="backend must be one of 'torch'"):
        opened(bert_folder, backend=backend)


@pytest.mark.parametrize("given", ["foo", "passage"])
def test_an_unknown_default_prompt_is_refused(given: str, bert_folder: Path) -> None:
    with pytest.raises(ValueError) as caught:
        opened(bert_folder, default_prompt_name=given)
    assert str(caught.value) == (
        f"Default prompt name '{given}' not found in the configured prompts dictionary with keys ['query', 'document']."
    )


# --- names of models


def test_a_file_is_no_model(bert_folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match="config.json is a file"):
        SentenceTransformer(str(bert_folder / "config.json"))


@pytest.mark.parametrize("name", ["a/b/c", "/no/such/folder"])
def test_a_path_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"Path {name} not found"):
        SentenceTransformer(name)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("no-such-model-xyz", "sentence-transformers/no-such-model-xyz"),
        ("acme/no-such-model", "acme/no-such-model"),
        ("xlnet-base-cased", "xlnet-base-cased"),
    ],
)
def test_a_name_without_organisation_gets_ours_unless_it_is_a_classic(
    name: str, repository: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=f"Model '{repository}' is not on this machine"):
        SentenceTransformer(name, cache_folder=str(tmp_path), local_files_only=True)


# --- what the model says of itself


def test_what_is_known_without_arguments(bert: SentenceTransformer) -> None:
    assert (bert.backend, bert.get_backend(), bert.trust_remote_code, bert.truncate_dim) == (
        "torch",
        "torch",
        False,
        None,
    )
    assert (bert.modalities, bert.get_model_kwargs(), bert.dtype) == (["text"], [], torch.float32)


def test_names_that_the_trainer_of_transformers_reads(bert: SentenceTransformer) -> None:
    assert (bert._no_split_modules, bert._keys_to_ignore_on_save, bert.is_hpu_graph_enabled) == ([], [], False)


@pytest.mark.parametrize(
    ("kind", "supported"),
    [("text", True), ("image", False), ("message", False), (("text", "image"), False), (("text",), False)],
)
def test_which_inputs_are_supported(kind: Any, supported: bool, bert: SentenceTransformer) -> None:
    assert bert.supports(kind) is supported


def test_the_limit_is_the_smaller_of_tokenizer_and_positions(bert: SentenceTransformer) -> None:
    assert (bert.max_seq_length, bert.get_max_seq_length()) == (WINDOW, WINDOW)


def test_the_limit_may_be_changed(changeable: SentenceTransformer) -> None:
    changeable.max_seq_length = 5
    assert (changeable[0].max_seq_length, changeable.tokenizer.model_max_length) == (5, 5)
    assert len(changeable.encode("a b c d e f g", output_value="token_embeddings", on_truncate="ignore")) == 5


def test_the_processor_of_a_text_model_is_its_tokenizer(bert: SentenceTransformer) -> None:
    assert bert.processor is bert.tokenizer is bert[0].tokenizer


def test_the_tokenizer_may_be_replaced(changeable: SentenceTransformer) -> None:
    other = copy.deepcopy(changeable.tokenizer)
    other.add_tokens(["riverrun"])
    changeable.tokenizer = other
    assert changeable.tokenizer is other
    assert len(changeable.preprocess(["riverrun"])["input_ids"][0]) == 3


def test_the_transformers_model_and_its_config(bert: SentenceTransformer) -> None:
    assert type(bert.transformers_model).__name__ == "BertModel"
    assert bert.transformers_model is bert[0].auto_model is bert[0].model
    assert bert.config is bert.transformers_model.config


def test_the_config_may_be_replaced(changeable: SentenceTransformer) -> None:
    other = copy.deepcopy(changeable.config)
    changeable.config = other
    assert changeable.transformers_model.config is other


def test_a_model_without_a_transformer_has_no_transformers_model() -> None:
    model = SentenceTransformer(modules=[BoW(["cat", "dog"])], device="cpu")
    assert (model.transformers_model, model.config, model.dtype, model.device.type) == (None, None, None, "cpu")
    assert_array_equal(model.encode(["cat dog cat"]), [[2, 1]])


def test_the_old_name_of_the_device_is_a_warning(bert: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    assert bert._target_device == bert.device
    assert "_target_device" in caplog.text


def test_weights_have_the_names_of_the_transformers_model(bert: SentenceTransformer) -> None:
    assert "0.model.embeddings.word_embeddings.weight" in bert.state_dict()
    assert set(bert.state_dict()) == {name for name, _ in bert.named_parameters()}


def test_changed_weights_are_used(changeable: SentenceTransformer, bert: SentenceTransformer) -> None:
    before = changeable.encode(TEXTS)
    changeable.load_state_dict({name: value * 0.5 for name, value in bert.state_dict().items()})
    after = changeable.encode(TEXTS)
    assert np.abs(after - before).max() > 0.01
    with torch.no_grad():
        for weight in changeable.parameters():
            weight.mul_(2)
    assert_allclose(changeable.encode(TEXTS), before, rtol=0, atol=2e-6)


def test_a_copy_is_a_model_of_its_own(bert: SentenceTransformer) -> None:
    other = copy.deepcopy(bert)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert np.abs(other.encode(TEXTS) - bert.encode(TEXTS)).max() > 0.01


def test_a_pickled_model_gives_the_same_vectors(bert: SentenceTransformer) -> None:
    assert_array_equal(pickle.loads(pickle.dumps(bert)).encode(TEXTS), bert.encode(TEXTS))


def test_an_evaluator_gets_the_model_and_a_folder(bert: SentenceTransformer, tmp_path: Path) -> None:
    seen: list[Any] = []

    def evaluator(model: Any, output_path: Any = None) -> float:
        seen.extend([model, output_path])
        return 0.5

    target = str(tmp_path / "deep" / "out")
    assert bert.evaluate(evaluator, target) == 0.5
    assert (seen[0] is bert, seen[1], Path(target).is_dir()) == (True, target, True)


def test_a_model_card_of_the_callers_is_kept(bert_folder: Path) -> None:
    card = SentenceTransformerModelCardData(language="en", license="mit", model_name="Mine")
    assert opened(bert_folder, model_card_data=card).model_card_data is card


def test_the_name_of_the_class_is_in_its_text(bert: SentenceTransformer) -> None:
    text = repr(bert)
    assert text.startswith("SentenceTransformer(\n  (0): Transformer({")
    assert "(1): Pooling({'embedding_dimension': 32, 'pooling_mode': 'mean', 'include_prompt': True})" in text
