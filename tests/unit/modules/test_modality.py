"""What a text model takes for text, and what it says of anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.modules.modality import is_message, is_pair, texts_of


class Picture:
    def convert(self, mode: str) -> None: ...


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        ([], []),
        (["a", ""], ["a", ""]),
        ([{"text": "a"}, "b"], ["a", "b"]),
        ([("a", "b"), ["c", "d"]], [("a", "b"), ["c", "d"]]),
        ([{"text": ("a", "b")}], [("a", "b")]),
        ([np.str_("a")], ["a"]),
    ],
)
def test_texts(inputs: list[Any], texts: list[Any]) -> None:
    assert texts_of(inputs) == texts


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "Unsupported input type: NoneType. Expected one of: str, dict, PIL.Image.Image, np.ndarray, torch.Te"),
        (5, "Unsupported input type: int"),
        (b"x", "Unsupported input type: bytes"),
        (1.5, "Unsupported input type: float"),
        ({"image": 1}, r"text alone; got a dict with the keys \['image'\]"),
        ({"text": "a", "image": 1}, r"keys \['image', 'text'\]"),
        ({1: 2, "a": 3}, r"keys \['1', 'a'\]"),
        ({}, r"keys \[\]"),
        ({"text": 5}, "Unsupported input type: int"),
        (("a",), r"a pair of texts; got a tuple of 1 \(str\)"),
        (["a", "b", "c"], r"got a list of 3 \(str, str, str\)"),
        (("a", 1), r"got a tuple of 2 \(str, int\)"),
        (("a", {"text": "b"}), r"input type: dict. Expected a text or a pair of texts; got a tuple of 2 \(str, dict\)"),
        ([], "Unsupported input type: list. Expected a text or a pair of texts; got a list of 0"),
        (np.zeros(3), "text alone; got a ndarray"),
        (torch.zeros(3), "text alone; got a Tensor"),
        (Picture(), "text alone; got a Picture"),
    ],
)
def test_what_is_no_text(item: Any, says: str) -> None:
    for inputs in ([item], ["a", item], [item, "a"]):
        with pytest.raises(ValueError, match=says):
            texts_of(inputs)


@pytest.mark.parametrize("inputs", [["a", ("b", "c")], [("b", "c"), "a"], [("a", "b"), {"text": "c"}]])
def test_texts_and_pairs_may_mix(inputs: list[Any]) -> None:
    assert texts_of(inputs) == [item["text"] if isinstance(item, dict) else item for item in inputs]


@pytest.mark.parametrize(
    ("item", "pair"), [(("a", "b"), True), (["a", "b"], True), (("a", None), False), ("ab", False)]
)
def test_is_pair(item: Any, pair: bool) -> None:
    assert is_pair(item) is pair


@pytest.mark.parametrize(
    ("item", "message"), [({"role": "user", "content": "x"}, True), ({"role": "user"}, False), ("role content", False)]
)
def test_is_message(item: Any, message: bool) -> None:
    assert is_message(item) is message
