"""BinaryClassificationEvaluator and LabelAccuracyEvaluator."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from sentence_transformers.evaluation.classification import BinaryClassificationEvaluator, LabelAccuracyEvaluator
from sentence_transformers.losses.pairs import SoftmaxLoss
from tests.unit.evaluation.evaluating import Given

VECTORS = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0], "d": [-1.0, 0.0]}
FIRST, SECOND, LABELS = ["a", "b", "a", "a"], ["b", "c", "c", "d"], [1, 1, 0, 0]  # cosines 0.6, 0.8, 0 and -1


def test_metrics_by_hand() -> None:
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, LABELS)
    assert evaluator(Given(VECTORS)) == pytest.approx(
        {
            "cosine_accuracy": 1,
            "cosine_accuracy_threshold": 0.3,
            "cosine_f1": 1,
            "cosine_f1_threshold": 0.3,
            "cosine_precision": 1,
            "cosine_recall": 1,
            "cosine_ap": 1,
            "cosine_mcc": 1,
        }
    )
    assert evaluator.primary_metric == "cosine_ap"


def test_thresholds_of_distances_are_distances() -> None:
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, LABELS, similarity_fn_names=["manhattan"])
    found = evaluator(Given(VECTORS))
    # distances 1.2, 0.8, 2 and 2
    assert found["manhattan_accuracy_threshold"] == pytest.approx(1.6)
    assert found["manhattan_f1_threshold"] == pytest.approx(1.6)


def test_of_several_functions_the_best_is_told() -> None:
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, [1, 0, 0, 1], similarity_fn_names=["cosine", "euclidean"])
    found = evaluator(Given(VECTORS))
    assert found["max_ap"] == max(found["cosine_ap"], found["euclidean_ap"])
    assert len(found) == 24
    assert evaluator.primary_metric == "max_ap"


def test_every_text_is_encoded_once() -> None:
    model = Given(VECTORS)
    BinaryClassificationEvaluator(FIRST, SECOND, LABELS)(model)
    assert [call[1] for call in model.calls] == [["a", "b", "c", "d"]]


def test_metrics_can_be_computed_without_a_report() -> None:
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, LABELS)
    found = evaluator.compute_metrics(Given(VECTORS))
    assert set(found) == {"cosine"}
    with pytest.warns(FutureWarning, match="compute_metrices is now compute_metrics"):
        assert evaluator.compute_metrices(Given(VECTORS)) == found


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, lambda some: torch.tensor(some, dtype=torch.bfloat16)])
def test_thresholds_are_found_in_scores_of_any_form(form: Callable[[Any], Any]) -> None:
    scores, labels = form([0.75, 0.5, 0.25]), [1, 1, 0]
    assert BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True) == (1, 0.375)
    assert BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True) == (1, 1, 1, 0.375)
    assert BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, False)[2:] == (1, 0.75)


def test_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, got \[0.5, 2\]"):
        BinaryClassificationEvaluator(FIRST, SECOND, [1, 0.5, 2, 0])  # type: ignore[list-item]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels \(1\) must have the same length"):
        BinaryClassificationEvaluator(FIRST, SECOND, [1])


def test_input_examples_are_pairs_with_a_label() -> None:
    examples = [SimpleNamespace(texts=["a", "b"], label=1), SimpleNamespace(texts=["c", "d"], label=0)]
    evaluator = BinaryClassificationEvaluator.from_input_examples(examples)
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.labels) == (["a", "c"], ["b", "d"], [1, 0])


# --- a classifier ----------------------------------------------------------------------------------------------------


class First(nn.Module):
    """The class is the number that is the first text."""

    def forward(self, features: list[Any], labels: Any) -> Any:
        assert labels is None
        assert not self.training
        return features, torch.eye(3)[torch.tensor([int(text) for text in features[0]["texts"]])]


class Texts(nn.Module):
    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.model_card_data = Given({}).model_card_data

    def preprocess(self, texts: list[str]) -> dict[str, Any]:
        return {"texts": texts}


def loader(count: int = 5) -> Any:
    examples = [SimpleNamespace(texts=["012"[at % 3], "other"], label=at % 2) for at in range(count)]
    return DataLoader(examples, batch_size=2, collate_fn=tuple)


def test_label_accuracy_is_the_share_of_right_classes() -> None:
    # classes 0 1 2 0 1 against 0 1 0 1 0
    assert LabelAccuracyEvaluator(loader(), "x", First())(Texts()) == {"x_accuracy": 2 / 5}


def test_modes_and_the_dataloader_are_left_as_they_were() -> None:
    data, model, classifier = loader(), Texts().eval(), First().train()
    LabelAccuracyEvaluator(data, softmax_model=classifier)(model)
    assert data.collate_fn is tuple
    assert classifier.training
    assert not model.training


def test_modes_and_the_dataloader_are_left_as_they_were_after_an_error() -> None:
    data, classifier = loader(), First().train()
    data.dataset[3].texts = ["nine", "other"]
    with pytest.raises(ValueError, match="nine"):
        LabelAccuracyEvaluator(data, softmax_model=classifier)(Texts())
    assert data.collate_fn is tuple
    assert classifier.training


def test_label_accuracy_needs_a_classifier() -> None:
    with pytest.raises(ValueError, match="softmax_model, such as a SoftmaxLoss"):
        LabelAccuracyEvaluator(loader())(Texts())


def test_label_accuracy_needs_examples() -> None:
    with pytest.raises(ValueError, match="nothing to classify"):
        LabelAccuracyEvaluator(loader(0), softmax_model=First())(Texts())


def test_label_accuracy_of_a_softmax_loss(tiny_folder: Callable[[str], Any]) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu")
    loss = SoftmaxLoss(model, model.get_embedding_dimension(), 2)
    with torch.no_grad():
        loss.classifier.weight.zero_()
        loss.classifier.bias.copy_(torch.tensor([0.0, 1.0]))  # class 1 whatever comes
    measured = LabelAccuracyEvaluator(loader(), softmax_model=loss).measure(model)
    assert measured.metrics == {"accuracy": 2 / 5}
