"""Evaluations whose results must be the same whether one process or several compute the embeddings.

``python evaluation_processes.py FOLDER`` runs everything, with the environment of a group of processes as one of them,
else alone, and writes what it got to FOLDER/<rank or "alone">.pt. The package and ``tests/parity`` must be on the path.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import tiny_heads as heads
import torch
from torch import Tensor

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.evaluation.base import BaseEvaluator, SequentialEvaluator
from sentence_transformers.evaluation.cross.classification import CrossEncoderClassificationEvaluator
from sentence_transformers.evaluation.cross.reranking import CrossEncoderRerankingEvaluator
from sentence_transformers.evaluation.retrieval import InformationRetrievalEvaluator
from sentence_transformers.evaluation.similarity import EmbeddingSimilarityEvaluator
from sentence_transformers.inference import run as loop
from sentence_transformers.losses.pairs import CosineSimilarityLoss
from sentence_transformers.ops.gather import get_rank
from sentence_transformers.training import helping
from sentence_transformers.training.dense import SentenceTransformerTrainer
from sentence_transformers.training.evaluating import evaluated
from tests.integration.process_groups import WORLD
from tests.integration.training_processes import arguments, rows_of, scored, texts

TEXTS = [*texts(45, 0), "", "the cat", "the cat", texts(45, 0)[3], "a b c " * 40, "the cat"]
"""Of all lengths; some come twice, within a window and in two; one is too long."""
WINDOW = 8
"""So few texts are tokenised at once here that a call has several windows, one more than can be given out evenly."""

Ask = Callable[[Any], Any]
ASKED: dict[str, Ask] = {
    "array": lambda model: model.encode(TEXTS),
    "tensor": lambda model: model.encode(TEXTS, convert_to_tensor=True),
    "list of tensors": lambda model: model.encode(TEXTS, convert_to_numpy=False),
    "tokens": lambda model: model.encode(TEXTS, output_value="token_embeddings"),
    "everything": lambda model: model.encode(TEXTS, output_value=None),
    "int8": lambda model: model.encode(TEXTS, precision="int8"),
    "ubinary": lambda model: model.encode(TEXTS, precision="ubinary"),
    "one text": lambda model: model.encode("a single text"),
    "nothing": lambda model: model.encode([]),
    "a few": lambda model: model.encode(TEXTS[:3]),
    "query": lambda model: model.encode_query(TEXTS),
    "document": lambda model: model.encode_document(TEXTS, batch_size=3, show_progress_bar=True),
    "prompt": lambda model: model.encode(TEXTS, prompt="find: "),
    "named prompt": lambda model: model.encode(TEXTS, prompt_name="find"),
    "shortened": lambda model: model.encode(TEXTS, truncate_dim=7, normalize_embeddings=True),
    "shortened for a while": lambda model: shortened(model),
    "pairs": lambda model: model.encode([(one, "and this") for one in TEXTS]),
    "another model": lambda model: copy.deepcopy(model).encode(TEXTS),
    "another thread": lambda model: in_a_thread(model),
    "of many windows": lambda model: model.encode(TEXTS * 3, batch_size=4),
}
NOT_SHARED = {"one text", "nothing", "a few", "another model", "another thread", "cross, not to be pickled"}


def shortened(model: Any) -> Any:
    with model.truncate_embeddings(5):
        return model.encode(TEXTS)


def in_a_thread(model: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(model.encode, TEXTS).result()


def build(folder: Path) -> None:
    """Write the models; of several processes, transformers lets only the first one, so it is done before."""
    tiny.build_with_pooling("bert", folder / "dense", "mean")
    heads.build_splade(folder / "sparse", "max", "relu")
    heads.build_late("bert", folder / "late")
    heads.build_classifier("bert", folder / "cross", 3)
    heads.build_classifier("bert", folder / "reranker")


def dense(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder / "dense"), device="cpu", prompts={"query": "query: ", "document": ""})


PAIRS = [(one, "the cat is sitting") for one in TEXTS]
OTHERS: dict[str, tuple[type[Any], str, Ask]] = {
    "sparse": (SparseEncoder, "sparse", lambda model: model.encode(TEXTS)),
    "sparse rows": (SparseEncoder, "sparse", lambda model: model.encode(TEXTS, convert_to_tensor=False)),
    "sparse as dense": (SparseEncoder, "sparse", lambda model: model.encode(TEXTS, convert_to_sparse_tensor=False)),
    "late": (MultiVectorEncoder, "late", lambda model: model.encode(TEXTS)),
    "cross": (CrossEncoder, "cross", lambda model: model.predict(PAIRS, apply_softmax=True)),
    "cross, own function": (
        CrossEncoder, "cross", lambda model: model.predict(PAIRS, activation_fn=torch.nn.Tanh())
    ),
    "cross, not to be pickled": (
        CrossEncoder, "cross", lambda model: model.predict(PAIRS, activation_fn=lambda scores: scores / 2)
    ),
}  # fmt: skip
"""Encoders of other kinds: class, folder, what is asked of them."""


def evaluators() -> dict[str, BaseEvaluator]:
    first, second = texts(40, 0), texts(40, 1)
    scores = [row * 7 % 11 / 10 for row in range(40)]
    corpus = {f"d{row}": text for row, text in enumerate(second)}
    queries = {f"q{row}": text for row, text in enumerate(first[:20])}
    relevant = {f"q{row}": {f"d{row}", f"d{row + 1}"} for row in range(20)}
    return {
        "similarity": EmbeddingSimilarityEvaluator(first, second, scores, name="sts"),
        "int8": EmbeddingSimilarityEvaluator(first, second, scores, name="small", precision="int8"),
        "retrieval": InformationRetrievalEvaluator(
            queries, corpus, relevant, corpus_chunk_size=25, name="ir", show_progress_bar=True
        ),
        "several": SequentialEvaluator([EmbeddingSimilarityEvaluator(first, second, scores, name="a"), Number()]),
        "number": Number(),
    }


def of_pairs() -> dict[str, tuple[str, BaseEvaluator]]:
    """Evaluators that ask for scores of pairs, and the folders of their models."""
    first, second = texts(20, 0), texts(20, 1)
    samples = [
        {"query": query, "positive": [second[row]], "documents": second[row % 5 : row % 5 + 7]}
        for row, query in enumerate(first)
    ]
    classes = CrossEncoderClassificationEvaluator(PAIRS, [row % 3 for row in range(len(PAIRS))], name="classes")
    return {
        "reranking": ("reranker", CrossEncoderRerankingEvaluator(samples, name="ranks", batch_size=5)),
        "classification of pairs": ("cross", classes),
    }


class Number(BaseEvaluator):
    """Says what it was given by a bare number."""

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        return float(model.encode(TEXTS).sum()) + steps


class Wrong(BaseEvaluator):
    """Fails after a call of the model."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        model.encode(TEXTS)
        raise self.error


class OwnError(Exception):
    """One that does not survive being pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Tolerant(BaseEvaluator):
    """Asks again after an error of the model."""

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        try:
            return float(model.encode(TEXTS).sum())
        except ValueError:
            return Number()(model, output_path, epoch, steps)


class FailsIn(torch.nn.Module):
    """A module that fails in one process, once."""

    def __init__(self, inner: Any, rank: int) -> None:
        super().__init__()
        self.inner, self.rank = inner, rank
        self.has_failed = False

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        if not self.has_failed and get_rank() == self.rank:
            self.has_failed = True
            raise ValueError(f"process {self.rank} cannot do this")
        return dict(self.inner(features))


def asked(folder: Path) -> dict[str, Any]:
    """Everything that models say, in this process alone or with the others."""
    model = dense(folder)
    found = {f"dense, {name}": plain(with_help(ask, model)) for name, ask in ASKED.items()}
    for name, (kind, place, ask) in OTHERS.items():
        found[name] = plain(with_help(ask, kind(str(folder / place), device="cpu")))
    return found


def with_help(ask: Ask, model: Any) -> Any:
    return helping.together(lambda: ask(model), model) if helping.is_possible() else ask(model)


def plain(value: Any) -> Any:
    """Arrays and tensors in a form that is compared to the bit, with its type."""
    if isinstance(value, Tensor):
        dense_value = value.to_dense() if value.is_sparse else value
        return (str(value.layout), value.requires_grad, value.is_inference(), plain(dense_value.numpy()))
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return {name: plain(one) for name, one in value.items()} if isinstance(value, dict) else value


def measured(folder: Path, output: Path) -> dict[str, Any]:
    """What evaluators find, and their primary metrics afterwards."""
    model = dense(folder)
    found = {}
    for name, evaluator in evaluators().items():
        metrics = evaluated(evaluator, model, str(output), 1.0, 5)
        found[name] = (metrics, evaluator.primary_metric)
    apart = evaluated(Number(), model, str(output), 1.0, 5, is_whole=False)
    found["each by itself"] = (apart, None)
    return found


def scored_pairs(folder: Path, output: Path) -> dict[str, Any]:
    """What evaluators of rerankers find, and their primary metrics afterwards."""
    found = {}
    for name, (place, evaluator) in of_pairs().items():
        model = CrossEncoder(str(folder / place), device="cpu")
        metrics = evaluated(evaluator, model, str(output), 1.0, 5)
        found[name] = (metrics, evaluator.primary_metric)
    return found


def failed(folder: Path) -> dict[str, Any]:
    """What is raised, and that all goes on afterwards."""
    model = dense(folder)
    found: dict[str, Any] = {}
    for name, evaluator in {
        "in the evaluator": Wrong(KeyError("no such metric")),
        "of a type of its own": Wrong(OwnError("one", "two")),
    }.items():
        found[name] = raised(evaluator, model)
    for rank in range(WORLD):
        found[f"in process {rank}"] = raised(Number(), failing(folder, rank))
        found[f"in process {rank}, tolerated"] = evaluated(Tolerant(), failing(folder, rank), "", 1, 1)["evaluator"]
    found["truncated"] = raised(Strict(), model)
    found["afterwards"] = evaluated(Number(), model, "", 1, 1)["evaluator"]
    return found


def failing(folder: Path, rank: int) -> SentenceTransformer:
    model = dense(folder)
    model[1] = FailsIn(model[1], rank)
    return model


class Strict(BaseEvaluator):
    """Wants no text to be cut."""

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        return float(model.encode(TEXTS, on_truncate="error").sum())


def raised(evaluator: BaseEvaluator, model: Any) -> tuple[str, str, str]:
    try:
        evaluated(evaluator, model, "", 1, 1)
    except Exception as error:  # it is what is tested
        return type(error).__name__, str(error), type(error.__cause__).__name__
    return "", "", ""


def in_training(folder: Path, output: Path) -> dict[str, Any]:
    """A training with evaluations, which takes the best checkpoint at the end; and an evaluation of its own."""
    first, second = texts(40, 0), texts(40, 1)
    evaluator = EmbeddingSimilarityEvaluator(first, second, [row * 7 % 11 / 10 for row in range(40)], name="sts")
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_sts_spearman_cosine",
        "save_total_limit": 1,
        "num_train_epochs": 1,
    }
    model = dense(folder)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(**settings),
        train_dataset=scored(64),
        eval_dataset={"one": scored(16), "two": scored(8)},
        loss=CosineSimilarityLoss(model),
        evaluator=evaluator,
    )
    trainer.train()
    logged = [without_times(entry) for entry in trainer.state.log_history]
    metrics = trainer.evaluate()
    model.save_pretrained(output / "final")
    return {
        "log": logged,
        "best": (trainer.state.best_model_checkpoint, trainer.state.best_metric),
        "metrics": without_times(metrics),
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "is_training": model.training,
        "again": evaluator(model),
        "empty": _evaluator_alone(folder, output, evaluator),
    }


def _evaluator_alone(folder: Path, output: Path, evaluator: BaseEvaluator) -> dict[str, float]:
    trainer = SentenceTransformerTrainer(
        model=dense(folder),
        args=arguments(output_dir=str(output / "alone")),
        train_dataset=rows_of(8),
        evaluator=evaluator,
    )
    return without_times(trainer.evaluate())


def without_times(numbers: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the speed of the machine."""
    return {key: value for key, value in numbers.items() if not key.endswith(("_second", "time"))}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    loop.WINDOW = WINDOW
    rank = os.environ.get("RANK", "alone")
    arguments(output_dir=str(folder / "group"))  # begins the group of processes
    count = counted()
    found: dict[str, Any] = {"asked": asked(folder), "shared": count[0]}
    found["measured"] = measured(folder, folder / f"output-{rank}")
    before = count[0]
    found["measured"] |= scored_pairs(folder, folder / f"output-{rank}")
    found["shared evaluators"] = count[0] - before
    found["failed"] = failed(folder)
    if rank != "alone":
        found["training"] = in_training(folder, folder / "training")
    torch.save(found, folder / f"{rank}.pt")


def counted() -> list[int]:
    """How many calls other processes have helped with, so far; only they know it."""
    count = [0]
    answer = helping._answer

    def counting(*given: Any) -> Any:
        count[0] += 1
        return answer(*given)

    helping._answer = counting
    return count


if __name__ == "__main__":
    main(Path(sys.argv[1]))
