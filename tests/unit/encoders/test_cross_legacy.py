"""Old names of arguments and attributes: they still work, and each warning points at the line that used them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
from numpy.testing import assert_array_equal
from torch import nn

from sentence_transformers import CrossEncoder

PAIRS = [("the cat sat", "a dog sat by the door"), ("who?", "x")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT classifier of one label; don't write."""
    return str(tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("one")))


@pytest.fixture(scope="module")
def model(folder: str) -> CrossEncoder:
    """Don't change it."""
    return CrossEncoder(folder, device="cpu")


def warned(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result of a call, and the texts of its ``FutureWarning``s, all of which point at this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = call()
    ours = [warning for warning in found if issubclass(warning.category, FutureWarning)]
    assert {Path(warning.filename).name for warning in ours} <= {Path(__file__).name}
    return result, [str(warning.message) for warning in ours]


# --- constructor


@pytest.mark.parametrize(
    ("old", "new", "value", "read"),
    [
        ("tokenizer_args", "processor_kwargs", {"model_max_length": 9}, lambda model: model.max_seq_length == 9),
        ("tokenizer_kwargs", "processor_kwargs", {"model_max_length": 9}, lambda model: model.max_seq_length == 9),
        ("automodel_args", "model_kwargs", {"dtype": "float64"}, lambda model: str(model.dtype) == "torch.float64"),
        (
            "config_args",
            "config_kwargs",
            {"hidden_dropout_prob": 0.5},
            lambda model: model.config.hidden_dropout_prob == 0.5,
        ),
        (
            "default_activation_function",
            "activation_fn",
            nn.Tanh(),
            lambda model: repr(model.activation_fn) == "Tanh()",
        ),
        ("cache_dir", "cache_folder", "/nowhere", lambda model: model.num_labels == 1),
    ],
)
def test_old_arguments_of_the_constructor(old: str, new: str, value: Any, read: Any, folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(folder, device="cpu", **{old: value}))
    assert read(made)
    assert texts == [f"CrossEncoder({old}=...) is now CrossEncoder({new}=...)."]


def test_the_old_name_of_the_name(folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(model_name=folder, device="cpu"))  # type: ignore[call-arg]
    assert made.num_labels == 1
    assert texts == ["CrossEncoder(model_name=...) is now CrossEncoder(model_name_or_path=...)."]


def test_the_new_name_wins_over_the_old_one(folder: str) -> None:
    made, texts = warned(
        lambda: CrossEncoder(folder, activation_fn=nn.ReLU(), default_activation_function=nn.Tanh())  # type: ignore[call-arg]
    )
    assert type(made.activation_fn) is nn.ReLU
    assert len(texts) == 1


def test_positional_arguments_in_their_old_order(folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(folder, 1, 9, nn.Tanh(), "cpu"))  # type: ignore[misc]
    assert (made.num_labels, made.max_seq_length, type(made.activation_fn)) == (1, 9, nn.Tanh)
    assert made.device.type == "cpu"
    names = ("num_labels", "max_length", "activation_fn", "device")
    assert texts == [f"Pass {name} by name: CrossEncoder(..., {name}=...)." for name in names]


def test_a_keyword_wins_over_a_position(folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(folder, None, 9, max_length=20))  # type: ignore[misc]
    assert made.max_seq_length == 20
    assert len(texts) == 2


def test_too_many_positional_arguments_are_refused(folder: str) -> None:
    with pytest.raises(TypeError, match=r"at most 5 positional arguments \(model_name_or_path, .*\); got 6"):
        CrossEncoder(folder, 1, 9, None, "cpu", {})  # type: ignore[misc]


def test_classifier_dropout_goes_into_the_config(folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(folder, classifier_dropout=0.3))  # type: ignore[call-arg]
    assert made.config.classifier_dropout == 0.3
    assert len(texts) == 1
    assert "config_kwargs={'classifier_dropout': ...}" in texts[0]


def test_classifier_dropout_stands_beside_other_settings_of_the_config(folder: str) -> None:
    given = {"hidden_dropout_prob": 0.5}
    for name in ("config_kwargs", "config_args"):
        made, _ = warned(lambda name=name: CrossEncoder(folder, classifier_dropout=0.3, **{name: given}))
        assert (made.config.classifier_dropout, made.config.hidden_dropout_prob) == (0.3, 0.5)
    assert given == {"hidden_dropout_prob": 0.5}


def test_classifier_dropout_none_changes_nothing(folder: str) -> None:
    made, texts = warned(lambda: CrossEncoder(folder, classifier_dropout=None))  # type: ignore[call-arg]
    assert made.config.classifier_dropout is None
    assert len(texts) == 1


def test_new_names_do_not_warn(folder: str) -> None:
    def use() -> None:
        made = CrossEncoder(folder, num_labels=1, max_length=20, activation_fn=nn.Tanh(), device="cpu")
        made.predict(PAIRS, activation_fn=nn.Sigmoid())
        made.rank("a", ["b"], activation_fn=nn.Sigmoid())
        made.max_seq_length = 30

    assert warned(use)[1] == []


# --- methods


def test_old_arguments_of_predict(model: CrossEncoder) -> None:
    scores, texts = warned(lambda: model.predict(sentences=PAIRS, activation_fct=nn.Tanh(), num_workers=4))  # type: ignore[call-arg]
    assert_array_equal(scores, model.predict(PAIRS, activation_fn=nn.Tanh()))
    assert sorted(texts) == [
        "CrossEncoder.predict(activation_fct=...) is now CrossEncoder.predict(activation_fn=...).",
        "CrossEncoder.predict(num_workers=...) has no effect.",
        "CrossEncoder.predict(sentences=...) is now CrossEncoder.predict(inputs=...).",
    ]


@pytest.mark.parametrize("name", ["num_workers", "convert_to_numpy", "convert_to_tensor", "apply_softmax"])
def test_arguments_of_rank_without_effect(name: str, model: CrossEncoder) -> None:
    found, texts = warned(lambda: model.rank("a", ["b", "c"], **{name: True}))
    assert found == model.rank("a", ["b", "c"])
    assert texts == [f"CrossEncoder.rank({name}=...) has no effect."]


def test_the_old_activation_of_rank(model: CrossEncoder) -> None:
    found, texts = warned(lambda: model.rank("a", ["b", "c"], activation_fct=nn.Tanh()))  # type: ignore[call-arg]
    assert found == model.rank("a", ["b", "c"], activation_fn=nn.Tanh())
    assert texts == ["CrossEncoder.rank(activation_fct=...) is now CrossEncoder.rank(activation_fn=...)."]


# --- attributes


def test_max_length_is_the_old_name_of_max_seq_length(folder: str) -> None:
    made = CrossEncoder(folder, device="cpu")
    value, texts = warned(lambda: made.max_length)
    assert (value, texts) == (64, ["max_length is now max_seq_length."])

    def change() -> None:
        made.max_length = 20

    assert warned(change)[1] == ["max_length is now max_seq_length."]
    assert made.max_seq_length == 20


def test_default_activation_function_is_the_old_name_of_activation_fn(model: CrossEncoder) -> None:
    value, texts = warned(lambda: model.default_activation_function)
    assert value is model.activation_fn
    assert texts == ["default_activation_function is now activation_fn."]
