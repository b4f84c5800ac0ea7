"""The score of a language model, and linear layers that stay in float32."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sentence_transformers.errors import ModelFileError
from sentence_transformers.modules.heads import Float32Linear, LogitScore, keep_in_float32
from sentence_transformers.modules.transformer import Transformer

# (2, 2, 4): only the last place of each text counts
LOGITS = torch.tensor([[[9.0, 9, 9, 9], [1, 2, 4, 8]], [[9, 9, 9, 9], [3, -1, 0.5, 0]]])


def scores(**arguments: Any) -> Tensor:
    part = LogitScore(**arguments)
    found: Tensor = part({part.module_input_name: LOGITS})["scores"]
    return found


# --- the score of a language model


def test_score_is_the_difference_of_two_words_at_the_last_place() -> None:
    assert_close(scores(true_token_id=3, false_token_id=1), torch.tensor([[6.0], [1.0]]))


def test_score_of_one_word_is_its_logit() -> None:
    assert_close(scores(true_token_id=2), torch.tensor([[4.0], [0.5]]))


def test_the_logits_may_have_another_name_and_stay() -> None:
    part = LogitScore(0, 1, module_input_name="mine")
    features = part({"mine": LOGITS, "kept": 1})
    assert_close(features["scores"], torch.tensor([[-1.0], [4.0]]))
    assert features["mine"] is LOGITS
    assert features["kept"] == 1


def test_missing_logits_are_named() -> None:
    with pytest.raises(KeyError, match="causal_logits"):
        LogitScore(0)({"scores": LOGITS})


@pytest.mark.parametrize("ids", [(3, 1), (2, None)])
def test_config_is_saved_and_loaded(ids: tuple[int, int | None], tmp_path: Path) -> None:
    LogitScore(*ids).save(str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert written == {
        "true_token_id": ids[0],
        "false_token_id": ids[1],
        "module_input_name": "causal_logits",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert LogitScore.load(str(tmp_path)).get_config_dict() == written


def test_a_config_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"true_id": 3}', encoding="utf-8")
    with pytest.raises(ModelFileError, match="does not fit LogitScore"):
        LogitScore.load(str(tmp_path))


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    """A language model that knows "yes" and "no"."""
    folder = tiny_heads.build_answering(tmp_path_factory.mktemp("answering"))
    return Transformer(str(folder), transformer_task="text-generation")


def test_words_become_their_token_ids(answering: Transformer) -> None:
    part = LogitScore.of_words(answering, "yes", "no")
    vocabulary = tiny_heads.answering_tokenizer().get_vocab()
    assert (part.true_token_id, part.false_token_id) == (vocabulary["yes"], vocabulary["no"])


@pytest.mark.parametrize(
    ("words", "missing"), [(("yes", "never"), "['never']"), (("never", "ever"), "['never', 'ever']")]
)
def test_words_that_the_vocabulary_lacks_are_named(
    words: tuple[str, str], missing: str, answering: Transformer
) -> None:
    with pytest.raises(ValueError) as caught:
        LogitScore.of_words(answering, *words)
    assert f"its vocabulary lacks {missing}" in str(caught.value)
    assert "LogitScore(true_token_id, false_token_id)" in str(caught.value)


# --- layers in float32


def network(dtype: torch.dtype = torch.bfloat16) -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2, bias=False))
    return nn.Sequential(inner, nn.LayerNorm(2), nn.Bilinear(2, 2, 2)).to(dtype)


INPUT = torch.linspace(-1, 1, 16).view(2, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", ["0.0", "0.2"])
def test_kept_layer_computes_in_float32_from_narrow_weights(name: str, dtype: torch.dtype) -> None:
    model = network(dtype)
    layer: Any = model.get_submodule(name)
    keep_in_float32(model, [name])
    assert layer.weight.dtype is dtype
    bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.float()
    expected = INPUT.to(dtype).double() @ layer.weight.double().T + bias.double()
    assert layer(INPUT.to(dtype)).dtype is torch.float32
    assert_close(layer(INPUT.to(dtype)).double(), expected, rtol=0, atol=1e-6)


def test_autocast_does_not_reach_a_kept_layer() -> None:
    model = network(torch.float32)
    keep_in_float32(model, ["0.0"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[0][0](INPUT).dtype is torch.float32
        assert model[0][2](INPUT).dtype is torch.bfloat16


def test_gradients_reach_the_narrow_weights() -> None:
    model = network()
    keep_in_float32(model, ["0.0"])
    model[0][0](INPUT.bfloat16()).sum().backward()
    gradient = model[0][0].weight.grad
    assert gradient.dtype is torch.bfloat16
    assert_close(gradient, INPUT.bfloat16().float().sum(0).expand(8, 8).bfloat16(), rtol=0, atol=0.02)


def test_weights_and_their_names_stay() -> None:
    model = network()
    before, weight = model.state_dict(), model[0][0].weight
    keep_in_float32(model, ["0.0", "0.2"])
    assert list(model.state_dict()) == list(before)
    assert model[0][0].weight is weight
    assert isinstance(model[0][0], nn.Linear)


def test_only_the_named_layers_are_kept() -> None:
    model = network()
    keep_in_float32(model, ["0.0"])
    keep_in_float32(model, ("0.2",))
    assert [type(model[0][at]) for at in (0, 2)] == [nn.Linear, Float32Linear]
    keep_in_float32(model, [])
    assert [type(model[0][at]) for at in (0, 2)] == [nn.Linear, nn.Linear]


def test_keeping_a_layer_twice_is_keeping_it_once() -> None:
    model = network()
    keep_in_float32(model, ["0.0"])
    keep_in_float32(model, ["0.0"])
    assert type(model[0][0]) is Float32Linear


def test_a_copy_keeps_its_layers() -> None:
    model = network()
    keep_in_float32(model, ["0.0"])
    other = copy.deepcopy(model)
    assert type(other[0][0]) is Float32Linear
    assert_close(other[0][0](INPUT.bfloat16()), model[0][0](INPUT.bfloat16()))


@pytest.mark.parametrize(
    ("wrong", "is_a"),
    [
        ("0", "a Sequential"),
        ("0.1", "a Tanh"),
        ("1", "a LayerNorm"),
        ("2", "a Bilinear"),
        ("0.7", "not in this model"),
        ("classifier", "not in this model"),
    ],
)
def test_other_layers_are_refused_and_nothing_is_changed(wrong: str, is_a: str) -> None:
    model = network()
    keep_in_float32(model, ["0.2"])
    with pytest.raises(ValueError) as caught:
        keep_in_float32(model, ["0.0", wrong])
    assert str(caught.value) == f"keep_in_fp32_modules supports only plain nn.Linear layers; {wrong!r} is {is_a}."
    assert [type(model[0][at]) for at in (0, 2)] == [nn.Linear, Float32Linear]


@pytest.mark.parametrize("wrong", ["0.0", None, 3, {"0.0"}])
def test_names_must_be_a_list(wrong: Any) -> None:
    with pytest.raises(ValueError, match="keep_in_fp32_modules must be a list of module paths; got "):
        keep_in_float32(network(), wrong)
