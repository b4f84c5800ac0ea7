"""The loop behind ``encode``: windows, repeated texts, progress, errors, modules that keep state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.inference import run as loop
from sentence_transformers.inference.collect import Rows
from sentence_transformers.inference.run import Request, Window, run

Features = dict[str, Any]

SOME = texts.TINY_TEXTS[:7]
MANY = [f"{text} {'cat ' * (i % 9)}{i % 23}" for i in range(20) for text in SOME]
LONG = "the cat sat on the mat " * 30


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder("bert")), device="cpu")


class Mine(nn.Module):
    """Somebody's own last module, that calls a function."""

    def __init__(self, function: Callable[[Features], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Features) -> Features:
        self.function(features)
        return features


class MineInThreads(Mine):
    """The same, promising that threads may share it."""

    accepts_packed = True
    threads_safe = True


# --- windows and repeats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 20, 139, 140, 141])
def test_more_inputs_than_a_window(size: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = model.encode(MANY)
    monkeypatch.setattr(loop, "WINDOW", size)
    np.testing.assert_allclose(model.encode(MANY), wanted, rtol=0, atol=3e-6)


def test_windows_of_a_module_that_wants_one_call_at_a_time(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = model.encode(MANY)
    monkeypatch.setattr(loop, "WINDOW", 30)
    mixed = SentenceTransformer(modules=[*model, Mine(lambda features: None)], device="cpu")
    np.testing.assert_allclose(mixed.encode(MANY), wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("window", [4, 4096])
def test_repeated_texts_get_equal_rows(
    window: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "WINDOW", window)
    inputs = ["a cat", "the dog", "a cat", "a cat", "", "the dog", "", "x", "a cat"]
    rows = model.encode(inputs)
    alone = {text: model.encode(text) for text in set(inputs)}
    np.testing.assert_allclose(rows, np.stack([alone[text] for text in inputs]), rtol=0, atol=3e-6)


def test_a_repeated_text_is_computed_once(model: SentenceTransformer) -> None:
    counted: list[int] = []
    mixed = SentenceTransformer(
        modules=[*model, MineInThreads(lambda features: counted.append(len(features["sentence_embedding"])))],
        device="cpu",
    )
    mixed.encode(["a cat"] * 50 + ["the dog"] * 50)
    assert sum(counted) == 2


def test_token_embeddings_of_repeated_texts_are_separate_tensors(model: SentenceTransformer) -> None:
    first, second = model.encode(["a cat", "a cat"], output_value="token_embeddings")
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


def test_window_of_different_texts_copies_nothing() -> None:
    window = Window.of(["b", "a"], 10, distinct=True)
    assert (window.inputs, window.places.tolist(), len(window.copies)) == (["b", "a"], [10, 11], 0)


def test_window_knows_where_repeats_go() -> None:
    window = Window.of(["b", "a", "b", "b"], 10, distinct=True)
    assert window.inputs == ["b", "a"]
    assert window.places.tolist() == [10, 11]
    assert (window.copies.tolist(), window.copied.tolist()) == ([12, 13], [10, 10])


def test_window_takes_each_pair_of_texts_once() -> None:
    window = Window.of([("a", "b"), ["a", "b"], ("b", "a"), "a"], 5, distinct=True)
    assert window.inputs == [("a", "b"), ("b", "a"), "a"]
    assert (window.copies.tolist(), window.copied.tolist()) == ([6], [5])


def test_window_of_other_things_than_texts_copies_nothing() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}]
    assert Window.of(messages, 0, distinct=True).inputs == messages
    assert Window.of(["a", "a"], 0, distinct=False).inputs == ["a", "a"]


# --- progress ---------------------------------------------------------------------------------------------------------


class FakeBar:
    made: list[FakeBar] = []  # noqa: RUF012

    def __init__(self, total: int, **kwargs: Any) -> None:
        self.total, self.done = total, 0
        FakeBar.made.append(self)

    def __enter__(self) -> FakeBar:
        return self

    def __exit__(self, *error: Any) -> None: ...

    def update(self, count: int) -> None:
        self.done += count


@pytest.mark.parametrize("inputs", [MANY, ["a cat"] * 9 + ["x"], ["a"], []], ids=["many", "repeats", "one", "none"])
@pytest.mark.parametrize("window", [5, 4096])
@pytest.mark.parametrize("serial", [False, True])
def test_progress_counts_every_input_once(
    inputs: list[str], window: int, serial: bool, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", FakeBar)
    monkeypatch.setattr(loop, "WINDOW", window)
    monkeypatch.setattr(FakeBar, "made", [])
    extra = [Mine(lambda features: None)] if serial else []
    SentenceTransformer(modules=[*model, *extra], device="cpu").encode(inputs, show_progress_bar=True)
    assert [(bar.total, bar.done) for bar in FakeBar.made] == [(len(inputs), len(inputs))]


# --- truncation -------------------------------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "longer than max_seq_length" in record.getMessage()]


def test_one_warning_a_call_counts_over_windows(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "WINDOW", 2)
    model.encode([LONG + str(i) for i in range(5)] + ["x", "y"])
    assert len(warnings_of(caplog)) == 1
    assert "5 of 7 inputs" in warnings_of(caplog)[0]
    assert "= 64 tokens" in warnings_of(caplog)[0]


def test_no_warning_when_nothing_is_cut_or_nobody_wants_it(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    model.encode(["x", "y"])
    model.encode([LONG], on_truncate="ignore")
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("window", [1, 4096])
def test_truncation_as_an_error(
    window: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "WINDOW", window)
    with pytest.raises(ValueError, match="1 of 3 inputs are longer than max_seq_length = 64"):
        model.encode(["x", LONG, "y"], on_truncate="error")
    assert model.encode(["x", "y"], on_truncate="error").shape == (2, 32)


# --- errors -----------------------------------------------------------------------------------------------------------


class Trouble(Exception):
    pass


def _raise(error: BaseException) -> Callable[[Features], None]:
    def function(features: Features) -> None:
        raise error

    return function


@pytest.mark.parametrize("error", [Trouble("x"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
@pytest.mark.parametrize("kind", [Mine, MineInThreads])
@pytest.mark.parametrize("window", [10, 4096])
def test_what_a_module_raises_reaches_the_caller_and_later_calls_work(
    error: BaseException, kind: type[Mine], window: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "WINDOW", window)
    wanted = model.encode(MANY)
    broken = SentenceTransformer(modules=[*model, kind(_raise(error))], device="cpu")
    for inputs in (MANY, ["one"], MANY):
        with pytest.raises(type(error)):
            broken.encode(inputs)
    np.testing.assert_allclose(model.encode(MANY), wanted, rtol=0, atol=3e-6)
    broken[2].function = lambda features: None
    np.testing.assert_allclose(broken.encode(MANY), wanted, rtol=0, atol=3e-6)


def test_after_an_error_the_rest_of_the_call_is_dropped(model: SentenceTransformer) -> None:
    started: list[int] = []
    lock = threading.Lock()

    def fail(features: Features) -> None:
        with lock:
            started.append(1)
        raise Trouble

    broken = SentenceTransformer(modules=[*model, MineInThreads(fail)], device="cpu")
    with pytest.raises(Trouble):
        broken.encode([f"text number {i}" for i in range(2000)], batch_size=1)
    model.encode(MANY)  # whatever of the other call is still there has gone through the same threads before this
    assert len(started) < 1000


def test_an_error_while_tokenising_a_later_window(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = model.encode(MANY)
    monkeypatch.setattr(loop, "WINDOW", 20)
    with pytest.raises(ValueError, match="Unsupported input type: int"):
        model.encode([*MANY, 5])
    np.testing.assert_allclose(model.encode(MANY), wanted, rtol=0, atol=3e-6)


def test_rows_of_different_widths_are_an_error(model: SentenceTransformer) -> None:
    widths = iter([3, 4, 5, 6])

    def cut(features: Features) -> None:
        features["sentence_embedding"] = features["sentence_embedding"][:, : next(widths)]

    with pytest.raises((RuntimeError, IndexError)):
        SentenceTransformer(modules=[*model, Mine(cut)], device="cpu").encode(SOME, batch_size=3)


# --- modules that keep state ------------------------------------------------------------------------------------------


class Stateful:
    """Fails if two calls of it overlap."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.overlaps = 0
        self.threads: set[int] = set()

    def __call__(self, features: Features) -> None:
        if not self.busy.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            self.threads.add(threading.get_ident())
            features["sentence_embedding"].sum().item()
        finally:
            self.busy.release()


def test_a_module_that_keeps_state_runs_one_by_one_in_the_callers_thread(model: SentenceTransformer) -> None:
    state = Stateful()
    SentenceTransformer(modules=[*model, Mine(state)], device="cpu").encode(MANY, batch_size=2)
    assert state.overlaps == 0
    assert state.threads == {threading.get_ident()}


def test_a_module_that_keeps_state_runs_one_by_one_for_callers_in_many_threads(model: SentenceTransformer) -> None:
    state = Stateful()
    mixed = SentenceTransformer(modules=[*model, Mine(state)], device="cpu")
    wanted = model.encode(MANY)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: mixed.encode(MANY, batch_size=4), range(8)))
    assert state.overlaps == 0
    assert max(np.abs(rows - wanted).max() for rows in found) < 3e-6


def test_a_hooked_transformer_runs_one_by_one(model: SentenceTransformer) -> None:
    threads: set[int] = set()
    model[0].auto_model.encoder.register_forward_hook(lambda *given: threads.add(threading.get_ident()))
    model.encode(MANY)
    assert threads == {threading.get_ident()}


def test_a_module_may_encode_with_another_model(model: SentenceTransformer, tiny_model: Any) -> None:
    inner = tiny_model("mpnet")
    seen: list[Any] = []
    mixed = SentenceTransformer(modules=[*model, Mine(lambda features: seen.append(inner.encode(SOME)))], device="cpu")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: mixed.encode(MANY, batch_size=16), range(2)))
    wanted = inner.encode(SOME)
    assert max(np.abs(rows - wanted).max() for rows in seen) < 3e-6


# --- the model as a protocol ------------------------------------------------------------------------------------------


class Letters:
    """Not a torch module at all: gives the length of every input."""

    device = torch.device("cpu")

    def __iter__(self) -> Any:
        return iter([nn.Identity()])

    def __call__(self, features: Features, **kwargs: Any) -> Features:
        return {"lengths": [len(text) for text in features["texts"]]}

    def prepare(self, inputs: Any, prompt: str | None, **kwargs: Any) -> Any:
        return PreparedLetters([(prompt or "") + text for text in inputs])


class PreparedLetters:
    cut = ()
    limit = None

    def __init__(self, inputs: list[str]) -> None:
        self.inputs = inputs
        self.sizes = np.array([len(text) for text in inputs], dtype=np.int64)

    def batch(self, rows: Any) -> Features:
        return {"texts": [self.inputs[row] for row in rows]}


@pytest.mark.parametrize("prompt", [None, "abc"])
def test_anything_with_the_protocol_runs(prompt: str | None) -> None:
    inputs = ["a", "", "ccc", "bb", "a"]
    rows = Rows(len(inputs))
    run(Letters(), Request(inputs, prompt=prompt, batch_size=2), lambda features: features["lengths"], rows)
    assert rows.values == [len((prompt or "") + text) for text in inputs]


def test_no_inputs_ask_nothing_of_the_model() -> None:
    rows = Rows(0)
    run(Letters(), Request([]), _raise(Trouble()), rows)
    assert rows.values == []


def test_nothing_is_logged_below_a_warning_for_plain_calls(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="sentence_transformers.inference"):
        model.encode(SOME, show_progress_bar=False)
    assert [record for record in caplog.records if record.name.startswith("sentence_transformers.inference")] == []


def test_repeats_of_a_long_text_are_all_counted(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="3 of 4 inputs are longer"):
        model.encode([LONG, "x", LONG, LONG], on_truncate="error")
