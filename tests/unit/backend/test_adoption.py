"""``auto_model``: the engine reads the live model's parameters, and steps aside when the model is no longer its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native.families import FAMILIES
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.backend.transformers import TransformersNetwork

TinyFolder = Callable[[str], Path]

TEXTS = texts.TINY_TEXTS[:7]  # the last one is too long


def theirs(model: SentenceTransformer, inputs: Any = TEXTS) -> Any:
    """The rows that transformers' model gives, as it is now, with the mean over tokens."""
    features = model.preprocess(inputs)
    mask = features["attention_mask"]
    transformer = model[0].auto_model.eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        states = transformer(**{k: v for k, v in features.items() if k in names}).last_hidden_state
    return ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).float().numpy()


def assert_follows(model: SentenceTransformer, before: Any, native: bool = True, atol: float = 3e-6) -> None:
    """``encode`` gives what transformers' model gives now, which is not what it gave before."""
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, theirs(model), rtol=0, atol=atol)
    assert np.abs(np.asarray(found, np.float64) - before).max() > 1e-3
    assert isinstance(model[0].network(), NativeNetwork if native else TransformersNetwork)


# --- the two are one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_building_changes_no_result_and_stays_native(family: str, tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder(family)), device="cpu")
    before = model.encode(TEXTS)
    assert model[0].pretrained.is_native
    assert type(model[0].auto_model).__module__.startswith("transformers.")
    assert not model[0].pretrained.is_native
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=5e-6)
    assert isinstance(model[0].network(), NativeNetwork)


def test_plain_inference_builds_nothing(model: SentenceTransformer) -> None:
    model.encode(TEXTS)
    _ = model.device, model.dtype, model.max_seq_length, model.get_embedding_dimension()
    model.eval().to("cpu")
    assert model[0].pretrained.built is None


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_parameters_are_views_of_the_engines_tensors(family: str, tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder(family)), device="cpu")
    live = model[0].auto_model
    network = model[0].network()
    before = network.weights.layers[0].qkv.weight.clone()
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.mul_(1.25)
    assert model[0].network() is network
    assert torch.equal(network.weights.layers[0].qkv.weight, before * 1.25)


def test_all_names_are_one_model(model: SentenceTransformer) -> None:
    live = model[0].auto_model
    assert model[0].model is live
    assert model.transformers_model is live
    assert dict(model.named_modules())["0.model"] is live


def test_state_dict_has_the_names_of_transformers(model: SentenceTransformer) -> None:
    keys = set(model.state_dict())
    assert "0.model.encoder.layer.2.attention.self.query.weight" in keys
    assert keys == {f"0.model.{key}" for key in model[0].auto_model.state_dict()}


@pytest.mark.parametrize("touch", ["parameters", "named_parameters", "modules", "named_modules", "buffers"])
def test_whoever_walks_over_the_model_finds_the_transformer(touch: str, model: SentenceTransformer) -> None:
    assert len(list(getattr(model, touch)())) >= (1 if touch == "buffers" else 50)


def test_apply_reaches_every_module(model: SentenceTransformer) -> None:
    seen: list[nn.Module] = []
    model.apply(seen.append)
    assert {type(module).__name__ for module in seen} >= {"BertModel", "Linear", "LayerNorm", "Pooling"}


def test_requires_grad_reaches_every_parameter(model: SentenceTransformer) -> None:
    model.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in model[0].auto_model.parameters())


def test_training_mode_reaches_a_model_that_is_built_later(model: SentenceTransformer) -> None:
    model.train()
    assert all(module.training for module in model[0].auto_model.modules())
    model.encode(TEXTS)
    assert not any(module.training for module in model[0].auto_model.modules())


# --- changes that are followed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("encode_first", [False, True])
def test_an_optimizer_step_is_seen(optimizer: Any, encode_first: bool, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    steps = optimizer(model.parameters(), lr=0.05)
    if encode_first:
        model.encode(TEXTS)
    for _ in range(2):
        model.train()
        loss = model(model.preprocess(TEXTS))["sentence_embedding"].pow(2).sum()
        loss.backward()
        steps.step()
        steps.zero_grad()
        model.encode(TEXTS[:2])
    assert_follows(model, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_is_seen(dtype: torch.dtype, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    _ = model[0].auto_model
    model.to(dtype)
    assert model.dtype is dtype
    assert model[0].network().dtype is dtype
    assert isinstance(model[0].network(), NativeNetwork)
    found = model.encode(TEXTS).astype(np.float32)
    np.testing.assert_allclose(found, before, rtol=0, atol=0.1)
    np.testing.assert_allclose(found, theirs(model), rtol=0, atol=0.1)


def test_a_cast_there_and_back(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    model[0].auto_model.double()
    assert model.encode(TEXTS).dtype == np.float64
    model[0].auto_model.float()
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)


@pytest.mark.parametrize("built", [False, True])
def test_half_of_the_whole_model(built: bool, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    if built:
        _ = model[0].auto_model
    found = model.half().encode(TEXTS)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float32), before, rtol=0, atol=0.05)


def test_a_cast_before_the_model_is_built_counts_for_it(model: SentenceTransformer) -> None:
    model.to(torch.bfloat16)
    assert {parameter.dtype for parameter in model[0].auto_model.parameters()} == {torch.bfloat16}


def test_resized_token_embeddings_are_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    count = len(model.tokenizer)
    model.tokenizer.add_tokens(["zyzzyva"])
    model[0].auto_model.resize_token_embeddings(count + 1, mean_resizing=False)
    with torch.no_grad():
        model[0].auto_model.get_input_embeddings().weight[-1] = 0.75
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)
    inputs = ["a zyzzyva", "zyzzyva"]
    np.testing.assert_allclose(model.encode(inputs), theirs(model, inputs), rtol=0, atol=3e-6)
    assert isinstance(model[0].network(), NativeNetwork)


def test_load_state_dict_is_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    state = {key: value * 1.1 for key, value in model.state_dict().items()}
    assert not any(model.load_state_dict(state))
    assert_follows(model, before)


def test_load_state_dict_into_a_model_that_was_never_built(tiny_folder: TinyFolder, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    state = {key: value * 1.1 for key, value in model.state_dict().items()}
    fresh = SentenceTransformer(str(tiny_folder("bert")), device="cpu")
    assert fresh[0].pretrained.built is None
    fresh.load_state_dict(state)
    assert_follows(fresh, before)


def test_load_state_dict_with_assign_is_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    state = {key: value * 1.1 for key, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert_follows(model, before)


def test_a_replaced_parameter_is_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    linear = model[0].auto_model.encoder.layer[1].attention.self.key
    model.encode(TEXTS)
    linear.weight = nn.Parameter(linear.weight.detach() * -1)
    assert_follows(model, before)


def test_replaced_data_is_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    linear = model[0].auto_model.encoder.layer[1].attention.self.value
    model.encode(TEXTS)
    linear.weight.data = linear.weight.data * -1
    assert_follows(model, before)


def test_swapped_layers_are_seen(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    layers = model[0].auto_model.encoder.layer
    model.encode(TEXTS)
    layers[0], layers[1] = layers[1], layers[0]
    assert_follows(model, before)


def test_a_whole_other_model_is_taken(model: SentenceTransformer, tiny_folder: TinyFolder) -> None:
    import transformers

    before = model.encode(TEXTS)
    other = transformers.BertModel.from_pretrained(tiny_folder("bert"))
    with torch.no_grad():
        other.encoder.layer[0].output.dense.weight.mul_(3)
    model[0].auto_model = other
    assert model[0].auto_model is other
    assert_follows(model, before)


# --- changes that are transformers' own business ----------------------------------------------------------------------


class WithAdapter(nn.Module):
    """A linear layer with a low-rank addition, the way adapter libraries wrap one."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.base_layer = inner
        generator = torch.Generator().manual_seed(1)
        self.lora_a = nn.Parameter(torch.rand(4, inner.in_features, generator=generator) - 0.5)
        self.lora_b = nn.Parameter(torch.rand(inner.out_features, 4, generator=generator) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.base_layer(x) + x @ self.lora_a.t() @ self.lora_b.t()
        return added


class SameNames(nn.Linear):
    """A linear layer that computes something else with parameters of the same names."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@pytest.mark.parametrize("encode_first", [False, True])
def test_an_adapter_is_used(encode_first: bool, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    attention = model[0].auto_model.encoder.layer[0].attention.self
    if encode_first:
        model.encode(TEXTS)
    inner = attention.query
    attention.query = WithAdapter(inner)
    assert_follows(model, before, native=False)
    attention.query = inner
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)
    assert isinstance(model[0].network(), NativeNetwork)


@pytest.mark.parametrize("encode_first", [False, True])
def test_a_layer_of_another_class_with_the_same_parameters_is_used(
    encode_first: bool, model: SentenceTransformer
) -> None:
    before = model.encode(TEXTS)
    layer = model[0].auto_model.encoder.layer[0].intermediate
    if encode_first:
        model.encode(TEXTS)
    layer.dense.__class__ = SameNames
    assert_follows(model, before, native=False)


@pytest.mark.parametrize("encode_first", [False, True])
def test_another_activation_is_used(encode_first: bool, model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    layers = model[0].auto_model.encoder.layer
    if encode_first:
        model.encode(TEXTS)
    for layer in layers:
        layer.intermediate.intermediate_act_fn = nn.ReLU()
    assert_follows(model, before, native=False)


def test_a_forward_hook_is_called_and_obeyed(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    calls: list[int] = []

    def double(module: nn.Module, given: Any, output: Tensor) -> Tensor:
        calls.append(1)
        return output * 2

    handle = model[0].auto_model.embeddings.register_forward_hook(double)
    assert_follows(model, before, native=False)
    assert calls
    handle.remove()
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)
    assert isinstance(model[0].network(), NativeNetwork)


def test_a_forward_pre_hook_is_obeyed(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    model[0].auto_model.encoder.layer[1].register_forward_pre_hook(lambda module, given: (given[0] * 0.5, *given[1:]))
    assert_follows(model, before, native=False)


def test_a_patched_forward_is_called(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    dense = model[0].auto_model.encoder.layer[2].output.dense
    plain = dense.forward
    dense.forward = lambda x: plain(x) * 2
    assert_follows(model, before, native=False)


def test_removed_layers_are_left_out(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    encoder = model[0].auto_model.encoder
    encoder.layer = encoder.layer[:1]
    assert_follows(model, before, native=False)


def test_removed_layers_with_a_config_that_says_so_stay_native(model: SentenceTransformer) -> None:
    before = model.encode(TEXTS)
    live = model[0].auto_model
    live.encoder.layer = live.encoder.layer[:1]
    live.config.num_hidden_layers = 1
    assert_follows(model, before)


def test_a_parametrized_weight_is_used(model: SentenceTransformer) -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    before = model.encode(TEXTS)
    nn.utils.parametrize.register_parametrization(model[0].auto_model.encoder.layer[0].output.dense, "weight", Halved())
    assert_follows(model, before, native=False)


def test_a_subclass_with_a_forward_of_its_own_is_called(model: SentenceTransformer, tiny_folder: TinyFolder) -> None:
    import transformers

    class Louder(transformers.BertModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.last_hidden_state = output.last_hidden_state * 2
            return output

    before = model.encode(TEXTS)
    model[0].auto_model = Louder.from_pretrained(tiny_folder("bert"))
    assert_follows(model, before, native=False)
    np.testing.assert_allclose(model.encode(TEXTS), 2 * before, rtol=0, atol=6e-6)


def test_a_wrapper_that_hands_on_everything_is_called(model: SentenceTransformer) -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner(*args, **kwargs)

    pairs = [("a cat", "the dog sat"), ("x", "y")]
    before, together = model.encode(TEXTS), model.encode(pairs)
    model[0].auto_model = Wrapper(model[0].auto_model)
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=3e-6)
    np.testing.assert_allclose(model.encode(pairs), together, rtol=0, atol=3e-6)
    assert isinstance(model[0].network(), TransformersNetwork)
    loss = model(model.preprocess(TEXTS))["sentence_embedding"].sum()
    loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "pooler" not in n)


# --- gradients --------------------------------------------------------------------------------------------------------


def test_gradients_flow_to_every_parameter_that_counts(model: SentenceTransformer) -> None:
    model.train()
    model(model.preprocess(TEXTS))["sentence_embedding"].sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert all("pooler" in name for name in without)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("first", ["build", "encode"])
def test_a_model_first_used_without_gradients_can_be_trained(
    context: Any, first: str, model: SentenceTransformer
) -> None:
    features = model.preprocess(TEXTS)
    if first == "encode":
        _ = model[0].auto_model
    with context():
        if first == "build":
            _ = model[0].auto_model
        model(dict(features))
    model.train()
    model(features)["sentence_embedding"].sum().backward()
    assert model[0].auto_model.encoder.layer[0].attention.self.query.weight.grad is not None


def test_encoding_between_forward_and_backward_changes_no_gradient(tiny_folder: TinyFolder) -> None:
    def gradient(encode_between: bool) -> Tensor:
        model = SentenceTransformer(str(tiny_folder("bert")), device="cpu")
        loss = model(model.preprocess(TEXTS))["sentence_embedding"].pow(2).sum()
        if encode_between:
            model.encode(TEXTS)
        loss.backward()
        found: Tensor = model[0].auto_model.encoder.layer[0].attention.self.key.weight.grad
        return found

    assert torch.equal(gradient(True), gradient(False))
