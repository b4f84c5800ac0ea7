"""A row of the real MiniLM depends on its own text alone: not on batch size, order, neighbours, threads."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import torch

from sentence_transformers import SentenceTransformer

ATOL = 2e-6


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm_folder), device="cpu")


@pytest.fixture(scope="module")
def mixed() -> list[str]:
    """About 200 texts from no words to more than the limit, with real passages where the data is there."""
    chance = random.Random(20)
    words = " ".join(text for text in texts.VARIED if 20 < len(text) < 300).split()
    made = [" ".join(chance.choice(words) for _ in range(chance.randrange(0, 40))) for _ in range(120)]
    file = texts.data_file("speed_corpus", "passages.jsonl.gz")
    if file.is_file():
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            real = [json.loads(next(lines))["text"] for _ in range(20)]
    else:
        real = [" ".join(chance.choice(words) for _ in range(chance.randrange(70, 300))) for _ in range(20)]
    found = [*made, *real, *(text for text in texts.VARIED if len(text) < 5000)]
    chance.shuffle(found)
    return found


@pytest.fixture(scope="module")
def rows(minilm: SentenceTransformer, mixed: list[str]) -> Any:
    return minilm.encode(mixed)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("batch_size", [3, 1000])
def test_batch_size(batch_size: int, minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    np.testing.assert_allclose(minilm.encode(mixed, batch_size=batch_size), rows, rtol=0, atol=ATOL)


def test_order(minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    order = list(range(len(mixed)))
    random.Random(1).shuffle(order)
    np.testing.assert_allclose(minilm.encode([mixed[i] for i in order]), rows[order], rtol=0, atol=ATOL)


def test_alone(minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    some = range(0, len(mixed), 4)
    alone = np.stack([minilm.encode(mixed[i]) for i in some])
    np.testing.assert_allclose(alone, rows[list(some)], rtol=0, atol=ATOL)


def test_neighbours(minilm: SentenceTransformer) -> None:
    text = "The committee postponed its decision until the second week of March."
    alone = minilm.encode(text)
    crowd = [f"{text} {i}" for i in range(20)]
    for neighbours in (["x"] * 40, ["word " * 300] * 3, ["", "\ud800", "😀" * 100], [text] * 5, crowd):
        found = minilm.encode([*neighbours[:2], text, *neighbours[2:]], on_truncate="ignore")[2]
        np.testing.assert_allclose(found, alone, rtol=0, atol=ATOL)


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_threads(count: int, minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    with threads(count):
        np.testing.assert_allclose(minilm.encode(mixed), rows, rtol=0, atol=ATOL)
        np.testing.assert_allclose(minilm.encode(mixed[0]), rows[0], rtol=0, atol=ATOL)
        assert torch.get_num_threads() == count


def test_twice(minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    np.testing.assert_array_equal(minilm.encode(mixed[:50]), minilm.encode(mixed[:50]))


def test_forms_of_the_result(minilm: SentenceTransformer, mixed: list[str], rows: Any) -> None:
    some = mixed[:20]
    tensor = minilm.encode(some, convert_to_tensor=True)
    listed = minilm.encode(some, convert_to_numpy=False)
    np.testing.assert_allclose(tensor.numpy(), rows[:20], rtol=0, atol=ATOL)
    np.testing.assert_allclose(torch.stack(listed).numpy(), rows[:20], rtol=0, atol=ATOL)


def test_token_embeddings(minilm: SentenceTransformer, mixed: list[str]) -> None:
    """Not normalised: as large as a dozen, so the bound is ten times that of rows of length one."""
    some = mixed[:30]
    together = minilm.encode(some, output_value="token_embeddings")
    for text, found in zip(some, together, strict=True):
        alone = minilm.encode([text], output_value="token_embeddings")[0]
        np.testing.assert_allclose(found.numpy(), alone.numpy(), rtol=0, atol=10 * ATOL)


def test_once_the_transformers_model_is_built(minilm_folder: Path, mixed: list[str], rows: Any) -> None:
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    _ = model[0].auto_model
    np.testing.assert_allclose(model.encode(mixed[:60]), rows[:60], rtol=0, atol=ATOL)


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_types(dtype: str, bound: float, minilm_folder: Path, mixed: list[str], rows: Any) -> None:
    some = [i for i, text in enumerate(mixed) if len(text) < 150][:24]
    model = SentenceTransformer(str(minilm_folder), device="cpu", model_kwargs={"dtype": dtype})
    found = model.encode([mixed[i] for i in some])
    assert found.dtype == (np.float16 if dtype == "float16" else np.float32)
    assert np.abs(found.astype(np.float32) - rows[some]).max() < bound
    tensor = model.encode([mixed[i] for i in some[:3]], convert_to_tensor=True)
    assert tensor.dtype is getattr(torch, dtype)
