"""How a ``CrossEncoder`` is made, saved and opened again: labels, lengths, activations, layers in float32."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_heads
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from sentence_transformers import CrossEncoder, __version__
from sentence_transformers.modules.heads import Float32Linear
from tests.unit.encoders.folders import read_json, write_json

PAIRS = [("the cat sat", "a dog sat by the door"), ("who?", ""), ("", "only the second")]
CONFIG = "config_sentence_transformers.json"
IDENTITY, SIGMOID, TANH = (
    f"torch.nn.modules.{name}" for name in ("linear.Identity", "activation.Sigmoid", "activation.Tanh")
)
HEAD = "0.model.classifier"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier of one label; don't write."""
    return tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with three labels; don't write."""
    return tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("three"), 3)


def opened(folder: Path, **arguments: Any) -> CrossEncoder:
    return CrossEncoder(str(folder), device="cpu", **arguments)


# --- signature

OWN = ["num_labels", "max_length", "activation_fn", "keep_in_fp32_modules", "config_kwargs", "processor_kwargs"]
SHARED = [
    "modules", "device", "prompts", "default_prompt_name", "cache_folder", "trust_remote_code", "revision",
    "local_files_only", "token", "model_kwargs", "model_card_data", "backend",
]  # fmt: skip
PREDICT = [
    "inputs", "prompt_name", "prompt", "batch_size", "show_progress_bar", "activation_fn", "apply_softmax",
    "convert_to_numpy", "convert_to_tensor", "device", "pool", "chunk_size",
]  # fmt: skip
RANK = [
    "query", "documents", "top_k", "return_documents", "prompt_name", "prompt", "batch_size", "show_progress_bar",
    "activation_fn", "device", "pool", "chunk_size",
]  # fmt: skip


def test_constructor_names_every_argument_and_only_the_name_is_positional() -> None:
    parameters = inspect.signature(CrossEncoder).parameters
    assert set(parameters) == {"model_name_or_path", *OWN, *SHARED}
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == ["model_name_or_path"]


@pytest.mark.parametrize(("name", "expected"), [("predict", PREDICT), ("rank", RANK)])
def test_methods_take_the_arguments_of_the_reference_in_its_order(name: str, expected: list[str]) -> None:
    parameters = list(inspect.signature(getattr(CrossEncoder, name)).parameters.values())
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["self", *expected]


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'devise'"):
        CrossEncoder("ms-marco", devise="cpu")  # type: ignore[call-arg]


# --- labels and lengths


def test_labels_come_from_the_model(one: Path, three: Path) -> None:
    assert [opened(folder).num_labels for folder in (one, three)] == [1, 3]


def test_a_model_without_a_head_gets_one_label(tmp_path: Path) -> None:
    model = opened(tiny.build("bert", tmp_path))
    assert (model.num_labels, len(model), model[0].transformer_task) == (1, 1, "sequence-classification")
    assert model.predict(PAIRS).shape == (3,)


def test_a_model_without_a_head_gets_as_many_labels_as_asked_for(tmp_path: Path) -> None:
    folder, config_kwargs = tiny.build("bert", tmp_path), {"hidden_dropout_prob": 0.5}
    model = opened(folder, num_labels=4, config_kwargs=config_kwargs)
    assert (model.num_labels, model.config.num_labels, model.config.hidden_dropout_prob) == (4, 4, 0.5)
    assert model.predict(PAIRS).shape == (3, 4)
    assert config_kwargs == {"hidden_dropout_prob": 0.5}
    assert opened(folder, config_kwargs={"num_labels": 5}).num_labels == 5


def test_another_number_of_labels_than_the_head_has_is_refused(three: Path) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        opened(three, num_labels=2)


def test_labels_of_a_dense_that_gives_the_scores(tmp_path: Path) -> None:
    model = opened(tiny_heads.build_scoring_dense(tmp_path))
    assert (model.num_labels, model.predict(PAIRS).shape) == (1, (3,))
    model[2] = Dense(32, 3, module_output_name="scores")
    assert (model.num_labels, model.predict(PAIRS).shape) == (3, (3, 3))


def test_max_length_limits_pairs(one: Path) -> None:
    processor_kwargs: dict[str, Any] = {}
    model = opened(one, max_length=9, processor_kwargs=processor_kwargs)
    assert (model.max_seq_length, model.tokenizer.model_max_length, processor_kwargs) == (9, 9, {})
    assert model.preprocess([PAIRS[0]])["input_ids"].shape == (1, 9)


def test_modules_may_be_given(one: Path) -> None:
    transformer = Transformer(str(one), transformer_task="sequence-classification")
    expected = opened(one).predict(PAIRS)
    for modules in ([transformer], OrderedDict(first=transformer)):
        model = CrossEncoder(modules=modules, device="cpu")
        assert type(model.activation_fn) is nn.Sigmoid
        assert_array_equal(model.predict(PAIRS), expected)


def test_no_modules_are_refused() -> None:
    with pytest.raises(ValueError, match="An empty modules list was passed to CrossEncoder"):
        CrossEncoder(modules=[])
    with pytest.raises(ValueError, match="CrossEncoder needs a model name or path, or modules"):
        CrossEncoder()


def test_a_language_model_becomes_a_generative_reranker(tmp_path: Path) -> None:
    model = opened(tiny_heads.build_answering(tmp_path))
    assert [type(part) for part in model] == [Transformer, LogitScore]
    assert (model[0].transformer_task, model.num_labels) == ("text-generation", 1)


def test_a_language_model_without_the_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its words 'yes' and 'no', but its vocabulary lacks \['yes', 'no'\]"):
        opened(tiny.build("qwen3", tmp_path))


# --- prompts


def test_there_are_no_prompts_of_its_own(one: Path) -> None:
    assert opened(one).prompts == {}


def test_a_default_prompt_must_exist(one: Path) -> None:
    with pytest.raises(ValueError, match="Default prompt name 'x' not found in the configured prompts dictionary with"):
        opened(one, default_prompt_name="x")


def test_prompts_are_saved_and_loaded_and_the_user_wins(one: Path, tmp_path: Path) -> None:
    opened(one, prompts={"find": "find: ", "other": "o "}, default_prompt_name="find").save(str(tmp_path))
    model = opened(tmp_path, prompts={"find": "mine: "})
    assert (model.prompts, model.default_prompt_name) == ({"find": "mine: ", "other": "o "}, "find")


# --- activation: where it comes from


def test_one_label_gets_a_sigmoid_and_several_get_nothing(one: Path, three: Path) -> None:
    assert [type(opened(folder).activation_fn) for folder in (one, three)] == [nn.Sigmoid, nn.Identity]


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("sbert_ce_default_activation_function", nn.Identity),
        ("sentence_transformers", nn.Tanh),
        ("config_sentence_transformers", nn.Tanh),
    ],
)
def test_activation_is_read_from_where_each_version_wrote_it(where: str, kind: type, tmp_path: Path) -> None:
    model = opened(tiny_heads.build_activation(tmp_path, where))
    assert type(model.activation_fn) is type(model.get_default_activation_fn()) is kind


def test_newer_places_win_over_older_ones(tmp_path: Path) -> None:
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")  # tanh
    config = read_json(folder / "config.json")
    config["sbert_ce_default_activation_function"] = SIGMOID
    config["sentence_transformers"] = {"activation_fn": IDENTITY}
    write_json(folder / "config.json", config)
    assert type(opened(folder).activation_fn) is nn.Tanh
    write_json(folder / CONFIG, {"model_type": "CrossEncoder"})
    assert type(opened(folder).activation_fn) is nn.Identity
    del config["sentence_transformers"]
    write_json(folder / "config.json", config)
    assert type(opened(folder).activation_fn) is nn.Sigmoid


def test_the_activation_of_the_constructor_wins(tmp_path: Path) -> None:
    folder, mine = tiny_heads.build_activation(tmp_path, "sentence_transformers"), nn.ReLU()
    model = opened(folder, activation_fn=mine)
    assert model.activation_fn is mine
    assert type(model.get_default_activation_fn()) is nn.Tanh


@pytest.mark.parametrize("name", ["somewhere.else.Activation", "os.getcwd", "torchlike.Tanh"])
def test_code_that_is_not_of_torch_is_not_run(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")
    write_json(folder / CONFIG, {"model_type": "CrossEncoder", "activation_fn": name})
    assert type(opened(folder).activation_fn) is nn.Sigmoid
    assert f"The activation {name!r} of this model is not one of torch" in caplog.text
    assert "trust_remote_code=True" in caplog.text


def test_functions_of_torch_are_not_run_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")
    for name in ("torch.cuda.synchronize", "torch.random.seed", "torch.nn.parameter.Parameter"):
        write_json(folder / CONFIG, {"model_type": "CrossEncoder", "activation_fn": name})
        assert type(opened(folder).activation_fn) is nn.Sigmoid
        assert f"The activation {name!r} of this model is no class of activation" in caplog.text


def test_trusted_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled:
        def __call__(self, scores: torch.Tensor) -> torch.Tensor:
            return 2 * scores

    module = ModuleType("my_activations")
    module.Doubled = Doubled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_activations", module)
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")
    write_json(folder / CONFIG, {"model_type": "CrossEncoder", "activation_fn": "my_activations.Doubled"})
    model = opened(folder, trust_remote_code=True)
    assert type(model.activation_fn) is Doubled
    assert_array_equal(model.predict(PAIRS), 2 * model.predict(PAIRS, activation_fn=nn.Identity()))


def test_an_activation_that_torch_does_not_have_is_named(tmp_path: Path) -> None:
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")
    write_json(folder / CONFIG, {"model_type": "CrossEncoder", "activation_fn": "torch.nn.Sigmoidd"})
    with pytest.raises(ImportError, match="'torch.nn' has no class or attribute 'Sigmoidd'"):
        opened(folder)


@pytest.mark.parametrize("odd", [5, {"a": 1}, ""])
def test_a_name_that_is_no_text_counts_as_none(odd: Any, tmp_path: Path) -> None:
    folder = tiny_heads.build_activation(tmp_path, "config_sentence_transformers")
    config = read_json(folder / "config.json") | {"sentence_transformers": odd}
    write_json(folder / "config.json", config | {"sbert_ce_default_activation_function": odd})
    write_json(folder / CONFIG, {"model_type": "CrossEncoder", "activation_fn": None if odd == "" else odd})
    assert type(opened(folder).activation_fn) is nn.Sigmoid


@pytest.mark.parametrize(("wrong", "got"), [(nn.Tanh, "the class Tanh"), ("tanh", "'tanh'")])
def test_what_is_no_activation_is_refused(wrong: Any, got: str, one: Path) -> None:
    with pytest.raises(ValueError, match=rf"activation_fn must be something that is called .* got {got}\."):
        opened(one, activation_fn=wrong)
    model = opened(one)
    with pytest.raises(ValueError, match=f"got {got}"):
        model.activation_fn = wrong
    assert type(model.activation_fn) is nn.Sigmoid


def test_the_activation_is_no_child_of_the_model(one: Path) -> None:
    model = opened(one, activation_fn=nn.PReLU())
    assert [name for name, _ in model.named_children()] == ["0"]
    assert len(model) == 1
    assert model[-1] is model[0]
    assert not any("activation_fn" in name for name in model.state_dict())
    assert type(pickle.loads(pickle.dumps(model)).activation_fn) is nn.PReLU


# --- activation: where it goes


@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize("where", ["sbert_ce_default_activation_function", "sentence_transformers", "nowhere"])
def test_the_activation_is_saved_as_every_version_reads_it(where: str, is_built: bool, tmp_path: Path) -> None:
    folder = tmp_path / "before"
    model = opened(
        tiny_heads.build_classifier("bert", folder)
        if where == "nowhere"
        else tiny_heads.build_activation(folder, where)
    )
    model.activation_fn = nn.Tanh()
    _ = model.model if is_built else None
    model.save(str(tmp_path / "after"))
    config = read_json(tmp_path / "after" / "config.json")
    assert read_json(tmp_path / "after" / CONFIG)["activation_fn"] == TANH
    assert config["sentence_transformers"] == {"activation_fn": TANH, "version": __version__}
    assert "sbert_ce_default_activation_function" not in config
    assert type(opened(tmp_path / "after").activation_fn) is nn.Tanh
    (tmp_path / "after" / "modules.json").unlink()  # what remains is what version 4 would read
    assert type(opened(tmp_path / "after").activation_fn) is nn.Tanh


def test_the_default_activation_is_saved_too(three: Path, tmp_path: Path) -> None:
    opened(three).save(str(tmp_path))
    assert read_json(tmp_path / CONFIG)["activation_fn"] == IDENTITY


def test_a_function_is_not_saved_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_heads.build_activation(tmp_path / "before", "sentence_transformers")
    opened(folder, activation_fn=torch.tanh).save(str(tmp_path / "after"))
    assert "is a function, which is not saved: the default is loaded" in caplog.text
    assert read_json(tmp_path / "after" / CONFIG)["activation_fn"] is None
    assert "sentence_transformers" not in read_json(tmp_path / "after" / "config.json")
    assert type(opened(tmp_path / "after").activation_fn) is nn.Sigmoid


@pytest.mark.parametrize("lossy", [nn.LeakyReLU(0.5), nn.Softmax(dim=1), nn.Sequential(nn.Tanh()), nn.Threshold(0, 1)])
def test_arguments_that_are_not_saved_are_told(
    lossy: nn.Module, one: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(one, activation_fn=lossy).save(str(tmp_path))
    assert "only the class is saved: it is loaded without arguments" in caplog.text
    assert read_json(tmp_path / CONFIG)["activation_fn"].endswith(f".{type(lossy).__name__}")


@pytest.mark.parametrize("whole", [nn.Sigmoid(), nn.GELU(), nn.LeakyReLU(0.01), nn.Identity()])
def test_an_activation_without_arguments_is_saved_in_silence(
    whole: nn.Module, one: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(one, activation_fn=whole).save(str(tmp_path))
    assert not caplog.records
    assert repr(opened(tmp_path).activation_fn) == repr(whole)


# --- saving


def test_a_saved_model_gives_the_same_scores(one: Path, three: Path, tmp_path: Path) -> None:
    for folder in (one, three, tiny_heads.build_scoring_dense(tmp_path / "dense")):
        model, target = opened(folder), tmp_path / folder.name / "saved"
        model.save(str(target))
        assert read_json(target / CONFIG)["model_type"] == "CrossEncoder"
        assert_array_equal(opened(target).predict(PAIRS), model.predict(PAIRS))


def test_a_saved_generative_reranker_gives_the_same_scores(tmp_path: Path) -> None:
    model = opened(tiny_heads.build_answering(tmp_path / "before"))
    model.save_pretrained(str(tmp_path / "after"))
    again = opened(tmp_path / "after")
    assert [type(part) for part in again] == [Transformer, LogitScore]
    assert again[1].get_config_dict() == model[1].get_config_dict()
    assert_array_equal(again.predict(PAIRS), model.predict(PAIRS))
    types = [entry["type"] for entry in read_json(tmp_path / "after" / "modules.json")]
    assert types[1] == "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"


def test_a_model_of_another_family_lends_its_transformer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = opened(tiny.build_with_pooling("bert", tmp_path, "mean"))
    assert "Converting a SentenceTransformer model to CrossEncoder." in caplog.text
    assert (len(model), model[0].transformer_task, model.num_labels) == (1, "sequence-classification", 1)


# --- layers in float32


def narrow(folder: Path, **arguments: Any) -> CrossEncoder:
    return opened(folder, model_kwargs={"dtype": "bfloat16"}, **arguments)


def test_a_kept_head_computes_in_float32(three: Path) -> None:
    model, plain = narrow(three, keep_in_fp32_modules=[HEAD]), narrow(three)
    network = model.model
    assert (type(network.classifier), network.classifier.weight.dtype) == (Float32Linear, torch.bfloat16)
    with torch.inference_mode():
        features = model.preprocess([PAIRS[0]])
        pooled = network.bert(**{k: v for k, v in features.items() if k != "modality"}).pooler_output
    weight, bias = (value.detach().double() for value in (network.classifier.weight, network.classifier.bias))
    exact = (pooled.double() @ weight.T + bias).numpy()
    assert_allclose(model.predict(PAIRS[:1]), exact, rtol=0, atol=1e-6)
    assert np.abs(plain.predict(PAIRS[:1]) - exact).max() > 1e-4


def test_kept_layers_are_saved_and_kept_again(three: Path, tmp_path: Path) -> None:
    model = narrow(three, keep_in_fp32_modules=(HEAD,))
    model.save(str(tmp_path))
    assert read_json(tmp_path / CONFIG)["keep_in_fp32_modules"] == [HEAD]
    again = opened(tmp_path)
    assert (again.dtype, type(again.model.classifier)) == (torch.bfloat16, Float32Linear)
    assert_array_equal(again.predict(PAIRS), model.predict(PAIRS))


def test_the_constructor_wins_over_what_was_saved(three: Path, tmp_path: Path) -> None:
    narrow(three, keep_in_fp32_modules=[HEAD]).save(str(tmp_path))
    none = opened(tmp_path, keep_in_fp32_modules=[])
    other = opened(tmp_path, keep_in_fp32_modules=["0.model.bert.pooler.dense"])
    assert [type(model.model.classifier) for model in (none, other)] == [nn.Linear, nn.Linear]
    assert type(other.model.bert.pooler.dense) is Float32Linear
    none.save(str(tmp_path / "again"))
    assert "keep_in_fp32_modules" not in read_json(tmp_path / "again" / CONFIG)


def test_nothing_is_written_where_no_layer_is_kept(three: Path, tmp_path: Path) -> None:
    opened(three).save(str(tmp_path))
    assert "keep_in_fp32_modules" not in read_json(tmp_path / CONFIG)


def test_setting_other_layers_gives_the_first_back(three: Path) -> None:
    model = narrow(three)
    before = model.predict(PAIRS)
    model.set_keep_in_fp32_modules([HEAD])
    assert not np.array_equal(model.predict(PAIRS), before)
    model.set_keep_in_fp32_modules([])
    assert type(model.model.classifier) is nn.Linear
    assert_array_equal(model.predict(PAIRS), before)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0.model.bert.embeddings.LayerNorm"], "supports only plain nn.Linear layers; .* is a LayerNorm"),
        (["0.model.nope"], "supports only plain nn.Linear layers; '0.model.nope' is not in this model"),
        ([HEAD, "0"], "'0' is a Transformer"),
        (HEAD, "must be a list of module paths; got '0.model.classifier'"),
    ],
)
def test_other_layers_are_refused(names: Any, says: str, three: Path) -> None:
    with pytest.raises(ValueError, match=f"keep_in_fp32_modules .*{says}"):
        opened(three, keep_in_fp32_modules=names)
    model = opened(three)
    with pytest.raises(ValueError, match=says):
        model.set_keep_in_fp32_modules(names)
    assert type(model.model.classifier) is nn.Linear
    assert "keep_in_fp32_modules" not in model._config_to_save()


def test_a_copy_keeps_its_layers(three: Path) -> None:
    model = narrow(three, keep_in_fp32_modules=[HEAD])
    assert type(copy.deepcopy(model).model.classifier) is Float32Linear


# --- what users reach for


def test_model_and_config_are_those_of_transformers(one: Path) -> None:
    model = opened(one)
    assert type(model.model).__name__ == "BertForSequenceClassification"
    assert model.model is model.transformers_model is model[0].auto_model
    assert model.config is model.model.config
    assert model.config.num_labels == 1


def test_the_model_may_be_replaced(one: Path) -> None:
    model, other = opened(one), opened(one).model
    torch.nn.init.zeros_(other.classifier.weight)
    torch.nn.init.zeros_(other.classifier.bias)
    model.model = other
    assert model.model is other
    assert [name for name, _ in model.named_children()] == ["0"]
    assert_array_equal(model.predict(PAIRS), np.full(3, 0.5, np.float32))


def test_changed_weights_change_the_scores(one: Path) -> None:
    model = opened(one)
    before = model.predict(PAIRS, activation_fn=nn.Identity())
    with torch.no_grad():
        model.model.classifier.bias += 1
    assert_allclose(model.predict(PAIRS, activation_fn=nn.Identity()), before + 1, rtol=0, atol=1e-6)


def test_there_is_no_encode(one: Path) -> None:
    assert not hasattr(opened(one), "encode")


def test_a_pooled_dense_may_be_the_head(tmp_path: Path) -> None:
    folder = tiny.build("bert", tmp_path)
    head = Dense(32, 2, module_input_name="sentence_embedding", module_output_name="scores", activation_function=None)
    model = CrossEncoder(modules=[Transformer(str(folder)), Pooling(32, "cls"), head], device="cpu")
    assert (model.num_labels, type(model.activation_fn)) == (2, nn.Identity)
    with torch.inference_mode():
        states = model.model(**model.tokenizer(["a cat"], ["a dog"], return_tensors="pt")).last_hidden_state[:, 0]
        expected = head.linear(states)[0].numpy()
    assert_allclose(model.predict(("a cat", "a dog")), expected, rtol=0, atol=2e-6)
