"""The trainer: what it minimises, logs, evaluates and refuses."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict, Features, IterableDataset, Value
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.evaluation import BaseEvaluator, EmbeddingSimilarityEvaluator
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.training.dense import SentenceTransformerTrainer
from sentence_transformers.training.samplers import DefaultBatchSampler
from tests.unit.training.training_runs import FIRST, SECOND, arguments, logged, pairs, scored, trainer, weights


@pytest.fixture(scope="session")
def model(tiny_model: Callable[[str], Any]) -> Any:
    """A small encoder, with dropout in training; trainers get copies."""
    return tiny_model("bert")


class Counting(BaseEvaluator):
    """Tells how often it was asked, and with what."""

    primary_metric = "asked"

    def __init__(self, values: list[float] | None = None) -> None:
        self.values, self.calls = values, list[tuple[Any, ...]]()

    def __call__(self, model: Any, output_path: Any = None, epoch: Any = -1, steps: Any = -1) -> dict[str, float]:
        assert not model.training
        self.calls.append((output_path, epoch, steps))
        return {"asked": len(self.calls) if self.values is None else self.values[len(self.calls) - 1]}


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_moves_the_model(model: Any, tmp_path: Path) -> None:
    dataset, settings = scored(), {"max_steps": 30, "learning_rate": 5e-3}
    loss = losses.CosineSimilarityLoss
    run = trainer(model, tmp_path, settings, train_dataset=dataset, eval_dataset=dataset, loss=loss)
    before, first = weights(run), run.evaluate()["eval_loss"]
    run.train()
    assert len(logged(run)) == 30 and run.evaluate()["eval_loss"] < 0.7 * first
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(run).items())


def test_the_default_loss_is_cosent(model: Any, tmp_path: Path) -> None:
    assert isinstance(trainer(model, tmp_path, train_dataset=scored()).loss, losses.CoSENTLoss)


def test_the_same_seed_gives_the_same_training_and_another_one_another(model: Any, tmp_path: Path) -> None:
    found = []
    for seed in (1, 1, 2):
        run = trainer(model, tmp_path, {"seed": seed}, train_dataset=scored())
        run.train()
        found.append(logged(run))
    assert found[0] == found[1] != found[2]


def test_losses_can_be_made_by_a_function_of_the_model(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored(), loss=lambda one: losses.CoSENTLoss(one, scale=7.0))
    assert run.loss.scale == 7.0 and run.loss.model is run.model


def test_gradients_of_two_half_batches_are_those_of_the_whole(model: Any, tmp_path: Path) -> None:
    still = copy.deepcopy(model)
    for module in still.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    settings = [{"per_device_train_batch_size": 8}, {"gradient_accumulation_steps": 2}]
    runs = [
        trainer(still, tmp_path, {**one, "max_steps": 3}, train_dataset=scored(), loss=losses.CosineSimilarityLoss)
        for one in settings
    ]
    for run in runs:
        run.train()
    assert logged(runs[0]) == pytest.approx(logged(runs[1]), rel=1e-4)


def test_parameters_of_the_loss_are_trained_and_their_gradients_do_not_pile_up(model: Any, tmp_path: Path) -> None:
    one = copy.deepcopy(model)
    loss = losses.SoftmaxLoss(one, 32, 3)
    dataset = pairs(24, label=[row % 3 for row in range(24)])
    run = SentenceTransformerTrainer(model=one, args=arguments(tmp_path), train_dataset=dataset, loss=loss)
    before = loss.classifier.weight.detach().clone()
    run.train()
    assert not torch.equal(before, loss.classifier.weight)
    assert loss.classifier.weight.grad is None


def test_a_guide_is_not_trained(model: Any, tmp_path: Path) -> None:
    one, guide = copy.deepcopy(model), copy.deepcopy(model)
    run = SentenceTransformerTrainer(
        model=one, args=arguments(tmp_path), train_dataset=pairs(), loss=losses.GISTEmbedLoss(one, guide)
    )
    before = {name: tensor.clone() for name, tensor in guide.state_dict().items()}
    run.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in guide.state_dict().items())
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in guide.parameters()}


def test_parts_of_a_loss_are_logged_by_name(model: Any, tmp_path: Path) -> None:
    run = trainer(
        model,
        tmp_path,
        {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2},
        train_dataset=pairs(),
        eval_dataset=pairs(8),
        loss=losses.GlobalOrthogonalRegularizationLoss,
    )
    run.train()
    first = run.state.log_history[0]
    assert first["gor_mean"] + first["gor_second_moment"] == pytest.approx(first["loss"], abs=2e-4)
    found = next(entry for entry in run.state.log_history if "eval_loss" in entry)
    assert found["eval_gor_mean"] + found["eval_gor_second_moment"] == pytest.approx(found["eval_loss"], abs=2e-4)


def test_workers_load_the_same_batches(model: Any, tmp_path: Path) -> None:
    seen = []
    for workers in (0, 2):
        run = trainer(model, tmp_path, {"dataloader_num_workers": workers}, train_dataset=scored())
        seen.append([batch["anchor_input_ids"].tolist() for batch in run.get_train_dataloader()])
    assert seen[0] == seen[1] and len(seen[0]) == 6


@pytest.mark.parametrize(
    "sampler", [DefaultBatchSampler, lambda dataset, **settings: DefaultBatchSampler(dataset, **settings)]
)
def test_a_sampler_may_be_a_class_or_a_function(sampler: Any, model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {"batch_sampler": sampler}, train_dataset=scored())
    run.train()
    assert run.state.global_step == 6


def test_a_streamed_dataset_is_trained_on(model: Any, tmp_path: Path) -> None:
    rows = scored()
    streamed = rows.to_iterable_dataset().cast(rows.features)
    run = trainer(model, tmp_path, {"max_steps": 4}, train_dataset=streamed)
    run.train()
    assert len(logged(run)) == 4


def test_static_embeddings_are_trained(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from sentence_transformers.modules.static import StaticEmbedding

    tokenizer = Tokenizer.from_file(str(tiny_folder("bert") / "tokenizer.json"))
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    settings = {"max_steps": 20, "learning_rate": 0.1}
    run = trainer(static, tmp_path, settings, train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss)
    run.train()
    assert logged(run)[-1] < 0.5 * logged(run)[0]


# --- several datasets -------------------------------------------------------------------------------------------------


class Noting(losses.CoSENTLoss):
    """Notes the sizes of the batches it is given."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.sizes: list[int] = []

    def forward(self, sentence_features: Any, labels: Any = None) -> Any:
        columns = list(sentence_features)
        self.sizes.append(len(columns))
        return super().forward(columns[:2], labels)


def test_every_dataset_has_the_loss_of_its_name(model: Any, tmp_path: Path) -> None:
    three = scored(8).add_column("more", FIRST + FIRST[:2])
    datasets = {"two": scored(8), "three": three.select_columns(["anchor", "positive", "more", "score"])}
    run = trainer(model, tmp_path, {"max_steps": 4}, train_dataset=datasets, loss={"two": Noting, "three": Noting})
    run.train()
    assert run.loss["two"].sizes == [2, 2] and run.loss["three"].sizes == [3, 3]


def test_one_loss_serves_several_datasets(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {"max_steps": 4}, train_dataset=DatasetDict(a=scored(8), b=scored(8)), loss=Noting)
    run.train()
    assert run.loss.sizes == [2] * 4


def test_prompts_of_a_dataset_are_put_before_its_texts_alone(model: Any, tmp_path: Path) -> None:
    datasets = {"a": scored(4), "b": scored(4)}
    run = trainer(model, tmp_path, {"prompts": {"a": "query: "}}, train_dataset=datasets)
    lengths = {batch["dataset_name"]: int(batch["anchor_attention_mask"].sum()) for batch in run.get_train_dataloader()}
    added = len(model.tokenizer("query: ")["input_ids"]) - 2
    assert lengths["a"] == lengths["b"] + 4 * added


def test_a_dataset_without_a_loss_is_an_error_that_names_it(model: Any, tmp_path: Path) -> None:
    datasets = {"a": scored(), "b": scored()}
    with pytest.raises(ValueError, match=r"Every train dataset needs a loss of the same name: \['b'\] have none"):
        trainer(model, tmp_path, train_dataset=datasets, loss={"a": losses.CoSENTLoss})


def test_losses_by_name_need_datasets_by_name(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need datasets by name"):
        trainer(model, tmp_path, train_dataset=scored(), loss={"a": losses.CoSENTLoss})


def test_streamed_datasets_cannot_be_mixed(model: Any, tmp_path: Path) -> None:
    streamed = scored().to_iterable_dataset().cast(scored().features)
    run = trainer(model, tmp_path, train_dataset={"a": streamed, "b": scored()})
    with pytest.raises(ValueError, match="none of them may be an IterableDataset"):
        run.train()


# --- learning rates ---------------------------------------------------------------------------------------------------


def test_learning_rates_go_by_names_of_parameters(model: Any, tmp_path: Path) -> None:
    rates = {r"layer\.0\.": 0.5, "classifier": 0.25}
    dataset = pairs(24, label=[row % 3 for row in range(24)])
    run = trainer(
        model,
        tmp_path,
        {"learning_rate_mapping": rates, "weight_decay": 0.1},
        train_dataset=dataset,
        loss=lambda one: losses.SoftmaxLoss(one, 32, 3),
    )
    optimizer = run.create_optimizer()
    names = {id(parameter): name for name, parameter in run.loss.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            expected = 0.5 if "layer.0." in name else 0.25 if "classifier" in name else 1e-3
            assert group["lr"] == expected, name
            assert group["weight_decay"] == (0.0 if "bias" in name or "LayerNorm" in name else 0.1), name
    assert sorted(seen) == sorted(names.values())


def test_a_pattern_that_finds_no_parameter_is_an_error(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, {"learning_rate_mapping": {"nowhere": 1.0}}, train_dataset=scored())
    with pytest.raises(ValueError, match="No parameter's name matches 'nowhere'"):
        run.train()


# --- evaluation -------------------------------------------------------------------------------------------------------

EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}


def test_an_evaluator_is_enough_to_evaluate(model: Any, tmp_path: Path) -> None:
    evaluator = Counting()
    run = trainer(model, tmp_path, EVALUATED, train_dataset=scored(), evaluator=evaluator)
    run.train()
    assert evaluator.calls == [(str(tmp_path / "eval"), step / 6, step) for step in (2, 4, 6)]
    assert logged(run, "eval_asked") == [1, 2, 3] and logged(run, "eval_loss") == []


def test_several_evaluators_run_one_after_the_other(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored(), evaluator=[Counting(), Counting()])
    assert run.evaluate()["eval_sequential_score"] == 1


def test_of_several_datasets_the_evaluator_runs_with_the_first(model: Any, tmp_path: Path) -> None:
    evaluator = Counting()
    datasets = {"a": scored(8), "b": scored(8)}
    run = trainer(model, tmp_path, EVALUATED, train_dataset=scored(), eval_dataset=datasets, evaluator=evaluator)
    run.train()
    assert len(evaluator.calls) == 3
    assert len(logged(run, "eval_a_loss")) == len(logged(run, "eval_b_loss")) == len(logged(run, "eval_asked")) == 3


def test_the_loss_on_other_data_is_the_mean_over_its_batches(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored(), eval_dataset=scored(8), loss=losses.CosineSimilarityLoss)
    with torch.no_grad():
        run.model.eval()
        columns = [
            run.model(run.model.preprocess(scored(8)[name][:]))["sentence_embedding"] for name in ("anchor", "positive")
        ]
        labels = torch.tensor(scored(8)["score"][:])
        expected = float(run.loss.compute_loss_from_embeddings(columns, labels))
    assert run.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_metrics_of_a_real_evaluator_choose_the_best_model(model: Any, tmp_path: Path) -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, [0.1, 0.9, 0.3, 0.5, 0.8, 0.2], name="dev")
    settings = {
        **EVALUATED,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_dev_spearman_cosine",
    }
    run = trainer(model, tmp_path, settings, train_dataset=scored(), evaluator=evaluator)
    run.train()
    values = logged(run, "eval_dev_spearman_cosine")
    assert run.state.best_metric == max(values)
    assert evaluator(run.model)["dev_spearman_cosine"] == pytest.approx(max(values))
    assert (tmp_path / "eval" / "similarity_evaluation_dev_results.csv").read_text().count("\n") == 4


def test_training_stops_early_when_the_metric_does_not_get_better(model: Any, tmp_path: Path) -> None:
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_asked",
        "greater_is_better": True,
    }
    run = trainer(
        model,
        tmp_path,
        settings,
        train_dataset=scored(),
        evaluator=Counting([1.0, 3.0, 2.0, 2.5, 9.0]),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    run.train()
    assert run.state.global_step == 4 and run.state.best_metric == 3.0


def test_compute_loss_can_be_asked_for_outputs_which_are_empty(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored())
    batch = next(iter(run.get_train_dataloader()))
    loss, outputs = run.compute_loss(run.model, batch, return_outputs=True)
    assert outputs == {} and loss.shape == ()
    assert "label" in batch  # the batch stays as it is


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_settings_of_another_class_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Please pass an instance of `SentenceTransformerTrainingArguments`"):
        SentenceTransformerTrainer(model=model, args=TrainingArguments(output_dir=str(tmp_path)))


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Expected a model or a model_init"):
        SentenceTransformerTrainer(args=arguments(tmp_path), train_dataset=scored())


def test_evaluation_without_data_and_evaluator_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither `eval_dataset` nor `evaluator`"):
        trainer(model, tmp_path, EVALUATED, train_dataset=scored())
    with pytest.raises(ValueError, match="Evaluation needs eval_dataset or evaluator"):
        trainer(model, tmp_path, train_dataset=scored()).evaluate()


@pytest.mark.parametrize("name", ["return_loss", "dataset_name"])
def test_reserved_names_of_columns_are_refused(name: str, model: Any, tmp_path: Path) -> None:
    dataset = scored().rename_column("anchor", name)
    with pytest.raises(ValueError, match="column names are invalid in your train dataset"):
        trainer(model, tmp_path, train_dataset=dataset)


def test_a_streamed_dataset_of_unknown_columns_is_refused_with_what_to_write(model: Any, tmp_path: Path) -> None:
    streamed = IterableDataset.from_generator(lambda: ({"text": "a", "score": 0.5} for _ in range(3)))
    with pytest.raises(ValueError, match=r"cast\(Features\(\{'text': Value\('string'\), 'score': Value\('float64'\)"):
        trainer(model, tmp_path, {"max_steps": 1}, train_dataset=streamed)
    told = streamed.cast(Features({"text": Value("string"), "score": Value("float64")}))
    trainer(model, tmp_path, {"max_steps": 1}, train_dataset=told)


def test_a_model_with_routes_must_be_told_which_column_takes_which(model: Any, tmp_path: Path) -> None:
    parts = [copy.deepcopy(module) for module in model]
    router = Router.for_query_document(query_modules=[parts[0]], document_modules=[copy.deepcopy(parts[0])])
    routed = SentenceTransformer(modules=[router, Pooling(32)], device="cpu")
    with pytest.raises(ValueError, match="router_mapping"):
        trainer(routed, tmp_path, train_dataset=scored())
    mapping = {"router_mapping": {"anchor": "query", "positive": "document"}}
    run = trainer(routed, tmp_path, mapping, train_dataset=scored())
    batch = next(iter(run.get_train_dataloader()))
    assert batch["anchor_task"] == "query" and batch["positive_task"] == "document"
    run.train()
    assert len(logged(run)) == 6


def test_a_wrong_number_of_columns_is_an_error_of_the_loss_that_says_what_to_do(model: Any, tmp_path: Path) -> None:
    run = trainer(model, tmp_path, train_dataset=scored().remove_columns("positive"))
    with pytest.raises(ValueError, match=r"CoSENTLoss expects at least 2 columns .* rename or select the columns"):
        run.train()


# --- making models anew, old names ------------------------------------------------------------------------------------


def test_a_model_can_be_made_anew_for_every_training(model: Any, tmp_path: Path) -> None:
    run = SentenceTransformerTrainer(
        model_init=lambda: copy.deepcopy(model),
        args=arguments(tmp_path),
        train_dataset=scored(),
        loss=losses.CoSENTLoss,
    )
    run.train()
    first, before = logged(run), run.model
    run.train()
    assert run.model is not before and run.loss.model is run.model
    assert logged(run) == first


def test_compute_metrics_is_not_supported_and_says_so(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trainer(model, tmp_path, train_dataset=scored(), compute_metrics=lambda prediction: {})
    assert "pass an evaluator" in caplog.text


def test_tokenizer_is_the_old_name_of_processing_class(model: Any, tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="tokenizer"):
        run = trainer(model, tmp_path, train_dataset=scored(), tokenizer=model.tokenizer)
    assert run.processing_class is model.tokenizer
