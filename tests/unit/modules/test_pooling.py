"""Every pooling mode against its formula, written out slowly in float64, in both layouts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers.modules.pooling import MODES, Pooling
from sentence_transformers.ops.tokens import Packed

FORMULAS: dict[str, Callable[[list[tuple[int, np.ndarray]]], np.ndarray]] = {
    "cls": lambda rows: rows[0][1],
    "lasttoken": lambda rows: rows[-1][1],
    "max": lambda rows: np.max([row for _, row in rows], axis=0),
    "mean": lambda rows: sum(row for _, row in rows) / len(rows),
    "mean_sqrt_len_tokens": lambda rows: sum(row for _, row in rows) / math.sqrt(len(rows)),
    "weightedmean": lambda rows: sum(place * row for place, row in rows) / sum(place for place, _ in rows),
}
"""Mode -> formula of the tokens that count, each with its place in the input, counted from 1."""

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def values_of(lengths: list[int], seed: int = 0, width: int = 3) -> torch.Tensor:
    return torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(seed))


def layouts(values: torch.Tensor, lengths: list[int]) -> dict[str, dict[str, Any]]:
    """The same tokens: packed, padded on the right, padded on the left with rubbish."""
    packed = Packed(values, tuple(lengths))
    right = packed.pad()
    width = max(lengths)
    left = torch.full((len(lengths), width, values.shape[1]), 1e4, dtype=values.dtype)
    mask = torch.zeros(len(lengths), width, dtype=torch.int64)
    for i, row in enumerate(packed.rows()):
        left[i, width - len(row) :] = row
        mask[i, width - len(row) :] = 1
    return {
        "packed": {"token_embeddings": packed},
        "right": {"token_embeddings": right.values, "attention_mask": right.mask},
        "left": {"token_embeddings": left, "attention_mask": mask},
    }


def test_every_mode_has_a_formula() -> None:
    assert set(MODES) == set(FORMULAS)


@pytest.mark.parametrize("mode", sorted(MODES))
@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(0, 99), st.integers(0, 3))
def test_mode(mode: str, lengths: list[int], seed: int, dropped: int) -> None:
    """``dropped``: tokens of a prompt that is left out; here every input has at least one token beyond it."""
    lengths = [length + dropped for length in lengths]
    values = values_of(lengths, seed)
    wanted = []
    for row in torch.split(values.double(), lengths):
        rows = list(enumerate(row.numpy(), start=1))
        wanted.append(FORMULAS[mode](rows[dropped:]))
    for features in layouts(values, lengths).values():
        pooling = Pooling(3, mode, include_prompt=not dropped)
        found = pooling({**features, "prompt_length": dropped})["sentence_embedding"]
        np.testing.assert_allclose(found.numpy(), np.stack(wanted), rtol=0, atol=3e-6)


@pytest.mark.parametrize("layout", ["packed", "right", "left"])
def test_several_modes_are_joined_in_their_order(layout: str) -> None:
    features = layouts(values_of([2, 3]), [2, 3])[layout]
    parts = [Pooling(3, mode)(dict(features))["sentence_embedding"] for mode in ("max", "cls", "mean")]
    both = Pooling(3, ["max", "cls", "mean"])
    assert torch.equal(both(dict(features))["sentence_embedding"], torch.cat(parts, dim=1))
    assert both.get_embedding_dimension() == 9
    assert both.get_pooling_mode_str() == "max+cls+mean"


@pytest.mark.parametrize("layout", ["packed", "right", "left"])
@pytest.mark.parametrize("mode", ["cls", "lasttoken", "mean", "mean_sqrt_len_tokens", "weightedmean"])
def test_an_input_without_tokens_is_the_zero_vector(mode: str, layout: str) -> None:
    """Also one whose tokens all belong to a prompt that is left out."""
    features = layouts(values_of([2, 4]), [2, 4])[layout]
    found = Pooling(3, mode, include_prompt=False)({**features, "prompt_length": 2})["sentence_embedding"]
    assert found[0].tolist() == [0.0, 0.0, 0.0]
    assert found[1].abs().sum() > 0
    nothing = {"token_embeddings": Packed(torch.zeros(0, 3), (0, 0))}
    assert Pooling(3, mode)(nothing)["sentence_embedding"].tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("mode", sorted(MODES))
def test_no_inputs_at_all(mode: str) -> None:
    found = Pooling(3, mode)({"token_embeddings": Packed(torch.zeros(0, 3), ())})["sentence_embedding"]
    assert found.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_half_types_are_accumulated_in_float32(mode: str, dtype: torch.dtype) -> None:
    lengths = [2000, 3]
    values = (values_of(lengths, width=2) + 1).to(dtype)
    for features in layouts(values, lengths).values():
        found = Pooling(2, mode)(dict(features))["sentence_embedding"]
        exact = {**features}
        tokens = exact["token_embeddings"]
        exact["token_embeddings"] = (
            tokens.replace(tokens.values.double()) if isinstance(tokens, Packed) else tokens.double()
        )
        wanted = Pooling(2, mode)(exact)["sentence_embedding"]
        assert found.dtype is dtype
        assert torch.allclose(found.double(), wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_the_mask_of_the_caller_is_left_alone() -> None:
    features = layouts(values_of([3, 4]), [3, 4])["right"]
    before = features["attention_mask"].clone()
    Pooling(3, "mean", include_prompt=False)({**features, "prompt_length": 1})
    assert torch.equal(features["attention_mask"], before)


def test_without_a_mask_every_token_counts() -> None:
    values = torch.arange(12.0).view(2, 2, 3)
    assert torch.equal(Pooling(3)({"token_embeddings": values})["sentence_embedding"], values.mean(1))


def test_weights_of_tokens_take_the_place_of_their_number() -> None:
    values = torch.tensor([[[1.0], [3.0]]])
    features = {
        "token_embeddings": values,
        "attention_mask": torch.ones(1, 2),
        "token_weights_sum": torch.tensor([8.0]),
    }
    assert Pooling(1, "mean")(dict(features))["sentence_embedding"].item() == 0.5
    assert Pooling(1, "mean_sqrt_len_tokens")(dict(features))["sentence_embedding"].item() == pytest.approx(4 / 8**0.5)


def test_a_first_token_vector_made_elsewhere_is_taken() -> None:
    features = {"token_embeddings": torch.zeros(1, 2, 3), "cls_token_embeddings": torch.ones(1, 3)}
    assert Pooling(3, "cls")(features)["sentence_embedding"].tolist() == [[1.0, 1.0, 1.0]]


def test_gradients_reach_the_tokens_that_count() -> None:
    features = layouts(values_of([1, 2]), [1, 2])["right"]
    values = features["token_embeddings"].requires_grad_()
    Pooling(3, "mean")({**features, "token_embeddings": values})["sentence_embedding"].sum().backward()
    assert values.grad is not None
    assert values.grad[:, :, 0].tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_other_features_stay() -> None:
    features = {**layouts(values_of([1]), [1])["right"], "mine": 5}
    out = Pooling(3)(features)
    assert out["mine"] == 5
    assert out["token_embeddings"] is features["token_embeddings"]


# --- config -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*sorted(MODES), ["mean", "max"]])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_config_round_trip(mode: Any, include_prompt: bool, tmp_path: Path) -> None:
    Pooling(7, mode, include_prompt).save(str(tmp_path))
    again = Pooling.load(str(tmp_path))
    assert (again.embedding_dimension, again.include_prompt) == (7, include_prompt)
    assert again.modes == ((mode,) if isinstance(mode, str) else tuple(mode))


@pytest.mark.parametrize(
    ("flags", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({}, ("mean",)),
    ],
)
def test_old_flags_of_saved_models(flags: dict[str, bool], modes: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"word_embedding_dimension": 5, **flags}), encoding="utf-8")
    assert Pooling.load(str(tmp_path)).modes == modes


def test_old_flags_of_the_constructor() -> None:
    with pytest.warns(FutureWarning, match="pooling_mode"):
        pooling = Pooling(5, pooling_mode_max_tokens=True, pooling_mode_mean_tokens=False)
    assert pooling.modes == ("max",)


@pytest.mark.parametrize("mode", ["Mean", "median", ""])
def test_an_unknown_mode_is_named_with_the_known_ones(mode: str) -> None:
    with pytest.raises(ValueError, match="lasttoken"):
        Pooling(5, mode)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'pooling'"):
        Pooling(5, pooling="mean")


def test_the_width_must_be_known() -> None:
    with pytest.raises(TypeError, match="embedding_dimension"):
        Pooling()
