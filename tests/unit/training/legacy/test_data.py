"""Examples, datasets and loaders of the time before ``datasets.Dataset``."""

from __future__ import annotations

import gzip
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from legacy_facts import words_at_spaces

from sentence_transformers.training.legacy.data import (
    ContrastiveTensionDataLoader,
    DenoisingAutoEncoderDataset,
    InputExample,
    NoDuplicatesDataLoader,
    SentenceLabelDataset,
    SentencesDataset,
)
from sentence_transformers.training.legacy.parallel_data import ParallelSentencesDataset


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def examples(*texts: str, label: Any = 0) -> list[InputExample]:
    return [InputExample(texts=[text], label=label) for text in texts]


# --- InputExample and SentencesDataset -------------------------------------------------------------------------------


def test_an_example_is_written_with_label_and_texts() -> None:
    assert str(InputExample(texts=["a", "b"], label=1)) == "<InputExample> label: 1, texts: a; b"


def test_an_example_without_texts_is_written() -> None:
    assert str(InputExample()) == "<InputExample> label: 0, texts: "


def test_an_example_takes_name_texts_and_label_in_this_order() -> None:
    example = InputExample("name", ["a"], 0.5)
    assert (example.guid, example.texts, example.label) == ("name", ["a"], 0.5)


def test_a_sentences_dataset_is_its_examples() -> None:
    given = examples("a", "b")
    dataset = SentencesDataset(given, None)
    assert len(dataset) == 2
    assert dataset[1] is given[1]


# --- NoDuplicatesDataLoader ------------------------------------------------------------------------------------------


def test_no_batch_has_a_text_twice_whatever_case_and_space() -> None:
    given = examples("a", " A", "b", "B ", "c", "c\n", "d", "D")
    for batch in [*NoDuplicatesDataLoader(given, 3)] * 5:
        assert len({one.texts[0].strip().lower() for one in batch}) == 3


def test_a_text_of_any_column_counts_as_a_duplicate() -> None:
    given = [InputExample(texts=[f"q{i}", f"p{i}", "same" if i < 2 else f"n{i}"]) for i in range(6)]
    for _ in range(20):
        for batch in NoDuplicatesDataLoader(given, 3):
            assert sum("same" in one.texts for one in batch) <= 1


def test_texts_that_are_equal_within_one_example_do_not_shut_it_out() -> None:
    given = [InputExample(texts=["a", "a"]), InputExample(texts=["b", "B"])]
    assert [len(batch) for batch in NoDuplicatesDataLoader(given, 2)] == [2]


def test_without_duplicates_a_round_has_each_example_once() -> None:
    batches = list(NoDuplicatesDataLoader(examples(*"abcdef"), 2))
    assert sorted(one.texts[0] for batch in batches for one in batch) == list("abcdef")


def test_what_is_left_of_a_last_batch_is_dropped() -> None:
    loader = NoDuplicatesDataLoader(examples(*"abcdefg"), 3)
    assert len(loader) == len(list(loader)) == 2


def test_the_next_round_goes_on_where_the_last_one_ended() -> None:
    loader = NoDuplicatesDataLoader(examples(*"abcde"), 2)
    first = {one.texts[0] for batch in loader for one in batch}
    (left,) = set("abcde") - first
    assert next(iter(loader))[0].texts == [left]


def test_the_list_of_the_caller_stays_in_order() -> None:
    given = examples(*"abcdefgh")
    list(NoDuplicatesDataLoader(given, 2))
    assert [one.texts[0] for one in given] == list("abcdefgh")


@pytest.mark.parametrize(
    "loader", [NoDuplicatesDataLoader(examples(*"abcd"), 2), ContrastiveTensionDataLoader(list("abcdef"), 2, 2)]
)
def test_the_collate_function_makes_the_batches(loader: Any) -> None:
    loader.collate_fn = len
    assert list(loader) == [2, 2]


def test_examples_that_never_fill_a_batch_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot fill a batch of 2 examples.*after 1 every other.*smaller batch_size"):
        list(NoDuplicatesDataLoader(examples("a", "A ", "a"), 2))


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_batch_has_a_positive_number_of_examples(size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be a positive integer"):
        NoDuplicatesDataLoader(examples("a"), size)


# --- SentenceLabelDataset --------------------------------------------------------------------------------------------


def labelled(**counts: int) -> list[InputExample]:
    return [InputExample(texts=[f"{name}{i}"], label=name) for name, count in counts.items() for i in range(count)]


@pytest.mark.parametrize("each", [1, 2, 3])
def test_examples_come_in_runs_of_one_label_without_a_repeat(each: int) -> None:
    found = list(SentenceLabelDataset(labelled(a=3, b=5, c=4), each))
    for start in range(0, len(found), each):
        run = found[start : start + each]
        assert len({one.label for one in run}) == 1
        assert len({one.texts[0] for one in run}) == each


def test_each_label_comes_once_in_a_round() -> None:
    found = [one.label for one in SentenceLabelDataset(labelled(a=4, b=4, c=4), 2)]
    assert Counter(found[:6]) == Counter(found[6:]) == {"a": 2, "b": 2, "c": 2}


def test_labels_with_too_few_examples_are_left_out() -> None:
    dataset = SentenceLabelDataset(labelled(a=3, b=1, c=2), 2)
    assert len(dataset) == 5
    assert {one.label for one in dataset} == {"a", "c"}


def test_no_label_with_enough_examples_gives_nothing() -> None:
    assert list(SentenceLabelDataset(labelled(a=1, b=1), 2)) == []


def test_it_ends_with_the_run_in_which_as_many_were_drawn_as_there_are() -> None:
    assert len(list(SentenceLabelDataset(labelled(a=5, b=3), 3))) == 9


def test_examples_of_one_label_are_found_wherever_they_stand() -> None:
    given = [InputExample(texts=[str(i)], label=i % 2) for i in range(6)]
    dataset = SentenceLabelDataset(given, 2)
    assert [one.label for one in dataset.grouped_inputs] == [0, 0, 0, 1, 1, 1]
    assert dataset.groups_right_border == [3, 6]


def test_a_run_has_at_least_one_example() -> None:
    with pytest.raises(ValueError, match="samples_per_label must be a positive integer, got 0"):
        SentenceLabelDataset(labelled(a=2), 0)


# --- DenoisingAutoEncoderDataset -------------------------------------------------------------------------------------


def test_an_example_is_the_damaged_sentence_and_the_sentence() -> None:
    dataset = DenoisingAutoEncoderDataset(["a b", "c"], noise_fn=str.upper)
    assert len(dataset) == 2
    assert dataset[0].texts == ["A B", "a b"]


def test_own_noise_needs_no_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    assert DenoisingAutoEncoderDataset(["a"], noise_fn=str.upper)[0].texts == ["A", "a"]


def test_missing_nltk_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match=r"needs nltk\. Install it: .*\[words\]"):
        DenoisingAutoEncoderDataset(["a"])


def test_three_in_five_words_go() -> None:
    text = " ".join(map(str, range(20_000)))
    with words_at_spaces():
        left = DenoisingAutoEncoderDataset([text])[0].texts[0].split()
    assert len(left) / 20_000 == pytest.approx(0.4, abs=0.02)
    assert list(map(int, left)) == sorted(map(int, left))


def test_one_word_stays_always() -> None:
    with words_at_spaces():
        found = {DenoisingAutoEncoderDataset.delete("a b c", 1.0) for _ in range(60)}
    assert found == {"a", "b", "c"}


def test_no_word_goes_at_ratio_0() -> None:
    with words_at_spaces():
        assert DenoisingAutoEncoderDataset.delete("a b c", 0.0) == "a b c"


def test_a_text_without_words_stays() -> None:
    with words_at_spaces():
        assert DenoisingAutoEncoderDataset.delete("") == ""


# --- ContrastiveTensionDataLoader ------------------------------------------------------------------------------------


def test_one_of_so_many_pairs_is_of_a_sentence_with_itself() -> None:
    loader = ContrastiveTensionDataLoader([f"s{i}" for i in range(40)], 8, 4)
    batches = list(loader)
    assert len(batches) == len(loader) == 2  # 2 + 2 * 6 sentences each
    for batch in batches:
        assert [one.label for one in batch] == [1, 0, 0, 0, 1, 0, 0, 0]
        assert all((one.texts[0] == one.texts[1]) == bool(one.label) for one in batch)


def test_no_sentence_is_used_twice_in_a_round() -> None:
    batches = list(ContrastiveTensionDataLoader([f"s{i}" for i in range(28)], 4, 4))
    used = [text for batch in batches for one in batch for text in set(one.texts)]
    assert sorted(used) == sorted(f"s{i}" for i in range(28))


def test_each_round_pairs_anew() -> None:
    loader = ContrastiveTensionDataLoader([f"s{i}" for i in range(28)], 4, 4)
    assert [one.texts for one in next(iter(loader))] != [one.texts for one in next(iter(loader))]


def test_the_batch_size_is_a_multiple_of_the_ratio() -> None:
    message = "pos_neg_ratio of 4 and a batch size of 9. The batch size must be divisible by the pos_neg_ratio"
    with pytest.raises(ValueError, match=message):
        ContrastiveTensionDataLoader(["a"], 9, 4)


@pytest.mark.parametrize("name", ["batch_size", "pos_neg_ratio"])
def test_numbers_of_pairs_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
        ContrastiveTensionDataLoader(["a"], **{"batch_size": 8, "pos_neg_ratio": 4, name: 0})


# --- ParallelSentencesDataset ----------------------------------------------------------------------------------------


class Teacher:
    """Embeds a text as its length, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, sentences: list[str], *, batch_size: int, show_progress_bar: bool, convert_to_numpy: bool) -> Any:
        assert convert_to_numpy and not show_progress_bar and batch_size == 3
        self.asked.append(sentences)
        return np.array([[float(len(sentence)), 1.0] for sentence in sentences])


def parallel(**settings: Any) -> ParallelSentencesDataset:
    return ParallelSentencesDataset(None, Teacher(), batch_size=3, **settings)


def drawn(dataset: ParallelSentencesDataset, count: int) -> Counter[tuple[str, float]]:
    return Counter((one.texts[0], float(one.label[0])) for one in (dataset[i] for i in range(count)))


def test_each_text_is_labelled_with_the_embedding_of_its_source() -> None:
    dataset = parallel()
    dataset.add_dataset([["a", "bb", "ccc"], ["dddd", "e"]], weight=2)
    expected = {("a", 1): 1, ("bb", 1): 1, ("ccc", 1): 1, ("dddd", 4): 1, ("e", 4): 1}
    assert len(dataset) == 5
    assert drawn(dataset, 5) == expected


def test_translations_of_one_source_come_together_each_once() -> None:
    dataset = parallel()
    dataset.add_dataset([["a", "b"], ["c", "d"], ["a", "e", "b"]], weight=1)
    assert dataset.datasets == [[("a", ["a", "b", "e"]), ("c", ["c", "d"])]]
    assert len(dataset) == 5


def test_weights_say_how_many_sources_a_portion_takes_of_each_dataset() -> None:
    dataset = parallel()
    dataset.add_dataset([["a"], ["b"], ["c"], ["d"]], weight=3)
    dataset.add_dataset([["x"], ["y"]], weight=1)
    assert set(drawn(dataset, 4)) == {("a", 1), ("b", 1), ("c", 1), ("x", 1)}


def test_every_source_comes_before_one_comes_again() -> None:
    dataset = parallel()
    dataset.add_dataset([[name] for name in "abcd"], weight=4)
    assert drawn(dataset, 12) == {(name, 1): 3 for name in "abcd"}


def test_with_a_cache_the_teacher_sees_each_source_once() -> None:
    dataset = parallel()
    dataset.add_dataset([["a", "b"], ["c", "d"]], weight=5)
    drawn(dataset, 60)
    assert dataset.teacher_model.asked == [["a", "c"]]  # type: ignore[attr-defined]


def test_without_a_cache_the_teacher_sees_the_sources_of_every_portion() -> None:
    dataset = parallel(use_embedding_cache=False)
    dataset.add_dataset([["a", "b"], ["c", "d"]], weight=2)
    drawn(dataset, 8)
    assert [sorted(some) for some in dataset.teacher_model.asked] == [["a", "c"]] * 2  # type: ignore[attr-defined]
    assert dataset.embedding_cache == {}


def test_rows_with_a_long_text_are_left_out() -> None:
    dataset = parallel()
    dataset.add_dataset([["a", "x" * 5], ["b", "x" * 4], ["y" * 5, "c"]], max_sentence_length=4)
    assert [source for source, _ in dataset.datasets[0]] == ["b"]


@pytest.mark.parametrize("longest", [None, 0])
def test_without_a_limit_long_texts_stay(longest: int | None) -> None:
    dataset = parallel()
    dataset.add_dataset([["a", "x" * 500]], max_sentence_length=longest)
    assert len(dataset) == 2


def test_only_sources_that_are_kept_count_for_the_most() -> None:
    dataset = parallel()
    rows = [["xxxx"], ["e", "f"], ["e", "g"], ["h"], ["h", "i"], ["j"]]
    dataset.add_dataset(rows, max_sentences=2, max_sentence_length=3)
    assert dataset.datasets == [[("e", ["e", "f", "g"]), ("h", ["h"])]]


@pytest.mark.parametrize("name", ["some.tsv", "some.tsv.gz"])
def test_lines_of_a_file_are_rows(name: str, tmp_path: Path) -> None:
    data = "a\té b\tc\n d\te \n".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    dataset = parallel()
    dataset.load_data(str(tmp_path / name), weight=7)
    assert dataset.datasets == [[("a", ["a", "é b", "c"]), ("d", ["d", "e"])]]
    assert dataset.dataset_indices == [0] * 7


def test_no_rows_add_no_dataset() -> None:
    dataset = parallel()
    dataset.add_dataset([])
    assert (dataset.datasets, dataset.dataset_indices, len(dataset)) == ([], [], 0)


def test_an_empty_dataset_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="Call load_data or add_dataset first"):
        parallel()[0]


def test_a_row_has_a_source() -> None:
    with pytest.raises(ValueError, match="must start with its source sentence"):
        parallel().add_dataset([["a"], []])
