"""Values that are equal get equal numbers, and batches are packed as the slow search would."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, disable_progress_bars, enable_progress_bars

from sentence_transformers.training import distinct


def packed_slowly(order: list[int], rows: list[set[int]], size: int, keep_partial: bool) -> list[list[int]]:
    """Batch after batch takes, of all that is left, in order, what it can."""
    batches = []
    while order:
        batch: list[int] = []
        seen: set[int] = set()
        for row in order:
            if len(batch) < size and not rows[row] & seen:
                batch.append(row)
                seen |= rows[row]
        order = [row for row in order if row not in batch]
        if keep_partial or len(batch) == size:
            batches.append(batch)
    return batches


def numbers_of(values: list[list[str]]) -> Any:
    """What ``repeated`` finds for a table, row by row."""
    table = Dataset.from_dict({f"c{place}": list(column) for place, column in enumerate(zip(*values, strict=True))})
    return distinct.repeated(distinct.value_hashes(table, ()))


@pytest.mark.parametrize("seed", range(120))
@pytest.mark.parametrize("keep_partial", [False, True])
def test_packing_is_that_of_the_slow_search(seed: int, keep_partial: bool) -> None:
    draw = random.Random(seed)
    count, kinds, width = draw.randint(1, 70), draw.choice([1, 3, 8, 30, 200]), draw.randint(1, 4)
    # values of unequal frequency, and rows that have one twice
    values = [[str(int(kinds * draw.random() ** 2)) for _ in range(width)] for _ in range(count)]
    order = list(range(count))
    draw.shuffle(order)
    size = draw.choice([1, 2, 3, 5, 16])
    found = distinct.first_fit(np.array(order), numbers_of(values), size, keep_partial=keep_partial)
    assert list(found) == packed_slowly(order, [{hash(value) for value in row} for row in values], size, keep_partial)


def test_packing_goes_on_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    values = [[str(draw.randrange(40)), str(draw.randrange(1000))] for _ in range(500)]
    order, sets = list(range(500)), [{hash(value) for value in row} for row in values]
    monkeypatch.setattr(distinct, "CHUNK", 7)
    found = distinct.first_fit(np.array(order), numbers_of(values), 8, keep_partial=True)
    assert list(found) == packed_slowly(order, sets, 8, True)


def test_full_batches_come_before_all_rows_are_looked_at() -> None:
    rows = 3 * distinct.CHUNK
    found = distinct.first_fit(np.arange(rows), np.full((rows, 1), -1, np.int32), 4, keep_partial=True)
    assert next(found) == [0, 1, 2, 3]
    assert sum(map(len, found)) == rows - 4


def test_no_rows_make_no_batches() -> None:
    empty = np.empty(0, np.int64)
    assert list(distinct.first_fit(empty, np.empty((0, 0), np.int32), 4, keep_partial=True)) == []


# --- which values are equal -------------------------------------------------------------------------------------------


def test_values_that_come_once_have_no_number_and_equal_ones_the_same() -> None:
    numbers = numbers_of([["a", "b"], ["c", "a"], ["d", "d"], ["e", "f"]])
    assert numbers[0, 0] == numbers[1, 1] >= 0
    assert numbers[2, 0] == numbers[2, 1] >= 0 and numbers[2, 0] != numbers[0, 0]
    assert [numbers[0, 1], numbers[1, 0], *numbers[3]] == [-1] * 4


def test_numbers_do_not_depend_on_how_many_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [[str(row % 9), str(row * 7 % 11)] for row in range(50)]
    whole = numbers_of(values)
    monkeypatch.setattr(distinct, "CHUNK", 4)
    np.testing.assert_array_equal(whole, numbers_of(values))


def hashes(**columns: list[Any]) -> Any:
    return distinct.value_hashes(Dataset.from_dict(columns), ())


def test_values_are_compared_as_texts() -> None:
    found = hashes(text=["1", "None", "[1, 2]"], number=[1, 7, 8], nothing=[None, None, "x"], listed=[[3], [4], [1, 2]])
    assert found[0, 0] == found[0, 1]
    assert found[1, 0] == found[1, 2] == found[0, 2]
    assert found[2, 0] == found[2, 3]


def test_texts_beside_missing_ones_are_the_same_texts() -> None:
    with_none, without = hashes(text=["a", None]), hashes(text=["a", "b"])
    assert with_none[0, 0] == without[0, 0]


@pytest.mark.parametrize("kind", ["numpy", "torch", "arrow", "pandas"])
def test_the_format_of_a_dataset_does_not_count(kind: str) -> None:
    table = Dataset.from_dict({"text": ["a", "b"], "listed": [[1, 2], [3, 4]]})
    if kind == "pandas":
        pytest.importorskip("pandas", reason="the format needs it")
    np.testing.assert_array_equal(distinct.value_hashes(table.with_format(kind), ()), distinct.value_hashes(table, ()))


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_hashes_are_in_the_order_of_the_rows(batch_size: int, is_shuffled: bool) -> None:
    table = Dataset.from_dict({"text": [f"t{row}" for row in range(10)]})
    if is_shuffled:
        table = table.shuffle(seed=1)
    found = distinct.value_hashes(table, (), batch_size=batch_size)
    expected = [hashes(text=[text])[0, 0] for text in table["text"]]
    assert found[:, 0].tolist() == expected


def test_columns_to_skip_do_not_count() -> None:
    table = Dataset.from_dict({"text": ["a", "b"], "label": [1, 1]})
    assert distinct.value_hashes(table, {"label"}).shape == (2, 1)


def test_a_dataset_without_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected columns beside \['label'\].*found \['label'\]"):
        distinct.value_hashes(Dataset.from_dict({"label": [1, 1]}), {"label"})


def test_rows_with_more_columns_than_others_are_refused() -> None:
    with pytest.raises(ValueError, match="same columns"):
        distinct.value_hashes([{"a": 1}, {"a": 1, "b": 2}], (), batch_size=1)


def test_what_a_transform_gives_is_compared() -> None:
    table = Dataset.from_dict({"text": ["a", "b", "A"]})
    lower = table.with_transform(lambda rows: {"text": [text.lower() for text in rows["text"]]})
    found = distinct.value_hashes(lower, ())[:, 0]
    assert found[0] == found[2] != found[1]


def test_examples_of_any_source_are_read_by_number() -> None:
    listed = [{"text": "a", "other": "b"}, {"text": "c", "other": "a"}]
    np.testing.assert_array_equal(distinct.value_hashes(listed, ()), hashes(text=["a", "c"], other=["b", "a"]))


def test_tensors_and_arrays_are_compared_by_what_is_in_them() -> None:
    rows = [
        {"image": torch.arange(6)},
        {"image": np.arange(6)},
        {"image": torch.arange(6).reshape(2, 3)},
        {"image": torch.arange(1, 7)},
    ]
    found = distinct.value_hashes(rows, ())[:, 0]
    assert found[0] == found[1] and len(set(found.tolist())) == 3


def test_images_are_compared_by_what_is_in_them() -> None:
    images = pytest.importorskip("PIL.Image", reason="makes the images")
    rows = [{"image": images.new("RGB", (2, 2), color)} for color in ("red", "blue", "red")]
    found = distinct.value_hashes(rows, ())[:, 0]
    assert found[0] == found[2] != found[1]


def test_half_characters_are_hashed_too() -> None:
    assert distinct.value_hashes([{"text": "\ud800"}, {"text": "\udc80"}], ()).shape == (2, 1)


def test_two_processes_find_the_same_hashes() -> None:
    table = Dataset.from_dict({"text": [f"t{row}" for row in range(20)], "number": list(range(20)), "label": [0] * 20})
    disable_progress_bars()
    try:
        found = distinct.value_hashes(table, {"label"}, batch_size=4, num_proc=2)
    finally:
        enable_progress_bars()
    np.testing.assert_array_equal(found, distinct.value_hashes(table, {"label"}))


def test_an_empty_dataset_has_no_hashes() -> None:
    assert distinct.value_hashes(Dataset.from_dict({"text": []}), ()).size == 0
