"""How close two ways of computing one model are, on texts: what rounding or another back end costs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.backend.native.int8 import Quantization
from sentence_transformers.inference.workers import set_cores
from sentence_transformers.modules.transformer import Transformer
from sentence_transformers.ops.correlation import spearman
from sentence_transformers.ops.memory import give_back
from sentence_transformers.ops.ragged import Ragged

logger = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "sample.txt"
LARGE = 200e6  # bytes of weights of which every text of the sample is measured; of twice as many every second
POOR = 0.98  # the order of similarities below which nobody should round without having looked


@cache
def sample() -> tuple[str, ...]:
    """Some 300 texts of 1 to 100 words: the lines of ``sample.txt``, and lines joined by two and by five."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    several = [
        " ".join(lines[(i * step + k) % len(lines)] for k in range(count))
        for count, step in ((2, 3), (5, 7))
        for i in range(len(lines))
    ]
    return (*lines, *several)


@dataclass(frozen=True)
class Answers:
    """What a model says of n texts. vectors: (n, D); None of a model that only scores. scores: (m,), of pairs."""

    vectors: np.ndarray[Any, Any] | None
    scores: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Quality:
    """How close the answers of two ways are. 1 is the same.

    texts: how many were compared. cosine, worst: mean and smallest cosine of the two vectors of a text; None of a
    model that only scores. order: Spearman's correlation of the similarities, or scores, of pairs.
    """

    texts: int
    cosine: float | None
    worst: float | None
    order: float

    def __str__(self) -> str:
        order = f"order of similarities {self.order:.4f}" if self.cosine is not None else f"order {self.order:.4f}"
        cosines = "" if self.cosine is None else f"cosine {self.cosine:.4f} on average and {self.worst:.4f} at worst, "
        return f"{cosines}{order} (1 is the same; {self.texts} texts)"


def answers(model: Any, texts: Sequence[str]) -> Answers:
    """What an encoder says of texts; a reranker scores each with the next but two."""
    if hasattr(model, "predict"):
        pairs = [(text, texts[(i + 3) % len(texts)]) for i, text in enumerate(texts)]
        scores = model.predict(pairs, show_progress_bar=False, activation_fn=nn.Identity(), on_truncate="ignore")
        return Answers(None, np.asarray(scores, dtype=np.float64).ravel())
    found = model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False, on_truncate="ignore")
    similarities = model.similarity(found, found)
    above = torch.triu_indices(len(texts), len(texts), 1, device=similarities.device)
    return Answers(_matrix(found), similarities[above[0], above[1]].float().cpu().numpy().astype(np.float64))


def _matrix(found: Tensor | Ragged[Tensor]) -> np.ndarray[Any, Any]:
    """(n, D) of vectors of any kind; of several vectors a text their mean."""
    if isinstance(found, Ragged):
        return np.stack([row.float().mean(0).cpu().numpy() for row in found])
    dense = found.to_dense() if found.is_sparse else found
    return dense.float().cpu().numpy()


def compare(exact: Answers, other: Answers) -> Quality:
    """How close ``other`` is to ``exact``."""
    order = spearman(exact.scores, other.scores)
    if exact.vectors is None or other.vectors is None:
        return Quality(len(exact.scores), None, None, order)
    lengths = np.linalg.norm(exact.vectors, axis=1) * np.linalg.norm(other.vectors, axis=1)
    cosines = (exact.vectors * other.vectors).sum(1) / np.maximum(lengths, 1e-12)
    return Quality(len(cosines), float(cosines.mean()), float(cosines.min()), order)


@dataclass(frozen=True)
class RoundedModel:
    """A model in 8 bits. network: how it computes. quality: against float32."""

    network: Quantization
    quality: Quality

    def __str__(self) -> str:
        return f"{self.network}. Against float32: {self.quality}"


def measure_rounding(model: Any, asked: bool) -> RoundedModel | None:
    """How close a model in 8 bits is to itself in float32, on ``sample``; None of a model that is not in 8 bits.

    The weights in float32 are read for the moment. Logs the result; as a warning where it is poor.

    Raises: ValueError if it was ``asked`` for, and the model has nothing that could be rounded.
    """
    parts = [part for part in model.parts() if isinstance(part, Transformer)]
    network = next((part.pretrained.quantization for part in parts if part.pretrained.quantization), None)
    if network is None:
        if asked:
            raise ValueError("model_kwargs={'quantize': ...} is for models with a transformer; this one has none.")
        return None
    texts = sample()[:: max(1, round(network.bytes_before / LARGE))]
    rounded = _aside(lambda: answers(model, texts))
    with ExitStack() as restored:
        for part in parts:
            restored.enter_context(part.pretrained.in_float32())
        exact = _aside(lambda: answers(model, texts))
    found = RoundedModel(network, compare(exact, rounded))
    give_back()
    if found.quality.order < POOR:
        logger.warning("%s. Compare with float32 on your own task before you rely on it.", found)
    else:
        logger.info("%s.", found)
    return found


def _aside(step: Callable[[], Answers]) -> Answers:
    """Run on one core, on a thread of its own: the buffers that the engine keeps for a thread are gone with it."""

    def on_one_core() -> Answers:
        set_cores(1)
        return step()

    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(on_one_core).result()
    finally:
        set_cores(cores)
