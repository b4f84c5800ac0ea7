"""Training without padding: values, gradients and dropout are those of transformers' own padded forward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import texts
import tiny
import torch
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.native import training, training_attention
from sentence_transformers.backend.native.families import FAMILIES

TinyFolder = Callable[[str], Path]
NATIVE = sorted(FAMILIES)
HOSTED = sorted(set(tiny.FAMILIES) - set(FAMILIES))
ROUNDED = {"qwen3", "modernbert"}  # root-mean-square norms, or rotations, are float32 in transformers whatever the type
SENTENCES = [*texts.TINY_TEXTS, *texts.TINY_TEXTS[::-1], texts.TINY_TEXTS[1]]


@pytest.fixture
def opened(tiny_folder: TinyFolder) -> Callable[..., SentenceTransformer]:
    """Family -> a model of this test's own in training mode, in float64; ``rate`` of all dropout."""

    def make(family: str, rate: float = 0.0, dtype: str = "float64", **settings: Any) -> SentenceTransformer:
        model = SentenceTransformer(
            str(tiny_folder(family)), device="cpu", model_kwargs={"dtype": dtype}, config_kwargs=settings
        )
        _ = model[0].auto_model
        for _, owner, name in rates(model[0].auto_model):
            setattr(owner, name, rate)
        return model.train()

    return make


def rates(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Name of a module, module and attribute of everything that drops."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            yield name, module, "p"
        elif "attention_dropout" in vars(module):
            yield name, module, "attention_dropout"


def theirs(model: SentenceTransformer, features: dict[str, Any]) -> list[Tensor]:
    """Every layer through transformers' own forward."""
    accepted = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    given = {name: value for name, value in features.items() if name in accepted}
    return list(model[0].auto_model(**given, output_hidden_states=True).hidden_states)


def ours(model: SentenceTransformer, features: dict[str, Any]) -> Tensor:
    assert model[0].trains_without_padding
    found: Tensor = model[0](dict(features))["token_embeddings"]
    return found


def real(features: dict[str, Any], states: Tensor) -> Tensor:
    """(N, width): without padding."""
    return states[features["attention_mask"] != 0]


def gradients(model: nn.Module, output: Tensor) -> dict[str, Tensor | None]:
    """Of a sum of all numbers of the output with weights of chance, in every parameter."""
    model.zero_grad()
    generator = torch.Generator().manual_seed(3)
    (output * torch.randn(output.shape, generator=generator, dtype=output.dtype)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# --- values and gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", NATIVE)
def test_values_and_gradients_of_all_parameters(family: str, opened: Any) -> None:
    model = opened(family)
    features = model.preprocess(SENTENCES)
    wanted, found = real(features, theirs(model, features)[-1]), real(features, ours(model, features))
    assert_same(found, wanted, 2e-6 if family in ROUNDED else 1e-10)
    expected, trained = gradients(model, wanted), gradients(model, found)
    assert sum(gradient is not None for gradient in expected.values()) > 20
    for name, gradient in expected.items():
        assert (trained[name] is None) == (gradient is None), name
        if gradient is not None:
            assert_same(trained[name], gradient, 2e-6 * float(gradient.abs().max()) if family in ROUNDED else 1e-10)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_segments_of_pairs(family: str, opened: Any) -> None:
    model = opened(family)
    features = model.preprocess(texts.PAIRS)
    assert features["token_type_ids"].any()
    wanted, found = real(features, theirs(model, features)[-1]), real(features, ours(model, features))
    assert_same(gradients(model, found), gradients(model, wanted))


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "llama"])
def test_every_layer(family: str, opened: Any) -> None:
    model, tolerance = opened(family), 2e-6 if family in ROUNDED else 1e-10
    features = model.preprocess(SENTENCES)
    wanted = torch.stack([real(features, state) for state in theirs(model, features)])
    model[0].auto_model.config.output_hidden_states = True
    states = model[0](dict(features))["all_layer_embeddings"]
    found = torch.stack([real(features, state) for state in states])
    assert_same(found, wanted, tolerance)
    assert_same(gradients(model, found), gradients(model, wanted), tolerance)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_the_padding_token_written_in_a_text(family: str, opened: Any) -> None:
    model = opened(family)
    features = model.preprocess(["a <pad> cat <pad><pad> sat", "the dog", "sat <pad> and the cat"])
    wanted, found = real(features, theirs(model, features)[-1]), real(features, ours(model, features))
    assert_same(gradients(model, found), gradients(model, wanted))


def test_places_without_a_token_are_zero_and_inputs_may_be_empty(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES[:4])
    expected = ours(model, features)
    features["attention_mask"][2] = 0
    found = ours(model, features)
    assert not found[features["attention_mask"] == 0].any()
    assert_same(found[[0, 1, 3]], expected[[0, 1, 3]])


def test_tokens_that_expand_a_query_see_the_others_and_are_not_seen(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES[:4])
    width = features["input_ids"].shape[1]
    features["query_expansion_positions"] = features["attention_mask"] == 0
    wanted = theirs(model, features)[-1]
    found = ours(model, features)
    assert found.shape[1] == width
    assert_same(found, wanted)
    assert_same(gradients(model, found), gradients(model, wanted))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_graph_may_be_walked_twice(family: str, opened: Any) -> None:
    model = opened(family, 0.2)
    value = ours(model, model.preprocess(SENTENCES)).square().sum()
    value.backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    value.backward()
    assert_same({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, {
        name: 2 * gradient for name, gradient in once.items()
    })  # fmt: skip


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", NATIVE)
def test_the_same_rates_in_the_same_order_as_in_transformers(
    family: str, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"attention_dropout": 0.5} if family == "modernbert" else {}  # at 0 a module is left out
    model = opened(family, **settings)
    model[0].auto_model.set_attn_implementation("eager")
    for number, (_, owner, name) in enumerate(rates(model[0].auto_model)):
        setattr(owner, name, (number + 1) / 128)
    features, found, wanted = model.preprocess(SENTENCES[:3]), [], []
    kept, dropout = training_attention.kept, nn.functional.dropout

    def drop(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        wanted.append(p)
        return dropout(x, p, training, inplace)

    monkeypatch.setattr(nn.functional, "dropout", drop)
    theirs(model, features)
    monkeypatch.undo()
    monkeypatch.setattr(training, "dropout", lambda x, rate: (found.append(rate), x)[1])
    monkeypatch.setattr(training_attention, "kept", lambda *args: (found.append(args[1]), kept(*args))[1])
    ours(model, features)
    blocks = len(list(training_attention.cut(sorted(features["attention_mask"].sum(1).tolist()), 4)))
    assert blocks == 1  # so each layer drops weights once
    assert len(wanted) >= model[0].auto_model.config.num_hidden_layers
    assert found == wanted


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_the_state_of_the_random_numbers_decides_with_and_without_gradients(family: str, opened: Any) -> None:
    model = opened(family, 0.3)
    features = model.preprocess(SENTENCES)
    torch.manual_seed(1)
    found = ours(model, features)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(ours(model, features), found)
        assert not torch.equal(ours(model, features), found)


def test_the_mean_of_many_draws_of_dropout_is_nearly_the_value_without(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES[:2] * 500)
    plain = ours(model, features).detach()
    for layer in model[0].auto_model.encoder.layer:
        layer.attention.self.dropout.p = 0.05
    with torch.no_grad():
        found = ours(model, features)
    assert not torch.equal(found[0], found[2])
    spread = found[::2].std(0).max()
    assert 0 < spread < 1
    assert (found[::2].mean(0) - plain[0]).abs().max() < 0.2 * spread


def test_evaluation_mode_drops_nothing_and_has_gradients(opened: Any) -> None:
    model = opened("bert", 0.5)
    features = model.preprocess(SENTENCES)
    model.eval()
    wanted, found = real(features, theirs(model, features)[-1]), real(features, ours(model, features))
    assert_same(gradients(model, found), gradients(model, wanted))


def test_a_part_of_the_model_may_be_in_evaluation_mode(opened: Any) -> None:
    model = opened("bert", 0.5)
    features = model.preprocess(SENTENCES)
    model[0].auto_model.encoder.eval()
    model[0].auto_model.embeddings.dropout.p = 0.0
    assert_same(real(features, ours(model, features)), real(features, theirs(model, features)[-1]))


# --- what else trains ------------------------------------------------------------------------------------------------


def test_frozen_parameters_get_no_gradient_and_the_others_the_same(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES)
    expected = gradients(model, ours(model, features))
    frozen = [
        name for name, _ in model.named_parameters() if "embeddings" in name or "layer.0" in name or ".key" in name
    ]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    found = gradients(model, ours(model, features))
    assert all(found[name] is None for name in frozen)
    assert_same({n: g for n, g in found.items() if n not in frozen}, {n: expected[n] for n in found if n not in frozen})


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "llama"])
def test_checkpointed_layers_give_the_same(family: str, reentrant: bool, opened: Any) -> None:
    model = opened(family, 0.2)
    features = model.preprocess(SENTENCES)
    torch.manual_seed(1)
    expected = gradients(model, ours(model, features))
    model[0].auto_model.activation_checkpointing_enable({"use_reentrant": reentrant})
    torch.manual_seed(1)
    assert_same(gradients(model, ours(model, features)), expected)


def test_checkpointed_layers_run_again_in_the_backward_pass(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("bert")
    model[0].auto_model.activation_checkpointing_enable()
    calls, attend = [], training.attend
    monkeypatch.setattr(training, "attend", lambda *args: (calls.append(1), attend(*args))[1])
    output = ours(model, model.preprocess(SENTENCES))
    before = len(calls)
    output.sum().backward()
    assert len(calls) == 2 * before


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "qwen3"])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_autocast(family: str, rate: float, opened: Any) -> None:
    model = opened(family, rate, "float32")
    features = model.preprocess(SENTENCES)
    torch.manual_seed(1)
    expected = gradients(model, ours(model, features))
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = ours(model, features)
    found = gradients(model, output.float())
    wanted = {name: gradient for name, gradient in expected.items() if gradient is not None}
    typical = torch.stack([gradient.norm() for gradient in wanted.values()]).median()
    for name, gradient in wanted.items():
        assert found[name].dtype is torch.float32
        assert (found[name] - gradient).norm() <= 0.1 * gradient.norm() + 0.05 * typical, name


def test_deterministic_algorithms(opened: Any) -> None:
    model = opened("mpnet", 0.1)
    torch.use_deterministic_algorithms(True)
    try:
        ours(model, model.preprocess(SENTENCES)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_is_changed_between_steps_is_seen(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES)
    ours(model, features)
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()})
    model[0].auto_model.resize_token_embeddings(500)
    model.float()
    model[0].auto_model.embeddings.word_embeddings.weight.data.normal_()
    found, wanted = real(features, ours(model, features)), real(features, theirs(model, features)[-1])
    assert found.dtype is torch.float32
    assert_same(found, wanted, 1e-5)


def test_a_copy_trains_its_own_parameters(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES)
    ours(model, features)
    twin = copy.deepcopy(model)
    ours(twin, features).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert any(p.grad is not None for p in twin.parameters())


def test_steps_are_seen_by_the_engine_that_encodes(opened: Any) -> None:
    model = opened("bert")
    before = model.encode("the cat")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    ours(model, model.preprocess(SENTENCES)).square().sum().backward()
    optimizer.step()
    after = model.encode("the cat")
    features = model.preprocess(["the cat"])
    wanted = real(features, theirs(model, features)[-1]).mean(0)
    assert abs(after - before).max() > 0.01
    assert_same(torch.as_tensor(after), wanted.detach())


# --- where transformers computes -------------------------------------------------------------------------------------


def _hook(model: Any) -> None:
    model.encoder.layer[0].register_forward_hook(lambda *args: None)


def _backward_hook(model: Any) -> None:
    model.encoder.layer[1].register_full_backward_hook(lambda *args: None)


def _attentions(model: Any) -> None:
    model.set_attn_implementation("eager")
    model.config.output_attentions = True


def _fewer_layers(model: Any) -> None:
    model.encoder.layer = model.encoder.layer[:1]


def _other_module(model: Any) -> None:
    class Mine(nn.Linear):
        pass

    old = model.encoder.layer[0].output.dense
    model.encoder.layer[0].output.dense = Mine(old.in_features, old.out_features).to(old.weight)


def _compiled(model: Any) -> None:
    model._compiled_call_impl = model._call_impl


@pytest.mark.parametrize("change", [_hook, _backward_hook, _attentions, _fewer_layers, _other_module, _compiled])
def test_a_model_that_was_changed_runs_through_transformers(change: Callable[[Any], None], opened: Any) -> None:
    model = opened("bert")
    assert model[0].trains_without_padding
    change(model[0].auto_model)
    assert not model[0].trains_without_padding
    features = model.preprocess(SENTENCES)
    found = model[0](dict(features))["token_embeddings"]
    assert torch.equal(found, model[0].auto_model(**{n: features[n] for n in ("input_ids", "attention_mask")})[0])


def test_features_with_positions_run_through_transformers(opened: Any) -> None:
    model = opened("bert")
    features = model.preprocess(SENTENCES)
    features["position_ids"] = torch.arange(features["input_ids"].shape[1]).flip(0).expand_as(features["input_ids"])
    found = model[0](dict(features))["token_embeddings"]
    assert torch.equal(found, theirs(model, features)[-1])


@pytest.mark.parametrize("family", HOSTED)
def test_other_families_run_through_transformers(family: str, tiny_folder: TinyFolder) -> None:
    model = SentenceTransformer(str(tiny_folder(family)), device="cpu")
    assert not model[0].trains_without_padding
    assert model[0](model.preprocess(SENTENCES[:2]))["token_embeddings"].requires_grad
