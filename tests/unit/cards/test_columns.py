"""What a card says about the values of one column, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers.cards import columns


def words(texts: list[str]) -> list[int] | None:
    return [len(text.split()) for text in texts]


def no_tokens(texts: list[str]) -> list[int] | None:
    return None


def details(*values: Any, count: Any = words) -> dict[str, str]:
    return columns.described("c", values, count).details


def test_texts_by_their_tokens() -> None:
    assert details("a", "a b", "a b c d") == {"min": "1 token", "mean": "2.33 tokens", "max": "4 tokens"}


def test_texts_by_their_characters_where_there_are_no_tokens() -> None:
    assert details("ab", "abcd", count=no_tokens) == {
        "min": "2 characters",
        "mean": "3.0 characters",
        "max": "4 characters",
    }


def test_whole_numbers_are_classes() -> None:
    assert details(1, 0, 1, 1) == {"0": "~25.00%", "1": "~75.00%"}


def test_many_whole_numbers_are_amounts() -> None:
    assert details(*range(101)) == {"min": "0", "mean": "50.0", "max": "100"}


def test_truth_values_are_classes() -> None:
    found = columns.described("c", [True, False, True, True], words)
    assert (found.kind, found.details) == ("bool", {"False": "~25.00%", "True": "~75.00%"})


def test_floats() -> None:
    assert details(0.0, 0.5, 1.0) == {"min": "0.0", "mean": "0.5", "max": "1.0"}


def test_lists_of_one_length() -> None:
    found = columns.described("c", [["a", "b"], ["c", "d"]], words)
    assert (found.kind, found.modality, found.details) == ("list", "text", {"size": "2 elements"})


def test_lists_of_many_lengths() -> None:
    assert details([1], [1, 2, 3]) == {"min": "1 element", "mean": "2.0 elements", "max": "3 elements"}


@pytest.mark.parametrize(
    "value", [np.float32(0.5), torch.tensor(0.5), np.array(0.5), torch.tensor(0.5, dtype=torch.bfloat16)]
)
def test_numbers_of_other_libraries(value: Any) -> None:
    found = columns.described("c", [value], words)
    assert (found.kind, found.details["max"]) == ("float", "0.5")


def test_arrays_by_their_shape() -> None:
    found = columns.described("c", [torch.zeros(2, 3), np.ones((2, 3))], words)
    assert (found.kind, found.details) == ("array", {"shape": "(2, 3)"})


def test_missing_values_are_counted() -> None:
    assert details(None, "a", "a b", None)["missing"] == "~50.00%"


@pytest.mark.parametrize(
    ("values", "kind"),
    [([None, None], "NoneType"), ([], "NoneType"), ([b"xx"], "bytes"), ([{"a": 1}], "dict"), ([{1}], "set")],
)
def test_values_of_which_nothing_is_known(values: list[Any], kind: str) -> None:
    found = columns.described("c", values, words)
    assert (found.kind, found.modality, found.details, found.cell()) == (kind, "", {}, "")


def test_the_kind_is_that_of_most_values() -> None:
    found = columns.described("c", ["a", "a b", 7], words)
    assert (found.kind, found.details["max"]) == ("string", "2 tokens")


def test_sounds_by_their_seconds() -> None:
    sounds = [{"array": np.zeros(8000 * n), "sampling_rate": 8000} for n in (1, 3)]
    found = columns.described("c", sounds, words)
    assert (found.kind, found.modality) == ("audio", "audio")
    assert found.details == {"min": "1.0 second", "mean": "2.0 seconds", "max": "3.0 seconds"}


def test_images_by_their_size() -> None:
    image = pytest.importorskip("PIL.Image")
    found = columns.described("c", [image.new("RGB", (4, 2)), image.new("L", (8, 4))], words)
    assert (found.kind, found.modality) == ("image", "image")
    assert found.details == {"min": "4 x 2 pixels", "mean": "6 x 3 pixels", "max": "8 x 4 pixels"}


# --- examples


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "a"),
        (None, "None"),
        ("", ""),
        (7, "7"),
        (True, "True"),
        (0.25, "0.25"),
        (b"abc", "3 bytes"),
        ([], "&#91;]"),
        ([["a"], None, [1.5]], '&#91;&#91;"a"], null, &#91;1.5]]'),
        ({"a": {"b": b"x"}}, '{"a": {"b": "1 byte"}}'),
        (np.zeros(3), "&#91;0.0, 0.0, 0.0]"),
        (np.zeros((9, 9)), "array of shape (9, 9)"),
        (torch.tensor([1, 2]), "&#91;1, 2]"),
        ({1}, "a set"),
        ({"array": [0.0] * 4, "sampling_rate": 8}, "audio, 0.5 seconds"),
    ],
)
def test_an_example_is_short_and_plain(value: Any, shown: str) -> None:
    assert columns.example(value) == f"<code>{shown}</code>"


def test_a_long_example_is_cut() -> None:
    assert columns.example("x" * 501) == f"<code>{'x' * 499}…</code>"
    assert columns.example("x" * 500) == f"<code>{'x' * 500}</code>"


def test_an_image_is_kept_beside_the_card() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 2))
    kept = []

    def keep(one: Any) -> str:
        kept.append(one)
        return "assets/x.png"

    assert columns.example(image, keep) == '<img src="assets/x.png" width="200">'
    assert kept == [image]
    assert columns.example(image) == "<code>image, 4 x 2 pixels</code>"
