"""Parts that work on every vector by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.linear import Dense, Dropout, LayerNorm, Normalize, WeightedLayerPooling
from sentence_transformers.ops.tokens import Packed, Padded


def wave(*shape: int, speed: float = 1.0) -> Tensor:
    return torch.sin(speed * torch.arange(1, math.prod(shape) + 1, dtype=torch.float32)).view(shape)


def dense_config(folder: Path, **changes: Any) -> str:
    """A saved Dense(2, 1) whose config has other values; ``...`` removes a key."""
    Dense(2, 1).save(str(folder))
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return str(folder)


# --- Dense


def test_dense_equals_the_hand_value() -> None:
    dense = Dense(2, 1, init_weight=torch.tensor([[1.0, 2.0]]), init_bias=torch.tensor([0.5]))
    out = dense({"sentence_embedding": torch.tensor([[1.0, -1.0]])})["sentence_embedding"]
    assert_close(out, torch.tensor([[math.tanh(1 - 2 + 0.5)]]))


def test_dense_with_residual_gives_the_numbers_of_the_reference() -> None:
    dense = Dense(2, 3, activation_function=nn.GELU(), use_residual=True)
    with torch.no_grad():
        for speed, parameter in enumerate(dense.parameters(), start=1):
            parameter.copy_(wave(*parameter.shape, speed=speed) / 2)
    out = dense({"sentence_embedding": wave(2, 2)})["sentence_embedding"]
    # recorded from reference 6.2.0
    expected = torch.tensor([[1.018983, -0.238744, -0.236301], [0.212127, 0.193769, 0.283354]])
    assert_close(out, expected, atol=2e-6, rtol=0)


def test_dense_adds_the_input_itself_where_widths_agree() -> None:
    dense = Dense(2, 2, activation_function=None, init_weight=torch.zeros(2, 2), bias=False, use_residual=True)
    assert list(dense.state_dict()) == ["linear.weight"]
    vectors = wave(3, 2)
    assert torch.equal(dense({"sentence_embedding": vectors})["sentence_embedding"], vectors)


def test_dense_writes_where_it_is_told() -> None:
    features = Dense(2, 3, module_input_name="token_embeddings", module_output_name="out")(
        {"token_embeddings": wave(1, 4, 2)}
    )
    assert features["out"].shape == (1, 4, 3)
    assert torch.equal(features["token_embeddings"], wave(1, 4, 2))


def test_dense_on_packed_equals_padded() -> None:
    dense = Dense(2, 3, module_input_name="token_embeddings", use_residual=True)
    padded = Padded(wave(2, 3, 2), torch.tensor([[1, 1, 1], [1, 0, 0]]))
    expected = dense({"token_embeddings": padded.values})["token_embeddings"]
    out = dense({"token_embeddings": padded.pack()})["token_embeddings"]
    assert isinstance(out, Packed)
    assert_close(out.values, padded.replace(expected).pack().values)


def test_gradients_reach_dense_and_what_comes_before() -> None:
    dense = Dense(3, 2, use_residual=True).double()
    vectors = wave(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dense({"sentence_embedding": x})["sentence_embedding"], (vectors,))
    dense({"sentence_embedding": vectors})["sentence_embedding"].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in dense.parameters())


@pytest.mark.parametrize("name, value", [("init_weight", torch.zeros(3, 2)), ("init_bias", torch.zeros(3))])
def test_dense_refuses_initial_values_of_another_shape(name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match=f"{name} must have the shape"):
        Dense(3, 2, **{name: value})


@pytest.mark.parametrize("safe", [True, False])
def test_dense_is_the_same_after_loading(tmp_path: Path, safe: bool) -> None:
    dense = Dense(3, 2, bias=False, activation_function=nn.ReLU(), module_output_name="out", use_residual=True)
    dense.save(str(tmp_path), safe_serialization=safe)
    loaded = Dense.load(str(tmp_path))
    assert loaded.get_config_dict() == dense.get_config_dict()
    features = {"sentence_embedding": wave(2, 3)}
    assert torch.equal(loaded(dict(features))["out"], dense(dict(features))["out"])


def test_the_config_of_dense_has_the_keys_of_the_reference(tmp_path: Path) -> None:
    Dense(3, 2).save(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "in_features": 3,
        "out_features": 2,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    }


def test_the_config_of_dense_before_5_4_loads(tmp_path: Path) -> None:
    path = dense_config(tmp_path, module_input_name=..., module_output_name=..., bias=...)
    assert Dense.load(path).module_output_name == "sentence_embedding"


def test_dense_ignores_unknown_keys_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Dense.load(dense_config(tmp_path, foo=1))
    assert "foo" in caplog.text


def test_an_activation_from_outside_torch_is_tanh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dense = Dense.load(dense_config(tmp_path, activation_function="os.system"))
    assert isinstance(dense.activation_function, nn.Tanh)
    assert "os.system" in caplog.text


def test_trusted_code_may_be_an_activation(tmp_path: Path) -> None:
    path = dense_config(tmp_path, activation_function="math.sqrt")
    assert Dense.load(path, trust_remote_code=True).activation_function is math.sqrt


def test_no_activation_is_the_identity(tmp_path: Path) -> None:
    assert isinstance(Dense.load(dense_config(tmp_path, activation_function=None)).activation_function, nn.Identity)


@pytest.mark.parametrize("name", ["torch.sigmoid", "torch.nope.Foo", "torch.nn.Foo", "torch.Tensor", "torch.os.system"])
def test_an_activation_must_be_a_class_of_torch_modules(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="activation"):
        Dense.load(dense_config(tmp_path, activation_function=name))


def test_a_function_of_torch_is_named_in_the_config() -> None:
    assert Dense(2, 2, activation_function=torch.tanh).get_config_dict()["activation_function"] == "torch.tanh"


# --- Normalize, LayerNorm, Dropout


def test_normalize_gives_unit_length_and_leaves_zero() -> None:
    out = Normalize()({"sentence_embedding": torch.tensor([[3.0, 4.0], [0.0, 0.0]])})["sentence_embedding"]
    assert_close(out, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_normalize_on_packed_equals_padded() -> None:
    values = wave(3, 2)
    normalize = Normalize("token_embeddings", "out")
    out = normalize({"token_embeddings": Packed(values, (1, 2))})["out"]
    assert torch.equal(out.values, normalize({"token_embeddings": values})["out"])


def test_normalize_without_its_feature_does_nothing() -> None:
    assert Normalize()({"x": 1}) == {"x": 1}


def test_normalize_loads_from_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert Normalize.load(str(tmp_path), subfolder="2_Normalize").module_input_name == "sentence_embedding"


def test_normalize_is_the_same_after_loading(tmp_path: Path) -> None:
    Normalize("token_embeddings").save(str(tmp_path))
    assert Normalize.load(str(tmp_path)).get_config_dict() == {
        "module_input_name": "token_embeddings",
        "module_output_name": "token_embeddings",
    }


def test_layer_norm_equals_the_formula() -> None:
    vectors = wave(2, 4).double()
    out = LayerNorm(4).double()({"sentence_embedding": vectors})["sentence_embedding"]
    expected = (vectors - vectors.mean(1, keepdim=True)) / (vectors.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert_close(out, expected)


def test_layer_norm_is_the_same_after_loading(tmp_path: Path) -> None:
    norm = LayerNorm(3)
    nn.init.uniform_(norm.norm.weight)
    norm.save(str(tmp_path))
    assert torch.equal(LayerNorm.load(str(tmp_path)).norm.weight, norm.norm.weight)


def test_dropout_only_acts_in_training(tmp_path: Path) -> None:
    Dropout(1.0).save(str(tmp_path))
    dropout = Dropout.load(str(tmp_path))
    vectors = torch.ones(2, 3)
    assert torch.equal(dropout.train()({"sentence_embedding": vectors})["sentence_embedding"], torch.zeros(2, 3))
    assert torch.equal(dropout.eval()({"sentence_embedding": vectors})["sentence_embedding"], vectors)


# --- WeightedLayerPooling


def layers() -> list[Tensor]:
    return [torch.full((1, 2, 4), float(number)) for number in range(4)]


def test_weighted_layer_pooling_equals_the_hand_value() -> None:
    pooling = WeightedLayerPooling(4, num_hidden_layers=3, layer_start=2, layer_weights=torch.tensor([1.0, 3.0]))
    out = pooling({"all_layer_embeddings": layers()})["token_embeddings"]
    assert_close(out, torch.full((1, 2, 4), (1 * 2 + 3 * 3) / 4))


def test_weighted_layer_pooling_on_packed_equals_padded() -> None:
    pooling = WeightedLayerPooling(2, num_hidden_layers=2, layer_start=1, layer_weights=torch.tensor([1.0, 2.0]))
    values = [wave(3, 2, speed=speed) for speed in (1, 2, 3)]
    expected = pooling({"all_layer_embeddings": values})["token_embeddings"]
    out = pooling({"all_layer_embeddings": [Packed(value, (1, 2)) for value in values]})["token_embeddings"]
    assert isinstance(out, Packed)
    assert torch.equal(out.values, expected)


def test_weighted_layer_pooling_without_layers_does_nothing() -> None:
    assert WeightedLayerPooling(4)({"token_embeddings": 1}) == {"token_embeddings": 1}


def test_weighted_layer_pooling_names_a_wrong_number_of_layers() -> None:
    with pytest.raises(ValueError, match="9 weights .* got 0 such layers"):
        WeightedLayerPooling(4)({"all_layer_embeddings": layers()})


def test_gradients_reach_the_layer_weights() -> None:
    pooling = WeightedLayerPooling(4, num_hidden_layers=3, layer_start=2)
    pooling({"all_layer_embeddings": layers()})["token_embeddings"].sum().backward()
    assert pooling.layer_weights.grad is not None and pooling.layer_weights.grad.abs().sum() > 0


def test_weighted_layer_pooling_loads_the_old_key_and_its_weights(tmp_path: Path) -> None:
    WeightedLayerPooling(4, 3, 2, torch.tensor([1.0, 3.0])).save(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config["word_embedding_dimension"] = config.pop("embedding_dimension")
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = WeightedLayerPooling.load(str(tmp_path))
    assert loaded.embedding_dimension == 4
    assert loaded.layer_weights.tolist() == [1.0, 3.0]


def test_weighted_layer_pooling_takes_the_old_argument() -> None:
    with pytest.warns(FutureWarning, match="word_embedding_dimension"):
        assert WeightedLayerPooling(word_embedding_dimension=5).get_embedding_dimension() == 5  # type: ignore[call-arg]
