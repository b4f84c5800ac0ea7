"""The native engine against transformers' own eager forward, on small random models of every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import texts
import tiny
import torch
from torch import Tensor

from sentence_transformers.backend.native.families import FAMILIES
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.backend.transformers import TransformersNetwork, load_config, load_model
from sentence_transformers.ops.tokens import TokenIds

TinyFolder = Callable[[str], Path]
TinyModel = Callable[[str], Any]

NATIVE = sorted(set(tiny.FAMILIES) & set(FAMILIES))
HOSTED = sorted(set(tiny.FAMILIES) - set(FAMILIES))
WITH_PADDING_POSITIONS = ["roberta", "xlm-roberta", "camembert", "mpnet"]


@pytest.fixture(scope="module")
def eager(tiny_folder: TinyFolder) -> Callable[[str], torch.nn.Module]:
    """Family -> transformers' model with its plainest attention, in float32."""
    made: dict[str, torch.nn.Module] = {}

    def get(family: str) -> torch.nn.Module:
        if family not in made:
            folder = tiny_folder(family)
            kwargs = {} if family == "deberta-v2" else {"attn_implementation": "eager"}  # it has but one
            made[family] = load_model(folder, load_config(folder), **kwargs)
        return made[family]

    return get


def tokens_of(model: Any, inputs: Sequence[Any]) -> TokenIds:
    """The inputs as the engine gets them, in mixed order of length, with equal lengths apart and side by side."""
    prepared = model[0].prepare(inputs)
    tokens: TokenIds = prepared.batch(torch.arange(len(inputs)).numpy())["tokens"]
    return tokens


def reference(model: torch.nn.Module, tokens: TokenIds, all_layers: bool = False) -> list[Tensor]:
    """One sequence at a time through transformers: no padding that could hide or cause a difference."""
    rows: list[list[Tensor]] = []
    types = (None,) * len(tokens.lengths) if tokens.type_ids is None else tokens.type_ids.split(list(tokens.lengths))
    with torch.inference_mode():
        for ids, kinds in zip(tokens.ids.split(list(tokens.lengths)), types, strict=True):
            given = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
            if kinds is not None:
                given["token_type_ids"] = kinds[None]
            output = model(**given, output_hidden_states=all_layers)
            states = output.hidden_states if all_layers else [output.last_hidden_state]
            rows.append([state[0] for state in states])
    return [torch.cat(states) for states in zip(*rows, strict=True)]


def worst(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of one number, in units of the largest number of its row (but at least of 1)."""
    size = wanted.double().abs().amax(-1, keepdim=True).clamp(min=1)
    return float(((found.double() - wanted.double()).abs() / size).max())


def test_the_table_and_the_small_models_cover_each_other() -> None:
    assert set(FAMILIES) == set(NATIVE)


@pytest.mark.parametrize("family", NATIVE)
def test_native_output(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS * 2)
    network = tiny_model(family)[0].network()
    assert isinstance(network, NativeNetwork)
    assert worst(network.run(tokens)[-1], reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", NATIVE)
def test_every_layer(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    found = tiny_model(family)[0].network().run(tokens, all_layers=True)
    wanted = reference(eager(family), tokens, all_layers=True)
    assert len(found) == len(wanted)
    assert max(map(worst, found, wanted)) < 2e-6


@pytest.mark.parametrize("family", NATIVE)
def test_every_layer_ends_with_the_output_that_is_given_alone(family: str, tiny_model: TinyModel) -> None:
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    network = tiny_model(family)[0].network()
    assert torch.equal(network.run(tokens, all_layers=True)[-1], network.run(tokens)[-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", NATIVE)
def test_half_types(
    family: str, dtype: torch.dtype, tiny_folder: TinyFolder, tiny_model: TinyModel, eager: Any
) -> None:
    """Both round; against float32 the engine may be off by no more than twice what transformers is, plus a step."""
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    network = Pretrained(tiny_folder(family), {"dtype": dtype}, {}, False).network()
    assert network.dtype is dtype
    exact = reference(eager(family), tokens)[-1]
    folder = tiny_folder(family)
    theirs = reference(load_model(folder, load_config(folder), dtype=dtype, attn_implementation="eager"), tokens)[-1]
    found = network.run(tokens)[-1]
    assert found.dtype is dtype
    assert worst(found, exact) < 2 * worst(theirs, exact) + torch.finfo(dtype).eps


@pytest.mark.parametrize("family", NATIVE)
def test_float64_is_as_exact_as_float64(
    family: str, tiny_folder: TinyFolder, tiny_model: TinyModel, eager: Any
) -> None:
    """The same formulas, not just nearly the same: without rounding hardly anything is left of the difference.

    The root-mean-square norms and the rotary tables of the decoders are float32 on both sides.
    """
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    network = Pretrained(tiny_folder(family), {"dtype": torch.float64}, {}, False).network()
    folder = tiny_folder(family)
    theirs = load_model(folder, load_config(folder), dtype=torch.float64, attn_implementation="eager")
    bound = 1e-6 if family in ("qwen3", "mistral", "llama", "modernbert") else 1e-12
    assert worst(network.run(tokens)[-1], reference(theirs, tokens)[-1]) < bound


@pytest.mark.parametrize("family", NATIVE)
def test_text_pairs(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), texts.PAIRS)
    found = tiny_model(family)[0].network().run(tokens)[-1]
    assert worst(found, reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_the_second_text_of_a_pair_is_segment_1(family: str, tiny_model: TinyModel) -> None:
    tokens = tokens_of(tiny_model(family), [("a cat", "the dog sat")])
    assert tokens.type_ids is not None
    first = len(tiny_model(family)[0].text.processor.tokenizer.encode("a cat").ids)
    assert tokens.type_ids.tolist() == [0] * first + [1] * (tokens.lengths[0] - first)


@pytest.mark.parametrize("family", WITH_PADDING_POSITIONS)
def test_the_padding_token_written_in_a_text_has_no_position(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), ["a <pad> cat <pad><pad> sat", "<pad>", "the dog", "sat <pad>"])
    assert (tokens.ids == 1).sum() == 5
    found = tiny_model(family)[0].network().run(tokens)[-1]
    assert worst(found, reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", NATIVE)
def test_a_sequence_that_fills_the_window(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = TokenIds(torch.arange(2 * tiny.WINDOW) % 40 + 5, (tiny.WINDOW, tiny.WINDOW))
    found = tiny_model(family)[0].network().run(tokens)[-1]
    assert worst(found, reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", ["qwen3", "mistral", "llama", "modernbert"])
def test_rotary_positions_go_beyond_the_window(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = TokenIds(torch.arange(200) % 40 + 5, (180, 20))
    found = tiny_model(family)[0].network().run(tokens)[-1]
    assert worst(found, reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", [name for name in NATIVE if name not in ("qwen3", "mistral", "llama", "modernbert")])
def test_a_table_of_positions_ends_with_a_clear_error(family: str, tiny_model: TinyModel) -> None:
    network = tiny_model(family)[0].network()
    assert network.position_limit == tiny.WINDOW
    with pytest.raises(ValueError, match=f"at most {tiny.WINDOW} tokens.*got a sequence of {tiny.WINDOW + 1}"):
        network.run(TokenIds(torch.full((tiny.WINDOW + 1,), 7), (tiny.WINDOW + 1,)))


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_sequences_without_tokens_have_no_rows_and_disturb_nobody(family: str, tiny_model: TinyModel) -> None:
    network = tiny_model(family)[0].network()
    ids = torch.tensor([5, 6, 7, 8])
    alone = network.run(TokenIds(ids, (4,)))[-1]
    assert worst(network.run(TokenIds(ids, (0, 4, 0)))[-1], alone) < 2e-6
    nothing = network.run(TokenIds(ids[:0], (0, 0)))[-1]
    assert nothing.shape == (0, alone.shape[1])


@pytest.mark.parametrize("family", HOSTED)
def test_other_families_run_through_transformers(family: str, tiny_model: TinyModel, eager: Any) -> None:
    network = tiny_model(family)[0].network()
    assert isinstance(network, TransformersNetwork)
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    assert worst(network.run(tokens)[-1], reference(eager(family), tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", HOSTED)
def test_other_families_give_every_layer(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), texts.TINY_TEXTS)
    found = tiny_model(family)[0].network().run(tokens, all_layers=True)
    wanted = reference(eager(family), tokens, all_layers=True)
    assert len(found) == len(wanted)
    assert max(map(worst, found, wanted)) < 2e-6


@pytest.mark.parametrize("family", HOSTED)
def test_text_pairs_of_other_families(family: str, tiny_model: TinyModel, eager: Any) -> None:
    tokens = tokens_of(tiny_model(family), texts.PAIRS)
    model = eager(family)
    if family in ("gpt2", "t5"):
        assert tokens.type_ids is None
    assert worst(tiny_model(family)[0].network().run(tokens)[-1], reference(model, tokens)[-1]) < 2e-6


@pytest.mark.parametrize("family", NATIVE)
def test_padded_features_without_gradients_give_the_same_tokens(family: str, tiny_model: TinyModel, eager: Any) -> None:
    """The public form: padded on the family's own side, also with nothing but ``input_ids``."""
    model = tiny_model(family)
    features = model.preprocess(texts.TINY_TEXTS)
    with torch.no_grad():
        found = model[0](dict(features))["token_embeddings"]
        alone = model[0]({"input_ids": features["input_ids"][4:5, -5:]})["token_embeddings"]
    real = features["attention_mask"] != 0
    assert found.shape[:2] == real.shape
    assert (found[~real] == 0).all()
    tokens = tokens_of(model, texts.TINY_TEXTS)
    assert worst(found[real], reference(eager(family), tokens)[-1]) < 2e-6
    assert alone.shape[:2] == (1, 5)


@pytest.mark.parametrize("family", NATIVE)
def test_autocast_around_a_call_does_no_harm(family: str, tiny_model: TinyModel) -> None:
    model = tiny_model(family)
    features = model.preprocess(texts.TINY_TEXTS)
    with torch.no_grad():
        exact = model[0](dict(features))["token_embeddings"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model[0](dict(features))["token_embeddings"]
    assert worst(rounded, exact) < 0.1
