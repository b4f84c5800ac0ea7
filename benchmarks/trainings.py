"""Trainings from beginning to end: a program that runs one with its own interpreter, and prints the outcome as JSON.

Only names that both packages have. As a program, imports nothing of this repository.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Training: TypeAlias = Callable[[Path, Path, int, bool], dict[str, Any]]
"""Folder of MiniLM, of the data, seed, quickly -> what came of it."""

STS_LAYERS = 2
"""How many layers of MiniLM are kept: what the others knew has to be learnt anew."""
WIDTH = 256
HELD_OUT = 1000
TITLES = 4000


def sts(model_folder: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """MiniLM cut to two layers learns from STS-B scores and SNLI triplets; measured on STS-B dev."""
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import losses

    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder), device="cpu")
    network = model[0].auto_model
    network.encoder.layer = network.encoder.layer[:STS_LAYERS]
    network.config.num_hidden_layers = STS_LAYERS
    rows = list(_csv(data / "stsb" / "train.csv"))
    scored = {name: [row[name] for row in rows] for name in ("sentence1", "sentence2")}
    scored["score"] = [float(row["score"]) / 5 for row in rows]
    triplets = list(_csv(data / "snli" / "triplets.csv.gz"))
    of_nli = {name: [row[name] for row in triplets] for name in ("anchor", "positive", "negative")}
    evaluator = sts_dev(data)
    before = evaluator(model)["dev_spearman_cosine"]
    found = run_trainer(
        model,
        {"stsb": Dataset.from_dict(scored), "snli": Dataset.from_dict(of_nli)},
        {"stsb": losses.CoSENTLoss(model), "snli": losses.MultipleNegativesRankingLoss(model)},
        seed,
        quick,
        per_device_train_batch_size=16,
        learning_rate=1e-4,
    )
    return {**found, "before": before, "after": evaluator(model)["dev_spearman_cosine"]}


def static(model_folder: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """Word vectors, from random numbers on, learn from SNLI, MedQuAD and Stack Overflow; against averages of words."""
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    from sentence_transformers import SentenceTransformer

    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=WIDTH)], device="cpu")
    words = SentenceTransformer(str(model_folder), device="cpu")[0].auto_model.embeddings.word_embeddings.weight
    average = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=words.detach().numpy())], device="cpu"
    )
    answers = _answers(data, seed)
    titles = _titles(data, seed)
    triplets = list(_csv(data / "snli" / "triplets.csv.gz"))
    datasets = {
        "snli": {name: [row[name] for row in triplets] for name in ("anchor", "positive", "negative")},
        "medquad": {name: [row[name] for row in answers[HELD_OUT:]] for name in ("question", "answer")},
        "stackoverflow": {"first": [one for one, _ in titles], "second": [two for _, two in titles]},
    }
    measured = {"random": _static_quality(model, data, answers), "average": _static_quality(average, data, answers)}
    found = run_trainer(
        model,
        {name: Dataset.from_dict(rows) for name, rows in datasets.items()},
        losses.MultipleNegativesRankingLoss(model),
        seed,
        quick,
        per_device_train_batch_size=256,
        learning_rate=0.1,
        num_train_epochs=1 if quick else 6,
    )
    return {**found, **measured, "trained": _static_quality(model, data, answers)}


TRAININGS: dict[str, Training] = {"sts": sts, "static": static}


def run_trainer(
    model: Any, train: Any, loss: Any, seed: int, quick: bool, family: Any = None, **settings: Any
) -> dict[str, Any]:
    """Train, and say how long it took and how the loss went.

    Args:
        family: the trainer; None for that of dense encoders.
    """
    from sentence_transformers import SentenceTransformerTrainer

    trainer_class = family or SentenceTransformerTrainer
    with tempfile.TemporaryDirectory() as folder:
        defaults = {"num_train_epochs": 1, "max_steps": 20 if quick else -1}
        args = trainer_class.training_args_class(
            output_dir=folder,
            **{**defaults, **settings},
            warmup_steps=0.1,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_steps=50,
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = trainer_class(model=model, args=args, train_dataset=train, loss=loss)
        start = time.perf_counter()
        trainer.train()
        return {
            "steps": trainer.state.global_step,
            "seconds": time.perf_counter() - start,
            "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }


def sts_dev(data: Path) -> Any:
    """The evaluator of STS-B dev."""
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    rows = list(_csv(data / "stsb" / "dev.csv"))
    columns = [[row[name] for row in rows] for name in ("sentence1", "sentence2")]
    return EmbeddingSimilarityEvaluator(*columns, [float(row["score"]) for row in rows], name="dev", write_csv=False)


def _static_quality(model: Any, data: Path, answers: list[dict[str, str]]) -> dict[str, float]:
    """Spearman on STS-B dev; and how high the answers to questions that were not trained on stand among all others."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    asked = answers[:HELD_OUT]
    evaluator = InformationRetrievalEvaluator(
        {str(place): row["question"] for place, row in enumerate(asked)},
        {str(place): row["answer"] for place, row in enumerate(answers)},
        {str(place): {str(place)} for place in range(len(asked))},
        name="medquad",
        write_csv=False,
    )
    return {
        "stsb_spearman": sts_dev(data)(model)["dev_spearman_cosine"],
        "medquad_ndcg@10": evaluator(model)["medquad_cosine_ndcg@10"],
    }


def _answers(data: Path, seed: int) -> list[dict[str, str]]:
    """Questions and answers of MedQuAD in random order, no question twice."""
    with gzip.open(data / "medquad" / "qa.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = list({row["question"]: row for row in map(json.loads, lines)}.values())
    random.Random(seed).shuffle(rows)
    return [{name: row[name] for name in ("question", "answer")} for row in rows]


def _titles(data: Path, seed: int) -> list[tuple[str, str]]:
    """Pairs of questions on Stack Overflow with the same tag."""
    chance = random.Random(seed)
    of_tag: dict[str, list[str]] = {}
    for row in _csv(data / "stackoverflow_titles" / "titles.csv.gz"):
        of_tag.setdefault(row["label"], []).append(row["text"])
    pairs = []
    for texts in of_tag.values():
        chance.shuffle(texts)
        pairs += zip(texts[0::2], texts[1::2], strict=False)
    chance.shuffle(pairs)
    return pairs[:TITLES]


def _csv(path: Path) -> Iterator[dict[str, str]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def main(trainings: dict[str, Training], training: str, model: str, data: str, seed: str, quick: str) -> None:
    """Run one, and print what came of it."""
    here = Path(__file__).resolve().parent  # its files must not hide others of the same names
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    print(json.dumps(trainings[training](Path(model), Path(data), int(seed), quick == "quick")))


if __name__ == "__main__":
    main(TRAININGS, *sys.argv[1:])
