"""Files for trainings that are read from a file: small data, and settings that are good until a test breaks them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

WORDS = ["cat", "mat", "river", "mountain", "sea", "dog", "sun", "rain", "book", "table", "tree", "apple"]
PAIRS = [(f"where is the {one} {other}", f"the {other} {one} is here") for one in WORDS[:6] for other in WORDS[6:]]


def write_data(folder: Path) -> None:
    """pairs.tsv: question, answer, number. sts.csv: first, second, stars. nli.jsonl: premise, hypothesis, relation."""
    with (folder / "pairs.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([("question", "answer", "number"), *((*pair, at) for at, pair in enumerate(PAIRS))])
    with (folder / "sts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        rows = [(question, PAIRS[at * 7 % 36][1], at * 7 % 6) for at, (question, _) in enumerate(PAIRS)]
        writer.writerows([("first", "second", "stars"), *rows])
    relations = ("entailment", "neutral", "contradiction", "-")
    with (folder / "nli.jsonl").open("w", encoding="utf-8") as file:
        for at, (question, answer) in enumerate(PAIRS):
            row = {"premise": question, "hypothesis": answer, "relation": relations[at % 4]}
            file.write(json.dumps(row) + "\n")


def settings(model: Path, **changes: Any) -> dict[str, Any]:
    """A training that takes seconds."""
    sts = {"path": "sts.csv", "columns": ["first", "second", "stars"], "name": "sts"}
    return {
        "model": str(model),
        "train": {"path": "pairs.tsv", "columns": ["question", "answer"]},
        "loss": {"MultipleNegativesRankingLoss": {"scale": 10}},
        "evaluators": [{"EmbeddingSimilarityEvaluator": sts}],
        "arguments": {
            "output_dir": "out",
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_steps": 2,
            "use_cpu": True,
        },
        **changes,
    }


def write_config(folder: Path, values: Any) -> Path:
    """The settings as a file; JSON is YAML."""
    path = folder / "train.yaml"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path
