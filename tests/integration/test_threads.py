"""Many threads on one real model: the same bits as one thread gives, and no error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch

from sentence_transformers import SentenceTransformer

THREADS, CALLS = 32, 50

# what one thread asks for: single texts, small lists, a list of several batches, repeats, pairs, prompts, long texts
CALLS_OF_A_THREAD: list[tuple[Any, dict[str, Any]]] = [
    ("Which of these two recipes needs less salt, and why?", {}),
    ("", {}),
    (texts.SYSTEM_SENTENCES, {}),
    (texts.SYSTEM_SENTENCES[:2], {"normalize_embeddings": True, "truncate_dim": 64}),
    (texts.VARIED[8:14], {"batch_size": 2}),
    (["a", "b", "a", "a"], {}),
    ([("a question", "an answer"), ("short", "the second text")], {}),
    (texts.QUERIES[:2], {"prompt": "query: "}),
    (["buffalo " * 12, "x", "one more text of a few words"], {}),
    (texts.SURROGATES, {}),
]


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm_folder), device="cpu")


def test_thirty_two_threads_get_the_bits_of_one(minilm: SentenceTransformer) -> None:
    wanted = [minilm.encode(inputs, **options) for inputs, options in CALLS_OF_A_THREAD]
    start = threading.Barrier(THREADS)

    def work(thread: int) -> list[tuple[int, int]]:
        start.wait()
        wrong = []
        for call in range(CALLS):
            at = (thread + call) % len(CALLS_OF_A_THREAD)
            inputs, options = CALLS_OF_A_THREAD[at]
            if not np.array_equal(minilm.encode(inputs, **options), wanted[at]):
                wrong.append((thread, call))
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert [wrong for found in pool.map(work, range(THREADS)) for wrong in found] == []


def test_a_call_of_many_batches_gives_the_same_bits_beside_others(minilm: SentenceTransformer) -> None:
    inputs = [f"{text} {i}" for i in range(4) for text in texts.VARIED if len(text) < 200]
    wanted = minilm.encode(inputs, batch_size=8)
    with ThreadPoolExecutor(6) as pool:
        many = [pool.submit(minilm.encode, inputs, batch_size=8) for _ in range(3)]
        single = [pool.submit(minilm.encode, "It's so sunny outside!") for _ in range(30)]
        assert all(np.array_equal(future.result(), wanted) for future in many)
        assert len({future.result().tobytes() for future in single}) == 1


def test_threads_leave_the_settings_of_torch_alone(minilm: SentenceTransformer) -> None:
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(minilm.encode, [texts.SYSTEM_SENTENCES] * 8))
    minilm.encode(texts.SYSTEM_SENTENCES)
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


def test_many_threads_load_the_model_at_once(minilm_folder: Path, minilm: SentenceTransformer) -> None:
    wanted = minilm.encode(texts.SYSTEM_SENTENCES)
    start = threading.Barrier(4)

    def load(_: int) -> Any:
        start.wait()
        return SentenceTransformer(str(minilm_folder), device="cpu").encode(texts.SYSTEM_SENTENCES)

    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(rows, wanted) for rows in pool.map(load, range(4)))
