"""What a card says about datasets, whatever class they are of; and examples of their rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentence_transformers.cards import datasets, widgets
from sentence_transformers.cards.data import (
    CrossEncoderModelCardData,
    SentenceTransformerModelCardData,
    SparseEncoderModelCardData,
)

ROWS = [{"question": f"Is it {i}?", "answer": f"It is {i}.", "label": i % 2} for i in range(120)]


class Numbered:
    """A dataset with rows by number, and nothing else."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


class Streamed:
    """A dataset that is read from its beginning."""

    column_names = ["question", "answer", "label"]

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for row in self.rows:
            self.read += 1
            yield row


def of_datasets(rows: list[Any]) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(rows)


KINDS = {"list": list, "numbered": Numbered, "streamed": Streamed, "datasets": of_datasets}


def no_tokens(texts: list[str]) -> list[int] | None:
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_rows_are_looked_at(kind: str) -> None:
    found = datasets.sample(KINDS[kind](ROWS))
    assert list(found) == ["question", "answer", "label"]
    assert found["answer"] == [f"It is {i}." for i in range(100)]


@pytest.mark.parametrize("kind", KINDS)
def test_facts_of_a_dataset(kind: str) -> None:
    facts = datasets.described(KINDS[kind](ROWS), {"name": "mine"}, {"fullname": "L", "config": ""}, no_tokens, None)
    assert (facts["name"], facts["loss"]) == ("mine", {"fullname": "L", "config": ""})
    assert facts["size"] == (None if kind == "streamed" else 120)
    assert facts["columns"] == ["question", "answer", "label"]
    assert facts["stats"]["label"] == {"dtype": "int", "modality": "", "data": {"0": "~50.00%", "1": "~50.00%"}}
    assert facts["stats"]["answer"]["data"] == {"min": "8 characters", "mean": "8.9 characters", "max": "9 characters"}
    rows = facts["examples_table"].splitlines()[2:]
    assert [row.count(f"It is {i}.") for i, row in enumerate(rows)] == [1, 1, 1]


def test_a_stream_is_not_read_further_than_needed() -> None:
    stream = Streamed(ROWS)
    datasets.sample(stream)
    assert stream.read == 100


def test_the_column_of_the_trainer_is_hidden() -> None:
    assert list(datasets.sample([{"dataset_name": "x", "text": "a"}])) == ["text"]


@pytest.mark.parametrize("rows", [[], ["no", "dicts"], [SimpleNamespace(texts=["a"])]])
def test_rows_of_which_nothing_is_known(rows: list[Any]) -> None:
    facts = datasets.described(rows, {}, None, no_tokens, None)
    assert (facts["size"], facts["columns"], facts["stats_table"], facts["examples_table"]) == (len(rows), [], "", "")


@pytest.mark.parametrize(
    "value", [None, "", b"x", {"a": None}, [[1, [2]], []], "x" * 9999, "a|b\n\n*c*", float("nan"), ["a", None]]
)
def test_odd_values_keep_the_tables_whole(value: Any) -> None:
    facts = datasets.described([{"odd|name": value, "text": "a"}] * 3, {}, None, no_tokens, None)
    for table in (facts["stats_table"], facts["examples_table"]):
        lines = table.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert max(map(len, lines)) < 1400


def test_several_datasets_go_by_name() -> None:
    assert datasets.by_name({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert datasets.by_name([1]) == {None: [1]}
    assert datasets.by_name(None) == {}


# --- where they come from


def loaded(*urls: str, config: str | None = None) -> Any:
    info = SimpleNamespace(download_checksums={url: {} for url in urls}, config_name=config)
    return SimpleNamespace(info=info, split="train")


def test_a_dataset_knows_its_place_on_the_hub() -> None:
    dataset = loaded("hf://datasets/acme/nli@0123abc/pair/train-0.parquet", config="pair")
    assert datasets.origin(dataset, None) == {
        "name": "nli", "id": "acme/nli", "revision": "0123abc", "config": "pair", "split": "train",
    }  # fmt: skip


def test_a_dataset_of_an_organisation_of_old() -> None:
    found = datasets.origin(loaded("hf://datasets/glue@0123abc/x.parquet", config="default"), "mine")
    assert found == {"name": "mine", "id": "glue", "revision": "0123abc", "split": "train"}


@pytest.mark.parametrize("dataset", [[], SimpleNamespace(info=None), loaded("/home/me/data.csv")])
def test_local_data_have_no_place_on_the_hub(dataset: Any) -> None:
    assert "id" not in datasets.origin(dataset, "mine")
    assert datasets.origin(dataset, "mine")["name"] == "mine"


def test_the_place_of_each_of_several() -> None:
    found = SentenceTransformerModelCardData().infer_datasets({"a": [], "b": []})
    assert [one["name"] for one in found] == ["a", "b"]
    assert SentenceTransformerModelCardData().infer_datasets([], "x") == [{"name": "x"}]


# --- told to a card


def test_the_size_of_training_data_is_a_tag() -> None:
    card = SentenceTransformerModelCardData()
    card.extract_dataset_metadata({"a": ROWS, "b": ROWS[:5]}, [], None, "train")
    assert "dataset_size:125" in card.tags
    card.extract_dataset_metadata(ROWS, [], None, "train")
    assert [tag for tag in card.tags if tag.startswith("dataset_size:")] == ["dataset_size:120"]


@pytest.mark.parametrize(("dataset", "kind"), [(ROWS, "eval"), (Streamed(ROWS), "train")])
def test_other_data_are_no_tag(dataset: Any, kind: Any) -> None:
    card = SentenceTransformerModelCardData()
    card.extract_dataset_metadata(dataset, [], None, kind)
    assert not any(tag.startswith("dataset_size:") for tag in card.tags)


def test_each_dataset_has_its_own_loss() -> None:
    from torch import nn

    losses = {"a": nn.L1Loss(), "b": nn.MSELoss()}
    found = SentenceTransformerModelCardData().extract_dataset_metadata({"b": ROWS, "a": ROWS}, [], losses, "eval")
    assert [one["loss"]["fullname"].rpartition(".")[2] for one in found] == ["MSELoss", "L1Loss"]


def test_data_that_cannot_be_read_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    card = SentenceTransformerModelCardData()
    found = card.extract_dataset_metadata({"a": 7, "b": ROWS}, [], None, "train")
    assert [one["name"] for one in found] == ["b"]
    assert "The model card lacks the dataset a: TypeError" in caplog.text


def test_images_are_files_beside_the_card(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    card = SentenceTransformerModelCardData()
    (facts,) = card.extract_dataset_metadata([{"picture": image.new("RGBA", (1000, 500))}] * 3, [], None, "train")
    (path,) = card.assets  # three times the same
    assert f'<img src="{path}" width="200">' in facts["examples_table"]
    card.write_assets(tmp_path)
    assert image.open(tmp_path / path).size == (512, 256)


def test_without_images_no_folder_is_made(tmp_path: Path) -> None:
    SentenceTransformerModelCardData().write_assets(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- examples for the widget, and for code


def test_a_widget_compares_a_sentence_with_its_own_and_others() -> None:
    found = widgets.compared(widgets.samples(ROWS))
    assert len(found) == 5
    for one in found:
        number = one["source_sentence"].split(" ")[2].removesuffix("?")
        assert f"It is {number}." in one["sentences"]
        assert len(set(one["sentences"])) == 3


def test_the_place_of_the_right_sentence_changes() -> None:
    found = widgets.compared(widgets.samples(ROWS))
    places = [one["sentences"].index(f"It is {one['source_sentence'][6:-1]}.") for one in found]
    assert len(set(places)) == 3


def test_widgets_do_not_depend_on_chance() -> None:
    first = widgets.compared(widgets.samples(ROWS))
    state = random.getstate()
    assert widgets.compared(widgets.samples(ROWS)) == first
    assert random.getstate() == state


def test_widgets_are_of_all_datasets() -> None:
    other = [{"a": f"x{i}", "b": f"y{i}"} for i in range(20)]
    sources = [one["source_sentence"][0] for one in widgets.compared(widgets.samples({"a": ROWS, "b": other}))]
    assert set(sources) == {"I", "x"}


def test_one_column_of_texts_is_compared_with_itself() -> None:
    found = widgets.compared(widgets.samples([{"text": f"t{i}"} for i in range(9)]))
    assert all(one["source_sentence"] not in one["sentences"] and len(one["sentences"]) == 3 for one in found)


@pytest.mark.parametrize(
    "rows",
    [[], [{"label": 1}], [{"a": None, "b": "x"}], [{"a": 1.5, "b": [1]}], [{"a": "same"}], [{"a": " ", "b": ""}]],
)
def test_data_without_texts_have_no_widget(rows: list[Any]) -> None:
    assert widgets.compared(widgets.samples(rows)) == []


def test_long_texts_of_a_widget_are_cut() -> None:
    (one,) = widgets.compared(widgets.samples([{"a": "x" * 999, "b": "y" * 999}]))
    assert (len(one["source_sentence"]), len(one["sentences"][0])) == (300, 300)


def test_scores_are_no_texts() -> None:
    assert list(widgets.samples([{"a": "x", "b": "y", "score": "0.5"}])[0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (SentenceTransformerModelCardData, {"source_sentence", "sentences"}),
        (SparseEncoderModelCardData, {"text"}),
        (CrossEncoderModelCardData, None),
    ],
)
def test_widgets_of_each_family(kind: Any, keys: set[str] | None) -> None:
    card = kind()
    card.set_widget_examples(ROWS)
    assert [set(one) for one in card.widget] == ([] if keys is None else [keys] * 5)
    assert card.usage_examples[0] == ["Is it 0?", "It is 0."]


def test_no_texts_are_shown_unasked() -> None:
    card = SentenceTransformerModelCardData(generate_widget_examples=False)
    card.set_widget_examples(ROWS)
    assert (card.widget, card.usage_examples, card.ir_model) == ([], [], True)


@pytest.mark.parametrize(
    ("names", "retrieval"),
    [
        (["query", "positive"], True),
        (["Question", "x"], True),
        (["a", "answer"], True),
        (["anchor", "positive"], False),
    ],
)
def test_columns_of_queries_and_documents(names: list[str], retrieval: bool) -> None:
    assert widgets.is_retrieval(names) is retrieval


def test_texts_of_each_label() -> None:
    card = SentenceTransformerModelCardData()
    card.set_label_examples(ROWS)
    assert card.label_example_list[1] == {"Label": "1", "Examples": "Is it 1?\nIs it 3?\nIs it 5?"}
    card.set_label_examples([{"text": "a"}])
    assert card.label_example_list == []
