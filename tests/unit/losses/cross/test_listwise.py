"""List-wise losses of rerankers: values and gradients against slow loops, how pairs are run, bad input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
import torch
from losses_listwise_facts import EVEN, HOLE, LISTS, RAGGED, Handed, batch, scores
from torch import Tensor, nn

from sentence_transformers import CrossEncoder
from sentence_transformers.losses.cross.lambda_rank import LambdaLoss, RankNetLoss
from sentence_transformers.losses.cross.listwise import (
    ADRMSELoss,
    ListLoss,
    ListMLELoss,
    ListNetLoss,
    PListMLELambdaWeight,
    PListMLELoss,
)
from sentence_transformers.losses.cross.listwise_objectives import (
    adr_mse,
    in_order_of,
    listnet,
    padded,
    plackett_luce,
)

Lists = list[list[float]]
ALL: list[Callable[..., ListLoss]] = [ListNetLoss, ListMLELoss, PListMLELoss, ADRMSELoss, LambdaLoss, RankNetLoss]
SHAPES: dict[str, Lists] = {**LISTS, "hole": HOLE, "single": [[2.0]]}


def found_by(make: Callable[[nn.Module], nn.Module], labels: Lists, values: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by the score of each document."""
    model = Handed(values)
    value = make(model)(*batch(labels))
    (gradient,) = torch.autograd.grad(value, [model.values])
    return value.detach(), gradient


def assert_agrees(
    make: Callable[[nn.Module], nn.Module], slow: Callable[[list[Tensor], Lists], Tensor], labels: Lists
) -> None:
    """``slow`` gets the scores of each query, and the labels."""
    values = scores(sum(map(len, labels)))
    leaf = values.clone().requires_grad_()
    expected = slow(list(leaf.split([len(some) for some in labels])), labels)
    (golden,) = torch.autograd.grad(expected, [leaf])
    value, gradient = found_by(make, labels, values)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, golden, rtol=1e-10, atol=1e-10)


def zero(lists: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(lists)).sum() * 0


def slow_listnet(lists: list[Tensor], labels: Lists) -> Tensor:
    total = zero(lists)
    for some, wanted in zip(lists, labels, strict=True):
        exps = [torch.tensor(label, dtype=torch.float64).exp() for label in wanted]
        for score, one in zip(some, exps, strict=True):
            total = total - one / sum(exps) * (score.exp() / some.exp().sum()).log()
    return total / len(lists)


def slow_list_mle(weights_of: Callable[[int], list[float]] | None, by_label: bool = False) -> Any:
    def slow(lists: list[Tensor], labels: Lists) -> Tensor:
        total = zero(lists)
        for some, wanted in zip(lists, labels, strict=True):
            order = sorted(range(len(some)), key=lambda place: -wanted[place] if by_label else 0)
            weights = [1.0] * len(some) if weights_of is None else weights_of(len(some))
            for place, weight in enumerate(weights):
                rest = sum(some[other].exp() for other in order[place:])
                total = total - weight * (some[order[place]].exp() / rest).log()
        return total / len(lists)

    return slow


def powers(count: int) -> list[float]:
    """2^(n - i) - 1 for the i-th of n, in parts of their sum."""
    weights = [2 ** (count - place) - 1 for place in range(1, count + 1)]
    return [float(Fraction(weight, sum(weights) or 1)) for weight in weights]


def slow_adr_mse(alpha: float) -> Any:
    def slow(lists: list[Tensor], labels: Lists) -> Tensor:
        errors = []
        for some, wanted in zip(lists, labels, strict=True):
            for place, label in enumerate(wanted):
                better, equal = sum(other > label for other in wanted), wanted.count(label)
                true = torch.tensor(better + (equal + 1) / 2, dtype=torch.float64)  # mean of better + 1 .. + equal
                smooth = torch.tensor(1.0, dtype=torch.float64)
                for other in range(len(wanted)):
                    if other != place:
                        smooth = smooth + 1 / (1 + (alpha * (some[place] - some[other])).exp())
                errors.append((true - smooth) ** 2 / (true + 1).log2())
        return zero(lists) + sum(errors) / len(errors)

    return slow


@pytest.mark.parametrize("which", SHAPES)
def test_listnet_is_the_cross_entropy_of_the_chances_to_be_first(which: str) -> None:
    assert_agrees(ListNetLoss, slow_listnet, SHAPES[which])


@pytest.mark.parametrize("which", SHAPES)
def test_list_mle_is_the_chance_of_the_given_order(which: str) -> None:
    assert_agrees(ListMLELoss, slow_list_mle(None), SHAPES[which])


@pytest.mark.parametrize("which", SHAPES)
def test_list_mle_can_order_by_label_and_keeps_equal_ones_as_they_were(which: str) -> None:
    assert_agrees(
        lambda model: ListMLELoss(model, respect_input_order=False), slow_list_mle(None, by_label=True), SHAPES[which]
    )


def test_many_equal_documents_stay_as_they_were() -> None:
    keys, places = torch.arange(500)[None] % 2, torch.arange(500)[None]
    (found,) = in_order_of(keys.float(), places < 499, places)
    assert found[0].tolist() == [*range(1, 499, 2), *range(0, 499, 2), 499]


@pytest.mark.parametrize("which", SHAPES)
def test_position_aware_list_mle_weighs_places_by_falling_powers(which: str) -> None:
    assert_agrees(PListMLELoss, slow_list_mle(powers), SHAPES[which])


def test_position_aware_list_mle_can_order_by_label() -> None:
    assert_agrees(
        lambda model: PListMLELoss(model, respect_input_order=False), slow_list_mle(powers, by_label=True), RAGGED
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("which", SHAPES)
def test_adr_mse_compares_smooth_ranks(which: str, alpha: float) -> None:
    assert_agrees(lambda model: ADRMSELoss(model, alpha=alpha), slow_adr_mse(alpha), SHAPES[which])


def test_hand_computed_values() -> None:
    labels, values = [[1.0, 0.0]], torch.tensor([0.0, 3.0], dtype=torch.float64).log_softmax(0)
    first = 1 / (1 + torch.tensor(3.0, dtype=torch.float64).exp())
    wanted = torch.tensor([1.0, 0.0], dtype=torch.float64).softmax(0)
    assert found_by(ListMLELoss, labels, values)[0] == pytest.approx(-first.log())
    assert found_by(ListNetLoss, labels, values)[0] == pytest.approx(float(-(wanted * values).sum()))
    # either is half a rank and a bit off: 1 - first, of ranks 1 and 2
    expected = ((1 - first) ** 2 / torch.tensor([2.0, 3.0]).log2()).mean()
    assert found_by(ADRMSELoss, labels, values)[0] == pytest.approx(float(expected))


def test_no_weights_are_those_of_list_mle() -> None:
    values = scores(12)
    weighed = found_by(lambda model: PListMLELoss(model, lambda_weight=None), RAGGED, values)
    torch.testing.assert_close(weighed, found_by(ListMLELoss, RAGGED, values), rtol=0, atol=0)


def harmonic(mask: Tensor) -> Tensor:
    return 1 / torch.arange(1, mask.shape[1] + 1).expand(mask.shape)


class OfAFunction(PListMLELambdaWeight):
    def forward(self, mask: Tensor) -> Tensor:
        return super().forward(mask) * 7


def test_weights_of_a_function_are_scaled_for_each_query_alone() -> None:
    def weights(count: int) -> list[float]:
        total = sum(1 / place for place in range(1, count + 1))
        return [1 / place / total for place in range(1, count + 1)]

    for given in (PListMLELambdaWeight(harmonic), harmonic):
        # their third numbers come from float32
        values = scores(12)
        found = found_by(lambda model, given=given: PListMLELoss(model, given), RAGGED, values)[0]
        expected = slow_list_mle(weights)(list(values.split([4, 1, 5, 2])), RAGGED)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("weight", [OfAFunction, OfAFunction()])
def test_a_module_of_the_user_may_weigh_the_places(weight: Any) -> None:
    values = scores(12)
    weighed = found_by(lambda model: PListMLELoss(model, weight), RAGGED, values)
    torch.testing.assert_close(weighed, found_by(PListMLELoss, RAGGED, values))


def test_weights_of_the_places_are_whole_numbers_and_0_in_the_padding() -> None:
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False], [False] * 4])
    assert PListMLELambdaWeight()(mask).tolist() == [[7, 3, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("count", [126, 127, 128, 129, 400])
def test_weights_of_long_lists_stay_finite_and_in_proportion(count: int) -> None:
    mask = torch.ones(2, count, dtype=torch.bool)
    mask[1, 3:] = False
    weights = PListMLELambdaWeight()(mask)
    expected = torch.tensor(powers(count))
    torch.testing.assert_close(weights[0] / weights[0].sum(), expected, rtol=1e-6, atol=1e-37)
    assert weights[1, :3].tolist() == [3, 1, 0]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("which", SHAPES)
def test_results_are_finite_in_every_case(kind: Any, which: str) -> None:
    for factor in (0.0, 1.0, 1e4):
        values = scores(sum(map(len, SHAPES[which]))) * factor
        value, gradient = found_by(kind, SHAPES[which], values.float())
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", [ListMLELoss, PListMLELoss, ADRMSELoss, LambdaLoss, RankNetLoss, ListNetLoss])
def test_one_document_teaches_nothing(kind: Any) -> None:
    value, gradient = found_by(kind, [[1.0], [3.0]], scores(2))
    assert value == 0
    assert gradient.abs().max() < 1e-15


@pytest.mark.parametrize("kind", ALL)
def test_the_order_of_the_queries_does_not_count(kind: Any) -> None:
    values, sizes = scores(12), [4, 1, 5, 2]
    value, gradient = found_by(kind, RAGGED, values)
    turned, turned_gradient = found_by(kind, RAGGED[::-1], torch.cat(values.split(sizes)[::-1]))
    torch.testing.assert_close(turned, value, rtol=1e-12, atol=1e-12)
    back = torch.cat(turned_gradient.split(sizes[::-1])[::-1])
    torch.testing.assert_close(back, gradient, rtol=1e-12, atol=1e-12)


def by_label(kind: Any) -> Callable[[nn.Module], nn.Module]:
    return lambda model: kind(model, respect_input_order=False)


@pytest.mark.parametrize(
    "make", [ListNetLoss, ADRMSELoss, LambdaLoss, RankNetLoss, by_label(ListMLELoss), by_label(PListMLELoss)]
)
def test_the_order_of_the_documents_does_not_count(make: Any) -> None:
    labels, values = [[0.5, 3.0, 1.0, 2.0, 0.0]], scores(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    value, gradient = found_by(make, labels, values)
    turned, turned_gradient = found_by(make, [[labels[0][place] for place in order]], values[order])
    torch.testing.assert_close(turned, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(turned_gradient, gradient[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [ListMLELoss, PListMLELoss])
def test_the_order_of_the_documents_is_what_list_mle_learns(kind: Any) -> None:
    labels, values = [[0.0, 1.0, 2.0]], scores(3)
    assert found_by(kind, labels, values)[0] != found_by(kind, labels, values.flip(0))[0]


@pytest.mark.parametrize("kind", ALL)
def test_what_stands_in_the_padding_does_not_count(kind: Any) -> None:
    loss = kind(Handed(scores(1)))
    found, labels, mask = padded(scores(12), batch(RAGGED)[1])
    wider = torch.nn.functional.pad(mask, (0, 3))
    junk = torch.linspace(-90, 90, wider.numel(), dtype=torch.float64).view(wider.shape)
    filled, wrong = junk.clone(), junk.flip(1)
    filled[wider], wrong[wider] = found[mask], labels[mask]
    # ADR-MSE and LambdaLoss see labels of 0 in the padding, as ``padded`` makes them; the others any
    wrong = torch.where(wider, wrong, 0) if isinstance(loss, LambdaLoss) else wrong
    filled.requires_grad_()
    value = loss.objective(filled, wrong, wider)
    torch.testing.assert_close(value.detach(), loss.objective(found, labels, mask), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(value, [filled])
    assert not gradient[~wider].any()


def test_lists_are_padded_with_0_behind() -> None:
    found, labels, mask = padded(
        torch.tensor([1.0, 2.0, 3.0]), [torch.tensor([7, 8]), torch.tensor([]), torch.tensor([9])]
    )
    assert found.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert labels.tolist() == [[7, 8], [0, 0], [9, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]


@pytest.mark.parametrize(
    ("given", "used"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_a_loss_of_narrow_scores_is_computed_in_float32(given: torch.dtype, used: torch.dtype) -> None:
    value, gradient = found_by(ListNetLoss, RAGGED, scores(12).to(given))
    assert (value.dtype, gradient.dtype) == (used, given)


def test_gradients_of_the_objectives_are_those_of_finite_differences() -> None:
    found, labels, mask = padded(scores(12), batch(RAGGED)[1])
    found.requires_grad_()
    assert torch.autograd.gradcheck(lambda some: listnet(some, labels, mask), found)
    assert torch.autograd.gradcheck(lambda some: plackett_luce(some, mask), found)
    assert torch.autograd.gradcheck(lambda some: adr_mse(some, labels, mask, 2.0), found)


@pytest.mark.parametrize(
    ("size", "expected"), [(None, [3, 3, 3]), (1, [1] * 9), (4, [4, 4, 1]), (9, [9]), (50, [9]), (0, [9]), (-1, [9])]
)
def test_pairs_are_run_in_mini_batches(size: int | None, expected: list[int]) -> None:
    labels = [[1.0, 0.0, 3.0, 2.0, 1.0], [2.0], [0.0, 4.0, 0.5]]
    model = Handed(scores(9))
    value = ListNetLoss(model, mini_batch_size=size)(*batch(labels))
    assert [len(pairs) for pairs, _, _ in model.asked] == expected
    torch.testing.assert_close(value, ListNetLoss(model, mini_batch_size=-1)(*batch(labels)), rtol=0, atol=0)


def test_the_size_of_mini_batches_can_be_changed_later() -> None:
    model = Handed(scores(6))
    loss = ListNetLoss(model)
    loss.mini_batch_size = 5
    loss(*batch(EVEN))
    assert [len(pairs) for pairs, _, _ in model.asked] == [5, 1]


def test_each_document_is_read_with_its_query() -> None:
    model = Handed(scores(3))
    ListNetLoss(model, mini_batch_size=2)(
        [["a", "b"], [["0", "1"], ["2"]]], [torch.tensor([1, 0]), torch.tensor([1])], prompt="p: ", task="t"
    )
    assert model.asked == [([("a", "0"), ("a", "1")], "p: ", "t"), ([("b", "2")], "p: ", "t")]


def test_the_activation_comes_before_the_loss() -> None:
    values = scores(12)
    found = found_by(lambda model: ListNetLoss(model, nn.Sigmoid()), RAGGED, values)[0]
    torch.testing.assert_close(found, found_by(ListNetLoss, RAGGED, values.sigmoid())[0])


def test_somebody_else_may_embed_the_mini_batches() -> None:
    model = Handed(scores(6))
    loss = ListNetLoss(model, mini_batch_size=4)
    columns, labels = batch(EVEN)
    features = [loss.preprocess(pairs, None, None) for pairs in loss.pairs(columns, labels)]
    doubled = loss.run(
        features, labels, loss.compute_loss_from_embeddings, embed=lambda part: 2 * model(part)["scores"]
    )
    torch.testing.assert_close(doubled, ListNetLoss(Handed(2 * scores(6)))(columns, labels))


def test_labels_may_be_plain_lists() -> None:
    columns, labels = batch(RAGGED)
    loss = ListNetLoss(Handed(scores(12)))
    torch.testing.assert_close(loss(columns, RAGGED), loss(columns, labels))


@pytest.mark.parametrize("kind", ALL)
def test_a_small_reranker_learns_the_same_in_mini_batches_of_any_size(kind: Any, tmp_path: Path) -> None:
    folder = tiny_heads.build_classifier("bert", tmp_path / "bert")
    model = CrossEncoder(str(folder), device="cpu").double().eval()
    columns = [["one two", "hello"], [["two", "one two three four", "a b"], ["world", "c"]]]
    labels = [torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 0.0])]
    gradients = []
    for size in (1, 3, -1):
        model.zero_grad()
        kind(model, mini_batch_size=size)(columns, labels).backward()
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    assert any(gradient.abs().max() > 1e-6 for gradient in gradients[0].values())
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-8, atol=1e-10)


ONE = torch.tensor([1.0, 0.0])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ([["q"]], [ONE], "{} expects two inputs (queries, documents_list), but got 1 inputs."),
        ([["q"], [["0", "1"]], ["x"]], [ONE], "{} expects two inputs (queries, documents_list), but got 3 inputs."),
        (
            [["q"], [["0", "1", "2"]]],
            [ONE],
            "Number of documents per query in inputs ([3]) does not match number of labels per query ([2]).",
        ),
        (
            [["q", "r"], [["0", "1"], ["2"]]],
            [ONE],
            "Number of documents per query in inputs ([2, 1]) does not match number of labels per query ([2]).",
        ),
        ([["q", "r"], [["0", "1"]]], [ONE], "{} expects a list of documents for each query, got 1 for 2."),
        ([["q"], [["0", "1"]]], None, "{} expects a list of labels for each sample, but got none."),
        ([["q"], [[]]], [torch.tensor([])], "{} expects documents, but no query of the batch has one."),
        ([[], []], [], "{} expects documents, but no query of the batch has one."),
    ],
)
def test_batches_that_do_not_fit_are_refused(kind: Any, inputs: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        kind(Handed(scores(3)))(inputs, labels)
    assert str(error.value) == message.format(kind.__name__)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("labels", [torch.tensor([[1.0, 0.0]]), [torch.tensor(1.0)], [1.0]])
def test_one_tensor_is_no_list_of_labels(kind: Any, labels: Any) -> None:
    with pytest.raises(ValueError) as error:
        kind(Handed(scores(3)))([["q"], [["0", "1"]]], labels)
    expected = (
        "expects `labels` to be a list of per-query Tensors (list[Tensor]), but got a single Tensor."
        if kind is ADRMSELoss
        else "expects a list of labels for each sample, but got a single value for each sample."
    )
    assert str(error.value) == f"{kind.__name__} {expected}"


@pytest.mark.parametrize("kind", ALL)
def test_a_model_with_several_labels_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} .* 1 output label, but got a model with 3 output labels"):
        kind(Handed(scores(3), num_labels=3))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_smooth_ranks_need_a_positive_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a positive finite number"):
        ADRMSELoss(Handed(scores(3)), alpha=alpha)


def test_configurations_say_what_the_constructors_got() -> None:
    model, identity = Handed(scores(1)), "torch.nn.modules.linear.Identity"
    shared = {"activation_fn": identity, "mini_batch_size": None}
    assert ListNetLoss(model, mini_batch_size=7).get_config_dict() == {**shared, "mini_batch_size": 7}
    assert ListMLELoss(model).get_config_dict() == {**shared, "respect_input_order": True}
    assert ADRMSELoss(model, alpha=2.0).get_config_dict() == {**shared, "alpha": 2.0}
    config = PListMLELoss(model, respect_input_order=False).get_config_dict()
    assert config.pop("lambda_weight").endswith("PListMLELambdaWeight")
    assert config == {**shared, "respect_input_order": False}
    assert PListMLELoss(model, None).get_config_dict()["lambda_weight"] is None


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (ListNetLoss, "From Pairwise Approach to Listwise Approach"),
        (ListMLELoss, "Theory and Algorithm"),
        (PListMLELoss, "A Sequential Learning Process for Ranking"),
        (ADRMSELoss, "Rank-DistiLLM"),
    ],
)
def test_losses_cite_their_papers(kind: Any, title: str) -> None:
    citation = kind(Handed(scores(1))).citation
    assert title in citation
    assert citation.count("@") == 1
