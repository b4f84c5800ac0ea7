"""Small models of all four encoders, and how to ask them the same questions: what the contract of encoders needs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import encoder_facts
import numpy as np
import tiny_heads as heads
import torch
from texts import TINY_PROMPT
from torch import nn

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

Array: TypeAlias = "np.ndarray[Any, Any]"
FIXED = {"strategy": "fixed", "attend": False, "length": 24}

ROUNDING = 2e-6
"""How far float32 results may be apart, as a part of the largest number."""


@dataclass(frozen=True)
class Case:
    """One small model.

    Attributes:
        kind: the class that opens it.
        build: writes its folder.
        output: the feature that ``forward`` writes; see ``last``.
        options: of every call, such as the task.
        settings: constructor argument -> value, for what the encoder saves of its own.
        saved: what ``config_sentence_transformers.json`` then holds.
        casts: ``model_kwargs={"dtype": ...}`` changes the type of its results.
        chooses: which of its numbers are kept depends on comparisons, which other types of numbers decide otherwise.
    """

    kind: type[Any]
    build: Callable[[Path], Path]
    output: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)
    casts: bool = True
    chooses: bool = False

    def open(self, folder: str | Path, **settings: Any) -> Any:
        return self.kind(str(folder), **{"device": "cpu", **settings})

    def call(self, model: Any, inputs: Any, **options: Any) -> Any:
        """``encode``, or ``predict``."""
        method = model.predict if self.pairs else model.encode
        return method(inputs, **{"on_truncate": "ignore", **self.options, **options})

    @property
    def pairs(self) -> bool:
        return self.kind is CrossEncoder

    def inputs(self) -> list[Any]:
        """About 40 texts, or pairs: empty, repeated and too long ones among them, more than one batch of 32."""
        known: list[Any] = list(encoder_facts.PAIRS if self.pairs else encoder_facts.TEXTS)
        chance = random.Random(7)
        words = " ".join(encoder_facts.TEXTS[:5]).split()

        def text() -> str:
            return " ".join(chance.choice(words) for _ in range(chance.randrange(1, 30)))

        made = [(text(), text()) if self.pairs else text() for _ in range(30)]
        return [*known, *made, known[0], made[3], known[0], known[2]]

    def prepend(self, prompt: str, inputs: Sequence[Any]) -> list[Any]:
        """The prompt written into the inputs: before the first text of a pair."""
        return [(prompt + item[0], item[1]) if self.pairs else prompt + item for item in inputs]

    def last(self, model: Any, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """For each input what ``model(model.preprocess(inputs))`` gives, as ``call`` gives it."""
        features = model(model.preprocess(inputs, **self.options), **self.options)
        values = features[self.output]
        if self.pairs:
            values = model.activation_fn(values).squeeze(-1) if model.num_labels == 1 else values
        if self.kind is MultiVectorEncoder:
            return [row[mask.bool()] for row, mask in zip(values, features["attention_mask"], strict=True)]
        return list(values)


_DENSE = {"truncate_dim": 8, "similarity_fn_name": "dot"}
_SPARSE = {"max_active_dims": 5, "similarity_fn_name": "cosine"}
_LATE = {"similarity_fn_name": "meanmaxsim"}


def _sparse(build: Callable[[Path], Path], **facts: Any) -> Case:
    return Case(SparseEncoder, build, "sentence_embedding", settings=_SPARSE, saved=_SPARSE, **facts)


def _late(build: Callable[[Path], Path], task: str = "document", **facts: Any) -> Case:
    return Case(MultiVectorEncoder, build, "token_embeddings", {"task": task}, _LATE, _LATE, **facts)


def _cross(build: Callable[[Path], Path]) -> Case:
    saved = {"activation_fn": "torch.nn.modules.activation.Tanh"}
    return Case(CrossEncoder, build, "scores", settings={"activation_fn": nn.Tanh()}, saved=saved)


CASES: dict[str, Case] = {
    "dense": Case(SentenceTransformer, heads.build_sentence_dense, "sentence_embedding", {}, _DENSE, _DENSE),
    "splade": _sparse(lambda folder: heads.build_splade(folder, "max", "relu")),
    "splade_sum": _sparse(lambda folder: heads.build_splade(folder, "sum", "log1p_relu")),
    "inference_free": _sparse(heads.build_inference_free),
    "inference_free_query": _sparse(heads.build_inference_free, options={"task": "query"}, casts=False),
    "auto_encoder": _sparse(heads.build_csr, chooses=True),
    "late": _late(lambda folder: heads.build_late("bert", folder)),
    "late_query": _late(lambda folder: heads.build_late("bert", folder, query_expansion=FIXED), "query"),
    "late_pooled": _late(lambda folder: heads.build_late("modernbert", folder, pooled=True), chooses=True),
    "stanford": _late(heads.build_stanford),
    "cross": _cross(lambda folder: heads.build_classifier("bert", folder)),
    "cross_labels": _cross(lambda folder: heads.build_classifier("roberta", folder, 3)),
    "cross_decoder": _cross(heads.build_answering),
}

PROMPTS = {"find": TINY_PROMPT, "other": "and now for something else: "}


def rows(result: Any) -> list[Array]:
    """What a call gives for each input, in float64, whatever form it has."""
    if isinstance(result, torch.Tensor):
        result = result.to_dense() if result.is_sparse else result
    return [row(item) for item in result]


def row(item: Any) -> Array:
    """What a call gives for a single input, in float64."""
    if isinstance(item, torch.Tensor):
        item = (item.to_dense() if item.is_sparse else item).detach().double().numpy()
    return np.asarray(item, dtype=np.float64)


def assert_close(found: Sequence[Array], expected: Sequence[Array], tolerance: float = ROUNDING) -> None:
    """Equal shapes, and numbers no further apart than ``tolerance`` of the largest."""
    assert max(_distances(found, expected)) <= tolerance


def _distances(found: Sequence[Array], expected: Sequence[Array]) -> list[float]:
    """For each input how far the numbers are apart, as a part of the largest number of all."""
    assert [item.shape for item in found] == [item.shape for item in expected]
    scale = max(np.abs(item).max() for item in expected if item.size)
    assert scale > 0
    return [np.abs(a - b).max(initial=0.0) / scale for a, b in zip(found, expected, strict=True)]


def assert_close_types(case: Case, found: Sequence[Array], expected: Sequence[Array], tolerance: float) -> None:
    """``assert_close`` for numbers of another type; where the model ``chooses``, for half of the inputs."""
    apart = sorted(_distances(found, expected))
    assert apart[len(apart) // 2 if case.chooses else -1] <= tolerance


def assert_same_numbers(case: Case, found: Sequence[Array], expected: Sequence[Array]) -> None:
    """Equal but for rounding; sparse ones have the very same dimensions."""
    assert_close(found, expected)
    if case.kind is SparseEncoder:
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.nonzero()[0].tolist() == theirs.nonzero()[0].tolist()


def assert_same_bits(found: Sequence[Array], expected: Sequence[Array]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def without_dropout(model: nn.Module) -> nn.Module:
    """The model in training mode, where only dropout would change its numbers, with none of that."""
    for part in model.train().modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


class Opened(NamedTuple):
    """A case with its folder, a model that no test changes, its inputs, and what it gives for them."""

    case: Case
    folder: Path
    model: Any
    inputs: list[Any]
    expected: list[Array]

    @classmethod
    def of(cls, case: Case, folder: Path) -> Opened:
        model, inputs = case.open(folder), case.inputs()
        return cls(case, folder, model, inputs, rows(case.call(model, inputs)))

    def again(self, **settings: Any) -> Any:
        """A model of the test's own."""
        return self.case.open(self.folder, **settings)

    def rows(self, model: Any, inputs: list[Any] | None = None, **options: Any) -> list[Array]:
        return rows(self.case.call(model, self.inputs if inputs is None else inputs, **options))

    def assert_same(self, model: Any, **options: Any) -> None:
        assert_same_numbers(self.case, self.rows(model, **options), self.expected)
