"""train, of the other families: a real run of a tiny model each, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny_heads
from datasets import Dataset

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.cli.main import main
from tests.unit.training.configs import PAIRS, settings, write_config, write_data

pytest.importorskip("matplotlib")


@dataclass(frozen=True)
class Run:
    """What differs between the files of the families.

    Attributes:
        values: of the file. metric: the primary one, as it is logged. loss: its name, as the card shows it.
    """

    encoder: type[Any]
    values: dict[str, Any]
    metric: str
    loss: str


SPLADE = {"loss": "SparseMultipleNegativesRankingLoss", "document_regularizer_weight": 1e-3}
RANKED = {"samples": "ranked.jsonl", "name": "faq"}
PAIRS_OF_FAQ = {"path": "pairs.tsv", "columns": ["question", "answer"], "name": "faq"}
RUNS = {
    "reranker": Run(
        CrossEncoder,
        {
            "loss": {"MultipleNegativesRankingLoss": {"num_negatives": 2}},
            "evaluators": [{"CrossEncoderRerankingEvaluator": RANKED}],
        },
        "eval_faq_ndcg@10",
        "MultipleNegativesRankingLoss",
    ),
    "reranker of lists": Run(
        CrossEncoder,
        {
            "train": {"path": "ranked.jsonl", "columns": ["query", "documents"], "label": "grades"},
            "loss": {"LambdaLoss": {"weighting_scheme": "LambdaRankScheme"}},
            "evaluators": [{"CrossEncoderRerankingEvaluator": RANKED}],
        },
        "eval_faq_ndcg@10",
        "LambdaLoss",
    ),
    "sparse": Run(
        SparseEncoder,
        {
            "loss": {"SpladeLoss": {**SPLADE, "query_regularizer_weight": 1e-3}},
            "evaluators": [{"SparseInformationRetrievalEvaluator": PAIRS_OF_FAQ}],
        },
        "eval_faq_dot_ndcg@10",
        "SpladeLoss",
    ),
    "multi-vector": Run(
        MultiVectorEncoder,
        {
            "loss": "MultiVectorMultipleNegativesRankingLoss",
            "evaluators": [{"MultiVectorInformationRetrievalEvaluator": PAIRS_OF_FAQ}],
        },
        "eval_faq_maxsim_ndcg@10",
        "MultiVectorMultipleNegativesRankingLoss",
    ),
}


@pytest.fixture
def folder(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data; what datasets caches stays out of the user's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(in_folder / "cache"))
    write_data(in_folder)
    rows = [
        {"query": query, "positive": [answer], "documents": [PAIRS[at - 1][1], answer], "grades": [0.0, 1.0]}
        for at, (query, answer) in enumerate(PAIRS[:12])
    ]
    Dataset.from_list(rows).to_json(in_folder / "ranked.jsonl")
    return in_folder


def base_model(kind: str, folder: Path, tiny_folder: Callable[[str], Path]) -> Path:
    """A bare transformer, whose other modules the family brings."""
    return tiny_heads.build_masked("bert", folder / "masked") if kind == "sparse" else tiny_folder("bert")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_the_model_its_card_metrics_curves_and_settings(
    name: str, folder: Path, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, kind = RUNS[name], name.partition(" ")[0]
    write_config(folder, {**settings(base_model(kind, folder, tiny_folder)), "kind": kind, **run.values})
    assert main(["train", "train.yaml", "--dry-run"]) == 0
    assert f"loss        {run.loss}" in capsys.readouterr().out
    assert main(["train", "train.yaml", "--json"]) == 0
    shown = capsys.readouterr()
    table = [line.split() for line in shown.err.splitlines() if re.match(r" *[0-9]+  ", line)]
    assert [(row[0], row[4] == "-") for row in table] == [("1", True), ("2", False), ("3", True), ("4", False)]

    out = folder / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoint-2", "checkpoint-4", "config.yaml", "curves.png", "eval", "final", "metrics.csv"}
    assert type(run.encoder(str(out / "final"), device="cpu")) is run.encoder
    card = (out / "final" / "README.md").read_text()
    assert run.loss in card and f"| {run.metric.removeprefix('eval_')} |" in card
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row[run.metric]) for row in rows] == [False, True, False, True]
    assert json.loads(shown.out)["metrics"][run.metric] == pytest.approx(float(rows[-1][run.metric]))
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["train", "out/config.yaml", "--set", "arguments.output_dir=../again", "--set", "curves=false"]) == 0


@pytest.mark.usefixtures("folder")
def test_the_card_of_a_reranker_says_what_it_gains_on_the_search(tiny_folder: Callable[[str], Path]) -> None:
    write_config(Path(), {**settings(tiny_folder("bert")), "kind": "reranker", **RUNS["reranker"].values})
    assert main(["train", "train.yaml", "--set", "curves=false"]) == 0
    card = Path("out", "final", "README.md").read_text()
    assert "base_ndcg" not in card
    (row,) = [line for line in card.splitlines() if line.startswith("| **ndcg@10**")]
    assert row.endswith(")** |") and ("(+" in row or "(-" in row)


@pytest.mark.usefixtures("folder")
def test_columns_that_a_loss_of_a_family_does_not_take_are_refused_before_a_model_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CrossEncoder, "__init__", lambda *args, **kwargs: pytest.fail("a model was opened"))
    values = {**settings(Path("some-model")), "kind": "reranker", "loss": "BinaryCrossEntropyLoss", "evaluators": []}
    write_config(Path(), values)
    assert main(["train", "train.yaml"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "loss.BinaryCrossEntropyLoss does not take the columns of train (question, answer; no label)" in shown.err
