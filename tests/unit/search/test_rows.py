"""Columns of texts and numbers as a data set: the same as one made of lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sentence_transformers.search import rows
from sentence_transformers.search.rows import Column, to_dataset

datasets = pytest.importorskip("datasets", reason="needs the extra train")

TEXTS = ["a", "", "ü\U0001f600", "two words"]


def columns(count: int, seed: int = 0, texts: Any = TEXTS) -> dict[str, Column]:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 4, count)
    places = random.integers(0, len(texts), (count + int(lengths.sum())))
    return {
        "text": Column(places[:count], texts),
        "texts": Column(places[count:], texts, lengths),
        "label": Column(random.integers(0, 2, count)),
        "score": Column(random.random(count)),
        "scores": Column.of_matrix(random.random((count, 2))),
        "labels": Column(random.integers(0, 2, int(lengths.sum())), lengths=lengths),
    }


@pytest.mark.parametrize("count", [1, 2, 3, 4, 13])
def test_is_what_lists_would_give(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS", 3)
    made = columns(count)
    found = to_dataset(made)
    expected = datasets.Dataset.from_dict({name: column.to_list() for name, column in made.items()})
    assert found.features == expected.features or count == 1  # of one empty list nobody can tell the type
    assert list(found) == list(expected)
    assert [len(column) for column in made.values()] == [count] * 6


def test_lists_by_hand() -> None:
    column = Column(np.array([3, 0, 0]), TEXTS, np.array([2, 0, 1]))
    assert column.to_list() == [["two words", "a"], [], ["a"]]
    assert Column.of_matrix(np.array([[1.5, 2.0], [3.0, 4.0]])).to_list() == [[1.5, 2.0], [3.0, 4.0]]
    assert Column(np.array([1, 0]), TEXTS).to_list() == ["", "a"]


def test_no_rows_have_their_types_too() -> None:
    assert to_dataset(columns(0)).features == to_dataset(columns(50)).features
    assert len(to_dataset(columns(0))) == 0


@pytest.mark.parametrize("texts", [[b"a", b"b"], [{"a": 1}, {"a": 2}], [["x"], ["y", "z"]]])
def test_what_is_no_text_is_kept_as_it_is(texts: list[Any]) -> None:
    assert to_dataset({"text": Column(np.array([1, 0, 1]), texts)})["text"][:] == [texts[1], texts[0], texts[1]]


def test_equal_data_sets_have_one_fingerprint_and_others_another() -> None:
    first = to_dataset(columns(9))._fingerprint
    assert to_dataset(columns(9))._fingerprint == first
    renamed = {f"{name}_": column for name, column in columns(9).items()}
    others = [columns(9, seed=1), columns(8), columns(9, texts=["b", *TEXTS[1:]]), renamed]
    assert len({first, *(to_dataset(one)._fingerprint for one in others)}) == 5


def test_can_be_mapped_shuffled_and_cut(tmp_path: Any) -> None:
    found = to_dataset(columns(20)).shuffle(seed=1).select(range(5)).map(lambda row: {"more": row["text"] + "!"})
    assert found["more"][:] == [text + "!" for text in found["text"][:]]
    found.save_to_disk(str(tmp_path / "kept"))
    assert list(datasets.load_from_disk(str(tmp_path / "kept"))) == list(found)
