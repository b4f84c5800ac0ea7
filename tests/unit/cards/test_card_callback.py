"""A training told to a card through the callback: rows of the log, data, settings, and what must not stop it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_heads as heads
from huggingface_hub import ModelCard
from transformers import TrainerControl, TrainerState

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation.base import BaseEvaluator, SequentialEvaluator
from sentence_transformers.evaluation.triplet import TripletEvaluator
from sentence_transformers.losses.contrastive import MultipleNegativesRankingLoss
from sentence_transformers.losses.wrappers import MatryoshkaLoss
from sentence_transformers.training.card_callback import BaseModelCardCallback

ROWS = [{"question": f"Is it {i}?", "answer": f"It | is {i}."} for i in range(30)]
DEFAULTS = {"learning_rate": 5e-5, "num_train_epochs": 3.0, "seed": 42, "prediction_loss_only": False}


class Arguments(SimpleNamespace):
    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Training:
    """Stands for a trainer: calls the events of a callback in their order, with numbers made by hand."""

    def __init__(self, model: Any, **attributes: Any) -> None:
        self.model = model
        self.args = Arguments(
            learning_rate=2e-5,
            num_train_epochs=3.0,
            seed=42,
            prediction_loss_only=True,
            hub_model_id=None,
            hub_token="x",
        )
        self.state = TrainerState(is_world_process_zero=True)
        self.control = TrainerControl()
        self.train_dataset: Any = ROWS
        self.eval_dataset: Any = None
        self.loss: Any = MultipleNegativesRankingLoss(model)
        self.evaluator: Any = None
        self.callback_handler = SimpleNamespace(callbacks=[])
        vars(self).update(attributes)
        self.callback = BaseModelCardCallback(DEFAULTS)
        self.event("on_init_end", trainer=self)

    def event(self, name: str, **more: Any) -> None:
        getattr(self.callback, name)(self.args, self.state, self.control, model=self.model, **more)

    def at(self, epoch: float | None, step: int) -> Training:
        self.state.epoch, self.state.global_step = epoch, step
        return self

    def logs(self, **values: float) -> None:
        self.event("on_log", logs=values)

    def evaluates(self, **values: float) -> None:
        self.event("on_evaluate", metrics=values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heads.build_sentence_dense(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture
def begun(model: SentenceTransformer) -> Callable[..., Training]:
    """``begun(**attributes)``: a training at its first step."""

    def begin(**attributes: Any) -> Training:
        training = Training(model, **attributes)
        training.event("on_train_begin")
        return training

    return begin


def rows(training: Training) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = training.model.model_card_data.training_logs
    return found


def card_of(training: Training) -> str:
    return str(training.model.model_card_data.render(training.model))


# --- the log


def test_what_happens_at_one_step_is_one_row(begun: Callable[..., Training]) -> None:
    training = begun()
    training.at(0.5, 10).logs(loss=0.5, grad_norm=1.0, learning_rate=1e-5)
    training.at(0.5, 10).evaluates(eval_loss=0.4, eval_runtime=1.0)
    training.at(1.0, 20).logs(loss=0.3)
    assert rows(training) == [
        {"Epoch": 0.5, "Step": 10, "Training Loss": 0.5, "Validation Loss": 0.4},
        {"Epoch": 1.0, "Step": 20, "Training Loss": 0.3},
    ]


def test_other_logs_are_no_rows(begun: Callable[..., Training]) -> None:
    training = begun()
    training.at(1.0, 20).logs(train_loss=0.5, train_runtime=3.0)
    training.at(1.0, 20).logs(eval_loss=0.5)
    training.event("on_log", logs=None)
    training.event("on_evaluate", metrics=None)
    assert rows(training) == []


def test_each_evaluation_dataset_has_a_column(begun: Callable[..., Training]) -> None:
    training = begun(eval_dataset={"nli": ROWS, "sts": ROWS})
    training.at(1.0, 5).evaluates(eval_nli_loss=0.1, eval_nli_base_loss=7.0)
    training.at(1.0, 5).evaluates(eval_sts_loss=0.2)
    assert rows(training) == [{"Epoch": 1.0, "Step": 5, "nli loss": 0.1, "sts loss": 0.2}]


def test_evaluators_put_their_primary_metric_in_the_row(begun: Callable[..., Training]) -> None:
    training = begun()
    metrics = TripletEvaluator(["a"], ["b"], ["c"], name="dev")(training.model, None, 1.0, 5)  # type: ignore[arg-type]
    training.at(1.0, 5).evaluates(eval_loss=0.1, **{f"eval_{key}": value for key, value in metrics.items()})
    assert rows(training) == [
        {"Epoch": 1.0, "Step": 5, "dev_cosine_accuracy": metrics["dev_cosine_accuracy"], "Validation Loss": 0.1}
    ]


class Silent(BaseEvaluator):
    """Does not tell the card what it measures."""

    primary_metric = "quality"


def test_an_evaluator_that_does_not_tell_the_card_is_in_the_log_all_the_same(begun: Callable[..., Training]) -> None:
    training = begun(evaluator=Silent())
    training.at(1.0, 5).evaluates(eval_quality=0.5, eval_other=1.0)
    assert rows(training) == [{"Epoch": 1.0, "Step": 5, "quality": 0.5}]


def test_the_mean_of_several_evaluators_is_no_column(begun: Callable[..., Training]) -> None:
    training = begun(evaluator=SequentialEvaluator([Silent()]))
    training.at(1.0, 5).evaluates(eval_sequential_score=0.5)
    assert rows(training) == []


def test_a_resumed_training_has_the_log_of_before(model: SentenceTransformer) -> None:
    training = Training(model)
    training.state.log_history = [
        {"loss": 0.5, "epoch": 0.5, "step": 10},
        {"eval_loss": 0.4, "epoch": 0.5, "step": 10},
        {"train_loss": 0.1, "epoch": 1.0, "step": 20},
    ]
    training.event("on_train_begin")
    assert rows(training) == [{"Epoch": 0.5, "Step": 10, "Training Loss": 0.5, "Validation Loss": 0.4}]


def test_a_second_training_begins_a_new_log_after_what_was_measured_before(begun: Callable[..., Training]) -> None:
    training = begun()
    training.model.model_card_data.training_logs.insert(0, {"Epoch": -1, "Step": -1, "map": 0.5})
    training.at(1.0, 10).logs(loss=0.5)
    training.event("on_train_begin")
    assert rows(training) == [{"Epoch": -1, "Step": -1, "map": 0.5}]


@pytest.mark.parametrize(("count", "folded"), [(100, False), (101, True)])
def test_a_long_log_is_folded(count: int, folded: bool, begun: Callable[..., Training]) -> None:
    training = begun()
    for step in range(count):
        training.at(step / count, step + 1).logs(loss=0.5)
    section = card_of(training).partition("### Training Logs")[2].partition("###")[0]
    assert section.count("\n| ") == count + 2
    assert (section.count("<details>"), section.count("</details>")) == ((1, 1) if folded else (0, 0))


def test_the_best_step_is_bold_in_the_card(begun: Callable[..., Training]) -> None:
    training = begun()
    training.at(0.5, 10).logs(loss=0.25)
    training.at(1.0, 20).logs(loss=0.75)
    assert "In bold" not in card_of(training)
    training.model.model_card_data.set_best_model_step(10)
    card = card_of(training)
    assert re.search(r"\| \*\*0\.5\*\*\s*\| \*\*10\*\* \| \*\*0\.25\*\*\s*\|", card)
    assert "In bold: the step whose weights these are." in card


# --- before the first step


def test_a_trained_model_is_tagged(begun: Callable[..., Training]) -> None:
    training = begun()
    tags = ["generated_from_trainer", "dataset_size:30", "loss:MultipleNegativesRankingLoss"]
    assert set(tags) <= set(ModelCard(card_of(training)).data.tags or ())


def test_a_trainer_alone_makes_no_trained_model(model: SentenceTransformer) -> None:
    model._model_card_text = "Words of others."
    Training(model)
    assert model.model_card_data.render(model) == "Words of others."


def test_settings_are_in_the_card(begun: Callable[..., Training]) -> None:
    card = begun().model.model_card_data
    assert card.non_default_hyperparameters == {"learning_rate": 2e-5}
    assert card.all_hyperparameters == {
        "learning_rate": 2e-5, "num_train_epochs": 3.0, "seed": 42, "prediction_loss_only": True, "hub_model_id": None,
    }  # fmt: skip


def test_the_name_on_the_hub_is_that_of_the_settings(model: SentenceTransformer) -> None:
    training = Training(model)
    training.args.hub_model_id = "me/mine"
    training.event("on_init_end", trainer=training)
    assert 'SentenceTransformer("me/mine")' in card_of(training)


def test_what_users_say_of_their_data_counts(folder: Path) -> None:
    from sentence_transformers import SentenceTransformerModelCardData

    told = SentenceTransformerModelCardData(train_datasets=[{"name": "Mine", "id": "me/mine"}])
    training = Training(SentenceTransformer(str(folder), device="cpu", model_card_data=told))
    (facts,) = training.model.model_card_data.train_datasets
    assert (facts["name"], facts["id"], facts["size"]) == ("Mine", "me/mine", 30)


def test_data_of_a_second_trainer_replace_those_of_the_first(model: SentenceTransformer) -> None:
    Training(model)
    second = Training(model, train_dataset={"other": ROWS[:7]})
    assert [(one["name"], one["size"]) for one in second.model.model_card_data.train_datasets] == [("other", 7)]


def test_queries_and_answers_make_a_model_of_retrieval(begun: Callable[..., Training]) -> None:
    assert begun().model.model_card_data.ir_model is True


def test_a_model_that_is_made_anew_gets_the_facts(begun: Callable[..., Training], folder: Path) -> None:
    training = begun()
    training.model = SentenceTransformer(str(folder), device="cpu")
    training.event("on_train_begin")
    training.at(1.0, 3).logs(loss=0.5)
    assert "dataset_size:30" in training.model.model_card_data.tags
    assert len(rows(training)) == 1


def test_a_wrapped_model_is_found(begun: Callable[..., Training]) -> None:
    training = begun()
    wrapped = SimpleNamespace(module=SimpleNamespace(module=training.model))
    training.at(1.0, 3)
    training.callback.on_log(training.args, training.state, training.control, model=wrapped, logs={"loss": 0.5})
    assert len(rows(training)) == 1


def test_without_a_trainer_nothing_is_taken(model: SentenceTransformer) -> None:
    before = model.model_card_data.to_dict()
    BaseModelCardCallback({}).on_init_end(Arguments(), TrainerState(), TrainerControl(), model=model)
    assert model.model_card_data.to_dict() == before


def test_other_processes_write_nothing(model: SentenceTransformer) -> None:
    training = Training(model, state=TrainerState(is_world_process_zero=False))
    before = model.model_card_data.to_dict()
    training.event("on_train_begin")
    training.at(1.0, 3).logs(loss=0.5)
    training.event("on_train_end")
    assert (model.model_card_data.to_dict(), rows(training)) == (before, [])
    assert not model.model_card_data.is_trained


# --- after the last step


def test_the_time_of_evaluations_is_apart(begun: Callable[..., Training], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 190.0])
    monkeypatch.setattr("sentence_transformers.training.card_callback.time.monotonic", lambda: next(clock))
    training = begun()
    training.evaluates(eval_a_runtime=20.0)
    training.evaluates(eval_b_runtime=10.0)
    training.event("on_train_end")
    assert training.model.model_card_data.durations == {"Training": 60.0, "Evaluation": 30.0, "Total": 90.0}
    assert "- **Total:** 1.5 minutes" in card_of(training)


class CodeCarbonCallback:
    """Stands for that of transformers."""

    def __init__(self) -> None:
        data = SimpleNamespace(
            emissions=0.25, energy_consumed=0.5, duration=3600.0, on_cloud="Y", gpu_model="1 x <GPU>"
        )
        self.tracker = SimpleNamespace(final_emissions_data=data)


def test_emissions_are_in_card_and_metadata(begun: Callable[..., Training]) -> None:
    training = begun(callback_handler=SimpleNamespace(callbacks=[CodeCarbonCallback()]))
    training.event("on_train_end")
    card = card_of(training)
    assert ModelCard(card).data.to_dict()["co2_eq_emissions"]["emissions"] == 250.0
    assert "- **Carbon:** 0.250 kg of CO2" in card
    assert "- **GPU:** 1 x &lt;GPU&gt;" in card


# --- the whole card


@pytest.fixture
def whole(begun: Callable[..., Training], model: SentenceTransformer) -> str:
    """The card of a training with everything in it."""
    losses = {"one": MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [16, 8])}
    losses["two"] = MultipleNegativesRankingLoss(model)  # type: ignore[assignment]
    training = begun(train_dataset={"one": ROWS, "two": ROWS[:9]}, eval_dataset=ROWS, loss=losses)
    for name in ("a-dev", "b-dev"):
        TripletEvaluator(["a"], ["b"], ["c"], name=name)(model, None, 1.0, 5)  # type: ignore[arg-type]
    training.at(1.0, 5).logs(loss=0.5)
    training.event("on_train_end")
    return card_of(training)


def test_sections_of_a_trained_model(whole: str) -> None:
    assert re.findall(r"^##+ .*", whole.partition("## Evaluation")[2], re.MULTILINE) == [
        "### Metrics",
        "#### Triplet",
        "## Training Details",
        "### Training Datasets",
        "#### one",
        "#### two",
        "### Evaluation Dataset",
        "#### Unnamed Dataset",
        "### Training Hyperparameters",
        "#### Non-Default Hyperparameters",
        "#### All Hyperparameters",
        "### Training Logs",
        "### Training Time",
        "### Framework Versions",
        "## Additional Resources",
        "## Citation",
        "### BibTeX",
        "#### Sentence Transformers",
        "#### MatryoshkaLoss",
        "#### MultipleNegativesRankingLoss",
    ]


def test_every_paper_is_cited_once(whole: str) -> None:
    keys = re.findall(r"^@\w+\{(.*),$", whole, re.MULTILINE)
    assert len(keys) == len(set(keys)) == 3


def test_every_block_is_closed(whole: str) -> None:
    assert len(re.findall(r"^```", whole, re.MULTILINE)) % 2 == 0
    assert whole.count("<details>") == whole.count("</details>") == 1


def test_every_table_is_whole(whole: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", whole, re.MULTILINE)
    assert len(tables) == 8  # evaluation; statistics and examples of three datasets; log
    for one in tables:
        assert len({line.count("|") for line in one.splitlines()}) == 1


def test_the_hub_reads_evaluations_of_the_whole_card(whole: str) -> None:
    results = ModelCard(whole).data.eval_results
    assert {(one.dataset_type, one.metric_type) for one in results or ()} == {
        ("a-dev", "cosine_accuracy"), ("b-dev", "cosine_accuracy"),
    }  # fmt: skip


def test_rendering_a_trained_model_changes_nothing(whole: str, model: SentenceTransformer) -> None:
    assert model.model_card_data.render(model) == whole


# --- nothing stops a training


@pytest.mark.parametrize(
    "attributes",
    [
        {"train_dataset": 7},
        {"train_dataset": {"a": None}},
        {"train_dataset": [None, 3, b"x"]},
        {"train_dataset": None},
        {"train_dataset": [], "eval_dataset": {}},
        {"loss": None},
        {"loss": {"other": None}},
        {"train_dataset": [{"a": None, "b": [[], [None]], "c": {"x": b"y"}, "d": "z" * 10**6, "e": object()}]},
    ],
)
def test_odd_data_are_logged_at_most(attributes: dict[str, Any], begun: Callable[..., Training]) -> None:
    training = begun(**attributes)
    training.at(1.0, 1).logs(loss=0.5)
    training.event("on_train_end")
    card = card_of(training)
    assert "### Training Logs" in card
    assert len(card) < 40_000
    assert ModelCard(card).data.library_name == "sentence-transformers"


def test_a_loss_that_fails_is_logged(model: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(MultipleNegativesRankingLoss):
        def get_config_dict(self) -> dict[str, Any]:
            raise RuntimeError("no settings")

    Training(model, loss=Fails(model))
    assert "The model card lacks the dataset: RuntimeError: no settings" in caplog.text


def test_settings_that_fail_are_logged(model: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    training = Training(model)
    training.args = SimpleNamespace(hub_model_id=None)
    training.event("on_train_begin")
    assert "The model card lacks the settings of the training: AttributeError" in caplog.text
    assert model.model_card_data.is_trained
