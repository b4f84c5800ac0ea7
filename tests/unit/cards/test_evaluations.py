"""Evaluations in a card: tables of those that are alike, and the numbers in the metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from sentence_transformers import cross_encoder
from sentence_transformers.cards import evaluation, render
from sentence_transformers.cards.data import SentenceTransformerModelCardData
from sentence_transformers.cards.evaluation import Evaluation


class Measures:
    """Says of itself what an evaluator says."""

    description = "Some Task"

    def __init__(self, name: str, primary: str | None = "accuracy", **config: Any) -> None:
        self.name = name
        self.primary_metric = f"{name}_{primary}" if name and primary else primary
        self.config = config

    def get_config_dict(self) -> dict[str, Any]:
        return self.config

    def found(self, **metrics: Any) -> Evaluation:
        return Evaluation.of(
            self, {f"{self.name}_{key}" if self.name else key: value for key, value in metrics.items()}
        )


class MeasuresToo(Measures):
    pass


def test_names_of_data_are_no_part_of_metrics() -> None:
    found = Measures("sts-dev").found(accuracy=0.5, accuracy_sts=1.0)
    assert (found.primary, found.metrics) == ("accuracy", {"accuracy": 0.5, "accuracy_sts": 1.0})


def test_a_table_of_one_evaluation() -> None:
    (shown,) = evaluation.sections([Measures("dev").found(accuracy=0.123456, f1=1.0)])
    assert shown.table.splitlines() == [
        "| Metric       | Value      |",
        "| :----------- | :--------- |",
        "| **accuracy** | **0.1235** |",
        "| f1           | 1.0        |",
    ]
    assert (shown.description, shown.names) == ("Some Task", ["dev"])


def test_evaluations_of_the_same_metrics_share_a_table() -> None:
    (shown,) = evaluation.sections([Measures(name).found(accuracy=value) for name, value in (("a", 0.5), ("b", 0.25))])
    assert shown.names == ["a", "b"]
    assert shown.table.splitlines()[0] == "| Metric       | a       | b        |"
    assert shown.table.splitlines()[2] == "| **accuracy** | **0.5** | **0.25** |"


@pytest.mark.parametrize(
    "other",
    [
        Measures("b").found(accuracy=0.5, f1=0.5),
        Measures("b", k=3).found(accuracy=0.5),
        Measures("b", "other").found(accuracy=0.5),
        MeasuresToo("b").found(accuracy=0.5),
    ],
    ids=["metrics", "settings", "primary", "class"],
)
def test_evaluations_that_differ_have_tables_of_their_own(other: Evaluation) -> None:
    assert len(evaluation.sections([Measures("a").found(accuracy=0.5), other])) == 2


def test_a_metric_that_is_not_primary_is_not_bold() -> None:
    (shown,) = evaluation.sections([Measures("a", None).found(accuracy=0.5)])
    assert "**" not in shown.table


def test_settings_are_shown() -> None:
    (shown,) = evaluation.sections([Measures("a", k=3, dims=[1]).found(accuracy=0.5)])
    assert shown.config == '{\n    "k": 3,\n    "dims": [\n        1\n    ]\n}'


def test_an_evaluator_of_ones_own_is_named_by_its_path() -> None:
    (shown,) = evaluation.sections([Measures("a").found(accuracy=0.5)])
    assert shown.evaluator == f"<code>{__name__}.Measures</code>"


def test_ours_are_named_by_their_class() -> None:
    from sentence_transformers.evaluation.triplet import TripletEvaluator

    found = Evaluation.of(TripletEvaluator(["a"], ["b"], ["c"]), {"cosine_accuracy": 1.0})
    assert (found.evaluator, found.description) == ("TripletEvaluator", "Triplet")


# --- what has to be beaten


class Reranks(Measures):
    baseline = "base_"


RERANKED = {"ndcg@10": 0.938608, "map": 0.5, "base_ndcg@10": 0.825460, "base_map": 0.75, "base_other": 1.0}


def test_a_baseline_is_shown_as_what_the_model_gains_and_has_no_row() -> None:
    (shown,) = evaluation.sections([Reranks("nano", "ndcg@10").found(**RERANKED)])
    assert shown.table.splitlines()[2:] == [
        "| **ndcg@10** | **0.9386 (+0.1131)** |",
        "| map         | 0.5000 (-0.2500)     |",
        "| base_other  | 1.0                  |",
    ]


def test_without_a_baseline_of_the_evaluator_names_mean_nothing() -> None:
    (shown,) = evaluation.sections([Measures("nano", "map").found(map=0.5, base_map=0.75)])
    assert shown.table.splitlines()[2:] == ["| **map**  | **0.5** |", "| base_map | 0.75    |"]


def test_a_baseline_is_no_metric_of_the_model_for_the_hub() -> None:
    found = [Reranks("nano", "ndcg@10").found(**RERANKED)]
    assert evaluation.metric_names(found) == ["ndcg@10", "map", "base_other"]
    (result,) = evaluation.model_index("Mine", found)[0]["results"]
    assert [one["value"] for one in result["metrics"]] == [0.938608, 0.5, 1.0]


def test_the_log_says_what_was_gained_too() -> None:
    card = told((Reranks("nano", "map"), {"nano_map": 0.5, "nano_base_map": 0.75}, 1.0, 5))
    assert card.training_logs == [{"Epoch": 1.0, "Step": 5, "nano_map": "0.5000 (-0.2500)"}]


@pytest.mark.parametrize("kind", ["CrossEncoderRerankingEvaluator", "CrossEncoderNanoBEIREvaluator"])
def test_evaluators_of_rerankers_have_a_baseline(kind: str) -> None:
    assert getattr(cross_encoder.evaluation, kind).baseline == "base_"


# --- the metadata


def test_the_hub_reads_the_numbers_as_the_reference_writes_them() -> None:
    found = [Measures("all-nli_dev").found(**{"cosine_ndcg@10": 0.959318}), Measures("").found(accuracy=1.0)]
    card = ModelCard(f"---\n{render.yaml({'model-index': evaluation.model_index('Mine', found)})}\n---\n")
    assert card.data.model_name == "Mine"
    read = [
        (
            one.task_type,
            one.task_name,
            one.dataset_type,
            one.dataset_name,
            one.metric_type,
            one.metric_name,
            one.metric_value,
        )
        for one in card.data.eval_results or []
    ]
    assert read == [
        ("some-task", "Some Task", "all-nli_dev", "all nli dev", "cosine_ndcg@10", "Cosine Ndcg@10", 0.959318),
        ("some-task", "Some Task", "unknown", "Unknown", "accuracy", "Accuracy", 1.0),
    ]


def test_what_is_no_number_is_not_in_the_metadata() -> None:
    found = [Measures("a").found(accuracy=float("nan"), note="text", ok=np.float32(0.5), also=torch.tensor(0.25))]
    assert evaluation.metric_names(found) == ["ok", "also"]
    (result,) = evaluation.model_index("Mine", found)[0]["results"]
    assert [one["value"] for one in result["metrics"]] == [0.5, 0.25]


def test_without_numbers_there_is_no_index() -> None:
    assert evaluation.model_index("Mine", []) == []


# --- told to a card


def told(*calls: tuple[Measures, dict[str, Any], float, int]) -> SentenceTransformerModelCardData:
    card = SentenceTransformerModelCardData()
    for one, metrics, epoch, step in calls:
        card.set_evaluation_metrics(one, metrics, epoch=epoch, step=step)
    return card


def test_a_later_evaluation_replaces_an_earlier_one() -> None:
    first, second = Measures("a"), Measures("b")
    card = told(
        (first, {"a_accuracy": 0.1}, 1, 1), (second, {"b_accuracy": 0.2}, 1, 1), (first, {"a_accuracy": 0.3}, 2, 2)
    )
    assert [(one.name, one.metrics) for one in card.evaluations] == [("a", {"accuracy": 0.3}), ("b", {"accuracy": 0.2})]


def test_primary_metrics_are_in_the_log() -> None:
    one = Measures("a")
    card = told((one, {"a_accuracy": 0.1, "a_f1": 0.5}, 0.5, 10), (one, {"a_accuracy": 0.2, "a_f1": 0.5}, 1.0, 20))
    assert card.training_logs == [
        {"Epoch": 0.5, "Step": 10, "a_accuracy": 0.1},
        {"Epoch": 1.0, "Step": 20, "a_accuracy": 0.2},
    ]


def test_the_best_step_brings_back_what_was_measured_then() -> None:
    one = Measures("a")
    card = told((one, {"a_accuracy": 0.9}, 0.5, 10), (one, {"a_accuracy": 0.2}, 1.0, 20))
    card.set_best_model_step(10)
    assert (card.best_model_step, card.evaluations[0].metrics) == (10, {"accuracy": 0.9})


def test_an_evaluator_that_fails_to_describe_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    card = told((object(), {"a": 1.0}, 0, 0))  # type: ignore[arg-type]
    assert card.evaluations == []
    assert "The model card lacks an evaluation: AttributeError" in caplog.text
