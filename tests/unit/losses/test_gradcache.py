"""The gradient cache: what it runs, in which parts, and that nothing of the loss changes by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from losses_checking import assert_same, trained
from losses_pairs_facts import column
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.base import Loss
from sentence_transformers.losses.gradcache import GradCache

ROWS = 7
FEATURES: list[dict[str, Any]] = [{"given": column(seed, rows=ROWS)} for seed in range(3)]


class Meeting(Loss):
    """Any objective in which every row of every column meets every other."""

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        rows = torch.cat(embeddings)
        return (rows @ rows.T).tanh().sum() + rows.square().mean()


class InParts(Meeting):
    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        whole = super().compute_loss_from_embeddings(embeddings, labels)
        return {"all": whole, "first": embeddings[0].sum(), "half": whole / 2}


class Cached(GradCache, Meeting):
    def __init__(self, model: nn.Module, size: int = 2, tokens: int | None = None, bar: bool = False) -> None:
        super().__init__(model)
        self.keep_parts(size, tokens, bar)


class CachedInParts(Cached, InParts):
    pass


class FirstColumn(Cached):
    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Any:
        return embeddings[0].sum()


class Model(nn.Module):
    """Two layers on given numbers; remembers what it was run on, and what came out."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        layers = [nn.Linear(6, 9), nn.Tanh(), nn.Dropout(dropout), nn.Linear(9, 6)]
        self.layers = nn.Sequential(*layers).double()
        self.seen: list[dict[str, Any]] = []
        self.found: list[Tensor] = []
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(features)
        self.found.append(self.layers(features["given"]))
        return {"sentence_embedding": self.found[-1]}


def tokens(*lengths: int, left: bool = False, width: int | None = None) -> dict[str, Any]:
    """Features of inputs with so many tokens, padded."""
    mask = (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if left else mask
    return {"input_ids": 5 * mask, "attention_mask": mask, "given": column(0, rows=len(lengths))}


def widths(loss: Cached, features: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes that the model is run on."""
    with torch.no_grad():
        loss([features])
    return [tuple(some["attention_mask"].shape) for some in loss.model.seen]  # type: ignore[union-attr]


# --- nothing changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize(("cached", "plain"), [(Cached, Meeting), (CachedInParts, InParts)])
def test_values_and_gradients_are_those_of_the_plain_loss(cached: Any, plain: Any, size: int) -> None:
    model = Model()
    assert_same(trained(cached(model, size), FEATURES, None), trained(plain(model), FEATURES, None))


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "qwen3"])
def test_padding_that_a_part_does_not_need_changes_nothing(name: str, tiny_folder: Any) -> None:
    model = SentenceTransformer(str(tiny_folder(name)), device="cpu").double()
    model.train(name in ("modernbert", "qwen3"))  # these drop nothing out, and then one implementation runs both times
    texts = (["a", "hello world one two three four", "b c", "d"], ["e f g", "h", "one", "two three"])
    features = [model.preprocess(some) for some in texts]
    assert_same(trained(Cached(model, 1), features, None), trained(Meeting(model), features, None), 1e-10)


def test_parts_of_a_loss_are_named_and_sum_to_its_gradient() -> None:
    found = CachedInParts(Model())(FEATURES)
    plain = InParts(Model())(FEATURES)
    assert {name: one.item() for name, one in found.items()} == pytest.approx(
        {name: one.item() for name, one in plain.items()}, rel=1e-12
    )


def test_dropout_is_replayed_in_every_part() -> None:
    model = Model(dropout=0.4)
    Cached(model)(FEATURES).backward()
    first, again = model.found[: len(model.found) // 2], model.found[len(model.found) // 2 :]
    assert len(first) == 12
    assert not any(one.requires_grad for one in first) and all(one.requires_grad for one in again)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_gradients_with_dropout_are_those_of_one_graph() -> None:
    model = Model(dropout=0.4)
    cached = trained(Cached(model), FEATURES, None)
    model.zero_grad()
    torch.manual_seed(0)
    run = [
        torch.cat([model({"given": part})["sentence_embedding"] for part in one["given"].split(2)]) for one in FEATURES
    ]
    value = Meeting(model).compute_loss_from_embeddings(run)
    value.backward()
    gradients = {f"model.{name}": one.grad for name, one in model.named_parameters()}
    assert_same(cached, (value.detach(), gradients))


def test_random_numbers_go_on_as_if_nothing_was_run_again() -> None:
    loss = Cached(Model(dropout=0.4))
    torch.manual_seed(0)
    with torch.no_grad():
        loss(FEATURES)
    expected = torch.rand(6)
    torch.manual_seed(0)
    value = loss(FEATURES)
    before = torch.rand(2)
    value.backward()
    assert torch.equal(torch.cat([before, torch.rand(4)]), expected)


@pytest.mark.parametrize("inside", [True, False])
def test_automatic_casts_are_those_of_the_first_run(inside: bool) -> None:
    model = Model().float()
    features = [{"given": one["given"].float()} for one in FEATURES]
    with torch.autocast("cpu", torch.bfloat16):
        value = Cached(model)(features)
        if inside:
            value.backward()
    if not inside:
        value.backward()
    assert {one.dtype for one in model.found} == {torch.bfloat16}
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_without_casts_in_the_first_run_there_are_none_in_the_second() -> None:
    model = Model().float()
    value = Cached(model)([{"given": one["given"].float()} for one in FEATURES])
    with torch.autocast("cpu", torch.bfloat16):
        value.backward()
    assert {one.dtype for one in model.found} == {torch.float32}


def test_gradients_reach_the_features() -> None:
    leaves = [one["given"].clone().requires_grad_() for one in FEATURES]
    found = []
    for kind in (Cached, Meeting):
        kind(Model())([{"given": one} for one in leaves]).backward()
        found.append([one.grad for one in leaves])
        for one in leaves:
            one.grad = None
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


# --- without gradients -----------------------------------------------------------------------------------------------


def test_without_gradients_the_model_is_run_once_for_the_same_value() -> None:
    model = Model()
    with torch.no_grad():
        value = Cached(model)(FEATURES)
    assert len(model.found) == 12 and not value.requires_grad
    torch.testing.assert_close(value, Meeting(Model())(FEATURES).detach(), rtol=1e-12, atol=1e-12)


def test_the_model_is_run_a_second_time_only_backwards() -> None:
    model = Model()
    value = Cached(model)(FEATURES)
    assert len(model.found) == 12
    value.backward()
    assert len(model.found) == 24


def test_a_column_without_part_in_the_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="FirstColumn uses a gradient cache, but column 1 has no part in the loss"):
        FirstColumn(Model())(FEATURES)


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_no_more_rows_than_asked_for_are_run_at_once(size: int) -> None:
    model = Model()
    Cached(model, size)(FEATURES).backward()
    counts = [len(some["given"]) for some in model.seen]
    assert max(counts) == min(size, ROWS)
    assert sum(counts) == 2 * 3 * ROWS


def test_the_graph_of_one_part_alone_is_held() -> None:
    alive: list[int] = []
    open_graphs: set[int] = set()

    class Watched(Model):
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            found = self.layers(features["given"])
            if found.requires_grad:
                place = len(alive)
                open_graphs.add(place)
                alive.append(len(open_graphs))
                found.register_hook(lambda gradient: open_graphs.discard(place))
            return {"sentence_embedding": found}

    Cached(Watched())(FEATURES).backward()
    assert alive == [1] * 12


def test_the_size_may_be_changed_later() -> None:
    loss = Cached(Model(), 2)
    loss.mini_batch_size = 7
    loss(FEATURES)
    assert [len(some["given"]) for some in loss.model.seen] == [7, 7, 7]  # type: ignore[union-attr]


def test_features_are_handed_on_whole_but_for_their_rows() -> None:
    features = {"given": column(0, rows=3), "modality": "text", "size": torch.tensor(9), "two": torch.zeros(2)}
    loss = Cached(Model(), 2)
    loss([features])
    assert [sorted(some) for some in loss.model.seen] == [sorted(features)] * 2  # type: ignore[union-attr]
    last = loss.model.seen[-1]  # type: ignore[union-attr]
    assert last["modality"] == "text" and last["size"] == 9 and len(last["two"]) == 2 and len(last["given"]) == 1
    assert len(features["given"]) == 3  # type: ignore[arg-type]


def test_padding_on_the_right_is_left_out() -> None:
    assert widths(Cached(Model(), 2), tokens(3, 1, 9, 2, 4)) == [(2, 3), (2, 9), (1, 4)]


def test_padding_on_the_left_stays_so_that_positions_do() -> None:
    assert widths(Cached(Model(), 2), tokens(3, 1, 9, 2, 4, left=True)) == [(2, 9), (2, 9), (1, 9)]


def test_an_input_without_tokens_keeps_one_place() -> None:
    assert widths(Cached(Model(), 1), tokens(0, 2)) == [(1, 1), (1, 2)]


def test_masked_tokens_that_expand_a_query_stay() -> None:
    features = {**tokens(3, 1, width=4), "query_expansion_positions": torch.ones(2, 4, dtype=torch.bool)}
    assert widths(Cached(Model(), 1), features) == [(1, 4), (1, 4)]


def test_a_mask_of_something_else_than_tokens_stays() -> None:
    features = tokens(3, 1, width=4)
    del features["input_ids"]
    assert widths(Cached(Model(), 1), features) == [(1, 4), (1, 4)]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1, [(1, 3), (1, 9), (1, 2), (1, 7), (1, 7), (1, 1), (1, 10), (1, 4)]),  # at least one row
        (14, [(1, 3), (1, 9), (2, 7), (2, 7), (1, 10), (1, 4)]),
        (20, [(2, 9), (2, 7), (2, 7), (2, 10)]),
        (21, [(2, 9), (3, 7), (2, 10), (1, 4)]),
        (27, [(3, 9), (3, 7), (2, 10)]),
        (80, [(8, 10)]),
    ],
)
def test_parts_hold_at_most_so_many_tokens_with_padding(budget: int, expected: list[tuple[int, int]]) -> None:
    found = widths(Cached(Model(), 1, budget), tokens(3, 9, 2, 7, 7, 1, 10, 4, width=12))
    assert found == expected
    assert all(rows * width <= budget or rows == 1 for rows, width in found)


def test_padding_on_the_left_counts_in_full() -> None:
    found = widths(Cached(Model(), 1, 24), tokens(3, 9, 2, 7, 7, left=True, width=12))
    assert found == [(2, 12), (2, 12), (1, 12)]


@pytest.mark.parametrize("budget", [1, 9, 20, 100])
def test_a_limit_of_tokens_changes_nothing(budget: int) -> None:
    model, features = Model(), [tokens(3, 9, 2, 7, 7, 1, 10), tokens(1, 1, 4, 2, 8, 8, 3)]
    assert_same(trained(Cached(model, 1, budget), features, None), trained(Meeting(model), features, None))


def test_tokens_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="mini_batch_num_tokens needs an attention_mask in the features"):
        Cached(Model(), 1, 10)(FEATURES)


@pytest.mark.parametrize(
    ("size", "budget", "name"), [(0, None, "mini_batch_size"), (2.5, None, "mini_batch_size"), (1, 0, "mini_batch_num")]
)
def test_a_size_that_cannot_be_is_refused(size: Any, budget: int | None, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* must be a positive integer"):
        Cached(Model(), size, budget)


# --- several processes, progress -------------------------------------------------------------------------------------


def test_gradients_are_exchanged_with_the_last_part_alone() -> None:
    class Parallel(Model):
        exchanges = True
        log: list[bool] = []

        @contextmanager
        def no_sync(self) -> Iterator[None]:
            self.exchanges = False
            yield
            self.exchanges = True

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            self.log.append(self.exchanges)
            return super().forward(features)

    model = Parallel()
    value = Cached(model)(FEATURES)
    model.log.clear()
    value.backward()
    assert model.log == [False] * 11 + [True]


@pytest.mark.parametrize("shown", [True, False])
def test_a_progress_bar_is_shown_for_the_second_run(shown: bool, capfd: pytest.CaptureFixture[str]) -> None:
    value = Cached(Model(), 2, bar=shown)(FEATURES)
    assert capfd.readouterr().err == ""
    value.backward()
    assert ("Embed mini-batches" in capfd.readouterr().err) == shown
