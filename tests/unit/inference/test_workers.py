"""The compute threads leave the number of threads of everybody else alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import texts
import torch

from sentence_transformers.inference.workers import Workers, cpu_workers

MANY = [f"{text} {i}" for i in range(30) for text in texts.TINY_TEXTS[:7]]


@pytest.fixture(params=[2, 3])
def cores(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def in_a_new_thread(function: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_the_caller_keeps_its_number_of_threads(cores: int, tiny_model: Callable[[str], Any]) -> None:
    tiny_model("bert").encode(MANY)
    assert torch.get_num_threads() == cores
    tiny_model("bert").encode("a cat")
    assert torch.get_num_threads() == cores


def test_new_threads_get_the_number_of_the_caller(cores: int, tiny_model: Callable[[str], Any]) -> None:
    tiny_model("bert").encode(MANY)
    assert in_a_new_thread(torch.get_num_threads) == cores


def test_a_thread_that_existed_before_keeps_its_own(cores: int, tiny_model: Callable[[str], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(torch.get_num_threads).result()
        tiny_model("bert").encode(MANY)
        assert pool.submit(torch.get_num_threads).result() == before


def test_every_worker_computes_with_one_core(cores: int) -> None:
    workers = Workers(cores)
    everyone = threading.Barrier(cores)  # so that each of them takes one

    def ask() -> tuple[str, int]:
        everyone.wait()
        return threading.current_thread().name, torch.get_num_threads()

    answers = [future.result() for future in [workers.submit(ask) for _ in range(cores)]]
    assert {count for _, count in answers} == {1}
    assert len({name for name, _ in answers}) == cores


def test_the_process_has_one_set_of_workers(cores: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = {id(future.result()) for future in [pool.submit(cpu_workers) for _ in range(8)]}
    assert found == {id(cpu_workers())}
    assert cpu_workers().threads == cores


def test_the_number_of_threads_may_change_between_calls(tiny_model: Callable[[str], Any]) -> None:
    before = torch.get_num_threads()
    model = tiny_model("bert")
    rows = model.encode(MANY)
    try:
        for count in (1, 3, 2):
            torch.set_num_threads(count)
            assert abs(model.encode(MANY) - rows).max() < 3e-6
            assert torch.get_num_threads() == count
            assert in_a_new_thread(torch.get_num_threads) == count
    finally:
        torch.set_num_threads(before)


def test_an_error_of_a_worker_reaches_the_caller(cores: int) -> None:
    with pytest.raises(ZeroDivisionError):
        Workers(cores).submit(lambda: 1 // 0).result()
