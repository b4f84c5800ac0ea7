"""A training from a file: what the file may say, what is refused and how, and which parts come of it."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import Dataset

from sentence_transformers.losses.base import Loss
from sentence_transformers.training.configured import document, plan
from sentence_transformers.training.configured.data import DatasetPlan
from sentence_transformers.training.configured.document import Section
from sentence_transformers.training.configured.kinds import KINDS
from sentence_transformers.training.configured.models import ModelPlan
from tests.unit.training.configs import PAIRS, WORDS, settings, write_config, write_data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data; what datasets caches stays out of the user's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "home"
    home.mkdir()
    write_data(home)
    return home


@pytest.fixture
def good(folder: Path, tiny_folder: Callable[[str], Path]) -> dict[str, Any]:
    """Settings that work."""
    return settings(tiny_folder("bert"))


def understood(values: dict[str, Any], folder: Path) -> plan.Plan:
    made = plan.understood(values, folder)
    made.check()
    return made


def dataset(folder: Path, **values: Any) -> Dataset:
    """The rows that these settings give."""
    return DatasetPlan.of(Section(values, "train"), folder).training_rows()


# --- the file itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("0123", "0123"),
        ("~", None),
        ("'5'", "5"),
    ],
)
def test_plain_words_mean_what_they_look_like(text: str, value: Any) -> None:
    found = document.parse(text, "here")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [", "not YAML"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("- a", r"expected settings \(key: value\), found a list"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        document.load(write_config(tmp_path, text))
    assert "train.yaml" in str(caught.value)


def test_overrides_reach_into_mappings_and_lists_and_make_what_is_missing() -> None:
    values: dict[str, Any] = {"a": {"b": 1}, "some": [{"c": 1}]}
    document.override(values, ["a.b=2e-5", "some.0.c=[x, y]", "new.key=no", "a.d=p=q"])
    assert values == {"a": {"b": 2e-5, "d": "p=q"}, "some": [{"c": ["x", "y"]}], "new": {"key": "no"}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "expected KEY=VALUE"),
        ("a..b=1", "expected KEY=VALUE"),
        ("text.b=1", "text is text: 'x', and has no keys"),
        ("some.1=1", "expected a number below 1"),
    ],
)
def test_overrides_that_fit_nowhere_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        document.override({"text": "x", "some": [1]}, [assignment])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    values = {"b": {"x": 2e-5, "word": "no", "number": "5", "umlaut": "ü"}, "a": [1, None, True]}
    document.write(values, tmp_path / "x.yaml")
    found = document.load(tmp_path / "x.yaml")
    assert found == values and list(found) == ["b", "a"]


# --- datasets ---------------------------------------------------------------------------------------------------------


def _as_csv(rows: Dataset, path: Path) -> None:
    rows.to_csv(path)


FORMATS: dict[str, Callable[[Dataset, Path], Any]] = {
    "a.csv": _as_csv,
    "a.tsv": lambda rows, path: rows.to_csv(path, sep="\t"),
    "a.jsonl": lambda rows, path: rows.to_json(path),
    "a.json": lambda rows, path: path.write_text(json.dumps(rows.to_list())),
    "a.parquet": lambda rows, path: rows.to_parquet(path),
    "a.csv.gz": lambda rows, path: path.write_bytes(gzip.compress(rows.to_pandas().to_csv(index=False).encode())),
    "saved": lambda rows, path: rows.save_to_disk(path),
}
HARD_TEXTS = {"one": ["NA", 'say "x"', "a,b\tc"], "two": ["null", "ü漢", "None"]}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name: str, folder: Path) -> None:
    FORMATS[name](Dataset.from_dict(HARD_TEXTS), folder / name)
    assert dataset(folder, path=name)[:] == HARD_TEXTS


def test_a_text_file_is_a_column_of_lines(folder: Path) -> None:
    (folder / "a.txt").write_text("one\ntwo\n")
    assert dataset(folder, path="a.txt")[:] == {"text": ["one", "two"]}


def test_several_files_and_stars_are_read_in_order(folder: Path) -> None:
    for at in (2, 1):
        (folder / f"part-{at}.jsonl").write_text(json.dumps({"a": f"x{at}"}))
    assert dataset(folder, path="part-*.jsonl")["a"][:] == ["x1", "x2"]
    assert dataset(folder, path=["part-2.jsonl", "part-1.jsonl"])["a"][:] == ["x2", "x1"]


def test_quotes_of_a_file_without_quoting_are_text(folder: Path) -> None:
    (folder / "a.tsv").write_text('a\tb\n"open\tx\ny"\tz\n')
    assert dataset(folder, path="a.tsv", quotes=False)[:] == {"a": ['"open', 'y"'], "b": ["x", "z"]}


def test_columns_are_selected_in_the_order_of_the_list(folder: Path) -> None:
    rows = dataset(folder, path="pairs.tsv", columns=["answer", "question"])
    assert rows.column_names == ["answer", "question"] and rows[0] == {"answer": PAIRS[0][1], "question": PAIRS[0][0]}


def test_columns_are_renamed_and_used_twice_by_a_mapping(folder: Path) -> None:
    rows = dataset(folder, path="pairs.tsv", columns={"anchor": "answer", "positive": "answer"})
    assert rows[3] == {"anchor": PAIRS[3][1], "positive": PAIRS[3][1]}


def test_a_label_is_the_last_column_and_may_be_divided(folder: Path) -> None:
    values = {"path": "sts.csv", "columns": ["first", "second"], "label": {"column": "stars", "divide_by": 5}}
    rows = dataset(folder, **values)
    assert rows.column_names == ["first", "second", "label"]
    assert rows["label"][:4] == [0.0, 0.2, 0.4, 0.6]


def test_texts_of_a_label_become_the_numbers_of_their_places(folder: Path) -> None:
    classes = ["neutral", "entailment", "contradiction"]
    rows = dataset(
        folder, path="nli.jsonl", where={"relation": classes}, label={"column": "relation", "classes": classes}
    )
    assert rows.column_names == ["premise", "hypothesis", "label"] and rows["label"][:4] == [1, 0, 2, 1]


def test_where_and_limit_choose_rows(folder: Path) -> None:
    rows = dataset(folder, path="nli.jsonl", where={"relation": "neutral"}, limit=2)
    assert rows["premise"][:] == [PAIRS[1][0], PAIRS[5][0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "train: expected path .* or hub"),
        ({"path": "pairs.tsv", "hub": "x"}, "train: expected path .* or hub"),
        ({"path": "pairs.tsv", "subset": "x"}, "train.subset does not go with path"),
        ({"hub": "x", "format": "csv"}, "train.format does not go with hub"),
        ({"path": "none.tsv"}, r"train.path: there is no file .*none.tsv. Relative paths begin at the folder"),
        ({"path": "no*.tsv"}, "train.path: there is no file"),
        ({"path": []}, "train.path: expected at least one text"),
        ({"path": "a.xyz"}, r"the extension '.xyz' of .* does not say how to read it"),
        ({"path": "empty"}, "is a folder: expected files, or a folder of dataset.save_to_disk"),
        ({"path": ["pairs.tsv", "sts.csv"]}, "expected files of one format, found csv, tsv"),
        ({"path": "pairs.tsv", "format": "excel"}, "train.format must be one of"),
        ({"path": "pairs.tsv", "limit": 0}, "train.limit: expected at least 1 row"),
        ({"path": "pairs.tsv", "limit": True}, "train.limit: expected a whole number, found true or false"),
        ({"path": "pairs.tsv", "columns": "question"}, r"train.columns: expected a list or settings"),
        ({"path": "pairs.tsv", "columns": ["question", "question"]}, "'question' is there twice"),
        ({"path": "pairs.tsv", "columns": ["question", "anser"]}, "train.columns: .*Did you mean 'answer'"),
        ({"path": "pairs.tsv"}, r"column 'number' holds int64, expected texts.*columns: \[question, answer\]"),
        ({"path": "pairs.tsv", "label": "score"}, "train.label: a column must be one of"),
        ({"path": "pairs.tsv", "label": {"colunm": "x"}}, "train.label.colunm is not known. Did you mean 'column'"),
        ({"path": "pairs.tsv", "label": {"column": "number", "divide_by": 0}}, "divide_by: expected a number above 0"),
        ({"path": "pairs.tsv", "label": "answer"}, r"holds text such as .*; expected numbers.*classes"),
        ({"path": "nli.jsonl", "label": {"column": "relation", "classes": ["neutral"]}}, r"none of \['neutral'\]"),
        ({"path": "pairs.tsv", "where": {"number": 99}}, "train: no rows in .* where"),
        ({"path": "pairs.tsv", "where": {"nummer": 1}}, "train.where: .*Did you mean 'number'"),
        ({"path": "two.jsonl", "label": "stars"}, r"\['score'\] would be taken for labels too"),
        ({"path": "hole.jsonl"}, "train: row 2 has no text in the column 'b'"),
        ({"path": "hole.jsonl", "columns": ["a"], "label": "n"}, "train.label: row 2 has no value in the column 'n'"),
        ({"path": "words.jsonl"}, r"train.label: the column 'label' holds text such as \['yes'\]; expected numbers"),
        ({"path": "bad.jsonl"}, "train: cannot read .*bad.jsonl: JSON parse error"),
        ({"path": "taken.jsonl"}, "column names are invalid"),
    ],
)  # fmt: skip
def test_a_dataset_that_cannot_be_is_refused(values: dict[str, Any], message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "a.xyz").touch()
    (folder / "two.jsonl").write_text('{"a": "x", "score": 1, "stars": 2}')
    (folder / "hole.jsonl").write_text('{"a": "x", "b": "y", "n": 1}\n{"a": "x", "b": null, "n": null}')
    (folder / "words.jsonl").write_text('{"a": "x", "label": "yes"}')
    (folder / "bad.jsonl").write_text('{"a": "x"}\n{"a": \n')
    (folder / "taken.jsonl").write_text('{"a": "x", "dataset_name": "y"}')
    with pytest.raises(ValueError, match=message):
        dataset(folder, **values)


def test_empty_texts_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a.csv").write_text("a,b\nx,y\n,z\n")
    dataset(folder, path="a.csv")
    assert "train: 1 rows have an empty text in the column 'a'." in caplog.text


# --- the whole --------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"lossy": 1}, "lossy is not known. Did you mean 'loss'"),
    ({"kind": "cross"}, "kind must be one of 'dense'"),
    ({"model": None}, "model is missing"),
    ({"train": None}, "train is missing"),
    ({"loss": None}, "loss is missing"),
    ({"train": {"a": {"path": "pairs.tsv"}, "b": 3}}, "train: expected a dataset"),
    ({"train": {"path": "pairs.tsv", "colums": []}}, "train.colums is not known. Did you mean 'columns'"),
    ({"eval": "none.csv"}, "eval.path: there is no file"),
    ({"model": "./nothing"}, "model: there is nothing at"),
    ({"model": {"max_seq_length": 3}}, "model.name is missing"),
    ({"model": {"name": "x", "max_length": 3}}, "model.max_length is not known. Did you mean 'max_seq_length'"),
    ({"model": {"name": "x", "max_seq_length": 0}}, "model.max_seq_length: expected at least 1"),
    ({"model": {"name": "x", "truncate_dim": "few"}}, "model.truncate_dim: expected a whole number"),
    ({"model": {"static": {"tokenizer": "x", "dimensions": 2}}}, "model.static.dimensions is not known"),
    ({"model": {"static": {"tokenizer": "x"}}}, "model.static.dimension is missing"),
    ({"loss": "CosentLoss"}, "loss: 'CosentLoss' is not known. Did you mean 'CoSENTLoss'"),
    ({"loss": "SiameseDistanceMetric"}, "loss: 'SiameseDistanceMetric' is not known"),
    ({"loss": {"CoSENTLoss": 3}}, "loss.CoSENTLoss: expected settings"),
    ({"loss": {"CoSENTLoss": {}, "AnglELoss": {}}}, "loss: expected one loss, or one for each dataset"),
    ({"loss": {"CoSENTLoss": {"scal": 1}}}, "loss.CoSENTLoss.scal is not known. Did you mean 'scale'"),
    ({"loss": {"CoSENTLoss": {"scale": "high"}}}, "loss.CoSENTLoss.scale: expected a number, found text: 'high'"),
    ({"loss": {"CoSENTLoss": {"similarity_fct": "dot"}}}, "similarity_fct must be one of .*'pairwise_dot_score'"),
    ({"loss": {"ContrastiveLoss": {"distance_metric": "EUCLIDIAN"}}}, "Did you mean 'EUCLIDEAN'"),
    ({"loss": {"CosineSimilarityLoss": {"loss_fct": "Mean"}}}, "expected the name of a class of torch.nn"),
    ({"loss": {"MatryoshkaLoss": {"loss": "CoSENTLoss"}}}, "loss.MatryoshkaLoss: matryoshka_dims must be given"),
    (
        {"loss": {"MatryoshkaLoss": {"loss": "CoSENT", "matryoshka_dims": [4]}}},
        "loss.MatryoshkaLoss.loss: 'CoSENT' is not known",
    ),
    (
        {"loss": {"MatryoshkaLoss": {"loss": "CoSENTLoss", "matryoshka_dims": 4}}},
        "matryoshka_dims: expected a list, each of which is a whole number, found a whole number",
    ),
    ({"loss": {"GISTEmbedLoss": {}}}, "loss.GISTEmbedLoss: guide must be given"),
    ({"loss": {"GISTEmbedLoss": {"guide": "./gone"}}}, "loss.GISTEmbedLoss.guide: there is nothing at"),
    ({"evaluators": ["TripletEvaluator", 3]}, "evaluators.0.TripletEvaluator: expected path .* or hub"),
    ({"evaluators": [3]}, "evaluators.0: expected a name, or one name with settings"),
    ({"evaluators": ["BaseEvaluator"]}, "evaluators.0: 'BaseEvaluator' is not known"),
    ({"evaluators": ["LabelAccuracyEvaluator"]}, "needs dataloader, which cannot be said in a file"),
    (
        {"evaluators": [{"TripletEvaluator": {"path": "sts.csv", "columns": ["first", "second"]}}]},
        "expected 3 columns, for anchors, positives, negatives",
    ),
    (
        {"evaluators": [{"TripletEvaluator": {"path": "sts.csv", "columns": {"anchor": "first"}}}]},
        "columns.anchor is not known. Did you mean 'anchors'",
    ),
    (
        {"evaluators": [{"TripletEvaluator": {"path": "sts.csv", "columns": {"anchors": "first"}}}]},
        r"found none for \['positives', 'negatives'\]",
    ),
    ({"evaluators": [{"TripletEvaluator": {"path": "sts.csv", "anchors": "first"}}]}, "anchors is a column of"),
    (
        {"evaluators": [{"InformationRetrievalEvaluator": {"queries": "sts.csv"}}]},
        "corpus, relevant_docs must be given",
    ),
    ({"arguments": None}, "arguments.output_dir is missing"),
    ({"curves": "maybe"}, "curves: expected true or false"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_the_file_may_not_say_is_refused(
    changes: dict[str, Any], message: str, good: dict[str, Any], folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plan.understood({**good, **changes}, folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learing_rate", 1, "arguments.learing_rate is not known. Did you mean 'learning_rate'"),
        ("learning_rate", "fast", r"arguments.learning_rate: expected a number \(default: 5e-05\), found text: 'fast'"),
        ("use_cpu", "yes", "arguments.use_cpu: expected true or false"),
        ("max_steps", 1.5, "arguments.max_steps: expected a whole number"),
        ("eval_strategy", "never", "arguments: .*never"),
        ("batch_sampler", "no_dupes", "arguments: batch_sampler must be one of"),
        ("prompts", 3, "arguments.prompts: expected text or settings"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    name: str, value: Any, message: str, good: dict[str, Any], folder: Path
) -> None:
    good["arguments"][name] = value
    with pytest.raises(ValueError, match=message):
        understood(good, folder)


def test_the_loss_says_what_columns_it_needs_before_anything_is_opened(
    good: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPlan, "open", lambda self: pytest.fail("a model was opened"))
    good["loss"] = {"MatryoshkaLoss": {"loss": "CoSENTLoss", "matryoshka_dims": [8]}}
    message = r"loss.MatryoshkaLoss.loss.CoSENTLoss does not take the columns of train \(question, answer; no label\)"
    with pytest.raises(ValueError, match=message):
        understood(good, folder)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"TripletLoss": {}}, "TripletLoss expects 3 columns"),
        ({"SoftmaxLoss": {"num_labels": 3}}, "it needs labels"),
        ({"MSELoss": {}}, "requires pre-computed teacher embeddings"),
        ({"BatchHardTripletLoss": {}}, "expects 2 labels"),
        ({"MultipleNegativesRankingLoss": {"scale": -1}}, "Scale must be a positive value"),
        ({"MultipleNegativesRankingLoss": {"directions": ["up"]}}, "up"),
    ],
)
def test_losses_that_do_not_fit_the_data_are_refused(
    loss: dict[str, Any], message: str, good: dict[str, Any], folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        understood({**good, "loss": loss}, folder)


COLUMNS: dict[str, dict[str, list[Any]]] = {
    "one": {"a": ["x", "y"]},
    "class": {"a": ["x", "y"], "label": [0, 1]},
    "vector": {"a": ["x", "y"], "label": [[0.1] * 4, [0.2] * 4]},
    "pair": {"a": ["x", "y"], "b": ["z", "w"]},
    "pair of class": {"a": ["x", "y"], "b": ["z", "w"], "label": [0, 1]},
    "pair and score": {"a": ["x", "y"], "b": ["z", "w"], "label": [0.5, 0.7]},
    "triplet": {"a": ["x", "y"], "b": ["z", "w"], "c": ["u", "v"]},
    "triplet and margin": {"a": ["x", "y"], "b": ["z", "w"], "c": ["u", "v"], "label": [0.5, 0.7]},
    "triplet and scores": {"a": ["x", "y"], "b": ["z", "w"], "c": ["u", "v"], "label": [[1.0, 0.5], [1.0, 0.2]]},
}
OF_PAIRS = {"pair", "pair of class", "pair and score", "triplet", "triplet and margin", "triplet and scores"}
LABELLED_PAIRS = {"pair of class", "pair and score"}
CLASSES = {"class", "pair of class", "pair and score", "triplet and margin"}
ALL = set(COLUMNS)
TAKES: dict[str, set[str]] = {
    "MultipleNegativesRankingLoss": OF_PAIRS,
    "CachedMultipleNegativesRankingLoss": OF_PAIRS,
    "MultipleNegativesSymmetricRankingLoss": OF_PAIRS,
    "CachedMultipleNegativesSymmetricRankingLoss": OF_PAIRS,
    "MegaBatchMarginLoss": {"pair", *LABELLED_PAIRS},
    "CoSENTLoss": {*LABELLED_PAIRS, "triplet and margin"},
    "AnglELoss": {*LABELLED_PAIRS, "triplet", "triplet and margin"},
    "CosineSimilarityLoss": {*LABELLED_PAIRS, "triplet and margin"},
    "ContrastiveLoss": LABELLED_PAIRS,
    "OnlineContrastiveLoss": {*LABELLED_PAIRS, "triplet and margin"},
    "SoftmaxLoss": {"pair of class"},
    "TripletLoss": {"triplet", "triplet and margin", "triplet and scores"},
    "BatchAllTripletLoss": CLASSES,
    "BatchHardTripletLoss": CLASSES,
    "BatchHardSoftMarginTripletLoss": CLASSES,
    "BatchSemiHardTripletLoss": CLASSES,
    "MSELoss": {"vector", "triplet and scores"},
    "EmbedDistillLoss": {"vector", "triplet and scores"},
    "MarginMSELoss": {"triplet and margin", "triplet and scores"},
    "DistillKLDivLoss": {"triplet and scores"},
    "GlobalOrthogonalRegularizationLoss": ALL,
    "ContrastiveTensionLoss": {"pair", *LABELLED_PAIRS},
    "ContrastiveTensionLossInBatchNegatives": ALL,
    "MatryoshkaLoss": {*LABELLED_PAIRS, "triplet and margin"},  # around CoSENTLoss
    "Matryoshka2dLoss": {*LABELLED_PAIRS, "triplet and margin"},
    "AdaptiveLayerLoss": {*LABELLED_PAIRS, "triplet and margin"},
    "GISTEmbedLoss": ALL,  # these need a real model to say
    "CachedGISTEmbedLoss": ALL,
    "DenoisingAutoEncoderLoss": ALL,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "MatryoshkaLoss": {"loss": "CoSENTLoss", "matryoshka_dims": [4]},
    "Matryoshka2dLoss": {"loss": "CoSENTLoss", "matryoshka_dims": [4]},
    "AdaptiveLayerLoss": {"loss": "CoSENTLoss"},
    "GISTEmbedLoss": {"guide": "some-model"},
    "CachedGISTEmbedLoss": {"guide": "some-model"},
    "SoftmaxLoss": {"num_labels": 2},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(KINDS["dense"].known_losses()))
def test_every_loss_takes_the_columns_that_it_is_for_and_refuses_others(
    name: str, good: dict[str, Any], folder: Path
) -> None:
    made = plan.understood({**good, "loss": {name: copy.deepcopy(SETTINGS.get(name, {}))}}, folder)
    taken = set()
    for kind, columns in COLUMNS.items():
        Dataset.from_dict(columns).to_json(folder / "some.jsonl")
        try:
            made._check_rows("", DatasetPlan.of(Section({"path": "some.jsonl"}, "train"), folder))
        except ValueError:
            continue
        taken.add(kind)
    assert taken == TAKES[name]


def test_checking_a_loss_draws_no_random_numbers(good: dict[str, Any], folder: Path) -> None:
    good |= {
        "train": {"path": "sts.csv", "columns": ["first", "second"], "label": "stars"},
        "loss": {"SoftmaxLoss": {"num_labels": 6}},
    }
    made = plan.understood(good, folder)
    before = torch.get_rng_state()
    made.rows(made.train)
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_are_built_with_their_settings_functions_and_losses_inside(
    good: dict[str, Any], folder: Path, tiny_model: Callable[[str], Any]
) -> None:
    from sentence_transformers.util import dot_score

    good["loss"] = {
        "MatryoshkaLoss": {
            "loss": {"CachedMultipleNegativesRankingLoss": {"similarity_fct": "dot_score", "mini_batch_size": 3}},
            "matryoshka_dims": [32, 8],
        }
    }
    model = tiny_model("bert")
    loss = understood(good, folder).open_losses(model)
    assert loss.matryoshka_dims == (32, 8) and loss.model is model and loss.loss.model is model
    assert loss.loss.similarity_fct is dot_score and loss.loss.mini_batch_size == 3


@pytest.mark.parametrize(
    ("loss", "attribute", "wanted"),
    [
        ({"ContrastiveLoss": {"distance_metric": "EUCLIDEAN"}}, "distance_metric", "EUCLIDEAN"),
        ({"CoSENTLoss": {"similarity_fct": "pairwise_dot_score"}}, "similarity_fct", "pairwise_dot_score"),
        ({"CosineSimilarityLoss": {"loss_fct": "L1Loss"}}, "loss_fct", "L1Loss"),
    ],
)
def test_functions_and_modules_are_given_by_name(
    loss: dict[str, Any], attribute: str, wanted: str, good: dict[str, Any], folder: Path
) -> None:
    part = plan.understood({**good, "loss": loss}, folder).loss
    assert not isinstance(part, dict)
    value = part.settings[attribute]
    assert (value.__name__ if callable(value) and not isinstance(value, torch.nn.Module) else type(value).__name__) == (
        wanted
    )


def test_a_classifier_gets_its_width_from_the_model(
    good: dict[str, Any], folder: Path, tiny_model: Callable[[str], Any]
) -> None:
    classes = ["entailment", "neutral", "contradiction"]
    good["train"] = {
        "path": "nli.jsonl",
        "where": {"relation": classes},
        "label": {"column": "relation", "classes": classes},
    }
    good["loss"] = {"SoftmaxLoss": {"num_labels": 3}}
    loss = understood(good, folder).open_losses(tiny_model("bert"))
    assert tuple(loss.classifier.weight.shape) == (3, 3 * 32)


def test_several_datasets_have_losses_of_their_names(good: dict[str, Any], folder: Path) -> None:
    scored = {"path": "sts.csv", "columns": ["first", "second"], "label": "stars"}
    good["train"] = {"qa": good["train"], "sts": scored}
    good["loss"] = {"qa": "MultipleNegativesRankingLoss", "sts": {"CoSENTLoss": {"scale": 10}}}
    made = understood(good, folder)
    rows = made.rows(made.train)
    assert {name: one.column_names for name, one in rows.items()} == {
        "qa": ["question", "answer"],
        "sts": ["first", "second", "label"],
    }
    with pytest.raises(ValueError, match=r"loss: every dataset .* needs a loss of its name; \['sts'\] have none"):
        plan.understood({**good, "loss": {"qa": "MultipleNegativesRankingLoss"}}, folder)
    with pytest.raises(ValueError, match="loss.stsb is not known. Did you mean 'sts'"):
        plan.understood({**good, "loss": {**good["loss"], "stsb": "CoSENTLoss"}}, folder)


# --- evaluators -------------------------------------------------------------------------------------------------------


def evaluator(good: dict[str, Any], folder: Path, **settings: Any) -> Any:
    """The evaluator that these settings give: its name -> its own."""
    made = understood({**good, "evaluators": [settings]}, folder)
    return made.open_evaluators()[0]


def test_data_of_an_evaluator_is_columns_by_order_by_name_or_of_its_own_names(
    good: dict[str, Any], folder: Path
) -> None:
    named = {"sentences1": ["a", "b"], "sentences2": ["c", "d"], "scores": [1, 2]}
    Dataset.from_dict(named).to_json(folder / "n.jsonl")
    in_order = ["first", "second", "stars"]
    by_name = {"scores": "stars", "sentences1": "first", "sentences2": "second"}
    for columns in (in_order, by_name):
        found = evaluator(good, folder, EmbeddingSimilarityEvaluator={"path": "sts.csv", "columns": columns})
        assert (found.sentences1[0], found.sentences2[0], found.scores[1]) == (PAIRS[0][0], PAIRS[0][1], 1)
    assert evaluator(good, folder, EmbeddingSimilarityEvaluator={"path": "n.jsonl"}).scores == [1, 2]


def test_retrieval_takes_queries_corpus_and_judgements(good: dict[str, Any], folder: Path) -> None:
    Dataset.from_dict({"_id": ["q1", "q2"], "text": ["one", "two"]}).to_json(folder / "queries.jsonl")
    Dataset.from_dict({"key": [7, 8], "title": ["x", "y"], "body": ["u", "v"]}).to_json(folder / "corpus.jsonl")
    judgements = {"query-id": ["q1", "q1", "q2"], "corpus-id": [7, 8, 8], "score": [1, 0, 2]}
    Dataset.from_dict(judgements).to_csv(folder / "qrels.tsv", sep="\t")
    found = evaluator(
        good,
        folder,
        InformationRetrievalEvaluator={
            "queries": "queries.jsonl",
            "corpus": {"path": "corpus.jsonl", "columns": {"id": "key", "text": "body"}},
            "relevant_docs": "qrels.tsv",
            "ndcg_at_k": [3],
        },
    )
    assert dict(zip(found.queries_ids, found.queries, strict=True)) == {"q1": "one", "q2": "two"}
    assert dict(zip(found.corpus_ids, found.corpus, strict=True)) == {"7": "u", "8": "v"}
    assert found.relevant_docs == {"q1": {"7"}, "q2": {"8"}}


def test_retrieval_is_made_of_pairs(good: dict[str, Any], folder: Path) -> None:
    (folder / "faq.csv").write_text("q,d\nhow,so\nwhy,because\nhow,thus\nwhen,so\n")
    found = evaluator(good, folder, InformationRetrievalEvaluator={"path": "faq.csv", "columns": ["q", "d"]})
    assert found.queries == ["how", "why", "when"] and found.corpus == ["so", "because", "thus"]
    assert found.relevant_docs == {"q0": {"d0", "d2"}, "q1": {"d1"}, "q2": {"d0"}}


def test_other_data_of_evaluators(good: dict[str, Any], folder: Path) -> None:
    Dataset.from_dict({"query": ["a"], "positive": [["b"]], "negative": [["c", "d"]]}).to_json(folder / "r.jsonl")
    found = evaluator(good, folder, RerankingEvaluator={"samples": "r.jsonl", "at_k": 5})
    assert found.samples == [{"query": "a", "positive": ["b"], "negative": ["c", "d"]}] and found.at_k == 5
    (folder / "texts.csv").write_text("id,text\n1,one\n2,two\n3,three\n")
    (folder / "same.csv").write_text("left,right\n1,2\n")
    mined = evaluator(
        good, folder, ParaphraseMiningEvaluator={"sentences_map": "texts.csv", "duplicates_list": "same.csv"}
    )
    assert mined.ids == ["1", "2", "3"] and mined.total_num_duplicates == 1


def test_a_teacher_is_a_model(good: dict[str, Any], folder: Path, tiny_folder: Callable[[str], Path]) -> None:
    settings_of = {
        "path": "pairs.tsv",
        "columns": ["question", "answer"],
        "teacher_model": {"name": str(tiny_folder("bert")), "max_seq_length": 8},
    }
    found = evaluator(good, folder, MSEEvaluator=settings_of)
    assert found.source_embeddings.shape == (36, 32)


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [
        ({"path": "sts.csv", "columns": ["first", "second", "star"]}, "columns: .*Did you mean 'stars'"),
        ({"path": "sts.csv", "columns": ["first", "second", "second"]}, "'second' is there twice"),
        (
            {"path": "sts.csv", "columns": ["first", "stars", "second"]},
            "the column 'stars' shall be sentences2, .*text; but row 1 holds a whole number: 0",
        ),
        ({"path": "sts.csv", "columns": ["first", "second", "stars"], "precision": "int3"}, "precision"),
    ],
)
def test_evaluators_that_do_not_fit_their_data_are_refused(
    settings_of: dict[str, Any], message: str, good: dict[str, Any], folder: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        evaluator(good, folder, EmbeddingSimilarityEvaluator=settings_of)
    assert str(caught.value).startswith("evaluators.0.EmbeddingSimilarityEvaluator")


def test_two_evaluators_of_one_class_need_names(good: dict[str, Any], folder: Path) -> None:
    with pytest.raises(ValueError, match="there are two EmbeddingSimilarityEvaluator named 'sts'"):
        plan.understood({**good, "evaluators": [*good["evaluators"], *copy.deepcopy(good["evaluators"])]}, folder)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_models_are_opened_with_their_settings(
    good: dict[str, Any], folder: Path, tiny_folder: Callable[[str], Path]
) -> None:
    good["model"] = {"name": str(tiny_folder("bert")), "max_seq_length": 9, "prompts": {"q": "q: "}}
    model = plan.understood(good, folder).model.open()
    assert model.max_seq_length == 9 and model.prompts["q"] == "q: "


def test_static_embeddings_are_made_of_a_tokenizer(
    good: dict[str, Any], folder: Path, tiny_folder: Callable[[str], Path]
) -> None:
    good["model"] = {"static": {"tokenizer": str(tiny_folder("bert")), "dimension": 16}, "similarity_fn_name": "dot"}
    model = plan.understood(good, folder).model.open()
    assert model.encode(["a cat"]).shape == (1, 16) and model.similarity_fn_name == "dot"


def test_a_tokenizer_is_found_by_the_name_of_its_model(good: dict[str, Any], folder: Path, minilm_folder: Path) -> None:
    good["model"] = {"static": {"tokenizer": "all-MiniLM-L6-v2", "dimension": 4}}
    assert plan.understood(good, folder).model.open()[0].num_embeddings == 30522


def test_relative_paths_begin_at_the_folder_of_the_file_and_are_absolute_in_what_is_kept(
    good: dict[str, Any], folder: Path
) -> None:
    made = plan.read(write_config(folder, good), ["arguments.output_dir=runs/one"])
    assert made.output == folder / "runs" / "one"
    assert made.settings["train"]["path"] == str(folder / "pairs.tsv")
    assert made.settings["evaluators"][0]["EmbeddingSimilarityEvaluator"]["path"] == str(folder / "sts.csv")
    elsewhere = folder / "kept" / "train.yaml"
    elsewhere.parent.mkdir()
    document.write(made.settings, elsewhere)
    assert plan.read(elsewhere).settings == made.settings


@pytest.mark.parametrize(
    ("given", "wanted"), [({}, "epoch"), ({"eval_steps": 5}, "steps"), ({"eval_strategy": "no"}, "no")]
)
def test_what_can_be_measured_is_measured_unless_the_file_says_otherwise(
    given: dict[str, Any], wanted: str, good: dict[str, Any], folder: Path
) -> None:
    made = understood({**good, "arguments": {"output_dir": "out", **given}}, folder)
    assert made.training_arguments().eval_strategy == wanted


def test_datasets_of_the_hub_are_asked_for_by_all_that_the_file_says(
    good: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def load_dataset(**settings_of: Any) -> Dataset:
        asked.append(settings_of)
        return Dataset.from_dict({"a": WORDS[:4], "b": WORDS[4:8]})

    good["train"] = {"hub": "some/data", "subset": "pair", "split": "train[:50%]", "revision": "abc"}
    made = understood(good, folder)  # fetches nothing
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert made.steps() == 4 and "some/data/pair (train[:50%]) of the Hub" in made.describe()[1]
    assert len(made.rows(made.train)) == 4
    assert asked == [{"path": "some/data", "name": "pair", "split": "train[:50%]", "revision": "abc"}]


def test_the_plan_is_described_in_lines(good: dict[str, Any], folder: Path) -> None:
    good["arguments"] = {"output_dir": "out", "num_train_epochs": 2, "per_device_train_batch_size": 8}
    lines = understood(good, folder).describe()
    assert f"train       {folder / 'pairs.tsv'}: 36 rows; question, answer" in lines
    assert "loss        MultipleNegativesRankingLoss(scale=10)" in lines
    assert "steps       about 10" in lines and lines[-1] == f"output      {folder / 'out'}"


def test_losses_come_of_the_public_table() -> None:
    known = KINDS["dense"].known_losses()
    assert {"CoSENTLoss", "MatryoshkaLoss"} <= set(known) and all(issubclass(one, Loss) for one in known.values())
