"""Which networks the native engine takes on, what it reads of their configs, and what it says of damaged weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sentence_transformers.backend.native.families import FAMILIES, Unsupported, read_spec
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.backend.transformers import load_config, load_model
from sentence_transformers.errors import ModelFileError
from sentence_transformers.ops.tokens import TokenIds

TinyFolder = Callable[[str], Path]

TOKENS = TokenIds(torch.tensor([5, 9, 7, 8, 6, 11, 30, 12, 13, 14, 21, 9]), (9, 1, 2))


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: TinyFolder) -> Callable[..., Path]:
    """``folder(family, remove=[...], **changes)``: a copy of the small model with another config.json."""

    def make(family: str, remove: tuple[str, ...] = (), **changes: Any) -> Path:
        target = tmp_path / "model"
        shutil.copytree(tiny_folder(family), target)
        config = json.loads((target / "config.json").read_text("utf-8"))
        config = {key: value for key, value in {**config, **changes}.items() if key not in remove}
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return target

    return make


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return config


def rename(folder: Path, change: Callable[[str], str]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({change(key): value.clone() for key, value in weights.items()}, folder / "model.safetensors")


def assert_as_transformers(folder: Path, native: bool = True) -> None:
    """The folder's network gives what transformers' model of the folder gives, and runs where it should."""
    pretrained = Pretrained(folder, {}, {}, False)
    assert pretrained.is_native is native
    found = pretrained.network().run(TOKENS)[-1]
    model = load_model(folder, load_config(folder), attn_implementation="eager")
    with torch.no_grad():
        rows = [model(input_ids=ids[None]).last_hidden_state[0] for ids in TOKENS.ids.split(list(TOKENS.lengths))]
    wanted = torch.cat(rows)
    assert float((found - wanted).abs().max()) < 2e-6 * max(1.0, float(wanted.abs().max()))


# --- rotary frequencies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_rope_theta_of_old_configs(family: str, folder: Callable[..., Path]) -> None:
    path = folder(family, remove=("rope_parameters",), rope_theta=300.0)
    assert set(read_spec(config_of(path)).thetas) == {300.0}
    assert_as_transformers(path)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_rope_parameters_of_new_configs(family: str, folder: Callable[..., Path]) -> None:
    path = folder(family, remove=("rope_theta",), rope_parameters={"rope_type": "default", "rope_theta": 70.0})
    assert set(read_spec(config_of(path)).thetas) == {70.0}
    assert_as_transformers(path)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "modernbert"])
def test_no_theta_at_all_is_the_default_of_transformers(family: str, folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder(family, remove=("rope_parameters", "rope_theta")))


def test_rope_parameters_win_over_an_old_rope_theta(folder: Callable[..., Path]) -> None:
    path = folder("llama", rope_theta=5.0, rope_parameters={"rope_type": "default", "rope_theta": 70.0})
    assert set(read_spec(config_of(path)).thetas) == {70.0}
    assert_as_transformers(path)


def test_modernbert_has_a_theta_for_each_kind_of_layer(folder: Callable[..., Path]) -> None:
    parameters = {
        "full_attention": {"rope_type": "default", "rope_theta": 50.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
    }
    path = folder("modernbert", rope_parameters=parameters)
    assert read_spec(config_of(path)).thetas == (50.0, 20.0, 20.0, 50.0, 20.0)
    assert_as_transformers(path)


def test_modernbert_thetas_of_old_configs(folder: Callable[..., Path]) -> None:
    path = folder("modernbert", remove=("rope_parameters",), global_rope_theta=90.0, local_rope_theta=30.0)
    assert read_spec(config_of(path)).thetas == (90.0, 30.0, 30.0, 90.0, 30.0)
    assert_as_transformers(path)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 32},
    ],
)  # fmt: skip
def test_scaled_rotary_positions_run_through_transformers(scaling: Any, folder: Callable[..., Path]) -> None:
    path = folder("llama", remove=("rope_parameters",), rope_theta=500.0, rope_scaling=scaling)
    with pytest.raises(Unsupported, match="rotary positions of type"):
        read_spec(config_of(path))
    assert_as_transformers(path, native=False)


# --- windows and directions -------------------------------------------------------------------------------------------


def test_mistral_without_a_window(folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("mistral", sliding_window=None))


def test_qwen3_with_a_window_in_its_upper_layers(folder: Callable[..., Path]) -> None:
    path = folder("qwen3", remove=("layer_types",), use_sliding_window=True, sliding_window=3, max_window_layers=1)
    assert read_spec(config_of(path)).windows == (None, 3, 3)
    assert_as_transformers(path)


def test_qwen3_with_a_window_that_is_switched_off(folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("qwen3", remove=("layer_types",), use_sliding_window=False, sliding_window=3))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_decoders_that_look_both_ways(family: str, folder: Callable[..., Path]) -> None:
    path = folder(family, is_causal=False)
    assert not read_spec(config_of(path)).causal
    assert_as_transformers(path)


def test_a_window_that_looks_both_ways_runs_through_transformers(folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("mistral", is_causal=False), native=False)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_modernbert_layers_from_their_rhythm(every: int, folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("modernbert", remove=("layer_types",), global_attn_every_n_layers=every))


# --- other options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu",
                                        "silu", "swish", "tanh"])  # fmt: skip
def test_activation(activation: str, folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("bert", hidden_act=activation))


@pytest.mark.parametrize("family", ["modernbert", "llama"])
def test_activation_of_a_gated_layer(family: str, folder: Callable[..., Path]) -> None:
    key = "hidden_activation" if family == "modernbert" else "hidden_act"
    assert_as_transformers(folder(family, **{key: "gelu_pytorch_tanh"}))


def test_an_unknown_activation_runs_through_transformers(folder: Callable[..., Path]) -> None:
    path = folder("bert", hidden_act="gelu_10")
    with pytest.raises(Unsupported, match="gelu_10"):
        read_spec(config_of(path))
    assert_as_transformers(path, native=False)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
def test_epsilon_of_the_norms(epsilon: float, folder: Callable[..., Path]) -> None:
    assert_as_transformers(folder("bert", layer_norm_eps=epsilon))


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"is_decoder": True}, "decoder"),
        ("bert", {"add_cross_attention": True}, "decoder"),
        ("bert", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantised"),
        ("bert", {"auto_map": {"AutoModel": "modeling.Own"}}, "remote code"),
        ("bert", {"model_type": "albert"}, "albert"),
        ("bert", {"model_type": None}, "None"),
        ("bert", {"hidden_size": ...}, "hidden_size"),
        ("distilbert", {"n_heads": ...}, "n_heads"),
        ("modernbert", {"num_hidden_layers": ...}, "num_hidden_layers"),
    ],
)
def test_what_the_table_does_not_know(family: str, change: dict[str, Any], says: str, tiny_folder: TinyFolder) -> None:
    """``...`` stands for a key that is not there."""
    config = {key: value for key, value in {**config_of(tiny_folder(family)), **change}.items() if value is not ...}
    with pytest.raises(Unsupported, match=says):
        read_spec(config)


def test_relative_positions_run_through_transformers(folder: Callable[..., Path]) -> None:
    assert not Pretrained(folder("bert", position_embedding_type="relative_key"), {}, {}, False).is_native


def test_settings_of_transformers_alone_run_through_transformers(tiny_folder: TinyFolder) -> None:
    assert not Pretrained(tiny_folder("bert"), {"attn_implementation": "flex_attention"}, {}, False).is_native


@pytest.mark.parametrize("settings", [{"attn_implementation": "sdpa"}, {"low_cpu_mem_usage": True}, {"dtype": "auto"}])
def test_settings_that_change_no_number_stay_native(settings: Any, tiny_folder: TinyFolder) -> None:
    assert Pretrained(tiny_folder("bert"), settings, {}, False).is_native


def test_overrides_of_the_config_count(tiny_folder: TinyFolder) -> None:
    short = Pretrained(tiny_folder("bert"), {}, {"num_hidden_layers": 1}, False)
    whole = Pretrained(tiny_folder("bert"), {}, {}, False)
    assert torch.equal(short.network().run(TOKENS)[-1], whole.network().run(TOKENS, all_layers=True)[1])


def test_a_config_that_names_a_type_is_obeyed(folder: Callable[..., Path]) -> None:
    assert Pretrained(folder("bert", dtype="bfloat16"), {}, {}, False).dtype is torch.bfloat16


def test_the_old_name_of_the_type_is_obeyed(folder: Callable[..., Path]) -> None:
    assert Pretrained(folder("bert", remove=("dtype",), torch_dtype="float16"), {}, {}, False).dtype is torch.float16


def test_without_a_named_type_the_weights_decide(folder: Callable[..., Path]) -> None:
    path = folder("bert", remove=("dtype", "torch_dtype"))
    weights = {key: value.half() for key, value in load_file(path / "model.safetensors").items()}
    save_file(weights, path / "model.safetensors")
    assert Pretrained(path, {}, {}, False).dtype is torch.float16


def test_an_unknown_type_is_refused_with_the_known_ones(tiny_folder: TinyFolder) -> None:
    with pytest.raises(ValueError, match="'float32'.*got 'float12'"):
        Pretrained(tiny_folder("bert"), {"dtype": "float12"}, {}, False)


# --- names of tensors -------------------------------------------------------------------------------------------------


def test_every_family_has_names_for_every_part_that_it_has() -> None:
    for family, (_, names) in FAMILIES.items():
        assert all("{i}" in name for name in (*names.qkv, names.out, *names.up, names.down, names.mlp_norm)), family
        assert "{i}" not in names.words


@pytest.mark.parametrize(
    ("family", "prefix"),
    [("bert", "bert."), ("roberta", "roberta."), ("xlm-roberta", "roberta."), ("camembert", "roberta."),
     ("electra", "electra."), ("mpnet", "mpnet."), ("distilbert", "distilbert."), ("modernbert", "model."),
     ("llama", "model."), ("mistral", "model."), ("qwen3", "model.")],
)  # fmt: skip
def test_checkpoints_of_task_heads(family: str, prefix: str, folder: Callable[..., Path]) -> None:
    path = folder(family)
    wanted = Pretrained(path, {}, {}, False).network().run(TOKENS)[-1]
    rename(path, lambda key: prefix + key.removeprefix(prefix))
    weights = load_file(path / "model.safetensors")
    save_file({**weights, "cls.predictions.bias": torch.ones(3)}, path / "model.safetensors")
    assert torch.equal(Pretrained(path, {}, {}, False).network().run(TOKENS)[-1], wanted)
    assert_as_transformers(path)


def test_gamma_and_beta_of_old_checkpoints(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    wanted = Pretrained(path, {}, {}, False).network().run(TOKENS)[-1]
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    rename(path, lambda key: "bert." + next((key.replace(a, b) for a, b in old.items() if a in key), key))
    assert any("gamma" in key for key in load_file(path / "model.safetensors"))
    assert torch.equal(Pretrained(path, {}, {}, False).network().run(TOKENS)[-1], wanted)
    assert_as_transformers(path)


def test_electra_whose_embeddings_are_as_wide_as_its_layers_has_no_projection(folder: Callable[..., Path]) -> None:
    path = folder("electra", embedding_size=32)
    weights = load_file(path / "model.safetensors")
    weights = {key: value for key, value in weights.items() if "embeddings_project" not in key}
    for key in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        rows = len(weights[f"embeddings.{key}.weight"])
        weights[f"embeddings.{key}.weight"] = torch.rand(rows, 32, generator=torch.Generator().manual_seed(0))
    weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"] = torch.ones(32), torch.zeros(32)
    save_file(weights, path / "model.safetensors")
    assert_as_transformers(path)


def test_weights_in_old_pickles_give_the_same(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    wanted = Pretrained(path, {}, {}, False).network().run(TOKENS)[-1]
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    assert torch.equal(Pretrained(path, {}, {}, False).network().run(TOKENS)[-1], wanted)


# --- damage -----------------------------------------------------------------------------------------------------------

DAMAGED = {
    "bert": "encoder.layer.1.attention.self.key.weight",
    "mpnet": "encoder.relative_attention_bias.weight",
    "distilbert": "transformer.layer.0.ffn.lin1.bias",
    "modernbert": "layers.2.mlp.Wi.weight",
    "electra": "embeddings_project.weight",
    "llama": "layers.0.mlp.gate_proj.weight",
    "roberta": "embeddings.LayerNorm.weight",
}


@pytest.mark.parametrize("family", sorted(DAMAGED))
def test_a_missing_tensor_is_named_with_its_file_and_shape(family: str, folder: Callable[..., Path]) -> None:
    path, key = folder(family), DAMAGED[family]
    weights = load_file(path / "model.safetensors")
    shape = tuple(weights.pop(key).shape)
    save_file(weights, path / "model.safetensors")
    with pytest.raises(ModelFileError) as error:
        Pretrained(path, {}, {}, False)
    assert all(part in str(error.value) for part in (str(path / "model.safetensors"), key, *map(str, shape), "none"))


@pytest.mark.parametrize("family", sorted(DAMAGED))
def test_a_wrong_shape_is_named_with_what_was_expected_and_found(family: str, folder: Callable[..., Path]) -> None:
    path, key = folder(family), DAMAGED[family]
    weights = load_file(path / "model.safetensors")
    shape = tuple(weights[key].shape)
    weights[key] = torch.zeros(*shape[:-1], 77)
    save_file(weights, path / "model.safetensors")
    with pytest.raises(ModelFileError) as error:
        Pretrained(path, {}, {}, False)
    assert all(part in str(error.value) for part in (str(path / "model.safetensors"), key, *map(str, shape), "77"))


def test_a_config_of_another_model_is_told_apart(folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelFileError, match=r"model\.safetensors.*word_embeddings"):
        Pretrained(folder("bert", vocab_size=3), {}, {}, False)


def test_a_truncated_weight_file_is_one_clear_error(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"model\.safetensors is damaged"):
        Pretrained(path, {}, {}, False)


def test_no_weights_at_all_is_one_clear_error(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="No weights in"):
        Pretrained(path, {}, {}, False)


# --- where the files go -----------------------------------------------------------------------------------------------


def test_a_network_outlives_its_folder(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder("bert")
    pretrained = Pretrained(path, {}, {}, False)
    wanted = pretrained.network().run(TOKENS)[-1]
    shutil.rmtree(path)
    saved = tmp_path / "saved"
    saved.mkdir()
    pretrained.save(saved)
    assert torch.equal(Pretrained(saved, {}, {}, False).network().run(TOKENS)[-1], wanted)
    pretrained.model()
    assert float((pretrained.network().run(TOKENS)[-1] - wanted).abs().max()) < 2e-6


def test_a_network_stays_itself_when_another_is_saved_over_it(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder("bert")
    first, other = Pretrained(path, {}, {}, False), Pretrained(path, {}, {}, False)
    wanted = first.network().run(TOKENS)[-1]
    with torch.no_grad():
        for parameter in other.model().parameters():
            parameter.mul_(0.5)
    other.save(path)
    saved = tmp_path / "saved"
    saved.mkdir()
    first.save(saved)
    assert torch.equal(Pretrained(saved, {}, {}, False).network().run(TOKENS)[-1], wanted)
    first.model()
    assert float((first.network().run(TOKENS)[-1] - wanted).abs().max()) < 2e-6


def test_saving_into_the_folder_it_came_from(folder: Callable[..., Path]) -> None:
    path = folder("bert")
    pretrained = Pretrained(path, {}, {}, False)
    wanted = pretrained.network().run(TOKENS)[-1]
    pretrained.save(path)
    assert torch.equal(Pretrained(path, {}, {}, False).network().run(TOKENS)[-1], wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_cast_network_is_saved_in_its_type(dtype: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    pretrained = Pretrained(tiny_folder("bert"), {"dtype": dtype}, {}, False)
    pretrained.save(tmp_path)
    assert config_of(tmp_path)["dtype"] == dtype
    again = Pretrained(tmp_path, {}, {}, False)
    assert again.dtype is getattr(torch, dtype)
    assert torch.equal(again.network().run(TOKENS)[-1], pretrained.network().run(TOKENS)[-1])


def test_the_network_itself_is_native_for_every_row_of_the_table(tiny_folder: TinyFolder) -> None:
    for family in FAMILIES:
        network = NativeNetwork.load(tiny_folder(family), config_of(tiny_folder(family)), None)
        assert network.spec.family == family
