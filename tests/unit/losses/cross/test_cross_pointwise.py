"""Pointwise losses of rerankers, against loops over pairs written from their formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import tiny_heads
import torch
from losses_cross_facts import TEXTS
from torch import Tensor, nn

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.losses.cross.pointwise import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    MarginMSELoss,
    MSELoss,
)
from tests.unit.losses.cross.reading import ROWS, Reading, gradient, reading, texts

SCORES = torch.tensor([0.1, 0.9, 0.4, 1.0, 0.0], dtype=torch.float64)
BINARY = torch.tensor([1, 0, 0, 1, 1])
CLASSES = torch.tensor([2, 0, 1, 1, 0])
LIKELY = torch.tensor([[0.5, 0.2, 0.3], [1, 0, 0], [0, 0.7, 0.3], [0.1, 0.5, 0.4], [0, 0, 1]], dtype=torch.float64)
MARGINS = torch.tensor([[0.5, -1], [2, 0.2], [0, 1.5], [-0.1, 0.3], [1, 1]], dtype=torch.float64)
POINTWISE: list[Any] = [BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss]
ALL: list[Any] = [*POINTWISE, MarginMSELoss]


def assert_agrees(loss: Any, columns: int, labels: Tensor | None, slow: Callable[[Any], Tensor]) -> None:
    """``slow`` gets the logits by first text, column of the second text, and label."""
    model = loss.model
    value = loss(texts(columns), labels)
    own = [[[model.logits[i, i + ROWS * k, label] for label in range(model.num_labels)] for k in range(columns)]
           for i in range(ROWS)]  # fmt: skip
    expected = slow(own)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(value, model), gradient(expected, model), rtol=1e-12, atol=1e-12)


# --- labels of each example as a list, as the trainer gives what a dataset has in lists ------------------------------


@pytest.mark.parametrize(
    ("loss", "labels", "columns", "num_labels"),
    [
        (MarginMSELoss, MARGINS, 3, 1),
        (MarginMSELoss, LIKELY, 3, 1),
        (CrossEntropyLoss, LIKELY, 1, 3),
        (BinaryCrossEntropyLoss, SCORES[:, None], 1, 1),
    ],
)
def test_lists_of_labels_are_as_a_tensor(loss: Any, labels: Tensor, columns: int, num_labels: int) -> None:
    made = loss(reading(columns, num_labels))
    torch.testing.assert_close(made(texts(columns), list(labels)), made(texts(columns), labels))


def test_lists_of_labels_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MarginMSELoss expects as many labels for each .* \[\(1,\), \(2,\)\]"):
        MarginMSELoss(reading(2))(texts(2), [torch.ones(2), torch.ones(1), torch.ones(2), torch.ones(2), torch.ones(2)])


# --- binary cross entropy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [SCORES, BINARY, BINARY[:, None], BINARY.bool()], ids=str)
@pytest.mark.parametrize("weight", [None, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_binary_cross_entropy(labels: Tensor, weight: float | None, reduction: str) -> None:
    def slow(logits: Any) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i, target in enumerate(labels.reshape(-1).double()):
            chance = 1 / (1 + torch.exp(-logits[i][0][0]))
            total = total - (weight or 1) * target * chance.log() - (1 - target) * (1 - chance).log()
        return total / ROWS if reduction == "mean" else total

    of_positives = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    loss = BinaryCrossEntropyLoss(reading(1), pos_weight=of_positives, reduction=reduction)
    assert_agrees(loss, 1, labels, slow)


def test_the_sigmoid_comes_on_top_of_an_activation() -> None:
    def slow(logits: Any) -> Tensor:
        chances = [1 / (1 + torch.exp(-torch.tanh(one[0][0]))) for one in logits]
        return sum(-torch.log(p if y else 1 - p) for p, y in zip(chances, BINARY, strict=True)) / ROWS  # type: ignore[return-value]

    assert_agrees(BinaryCrossEntropyLoss(reading(1), nn.Tanh()), 1, BINARY, slow)


def test_scores_far_off_have_a_loss_and_a_gradient() -> None:
    model = reading(1, factor=1e4)
    value = BinaryCrossEntropyLoss(model)(texts(1), BINARY)
    assert isinstance(value, Tensor) and value.isfinite() and gradient(value, model).isfinite().all()


# --- cross entropy ---------------------------------------------------------------------------------------------------


def slow_cross_entropy(targets: Tensor, weights: tuple[float, ...] = (1, 1, 1)) -> Callable[[Any], Tensor]:
    """Targets: (B, labels)."""

    def slow(logits: Any) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for (row,), target in zip(logits, targets, strict=True):
            whole = sum(one.exp() for one in row)
            for one, share, weight in zip(row, target, weights, strict=True):
                total = total - weight * share * torch.log(one.exp() / whole)
        return total

    return slow


def test_cross_entropy_of_classes() -> None:
    one_hot = torch.eye(3, dtype=torch.float64)[CLASSES]
    assert_agrees(CrossEntropyLoss(reading(1, 3)), 1, CLASSES, slow_cross_entropy(one_hot / ROWS))


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.bool])
def test_classes_may_be_any_integers(kind: torch.dtype) -> None:
    loss, few = CrossEntropyLoss(reading(1, 3)), CLASSES % 2
    assert torch.equal(loss(texts(1), few.to(kind)), loss(texts(1), few))  # type: ignore[arg-type]


def test_classes_may_be_a_column() -> None:
    loss = CrossEntropyLoss(reading(1, 3))
    assert torch.equal(loss(texts(1), CLASSES[:, None]), loss(texts(1), CLASSES))  # type: ignore[arg-type]


def test_cross_entropy_of_probabilities() -> None:
    assert_agrees(CrossEntropyLoss(reading(1, 3)), 1, LIKELY, slow_cross_entropy(LIKELY / ROWS))


def test_arguments_reach_the_cross_entropy() -> None:
    weights = (0.5, 2.0, 1.0)
    loss = CrossEntropyLoss(reading(1, 3), weight=torch.tensor(weights, dtype=torch.float64), reduction="sum")
    assert_agrees(loss, 1, CLASSES, slow_cross_entropy(torch.eye(3, dtype=torch.float64)[CLASSES], weights))


def test_ignored_pairs_do_not_count() -> None:
    model = reading(1, 3)
    some = CLASSES.clone()
    some[1:] = -100
    value: Any = CrossEntropyLoss(model)(texts(1), some)
    assert value.item() == pytest.approx(-model.logits[0, 0].log_softmax(0)[2].item())


def test_classes_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="an integer from 0 to 2, or the probabilities of all classes; got.*float64"):
        CrossEntropyLoss(reading(1, 3))(texts(1), SCORES)


# --- mean squared error ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [SCORES, 7 * SCORES - 3, BINARY], ids=str)
@pytest.mark.parametrize("activation", [None, torch.tanh, nn.Sigmoid()])
def test_mean_squared_error(labels: Tensor, activation: Any) -> None:
    def slow(logits: Any) -> Tensor:
        changed = [one[0][0] if activation is None else activation(one[0][0]) for one in logits]
        return sum((x - y) ** 2 for x, y in zip(changed, labels, strict=True)) / ROWS  # type: ignore[return-value]

    assert_agrees(MSELoss(reading(1), activation), 1, labels, slow)


def test_arguments_reach_the_mean_squared_error() -> None:
    assert_agrees(
        MSELoss(reading(1), reduction="sum"),
        1,
        SCORES,
        lambda logits: sum((one[0][0] - y) ** 2 for one, y in zip(logits, SCORES, strict=True)),  # type: ignore[arg-type,return-value]
    )


# --- margins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, nn.Sigmoid()])
@pytest.mark.parametrize(
    ("negatives", "labels", "margins"),
    [
        (1, SCORES, SCORES[:, None]),
        (1, BINARY, BINARY[:, None]),
        (1, MARGINS, MARGINS[:, :1] - MARGINS[:, 1:]),  # scores of the positive and the negative
        (2, MARGINS, MARGINS),
        (2, LIKELY, LIKELY[:, :1] - LIKELY[:, 1:]),
    ],
)
def test_margins_are_those_of_the_teacher(activation: Any, negatives: int, labels: Tensor, margins: Tensor) -> None:
    def slow(logits: Any) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for row, wanted in zip(logits, margins, strict=True):
            positive, *others = [one[0] if activation is None else activation(one[0]) for one in row]
            for other, margin in zip(others, wanted, strict=True):
                total = total + (positive - other - margin) ** 2
        return total / (ROWS * negatives)

    assert_agrees(MarginMSELoss(reading(1 + negatives), activation), 1 + negatives, labels, slow)


def test_arguments_reach_the_loss_of_margins() -> None:
    model = reading(3)
    mean, whole = (MarginMSELoss(model, reduction=how)(texts(3), MARGINS) for how in ("mean", "sum"))
    assert whole.item() == pytest.approx(mean.item() * ROWS * 2)  # type: ignore[union-attr]


def test_each_candidate_is_read_with_its_query() -> None:
    model = reading(3)
    MarginMSELoss(model)(texts(3), MARGINS)
    queries, *candidates = texts(3)
    assert model.asked == [list(zip(queries, some, strict=True)) for some in candidates]


def test_labels_that_are_no_margins_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Labels shape torch.Size\(\[5, 1\]\) does not match expected shape \(5, 2\)"):
        MarginMSELoss(reading(3))(texts(3), SCORES)
    with pytest.raises(ValueError, match="expects the teacher's margins or scores as labels, but got none"):
        MarginMSELoss(reading(3))(texts(3))


def test_a_positive_without_negatives_is_refused() -> None:
    with pytest.raises(ValueError, match="expects at least 3 columns .a query, a positive, one or more neg.*but got 2"):
        MarginMSELoss(reading(1))(texts(1), SCORES)


# --- all -------------------------------------------------------------------------------------------------------------


def labels_of(kind: Any) -> tuple[int, int, Tensor]:
    """Columns of second texts, labels of the model, labels of the batch."""
    return 2 if kind is MarginMSELoss else 1, 3 if kind is CrossEntropyLoss else 1, CLASSES


@pytest.mark.parametrize("kind", ALL)
def test_prompt_and_route_reach_every_pair(kind: Any) -> None:
    columns, count, labels = labels_of(kind)
    model = reading(columns, count)
    kind(model)(texts(columns), labels, prompt="find: ", task="query")
    assert model.settings == [{"prompt": "find: ", "task": "query"}] * columns


@pytest.mark.parametrize("kind", POINTWISE)
@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_columns_is_refused(kind: Any, count: int) -> None:
    message = f"{kind.__name__} expects a dataset with two non-label columns, but got a dataset with {count} columns."
    with pytest.raises(ValueError, match=message):
        kind(reading(3, labels_of(kind)[1]))(texts(3)[:count], CLASSES)


@pytest.mark.parametrize("kind", [BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss])
@pytest.mark.parametrize(("labels", "got"), [(None, "got none"), (CLASSES[:3], r"got 3 labels with shape \(3,\)")])
def test_a_label_for_each_pair_is_asked_for(kind: Any, labels: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} expects 5 labels \(one per example\), but {got}"):
        kind(reading(1, labels_of(kind)[1]))(texts(1), labels)


@pytest.mark.parametrize("kind", ALL)
def test_columns_of_another_length_are_refused(kind: Any) -> None:
    columns, count, labels = labels_of(kind)
    first, *others = texts(columns)
    with pytest.raises(ValueError, match="shorter"):
        kind(reading(columns, count))([first, *others[:-1], others[-1][:3]], labels)


@pytest.mark.parametrize("kind", [BinaryCrossEntropyLoss, MSELoss, MarginMSELoss])
def test_a_model_with_several_labels_is_refused(kind: Any) -> None:
    message = f"{kind.__name__} expects a model with 1 output label, but got a model with 3 output labels. Load it with"
    with pytest.raises(ValueError, match=message):
        kind(reading(1, 3))


@pytest.mark.parametrize("kind", ALL)
def test_a_model_that_scores_no_pairs_is_refused(kind: Any, tiny_model: Callable[[str], SentenceTransformer]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} expects a model of type CrossEncoder, but got.*SentenceTr"):
        kind(tiny_model("bert"))


@pytest.mark.parametrize("kind", ALL)
def test_scores_of_half_precision_are_compared_in_float32(kind: Any) -> None:
    columns, count, labels = labels_of(kind)
    model = Reading(reading(columns, count).logits.data.bfloat16())
    value = kind(model)(texts(columns), labels)
    assert value.dtype == torch.float32
    exact = kind(Reading(model.logits.data.double()))(texts(columns), labels)
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    assert gradient(value, model).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ALL)
def test_arguments_can_be_written_down(kind: Any) -> None:
    loss = kind(reading(1, labels_of(kind)[1]), nn.Sigmoid())
    weight = {"pos_weight": None} if kind is BinaryCrossEntropyLoss else {}
    assert loss.get_config_dict() == {"activation_fn": "torch.nn.modules.activation.Sigmoid", **weight}


def test_the_weight_of_positives_is_written_as_a_number() -> None:
    loss = BinaryCrossEntropyLoss(reading(1), pos_weight=torch.tensor(2.0))
    assert loss.get_config_dict()["pos_weight"] == 2.0 and loss.pos_weight is loss.bce_with_logits_loss.pos_weight


def test_the_losses_of_torch_are_at_hand() -> None:
    assert isinstance(BinaryCrossEntropyLoss(reading(1)).bce_with_logits_loss, nn.BCEWithLogitsLoss)
    assert isinstance(CrossEntropyLoss(reading(1), label_smoothing=0.1).ce_loss, nn.CrossEntropyLoss)
    assert isinstance(MSELoss(reading(1)).loss_fct, nn.MSELoss)
    assert isinstance(MarginMSELoss(reading(1)).loss_fct, nn.MSELoss)


def test_only_the_loss_of_a_paper_cites_one() -> None:
    cited = {kind.__name__: kind(reading(1, labels_of(kind)[1])).citation for kind in ALL}
    assert "Cross-Architecture Knowledge Distillation" in cited.pop("MarginMSELoss")
    assert set(cited.values()) == {""}


# --- a reranker ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """Not to be changed."""
    return CrossEncoder(str(tiny_heads.build_classifier("bert", tmp_path_factory.mktemp("reranker"))), device="cpu")


def test_losses_are_those_of_the_scores_that_the_model_predicts(reranker: CrossEncoder) -> None:
    scores = reranker.predict(list(zip(*TEXTS[:2], strict=True)), activation_fn=nn.Identity())
    value: Any = MSELoss(reranker)(TEXTS[:2], SCORES)
    expected = sum((float(x) - float(y)) ** 2 for x, y in zip(scores, SCORES, strict=True)) / ROWS
    assert math.isclose(value.item(), expected, rel_tol=1e-5)


def test_candidates_of_about_one_length_are_read_at_once(reranker: CrossEncoder) -> None:
    model = copy.deepcopy(reranker)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0]["input_ids"])))
    MarginMSELoss(model)([["a b c"] * 4, ["d e"] * 4, ["f g"] * 4, ["h i"] * 4], torch.zeros(4, 2)).backward()  # type: ignore[union-attr]
    assert seen == [12]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", [BinaryCrossEntropyLoss, MSELoss, MarginMSELoss])
def test_a_few_steps_make_the_loss_smaller(kind: Any, reranker: CrossEncoder) -> None:
    model = copy.deepcopy(reranker).eval()
    loss = kind(model)
    batch = TEXTS[: 3 if kind is MarginMSELoss else 2]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(batch, BINARY)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
