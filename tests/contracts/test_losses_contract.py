"""What every loss keeps, whatever it minimises."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sentence_transformers import losses
from sentence_transformers._public import NAMES
from sentence_transformers.losses.base import Loss, Wrapper, total
from sentence_transformers.losses.cross.base import PairLoss
from sentence_transformers.losses.cross.listwise import ListLoss
from sentence_transformers.losses.cross.pointwise import PointLoss
from sentence_transformers.losses.distillation import CandidatesLoss
from sentence_transformers.losses.gradcache import GradCache
from sentence_transformers.losses.multi_vector import MultiVectorLoss
from sentence_transformers.losses.sparse_inner import OnlyInside
from sentence_transformers.training import objectives
from tests.contracts.loss_cases import (
    CACHED,
    CASES,
    CROSS,
    LATE,
    MODELS,
    ROWS,
    SPARSE,
    TEXTS,
    in_parts,
    kind_of,
    plain,
)

pytestmark = pytest.mark.filterwarnings("ignore:The .*SymmetricRankingLoss is deprecated:DeprecationWarning")


TABLE = {
    target: name if namespace == "losses" else f"{namespace}.{name}"
    for namespace in ("losses", SPARSE, LATE, CROSS)
    for name, target in NAMES[namespace].items()
}
"""Where a public loss is -> the name of its case."""
BASES = {Loss, Wrapper, GradCache, CandidatesLoss, MultiVectorLoss, PairLoss, ListLoss, PointLoss, OnlyInside}


def all_losses() -> set[str]:
    """Every public class below ``Loss`` in the files of ``losses``: the name of its case, or where it is."""
    for file in pkgutil.walk_packages(losses.__path__, f"{losses.__name__}."):
        importlib.import_module(file.name)
    found, waiting = set(), [Loss]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith(losses.__name__) and not kind.__name__.startswith("_"):
                found.add(kind)
    places = [f"{kind.__module__.partition('.')[2]}:{kind.__name__}" for kind in found - BASES]
    return {TABLE.get(place, place) for place in places}


@pytest.mark.parametrize("name", sorted(all_losses() | set(CASES)))
def test_a_loss_has_a_case_and_a_row_in_the_table(name: str) -> None:
    assert ":" not in name, f"{name} is no row of a table of losses in _public_training.py"
    assert name in CASES, f"{name} has no case in tests/contracts/loss_cases.py"
    assert name in TABLE.values()


@pytest.mark.parametrize("name", sorted(all_losses() & set(CASES)))
def test_a_loss_with_a_gradient_cache_is_compared_with_one_without(name: str) -> None:
    assert issubclass(kind_of(name), GradCache) == (name in CACHED)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A small encoder of each kind, in float64."""
    root = tmp_path_factory.mktemp("of-losses")

    @cache
    def made(name: str) -> Any:
        kind, build = MODELS[name]
        return kind(str(build(root / name)), device="cpu").double()

    return made


@pytest.fixture
def model(name: str, tiny: Callable[[str], Any]) -> Any:
    """A copy of the one that the loss is for, in training mode, without dropout."""
    found = copy.deepcopy(tiny(CASES[name].model)).train()
    for module in found.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found[0].auto_model.config.attention_probs_dropout_prob = 0.0
    return found


def batch(model: Any, name: str, order: list[int] | None = None) -> tuple[list[Any], Any]:
    """What a loss is called with."""
    case, rows = CASES[name], list(range(ROWS)) if order is None else order
    columns = [[column[row] for row in rows] for column in case.texts or TEXTS[: case.columns]]
    labels = [case.labels[row] for row in rows] if isinstance(case.labels, list) else case.labels
    labels = labels[rows] if isinstance(labels, Tensor) else labels
    if case.model in ("reranker", "classifier"):  # which read columns together
        return columns, labels
    tasks = [{"task": "document" if place else "query"} if case.model == "late" else {} for place in range(3)]
    features = [{**model.preprocess(column, **task), **task} for column, task in zip(columns, tasks, strict=False)]
    return features, labels


def run(loss: Any, features: list[dict[str, Any]], labels: Tensor | None) -> tuple[float, dict[str, Tensor]]:
    """Value and gradients of everything that is trained."""
    loss.zero_grad()
    torch.manual_seed(3)
    found = total(loss(features, labels))
    found.backward()
    gradients = {name: one.grad.clone() for name, one in loss.named_parameters() if one.grad is not None}
    return found.item(), gradients


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor], within: float) -> None:
    assert first.keys() == second.keys()
    largest = max(float(gradient.abs().max()) for gradient in first.values())
    for name, gradient in first.items():
        assert float((gradient - second[name]).abs().max()) <= within * largest, name


@pytest.mark.parametrize("name", sorted(CASES))
class TestEvery:
    def test_is_a_number_or_parts_of_one_and_moves_the_model(self, name: str, model: Any) -> None:
        loss = CASES[name].make(kind_of(name), model)
        found = loss(*batch(model, name))
        parts = found if isinstance(found, dict) else {"loss": found}
        assert all(part.shape == () and part.isfinite() for part in parts.values())
        total(found).backward()
        words = model[0].auto_model.get_input_embeddings().weight
        assert float(words.grad.abs().max()) > 0

    def test_leaves_the_features_as_they_are(self, name: str, model: Any) -> None:
        features, labels = batch(model, name)
        before = [column.copy() for column in features]
        total(CASES[name].make(kind_of(name), model)(features, labels)).backward()
        for column, kept in zip(features, before, strict=True):
            if isinstance(column, dict):
                assert column.keys() == kept.keys()
                assert all(column[key] is value for key, value in kept.items())
            else:
                assert column == kept

    def test_is_the_same_without_gradients(self, name: str, model: Any) -> None:
        loss = CASES[name].make(kind_of(name), model)
        features, labels = batch(model, name)
        value, _ = run(loss, features, labels)
        with torch.no_grad():
            assert float(total(loss(features, labels))) == pytest.approx(value, rel=1e-9)

    def test_does_not_depend_on_the_order_of_the_rows(self, name: str, model: Any) -> None:
        loss = CASES[name].make(kind_of(name), model)
        value, gradients = run(loss, *batch(model, name))
        turned, others = run(loss, *batch(model, name, [3, 0, 5, 1, 4, 2]))
        assert turned == pytest.approx(value, rel=1e-9)
        assert_equal(gradients, others, 1e-9)

    def test_takes_what_wraps_the_model(self, name: str, model: Any) -> None:
        class Wrapped(nn.Module):
            calls = 0

            def __init__(self) -> None:
                super().__init__()
                self.module = model

            def forward(self, features: dict[str, Any], **kwargs: Any) -> Any:
                Wrapped.calls += 1
                return self.module(features, **kwargs)

            def __getitem__(self, place: int) -> Any:
                return self.module[place]

            def __iter__(self) -> Any:
                return iter(self.module)

        loss = CASES[name].make(kind_of(name), model)
        value, _ = run(loss, *batch(model, name))
        wrapped = Wrapped()
        objectives.point(loss, model, wrapped)
        assert run(loss, *batch(model, name))[0] == pytest.approx(value, rel=1e-12)
        assert Wrapped.calls > 0
        objectives.point(loss, wrapped, model)
        assert loss.model is model

    def test_says_how_it_is_set_and_where_it_comes_from(self, name: str, model: Any) -> None:
        loss = CASES[name].make(kind_of(name), model)
        assert isinstance(json.loads(json.dumps(loss.get_config_dict())), dict)
        assert "model" not in loss.get_config_dict()
        for key in loss.citations:
            assert re.search(rf"@\w+\{{{key},", loss.citation), key

    def test_what_it_has_of_its_own_can_be_kept_and_put_back(self, name: str, model: Any) -> None:
        loss = CASES[name].make(kind_of(name), model)
        kept = objectives.own_state(loss, model)
        own = objectives.own_parameters(loss, model)
        assert set(own) <= set(kept)
        assert not {id(one) for one in own.values()} & {id(one) for one in model.parameters()}
        with torch.no_grad():
            for parameter in own.values():
                parameter.add_(1.0)
        objectives.restore(loss, model, kept)
        assert all(torch.equal(parameter, kept[key]) for key, parameter in own.items())


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.from_embeddings))
def test_of_embeddings_it_is_what_forward_makes_of_the_model(name: str, model: Any) -> None:
    loss, (features, labels) = CASES[name].make(kind_of(name), model), batch(model, name)
    value, _ = run(loss, features, labels)
    with torch.no_grad():
        embeddings = [loss.embed(column) for column in features]
        found = float(total(loss.compute_loss_from_embeddings(embeddings, labels)))
    assert found == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.labels is not None))
def test_wrong_labels_are_an_error_that_says_so(name: str, model: Any) -> None:
    features, labels = batch(model, name)
    assert labels is not None
    with pytest.raises(ValueError, match=r"(?i)expect|requires|label|teacher"):
        CASES[name].make(kind_of(name), model)(features, labels[:-1])


@pytest.mark.parametrize("rows", [1, 4, ROWS, 100])
@pytest.mark.parametrize("name", sorted(CACHED))
def test_a_gradient_cache_changes_neither_value_nor_gradients(name: str, rows: int, model: Any) -> None:
    features, labels = batch(model, CACHED[name])
    value, gradients = run(plain(CACHED[name], model), features, labels)
    cached, others = run(in_parts(name, model, rows), features, labels)
    assert cached == pytest.approx(value, rel=1e-12)
    assert_equal(gradients, others, 1e-12)
