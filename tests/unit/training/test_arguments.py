"""Settings of a training: old names, JSON, half precision without a GPU, and that they survive being written down."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import HfArgumentParser, Trainer
from transformers.training_args import ParallelMode

from sentence_transformers.training import arguments as module
from sentence_transformers.training.arguments import BaseTrainingArguments, SentenceTransformerTrainingArguments
from sentence_transformers.training.samplers import (
    BatchSamplers,
    MultiDatasetBatchSamplers,
    NoDuplicatesBatchSampler,
    RoundRobinBatchSampler,
)

LOG = module.__name__


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    """What is told once has not been told yet."""
    module._tell_once.cache_clear()
    yield
    module._tell_once.cache_clear()


def arguments(**settings: Any) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments("out", **{"report_to": "none", "use_cpu": True, **settings})


# --- old names --------------------------------------------------------------------------------------------------------


def test_the_settings_of_the_usual_snippet_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(FutureWarning, match="give warmup_steps=0.1"), caplog.at_level(logging.WARNING, LOG):
        found = SentenceTransformerTrainingArguments(
            output_dir="output/my-model",
            num_train_epochs=1,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=16,
            warmup_ratio=0.1,
            fp16=True,
            evaluation_strategy="steps",
            eval_steps=100,
            save_strategy="steps",
            save_steps=100,
            save_total_limit=2,
            logging_steps=100,
            run_name="my-training-run",
            use_cpu=True,
        )
    assert found.eval_strategy == "steps" and found.do_eval and found.eval_steps == 100
    assert found.get_warmup_steps(500) == 50
    assert (found.fp16, found.run_name) == (False, "my-training-run")


def test_evaluation_strategy_is_eval_strategy() -> None:
    assert arguments(evaluation_strategy="epoch").eval_strategy == "epoch"


def test_both_names_may_say_the_same_and_nothing_else() -> None:
    assert arguments(evaluation_strategy="steps", eval_strategy="steps", eval_steps=1).eval_strategy == "steps"
    with pytest.raises(ValueError, match="evaluation_strategy is the old name of eval_strategy; got 'steps' and 'epoc"):
        arguments(evaluation_strategy="steps", eval_strategy="epoch")


def test_a_wrong_evaluation_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="weekly"):
        arguments(evaluation_strategy="weekly")


@pytest.mark.parametrize("steps", [1, 7, 10, 999])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 1.0])
@pytest.mark.filterwarnings("ignore:warmup_ratio:FutureWarning")
def test_warmup_ratio_is_the_part_of_all_steps(ratio: float, steps: int) -> None:
    assert arguments(warmup_ratio=ratio).get_warmup_steps(steps) == math.ceil(ratio * steps)


def test_the_warning_of_warmup_ratio_points_at_the_caller() -> None:
    with pytest.warns(FutureWarning, match="warmup_ratio") as told:
        arguments(warmup_ratio=0.1)
    assert [Path(one.filename).name for one in told] == [Path(__file__).name]


def test_warmup_steps_win_over_warmup_ratio() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert arguments(warmup_ratio=0.1, warmup_steps=5).get_warmup_steps(100) == 5


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_a_warmup_ratio_that_is_no_part_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="warmup_ratio must be between 0 and 1"):
        arguments(warmup_ratio=ratio)


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        arguments(colour="red")


# --- half precision ---------------------------------------------------------------------------------------------------


def test_without_a_gpu_fp16_is_off_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        for _ in range(2):
            found = arguments(fp16=True)
            assert (found.fp16, found.mixed_precision) == (False, "no")
    assert [record.getMessage() for record in caplog.records] == [
        "fp16=True needs a GPU; there is none, so training is in float32."
    ]


@pytest.mark.parametrize("is_set", [False, True])
def test_without_a_gpu_accelerate_sees_no_half_precision(is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")  # as `accelerate launch --mixed_precision fp16` does
    run = Trainer(model=nn.Linear(2, 2), args=arguments(fp16=is_set))
    assert run.accelerator.mixed_precision == "no" and run.accelerator.scaler is None
    assert Accelerator(cpu=True, mixed_precision=run.args.mixed_precision).mixed_precision == "no"


def test_without_a_gpu_bf16_stays() -> None:
    assert arguments(bf16=True).mixed_precision == "bf16"


@pytest.mark.gpu
def test_on_a_gpu_fp16_stays() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert arguments(fp16=True, use_cpu=False).mixed_precision == "fp16"


# --- samplers, prompts, routes, rates ---------------------------------------------------------------------------------


def test_samplers_may_be_members_values_classes_and_functions() -> None:
    def make(dataset: Any, **settings: Any) -> Any:
        return NoDuplicatesBatchSampler(dataset, **settings)

    assert arguments().batch_sampler is BatchSamplers.BATCH_SAMPLER
    assert arguments(batch_sampler="no_duplicates").batch_sampler is BatchSamplers.NO_DUPLICATES
    assert arguments(batch_sampler=NoDuplicatesBatchSampler).batch_sampler is NoDuplicatesBatchSampler
    assert arguments(batch_sampler=make).batch_sampler is make
    assert arguments().multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
    found = arguments(multi_dataset_batch_sampler="round_robin").multi_dataset_batch_sampler
    assert found is MultiDatasetBatchSamplers.ROUND_ROBIN


@pytest.mark.parametrize("value", ["no_duplicate", None, 5])
def test_an_unknown_sampler_is_refused_with_those_that_there_are(value: Any) -> None:
    with pytest.raises(ValueError, match="batch_sampler must be one of .*'no_duplicates'.*; got"):
        arguments(batch_sampler=value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("query: ", "query: "),
        ('"query: "', "query: "),
        ('"quoted" and more', '"quoted" and more'),
        ('{"a": "b"}', {"a": "b"}),
        (' {"a": {"b": "c", "d": null}}', {"a": {"b": "c", "d": None}}),
        ({"a": {"b": "c"}, "d": "e"}, {"a": {"b": "c"}, "d": "e"}),
    ],
)
def test_prompts_are_texts_or_mappings_also_as_json(given: Any, expected: Any) -> None:
    assert arguments(prompts=given).prompts == expected


@pytest.mark.parametrize("bad", ["{bad", 5, ["a"], {"a": 5}, {"a": {"b": {"c": "d"}}}, '{"a": ["b"]}'])
def test_prompts_of_another_form_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="The `prompts` argument must be a dictionary"):
        arguments(prompts=bad)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ({"a": "query"}, {"a": "query"}),
        ('{"x": {"a": "query"}}', {"x": {"a": "query"}}),
    ],
)
def test_routes_are_mappings_also_as_json(given: Any, expected: Any) -> None:
    assert arguments(router_mapping=given).router_mapping == expected


@pytest.mark.parametrize("bad", ["query", "[1]", {"a": 1}, 5])
def test_routes_of_another_form_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="The `router_mapping` argument must be a dictionary"):
        arguments(router_mapping=bad)


def test_rates_are_mappings_also_as_json() -> None:
    assert arguments(learning_rate_mapping=r'{"\\.bias$": 1e-3}').learning_rate_mapping == {r"\.bias$": 1e-3}
    assert arguments(learning_rate_mapping=None).learning_rate_mapping == {}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("fast", "The `learning_rate_mapping` argument must be a dictionary"),
        ({"(": 1e-3}, "'\\(' is no regular expression"),
        ({"a": "fast"}, "expected a learning rate >= 0 for 'a', found 'fast'"),
        ({"a": -1.0}, "expected a learning rate >= 0 for 'a', found -1.0"),
        ({"a": True}, "expected a learning rate >= 0 for 'a', found True"),
    ],
)
def test_rates_of_another_form_are_refused(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(learning_rate_mapping=bad)


# --- written down -----------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "prompts": {"x": {"a": "b"}},
    "batch_sampler": "no_duplicates_hashed",
    "multi_dataset_batch_sampler": "round_robin",
    "router_mapping": {"x": {"a": "query"}},
    "learning_rate_mapping": {"a": 1e-3},
    "warmup_ratio": 0.1,
    "evaluation_strategy": "steps",
    "eval_steps": 7,
    "fp16": True,
}


@pytest.fixture
def full() -> SentenceTransformerTrainingArguments:
    with pytest.warns(FutureWarning, match="warmup_ratio"):
        return arguments(**FULL)


def test_they_survive_pickles_and_copies(full: Any, tmp_path: Path) -> None:
    torch.save(full, tmp_path / "training_args.bin")
    others = [
        pickle.loads(pickle.dumps(full)),
        copy.deepcopy(full),
        torch.load(tmp_path / "training_args.bin", weights_only=False),
        dataclasses.replace(full),
    ]
    for other in others:
        assert other == full and other.to_dict() == full.to_dict() and other.mixed_precision == "no"


def test_they_are_made_again_of_what_is_written_down(full: Any) -> None:
    written = json.loads(full.to_json_string())
    assert written["warmup_steps"] == 0.1 and written["eval_strategy"] == "steps" and written["fp16"] is False
    assert "evaluation_strategy" not in written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SentenceTransformerTrainingArguments(**written).to_dict() == full.to_dict()


def test_classes_and_functions_are_not_written_down() -> None:
    found = arguments(
        batch_sampler=NoDuplicatesBatchSampler, multi_dataset_batch_sampler=lambda *_, **__: None
    ).to_dict()
    assert "batch_sampler" not in found and "multi_dataset_batch_sampler" not in found
    json.dumps(found)


def test_classes_of_samplers_survive_a_pickle() -> None:
    found = arguments(batch_sampler=NoDuplicatesBatchSampler, multi_dataset_batch_sampler=RoundRobinBatchSampler)
    assert pickle.loads(pickle.dumps(found)).batch_sampler is NoDuplicatesBatchSampler


def test_reports_and_logs_can_show_them(full: Any) -> None:
    assert full.to_sanitized_dict()["batch_sampler"] == "no_duplicates_hashed"
    assert "NO_DUPLICATES_HASHED" in str(full) and "query" in repr(full)


@pytest.mark.filterwarnings("ignore:warmup_ratio:FutureWarning")
@pytest.mark.parametrize("kind", [BaseTrainingArguments, SentenceTransformerTrainingArguments])
def test_a_command_line_can_give_them(kind: Any) -> None:
    words: list[str] = ["--output_dir", "out", "--use_cpu", "--report_to", "none"]
    for name, value in FULL.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        words += [f"--{name}"] if value is True else [f"--{name}", text]
    [found] = HfArgumentParser(kind).parse_args_into_dataclasses(words)
    assert found.to_dict() == kind("out", **{"report_to": "none", "use_cpu": True, **FULL}).to_dict()


def test_every_setting_of_ours_is_explained() -> None:
    theirs = {one.name for one in dataclasses.fields(BaseTrainingArguments.__mro__[1])}
    ours = [one for one in dataclasses.fields(SentenceTransformerTrainingArguments) if one.name not in theirs]
    assert len(ours) == 7 and all(one.metadata.get("help") for one in ours)


# --- processes --------------------------------------------------------------------------------------------------------


def test_what_training_on_columns_needs_is_always_so() -> None:
    found = arguments(prediction_loss_only=False, ddp_broadcast_buffers=True)
    assert found.prediction_loss_only is True and found.ddp_broadcast_buffers is False


class Processes(SentenceTransformerTrainingArguments):
    """As where several processes train together."""

    parallel_mode = ParallelMode.DISTRIBUTED


class Threads(SentenceTransformerTrainingArguments):
    """As where one process has several GPUs."""

    parallel_mode = ParallelMode.NOT_DISTRIBUTED
    n_gpu = 2


@pytest.mark.parametrize(("given", "told"), [(False, 1), (True, 0)])
def test_several_processes_drop_the_last_batch(given: bool, told: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        found = Processes("out", report_to="none", use_cpu=True, dataloader_drop_last=given)
    assert found.dataloader_drop_last is True
    assert sum("dataloader_drop_last=True is set" in record.getMessage() for record in caplog.records) == told


def test_several_gpus_in_one_process_are_advised_against(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        Threads("out", report_to="none", use_cpu=True)
    assert any("2 GPUs share this process" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ({"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "spawn"}, True),
        ({"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "fork"}, False),
        ({"dataloader_num_workers": 0, "dataloader_multiprocessing_context": "spawn"}, False),
        (
            {
                "dataloader_num_workers": 2,
                "dataloader_multiprocessing_context": "spawn",
                "dataloader_persistent_workers": True,
            },
            False,
        ),
    ],
)
def test_workers_that_begin_anew_each_epoch_are_told(
    settings: dict[str, Any], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        arguments(**settings)
    assert any("dataloader_persistent_workers=True keeps them" in one.getMessage() for one in caplog.records) == is_told
