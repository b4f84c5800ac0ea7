"""``fit`` and ``old_fit`` of rerankers. The reference has no recorded values: version 6.2 cannot run them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sentence_transformers import CrossEncoder, InputExample
from sentence_transformers.evaluation.base import BaseEvaluator

TEXTS = ["a cat sat on the mat", "dogs bark", "it rains in the north", "she reads", "two men play chess", "cold tea"]
METHODS = pytest.mark.parametrize("method", ["fit", "old_fit"])


@pytest.fixture(scope="session", params=[1, 3])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    folder = tmp_path_factory.mktemp("fitted") / str(request.param)
    tiny.build("bert", folder, model_class="BertForSequenceClassification", settings={"num_labels": request.param})
    return CrossEncoder(str(folder), device="cpu")


@pytest.fixture
def model(shared: CrossEncoder) -> CrossEncoder:
    return copy.deepcopy(shared)


def loader(model: CrossEncoder, size: int = 4) -> Any:
    """A text with itself, and with another; or three classes."""
    labels = [1, 0, 1] if model.num_labels == 1 else [0, 1, 2]
    examples = [
        InputExample(texts=[text, other], label=label)
        for place, text in enumerate(TEXTS)
        for other, label in zip([text, TEXTS[place - 1], f"{text} {text}"], labels, strict=True)
    ]
    return DataLoader(examples, batch_size=size)  # type: ignore[arg-type]


class Noting(nn.Module):
    """A loss function that keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        self.calls.append((scores.detach(), labels))
        return scores.square().mean()


@METHODS
def test_the_model_learns_with_the_usual_loss(method: str, model: CrossEncoder) -> None:
    usual = nn.BCEWithLogitsLoss() if model.num_labels == 1 else nn.CrossEntropyLoss()
    data = loader(model, 18)
    examples = list(data.dataset)
    pairs, labels = [one.texts for one in examples], torch.tensor([one.label for one in examples])

    def value() -> float:
        logits = model.predict(pairs, activation_fn=nn.Identity(), convert_to_tensor=True)
        return float(usual(logits, labels.float() if model.num_labels == 1 else labels))

    before = value()
    settings = {"epochs": 8, "warmup_steps": 0, "optimizer_params": {"lr": 3e-3}, "show_progress_bar": False}
    getattr(model, method)(data, **settings)
    assert value() < before - 0.02


@METHODS
def test_a_loss_function_gets_activated_scores_and_labels(method: str, model: CrossEncoder) -> None:
    noting = Noting()
    getattr(model, method)(
        loader(model), loss_fct=noting, activation_fct=nn.Sigmoid(), warmup_steps=0, show_progress_bar=False
    )
    assert [len(scores) for scores, _ in noting.calls] == [4, 4, 4, 4, 2]
    for scores, labels in noting.calls:
        assert ((scores > 0) & (scores < 1)).all()
        assert scores.shape == ((len(labels),) if model.num_labels == 1 else (len(labels), 3))
        assert labels.dtype == (torch.float32 if model.num_labels == 1 else torch.int64)


def test_old_fit_takes_the_batches_of_the_loader_in_their_order(model: CrossEncoder) -> None:
    noting = Noting()
    model.old_fit(loader(model), loss_fct=noting, warmup_steps=0, show_progress_bar=False)
    expected = [example.label for example in loader(model).dataset]
    assert torch.cat([labels for _, labels in noting.calls]).tolist() == expected


@METHODS
def test_it_is_evaluated_the_callback_is_told_and_the_best_is_saved(
    method: str, model: CrossEncoder, tmp_path: Path
) -> None:
    class Given(BaseEvaluator):
        primary_metric = "score"

        def __init__(self) -> None:
            super().__init__()
            self.states: list[float] = []

        def __call__(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            self.states.append(float(model.predict([("a", "b")]).sum()))
            return {"score": [1.0, 3.0, 2.0][len(self.states) - 1]}

    judge, told = Given(), []
    getattr(model, method)(
        loader(model),
        evaluator=judge,
        epochs=3,
        warmup_steps=0,
        optimizer_params={"lr": 1e-2},
        output_path=str(tmp_path),
        callback=lambda *values: told.append(values[0]),
        show_progress_bar=False,
    )
    assert told == [1.0, 3.0, 2.0]
    saved = CrossEncoder(str(tmp_path), device="cpu")
    assert float(saved.predict([("a", "b")]).sum()) == pytest.approx(judge.states[1], abs=1e-6)
    assert judge.states[1] != pytest.approx(judge.states[2], abs=1e-6)


def test_labels_that_are_all_zero_count(model: CrossEncoder) -> None:
    noting = Noting()
    data = DataLoader([InputExample(texts=["a", "b"], label=0)] * 4, batch_size=2)  # type: ignore[arg-type]
    model.fit(data, loss_fct=noting, warmup_steps=0, show_progress_bar=False)
    assert [labels.tolist() for _, labels in noting.calls] == [[0, 0], [0, 0]]


def test_examples_become_features_and_labels(model: CrossEncoder) -> None:
    batch = [InputExample(texts=[" a cat ", "the mat"], label=1), InputExample(texts=["dogs", "bark"], label=0)]
    features, labels = model.smart_batching_collate(batch)
    assert labels.tolist() == [1, 0] and labels.dtype == (torch.float32 if model.num_labels == 1 else torch.int64)
    alone = model.smart_batching_collate_text_only([one.texts for one in batch])
    expected = model.preprocess([("a cat", "the mat"), ("dogs", "bark")])
    for found in (features, alone):
        assert torch.equal(found["input_ids"], expected["input_ids"])


def test_examples_without_a_pair_are_refused(model: CrossEncoder) -> None:
    data = DataLoader([InputExample(texts=[], label=0)], batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same number of texts, one at least"):
        model.fit(data, show_progress_bar=False)
