"""Readers of files of labelled texts. Their results on whole files are recorded, see ``parity``."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.training.legacy.readers import (
    LabelSentenceReader,
    NLIDataReader,
    PairedFilesReader,
    STSBenchmarkDataReader,
    STSDataReader,
    TripletReader,
)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> str:
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(tmp_path / name)

    return write


def fields(examples: list[Any]) -> list[tuple[str, list[str], Any]]:
    return [(one.guid, one.texts, one.label) for one in examples]


@pytest.mark.parametrize("name", ["some.tsv", "some.tsv.gz"])
def test_labels_are_numbered_as_they_come_up(name: str, write: Any, tmp_path: Path) -> None:
    write(name, "b\tone é\na\ttwo\nb\tthree\n")
    found = LabelSentenceReader(str(tmp_path)).get_examples(name)
    assert fields(found) == [(f"{name}-0", ["one é"], 0), (f"{name}-1", ["two"], 1), (f"{name}-2", ["three"], 0)]


def test_numbers_of_labels_stay_from_file_to_file(write: Any, tmp_path: Path) -> None:
    write("one", "b\tx\na\ty\n")
    write("two", "c\tx\na\ty\n")
    reader = LabelSentenceReader(str(tmp_path))
    reader.get_examples("one")
    assert [one.label for one in reader.get_examples("two")] == [2, 1]
    assert reader.label_map == {"b": 0, "a": 1, "c": 2}


def test_a_line_without_the_column_is_named(write: Any, tmp_path: Path) -> None:
    write("some", "b\tx\nc\n")
    with pytest.raises(IndexError, match=r"Example 1 of some has 1 columns, but column 1 \(from 0\) is wanted"):
        LabelSentenceReader(str(tmp_path)).get_examples("some")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_three_files_make_the_examples_of_inference(suffix: str, write: Any, tmp_path: Path) -> None:
    for kind, text in {"s1": "a\nb\nc\n", "s2": "A\nB\nC\n", "labels": "neutral\ncontradiction\nentailment"}.items():
        write(f"{kind}.dev{suffix}", text)
    found = NLIDataReader(str(tmp_path)).get_examples(f"dev{suffix}")
    assert [one.label for one in found] == [2, 0, 1]
    assert [[text.strip() for text in one.texts] for one in found] == [["a", "A"], ["b", "B"], ["c", "C"]]


def test_an_unknown_label_of_inference_is_an_error() -> None:
    with pytest.raises(KeyError, match="must be one of contradiction, entailment, neutral, but it is 'maybe'"):
        NLIDataReader("").map_label("maybe\n")


def test_inference_has_three_labels() -> None:
    assert NLIDataReader("").get_num_labels() == len(NLIDataReader.get_labels()) == 3


def test_files_side_by_side_end_with_the_shortest(write: Any) -> None:
    paths = [write("one", "a\nb\nc\n"), write("two.gz", "A\nB\n"), write("three", "x\ny\nz\n")]
    found = PairedFilesReader(paths).get_examples()
    assert fields(found) == [("0", ["a\n", "A\n", "x\n"], 1), ("1", ["b\n", "B\n", "y\n"], 1)]


def test_no_files_side_by_side_are_no_examples() -> None:
    assert PairedFilesReader([]).get_examples() == []


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, 0.5),
        ({"normalize_scores": False}, 2.5),
        ({"min_score": 1, "max_score": 4}, 0.5),
        ({"min_score": 2, "max_score": 3}, 0.5),
    ],
)
def test_scores_become_labels_from_0_to_1(settings: Any, label: float, write: Any, tmp_path: Path) -> None:
    write("some", "a\tb\t2.5\n")
    assert fields(STSDataReader(str(tmp_path), **settings).get_examples("some")) == [("some0", ["a", "b"], label)]


def test_the_benchmark_has_its_columns(write: Any, tmp_path: Path) -> None:
    write("some", "main\tMS\t2012\t1\t1.0\tA.\tB.\n")
    assert fields(STSBenchmarkDataReader(str(tmp_path)).get_examples("some")) == [("some0", ["A.", "B."], 0.2)]


def test_a_score_that_is_no_number_is_an_error(write: Any, tmp_path: Path) -> None:
    write("some", "sentence1\tsentence2\tscore\n")
    with pytest.raises(ValueError, match="score"):
        STSDataReader(str(tmp_path)).get_examples("some")


def test_a_quote_is_a_letter_where_quoting_is_off(write: Any, tmp_path: Path) -> None:
    write("some", '"a\tb"\tc\n')
    assert TripletReader(str(tmp_path)).get_examples("some")[0].texts == ['"a', 'b"', "c"]


@pytest.mark.parametrize("has_header", [False, True])
def test_a_header_is_passed_over(has_header: bool, write: Any, tmp_path: Path) -> None:
    write("some", "h\tp\tn\na\tb\tc\n")
    found = TripletReader(str(tmp_path), has_header=has_header).get_examples("some", 1)
    assert [one.texts for one in found] == [["a", "b", "c"] if has_header else ["h", "p", "n"]]


def test_an_empty_file_has_no_header_and_no_examples(write: Any, tmp_path: Path) -> None:
    write("some", "")
    assert TripletReader(str(tmp_path), has_header=True).get_examples("some") == []


@pytest.mark.parametrize(("most", "count"), [(0, 3), (-1, 3), (2, 2), (9, 3)])
@pytest.mark.parametrize("kind", [LabelSentenceReader, TripletReader, STSDataReader])
def test_the_most_examples_are_a_number_above_0(kind: Any, most: int, count: int, write: Any, tmp_path: Path) -> None:
    write("some", "a\tb\t1\n" * 3)
    assert len(kind(str(tmp_path)).get_examples("some", most)) == count
