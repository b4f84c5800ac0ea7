"""The texts of the benchmarks: ../shared/data where it exists, else made from this repository's own files."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
DATA = (ROOT / ".." / "shared" / "data").resolve()

SHORTEST, LONGEST = 3, 16
"""Words of a short sentence."""

MORE_SENTENCES = [
    ("stackoverflow_titles/titles.csv.gz", "text"),
    ("banking77/train.csv", "text"),
    ("snli/pairs.csv.gz", "premise"),
    ("snli/pairs.csv.gz", "hypothesis"),
    ("stsb/train.csv", "sentence1"),
    ("stsb/train.csv", "sentence2"),
]
"""File under ``DATA`` and column, for what speed_corpus alone does not fill."""

QUERIES = [
    "how do I shrink embeddings?",
    "capital of France",
    "symptoms of iron deficiency",
    "python read csv into dict",
    "cheap flights in march",
    "who wrote the first novel",
    "best way to cook rice",
    "difference between tcp and udp",
    "is coffee bad for sleep",
    "train from Utrecht to Berlin",
    "convert list to string",
    "meaning of serendipity",
    "treatment for a sprained ankle",
    "history of the printing press",
    "sort a dictionary by value",
    "why is the sky blue",
    "museums open on monday",
    "repair a flat bicycle tyre",
    "what causes inflation",
    "translate good morning to Dutch",
]


@dataclass(frozen=True)
class Texts:
    """Texts and one sentence that says where they come from."""

    items: list[str]
    source: str


def passages(count: int) -> Texts:
    """The first ``count`` passages of mixed length (titles, sentences, paragraphs, long ones)."""
    path = DATA / "speed_corpus" / "passages.jsonl.gz"
    if not path.is_file():
        return Texts(_made_up(count, shortest=4, longest=450), _made_up_source(path))
    with _open(path) as lines:
        items = [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]
    return Texts(items, f"first {len(items):,} passages of speed_corpus")


def short_sentences(count: int) -> Texts:
    """``count`` distinct sentences of 3 to 16 words, in a fixed random order."""
    path = DATA / "speed_corpus" / "passages.jsonl.gz"
    if not path.is_file():
        return Texts(_made_up(count, shortest=SHORTEST, longest=LONGEST), _made_up_source(path))
    distinct = list(dict.fromkeys(_sentences(path)))
    if len(distinct) < count:
        raise ValueError(
            f"There are {len(distinct):,} distinct short sentences under {DATA}; {count:,} were asked for."
        )
    random.Random(0).shuffle(distinct)
    return Texts(
        distinct[:count], f"{count:,} distinct sentences of {SHORTEST} to {LONGEST} words from speed_corpus and others"
    )


def questions(count: int, each: int) -> tuple[list[tuple[str, list[str]]], str]:
    """``count`` queries with ``each`` passages drawn for it, no text empty; and where they come from."""
    path = DATA / "cranfield" / "corpus.jsonl.gz"
    if path.is_file():
        with _open(path) as lines, _open(path.with_name("queries.jsonl")) as asked:
            rows = [json.loads(line) for line in lines]
            queries = [json.loads(line)["text"] for line in asked]
        pool = [f"{row['title']}. {row['text']}" for row in rows if row["text"]]
        source = f"the first {count} queries of cranfield, {each} of its passages drawn for each"
    else:
        queries, pool = QUERIES, _made_up(max(each, 1_000), shortest=40, longest=400)
        source = f"{min(count, len(queries))} queries, {each} passages for each: {_made_up_source(path)}"
    chance = random.Random(0)
    return [(query, chance.sample(pool, each)) for query in queries[:count]], source


def titles(count: int) -> Texts | None:
    """``count`` of the Stack Overflow titles, spread over all; None where they are not."""
    path = DATA / "stackoverflow_titles" / "titles.csv.gz"
    if not path.is_file():
        return None
    with _open(path) as file:
        items = [row["text"] for row in csv.DictReader(file)]
    step = max(1, len(items) // count)
    return Texts(items[::step][:count], f"{min(count, len(items)):,} of the stackoverflow_titles")


def answers(count: int) -> tuple[list[tuple[str, str]], str]:
    """``count`` pairs of a question and its answer; and where they come from."""
    path = DATA / "medquad" / "qa.jsonl.gz"
    if not path.is_file():
        asked, answered = _made_up(count, shortest=4, longest=16), _made_up(count, shortest=40, longest=500)
        return list(zip(asked, answered, strict=True)), _made_up_source(path)
    with _open(path) as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]
    return [(row["question"], row["answer"]) for row in rows], f"the first {len(rows):,} pairs of medquad"


def mixed_pairs(count: int) -> tuple[list[tuple[str, str, float]], str]:
    """``count`` pairs in mixed order with a score each, half of them sentences, half questions and long answers.

    The scores are drawn: they say nothing.
    """
    chance, half = random.Random(0), count // 2
    long, source = answers(count - half)
    path = DATA / "snli" / "pairs.csv.gz"
    if path.is_file():
        with _open(path) as file:
            short = [
                (row["premise"], row["hypothesis"]) for row, _ in zip(csv.DictReader(file), range(half), strict=False)
            ]
        source = f"the first {half:,} pairs of snli and {source}"
    else:
        texts = _made_up(2 * half, shortest=4, longest=16)
        short = list(zip(texts[:half], texts[half:], strict=True))
    pairs = [(one, other, chance.random()) for one, other in [*short, *long]]
    chance.shuffle(pairs)
    return pairs, source


def scored_pairs() -> list[tuple[str, str, float]]:
    """Pairs of STS-B's dev part and how alike people find them; none where it is not."""
    path = DATA / "stsb" / "dev.csv"
    if not path.is_file():
        return []
    with _open(path) as file:
        return [(row["sentence1"], row["sentence2"], float(row["score"])) for row in csv.DictReader(file)]


def for_calibration(count: int) -> list[str]:
    """Texts that are measured nowhere else: half of them sentences of STS-B's training part, half passages."""
    path = DATA / "stsb" / "train.csv"
    sentences: list[str] = []
    if path.is_file():
        with _open(path) as file:
            sentences = [row["sentence1"] for row, _ in zip(csv.DictReader(file), range(count // 2), strict=False)]
    return sentences + passages(1_000 + count - len(sentences)).items[1_000:]


def _sentences(path: Path) -> Iterator[str]:
    with _open(path) as lines:
        for line in lines:
            yield from _split(json.loads(line)["text"])
    for name, column in MORE_SENTENCES:
        if (DATA / name).is_file():
            with _open(DATA / name) as file:
                for row in csv.DictReader(file):
                    yield from _split(row[column])


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _split(text: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if SHORTEST <= len(sentence.split()) <= LONGEST:
            yield sentence


def _made_up(count: int, shortest: int, longest: int) -> list[str]:
    """Runs of words from the repository's documents, lengths spread evenly over the logarithm."""
    files = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sentence_transformers/**/*.py")])
    words = " ".join(file.read_text(encoding="utf-8") for file in files).split()
    chance = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        size = round(shortest * (longest / shortest) ** chance.random())
        start = chance.randrange(max(1, len(words) - size))
        run = words[start : start + size]
        chance.shuffle(run)
        found[" ".join(run)] = None
    return list(found)


def _made_up_source(path: Path) -> str:
    return f"shuffled runs of words from this repository's own files ({path} is not here)"
