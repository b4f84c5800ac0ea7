"""The examples of the system description for training run word for word, offline.

Small random models stand in for bert-base-uncased and distilbert-base-uncased, on a Hub on a local port, to which the
first example also pushes; rows of ../shared/data stand in for all-nli and stsb, in a cache of ``datasets`` under their
names. ``max_steps`` is patched.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.base import BaseTrainingArguments

from sentence_transformers import CrossEncoder, SentenceTransformer
from tests.integration.snippets import DESCRIPTION, sections, serve_dataset
from tests.integration.stand_ins import build_bert, build_distilbert
from tests.unit.hub.conftest import hub, model_files  # noqa: F401 (fixtures)
from tests.unit.hub.fake_hub import TOKEN, FakeHub

TRAINING = "Training a SentenceTransformer Model"
TRAINING_A_RERANKER = "Training a CrossEncoder Model"
STEPS = 200
CLASSES = {"entailment": 0, "neutral": 1, "contradiction": 2}


@pytest.fixture
def data(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """all-nli (pair-class) and stsb, as far as the example reads them."""
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    with gzip.open(data_folder / "snli" / "pairs.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    nli = {name: [row[name] for row in rows] for name in ("premise", "hypothesis")}
    classes = datasets.ClassLabel(names=list(CLASSES))
    whole = datasets.Dataset.from_dict({**nli, "label": [CLASSES[row["label"]] for row in rows]})
    whole = whole.cast_column("label", classes)
    splits = {
        "train": whole.select(range(6000)).flatten_indices(),
        "dev": whole.select(range(6000, 6200)).flatten_indices(),
    }
    serve_dataset(tmp_path / "datasets", "sentence-transformers/all-nli", splits, monkeypatch, "pair-class")
    stsb = {"train": scored_pairs(data_folder, "train", 3600), "validation": scored_pairs(data_folder, "dev", 300)}
    stsb = {split: datasets.Dataset.from_dict(columns) for split, columns in stsb.items()}
    serve_dataset(tmp_path / "datasets", "sentence-transformers/stsb", stsb, monkeypatch)


def scored_pairs(data_folder: Path, split: str, rows: int) -> dict[str, list[Any]]:
    """The first rows of a split of stsb, with scores of 0 to 1."""
    with (data_folder / "stsb" / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
        pairs = list(csv.DictReader(lines))[:rows]
    texts: dict[str, list[Any]] = {name: [row[name] for row in pairs] for name in ("sentence1", "sentence2")}
    return {**texts, "score": [float(row["score"]) / 5 for row in pairs]}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two evaluations of an example instead of an epoch."""
    settle = BaseTrainingArguments.__post_init__

    def with_few_steps(self: BaseTrainingArguments) -> None:
        self.max_steps = STEPS
        settle(self)

    monkeypatch.setattr(BaseTrainingArguments, "__post_init__", with_few_steps)


def test_training(
    data: None,
    few_steps: None,
    hub: FakeHub,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_bert(tmp_path / "bert")
    hub.add("bert-base-uncased", {path.name: path.read_bytes() for path in (tmp_path / "bert").iterdir()})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code = sections()[TRAINING]
    assert "push_to_hub" in code and len(code.strip().splitlines()) > 50  # nothing is left out

    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, str(DESCRIPTION), "exec"), names)

    trainer, model = names["trainer"], names["model"]
    logs = trainer.state.log_history
    assert trainer.state.global_step == STEPS
    assert [entry["step"] for entry in logs if "loss" in entry] == [100, 200]
    measured = [entry for entry in logs if "eval_sts-dev_spearman_cosine" in entry]
    assert [entry["step"] for entry in measured] == [100, 200]
    assert all(np.isfinite(entry["eval_loss"]) for entry in measured)
    assert trainer.args.eval_strategy == "steps" and trainer.args.warmup_steps == 0.1 and not trainer.args.fp16
    folder = Path("output/my-model")
    assert {"checkpoint-100", "checkpoint-200", "eval", "final"} <= {path.name for path in folder.iterdir()}
    saved = SentenceTransformer(str(folder / "final"), device="cpu")
    texts = ["A man is playing a guitar.", "It rains."]
    np.testing.assert_allclose(saved.encode(texts), model.encode(texts), atol=2e-6)
    card = (folder / "final" / "README.md").read_text(encoding="utf-8")
    assert "generated_from_trainer" in card and "loss:SoftmaxLoss" in card and "sts-dev" in card
    pushed = hub.repositories["my-username/my-sentence-transformer"]
    files = pushed.commits[pushed.revisions["main"]]
    assert {"model.safetensors", "modules.json", "README.md"} <= files.keys()


def test_training_a_reranker(
    data: None,
    few_steps: None,
    hub: FakeHub,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_distilbert(tmp_path / "distilbert")
    hub.add("distilbert-base-uncased", {path.name: path.read_bytes() for path in (tmp_path / "distilbert").iterdir()})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code = sections()[TRAINING_A_RERANKER]
    assert "trainer.train()" in code and len(code.strip().splitlines()) > 40  # nothing is left out

    names: dict[str, Any] = {"__name__": "snippet"}
    with pytest.warns(DeprecationWarning, match="CEBinaryClassificationEvaluator"):
        exec(compile(code, str(DESCRIPTION), "exec"), names)

    trainer, model = names["trainer"], names["model"]
    logs = trainer.state.log_history
    measured = [entry for entry in logs if "eval_sts-dev_average_precision" in entry]
    assert [entry["step"] for entry in measured] == [100, 200]
    assert all(np.isfinite(entry["eval_loss"]) for entry in measured)
    assert type(trainer.loss).__name__ == "BinaryCrossEntropyLoss"
    folder = Path("output/cross-encoder")
    assert {"checkpoint-100", "checkpoint-200", "eval", "final"} <= {path.name for path in folder.iterdir()}
    saved = CrossEncoder(str(folder / "final"), device="cpu")
    pairs = [("A man is playing a guitar.", "Somebody plays music."), ("It rains.", "The sun shines.")]
    np.testing.assert_allclose(saved.predict(pairs), model.predict(pairs), atol=2e-6)
    card = (folder / "final" / "README.md").read_text(encoding="utf-8")
    assert "generated_from_trainer" in card and "loss:BinaryCrossEntropyLoss" in card and "sts-dev" in card
