"""The race of the ways to compute a model: what is measured, what is refused, what is recommended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads

from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.encoders.quality import Answers, Quality, compare, sample
from sentence_transformers.evaluation import backends
from sentence_transformers.evaluation.backends import Measured, Recommendation, Way, recommend

TEXTS = ["a dog", "two dogs in the sun", "rain", "the train is late", "a", "the end of the line"]


def row(name: str, speed: float, order: float | None) -> Measured:
    quality = None if order is None else Quality(6, 0.99, 0.98, order)
    return Measured(Way(name), 100 * speed, speed, 1.0, 0.1, quality)


def test_the_same_answers_have_quality_one() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    given = Answers(vectors, np.arange(15.0))
    assert compare(given, given) == Quality(6, pytest.approx(1), pytest.approx(1), 1)


def test_quality_by_hand() -> None:
    exact = Answers(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 2.0, 3.0]))
    other = Answers(np.array([[3.0, 0.0], [3.0, 4.0]]), np.array([1.0, 3.0, 2.0]))
    # cosines 1 and 0.8; ranks 1 2 3 and 1 3 2: 1 - 6 * 2 / (3 * 8)
    assert compare(exact, other) == Quality(2, pytest.approx(0.9), pytest.approx(0.8), pytest.approx(0.5))


def test_the_sample_is_a_few_hundred_different_texts() -> None:
    assert 300 <= len(sample()) <= 400
    assert len(set(sample())) == len(sample())


def test_int8_is_raced_and_measured(tiny_folder: Callable[[str], Path]) -> None:
    model = SentenceTransformer(str(tiny_folder("bert")), device="cpu")
    before = model.encode(TEXTS)
    found = recommend(model, TEXTS, ways=["torch int8"], rounds=2)
    first, int8 = found.rows
    assert (first.way.name, first.speed, first.quality) == ("torch", 1.0, None)
    assert int8.refused is None and int8.quality is not None
    assert int8.quality.cosine is not None and 0.99 < int8.quality.cosine < 1 and int8.quality.texts == 6
    assert min(int8.texts_per_second, int8.speed, int8.single_ms, int8.load_s) > 0
    assert found.best in found.rows
    assert np.array_equal(model.encode(TEXTS), before) and model.quantization is None


def test_the_way_is_what_the_arguments_say(tiny_folder: Callable[[str], Path]) -> None:
    int8 = next(way for way in backends.WAYS if way.name == "torch int8")
    assert int8.arguments == "model_kwargs={'quantize': 'int8'}"
    model = eval(f"SentenceTransformer(folder, device='cpu', {int8.arguments})",  # noqa: S307
                 {"SentenceTransformer": SentenceTransformer, "folder": str(tiny_folder("bert"))})  # fmt: skip
    assert model.quantization is not None


@pytest.mark.parametrize("kind", ["reranker", "sparse"])
def test_other_encoders(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    model: Any
    if kind == "reranker":
        model = CrossEncoder(str(tiny_heads.build_classifier("bert", folder)), device="cpu")
    else:
        model = SparseEncoder(str(tiny_heads.build_splade(folder, "max", "relu")), device="cpu")
    found = recommend(model, TEXTS, ways=["torch int8"], rounds=1)
    quality = found.rows[1].quality
    assert quality is not None and (quality.cosine is None) == (kind == "reranker")


def test_a_way_that_is_not_here_is_named_with_the_reason(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(model: Any, folder: Path) -> None:
        raise ImportError("backend='other' needs other.\nInstall it.")

    monkeypatch.setattr(backends, "WAYS", (backends.WAYS[0], Way("other", prepare=missing)))
    found = recommend(SentenceTransformer(str(tiny_folder("bert")), device="cpu"), TEXTS, rounds=1)
    assert found.best is found.rows[0]
    assert found.rows[1].refused == "backend='other' needs other. Install it."
    assert "other: not here. backend='other' needs other. Install it." in str(found)
    assert found.to_dict()["ways"][1] == {"way": "other", "refused": "backend='other' needs other. Install it."}


def choice(*rows: Measured, monkeypatch: pytest.MonkeyPatch, model: Any) -> str:
    """The name of the best of rows that are measured so."""
    monkeypatch.setattr(backends, "WAYS", tuple(row.way for row in rows))
    measured = iter(rows)
    monkeypatch.setattr(backends._Race, "measure", lambda self, way: next(measured))
    return recommend(model, TEXTS).best.way.name


def test_the_fastest_that_is_good_enough(tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first, good, poor, same = row("torch", 1, None), row("good", 2, 0.995), row("poor", 3, 0.9), row("same", 1.01, 1)
    pick = {"monkeypatch": monkeypatch, "model": tiny_model("bert")}
    assert choice(first, good, poor, same, **pick) == "good"
    assert choice(first, poor, same, **pick) == "torch"
    assert choice(first, replace(good, refused="no", quality=None), **pick) == "torch"


def test_the_table_and_the_json() -> None:
    rows = (row("torch", 1, None), row("fast", 2.5, 0.996))
    found = Recommendation(rows, rows[1], 0.01, 6)
    lines = str(found).splitlines()
    assert lines[0].split() == ["way", "texts/s", "speed", "one", "text", "ms", "load", "s", "cosine", "order"]
    assert lines[1].split() == ["torch", "100", "1.00", "1.0", "0.10", "-", "-"]
    assert lines[2].split() == ["fast", "250", "2.50", "1.0", "0.10", "0.9900", "0.9960"]
    assert lines[-1].startswith("Recommended: fast ()") and "2.50 times the speed of torch" in lines[-1]
    assert json.loads(json.dumps(found.to_dict()))["recommended"]["quality"]["order"] == 0.996


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = (row("torch", 1, None), row("fast", 2.5, 0.996))
    Recommendation(rows, rows[1], 0.01, 6).draw(tmp_path / "speeds.png")
    assert (tmp_path / "speeds.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input(tiny_model: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="at least 4 texts to compare ways with, got 1"):
        recommend(tiny_model("bert"), ["a"])
    with pytest.raises(ValueError, match="ways must be one of .*'torch int8'.*got 'int9'"):
        recommend(tiny_model("bert"), TEXTS, ways=["int9"])


def test_every_encoder_has_it(tiny_model: Callable[[str], Any]) -> None:
    assert tiny_model("bert").recommend(TEXTS, ways=["torch int8"], rounds=1).texts == 6
