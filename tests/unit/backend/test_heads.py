"""Heads of the native engine against transformers' own models, one sequence at a time; and tokens nobody looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
import torch
from torch import Tensor
from torch.testing import assert_close

from sentence_transformers.backend.native.encoder import encode
from sentence_transformers.backend.native.families import Unsupported, read_spec
from sentence_transformers.backend.native.heads import CLASSIFY, FILL, GENERATE, HEADS
from sentence_transformers.backend.native.network import NativeNetwork
from sentence_transformers.backend.pretrained import Pretrained
from sentence_transformers.backend.transformers import load_config, load_model
from sentence_transformers.errors import ModelFileError
from sentence_transformers.ops.projected import Projected
from sentence_transformers.ops.tokens import TokenIds

CLASSIFIERS = sorted(name for name, row in tiny_heads.CLASSIFIERS.items() if row[0] in HEADS[CLASSIFY])
MASKED = sorted(name for name, row in tiny_heads.MASKED.items() if row[0] in HEADS[FILL])
IDS = torch.tensor([5, 9, 11, 7, 30, 31, 32, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26])
TOKENS = TokenIds(IDS, (7, 7, 3, 1))


def one_by_one(folder: Path, task: str, tokens: TokenIds) -> list[Tensor]:
    """What transformers' model gives for every sequence alone: no padding that could hide or cause a difference."""
    model = load_model(folder, load_config(folder), task, attn_implementation="eager")
    with torch.inference_mode():
        return [model(input_ids=ids[None]).logits[0] for ids in tokens.ids.split(list(tokens.lengths))]


def rows_of(logits: Tensor | Projected, tokens: TokenIds) -> list[Tensor]:
    if isinstance(logits, Projected):
        logits = logits.whole().values
    return list(logits.split(list(tokens.lengths))) if len(logits) == len(tokens.ids) else list(logits)


def assert_rows(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, rtol=0, atol=5e-6 * float(theirs.abs().max()))


def opened(folder: Path, task: str, **overrides: Any) -> Pretrained:
    return Pretrained(folder, {}, overrides, False, task)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classification_head_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier(name, tmp_path, labels=3)
    pretrained = opened(folder, CLASSIFY)
    assert pretrained.is_native
    found = pretrained.network().logits(TOKENS)
    assert isinstance(found, Tensor)
    assert found.shape == (4, 3)
    assert_rows(rows_of(found, TOKENS), one_by_one(folder, CLASSIFY, TOKENS))


@pytest.mark.parametrize("name", MASKED)
def test_masked_word_head_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    folder = tiny_heads.build_masked(name, tmp_path)
    pretrained = opened(folder, FILL)
    assert pretrained.is_native
    assert_rows(rows_of(pretrained.network().logits(TOKENS), TOKENS), one_by_one(folder, FILL, TOKENS))


def test_generation_head_gives_the_logits_after_the_last_token(tmp_path: Path) -> None:
    folder = tiny_heads.build_answering(tmp_path)
    pretrained = opened(folder, GENERATE)
    assert pretrained.is_native
    found = pretrained.network().logits(TOKENS)
    assert_rows(list(found), [rows[-1] for rows in one_by_one(folder, GENERATE, TOKENS)])


@pytest.mark.parametrize(
    ("task", "build"),
    [
        (CLASSIFY, lambda folder: tiny_heads.build_classifier("bert", folder)),
        (FILL, lambda folder: tiny_heads.build_masked("bert", folder)),
        (GENERATE, tiny_heads.build_answering),
    ],
)
def test_transformers_own_model_gives_the_same_as_the_engine(
    task: str, build: Callable[[Path], Path], tmp_path: Path
) -> None:
    pretrained = opened(build(tmp_path), task)
    expected = rows_of(pretrained.network().logits(TOKENS), TOKENS)
    pretrained.model()
    hosted = pretrained._hosted
    assert hosted is not None
    assert_rows(rows_of(hosted.logits(TOKENS), TOKENS), expected)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_engine_adopts_the_parameters_of_a_live_classifier(name: str, tmp_path: Path) -> None:
    pretrained = opened(tiny_heads.build_classifier(name, tmp_path), CLASSIFY)
    before = pretrained.network().logits(TOKENS)
    model = pretrained.model()
    assert isinstance(pretrained.network(), NativeNetwork)
    assert_close(pretrained.network().logits(TOKENS), before, rtol=0, atol=2e-6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert not torch.allclose(pretrained.network().logits(TOKENS), before, atol=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MASKED)
def test_engine_adopts_the_parameters_of_a_live_masked_model(name: str, tmp_path: Path) -> None:
    pretrained = opened(tiny_heads.build_masked(name, tmp_path), FILL)
    before = rows_of(pretrained.network().logits(TOKENS), TOKENS)
    pretrained.model()
    assert isinstance(pretrained.network(), NativeNetwork)
    assert_rows(rows_of(pretrained.network().logits(TOKENS), TOKENS), before)


def test_a_text_that_ends_in_the_padding_token_is_read_at_its_last_other_token(tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier("qwen3", tmp_path)
    pretrained = opened(folder, CLASSIFY)
    padding = pretrained.config["pad_token_id"]
    ids = IDS.clone()
    ids[[6, 13]] = padding
    tokens = TokenIds(ids, TOKENS.lengths)
    expected = one_by_one(folder, CLASSIFY, tokens)
    assert_rows(rows_of(pretrained.network().logits(tokens), tokens), expected)


@pytest.mark.parametrize("name", ["bert", "qwen3", "modernbert-cls", "mpnet"])
def test_one_end_alone_is_computed_as_among_all(name: str, tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier(name, tmp_path)
    network = opened(folder, CLASSIFY).network()
    assert isinstance(network, NativeNetwork)
    with torch.inference_mode():
        whole = encode(network.spec, network.weights, TOKENS)[-1].split(list(TOKENS.lengths))
        for end, at in (("first", 0), ("last", -1)):
            alone = encode(network.spec, network.weights, TOKENS, only=end)[-1]  # type: ignore[arg-type]
            assert_close(alone, torch.stack([rows[at] for rows in whole]), rtol=0, atol=5e-6)


def test_a_folder_without_the_head_runs_through_transformers(tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier("roberta", tmp_path)
    assert not opened(folder, FILL).is_native


def test_another_number_of_labels_than_the_folder_has_is_refused(tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier("bert", tmp_path, labels=1)
    with pytest.raises(ModelFileError, match=r"classifier\.weight.*\(3, 32\).*\(1, 32\)"):
        opened(folder, CLASSIFY, num_labels=3)


def test_a_family_without_a_head_in_the_table_is_left_to_transformers() -> None:
    with pytest.raises(Unsupported, match="bert for text-generation"):
        read_spec({"model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1,
                   "num_attention_heads": 2, "intermediate_size": 8}, GENERATE)  # fmt: skip


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "mpnet", "distilbert"])
def test_invisible_tokens_are_those_that_an_attention_mask_hides(name: str, tmp_path: Path) -> None:
    folder = tiny_heads.build_masked(name, tmp_path)
    tokens = TokenIds(IDS, TOKENS.lengths, visible=(4, 7, 2, 1))
    model = load_model(folder, load_config(folder), FILL, attn_implementation="eager")
    expected = []
    with torch.inference_mode():
        for ids, seen in zip(IDS.split(list(tokens.lengths)), tokens.visible or (), strict=True):
            mask = (torch.arange(len(ids)) < seen).long()[None]
            expected.append(model(input_ids=ids[None], attention_mask=mask).logits[0])
    pretrained = opened(folder, FILL)
    assert_rows(rows_of(pretrained.network().logits(tokens), tokens), expected)
    pretrained.model()
    hosted = pretrained._hosted
    assert hosted is not None
    assert_rows(rows_of(hosted.logits(tokens), tokens), expected)


def test_shared_matrices_stay_shared_when_cast(tmp_path: Path) -> None:
    network = opened(tiny_heads.build_masked("bert", tmp_path), FILL).network()
    assert isinstance(network, NativeNetwork)
    network.apply_(lambda tensor: tensor.half())
    head = network.weights.head
    assert head is not None
    assert head.out.weight is network.weights.words
    assert head.out.weight.dtype is torch.float16
