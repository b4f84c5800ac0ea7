"""What old datasets, readers and losses without labels give, for the recorder and for the tests.

Knows nothing of either implementation: classes are looked up in a namespace, and a model is opened by a function.
"""

from __future__ import annotations

import gzip
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tiny
import torch
from torch import Tensor, nn

DAMAGED = ["A cat", "dog sat", "a"]
SENTENCES = ["A cat is here.", "The dog sat on the mat, yes.", "a cat"]
OTHERS = ["A cat", "the mat", "a cat"]
LABELS = torch.tensor([1, 0, 1])

FILES = {
    "labels.tsv": 'b\tx é\na\t"y\tz\nb\t z \nc\tk',
    "s1.dev.gz": "a \nb\nc\n",
    "s2.dev.gz": "A\nB\nC\n",
    "labels.dev.gz": "contradiction\nneutral\n entailment\n",
    "one": "a \n b\nc\nd",
    "two.gz": "A\n\nC\n",
    "scores.tsv": 'a "q\tb\t2.5\nc\td\t5\n e \tf\t0.0\n',
    "scores.csv.gz": '"a,1",b,1\n',
    "benchmark.tsv": "main\tMS\t2012\t1\t2.500\tA b.\tC d.\textra\n",
    "triplets.tsv": "h1\th2\th3\na\tb\tc\n d \te\tf\n",
}

# name -> class, arguments, arguments of get_examples; "FOLDER" and "FOLDER/..." are replaced
READ: dict[str, tuple[str, dict[str, Any], tuple[Any, ...]]] = {
    "labels": ("LabelSentenceReader", {"folder": "FOLDER"}, ("labels.tsv",)),
    "labels, two": ("LabelSentenceReader", {"folder": "FOLDER"}, ("labels.tsv", 2)),
    "labels, columns": (
        "LabelSentenceReader", {"folder": "FOLDER", "label_col_idx": 1, "sentence_col_idx": 0}, ("labels.tsv",),
    ),
    "inference": ("NLIDataReader", {"dataset_folder": "FOLDER"}, ("dev.gz",)),
    "inference, two": ("NLIDataReader", {"dataset_folder": "FOLDER"}, ("dev.gz", 2)),
    "lines": ("PairedFilesReader", {"filepaths": ["FOLDER/one", "FOLDER/two.gz"]}, ()),
    "lines, two": ("PairedFilesReader", {"filepaths": ["FOLDER/one", "FOLDER/two.gz"]}, (2,)),
    "scores": ("STSDataReader", {"dataset_folder": "FOLDER"}, ("scores.tsv",)),
    "scores, two": ("STSDataReader", {"dataset_folder": "FOLDER"}, ("scores.tsv", 2)),
    "scores, as they are": ("STSDataReader", {"dataset_folder": "FOLDER", "normalize_scores": False}, ("scores.tsv",)),
    "scores, range": ("STSDataReader", {"dataset_folder": "FOLDER", "min_score": 1, "max_score": 3}, ("scores.tsv",)),
    "scores, quoted": (
        "STSDataReader", {"dataset_folder": "FOLDER", "delimiter": ",", "quoting": 0}, ("scores.csv.gz",),
    ),
    "benchmark": ("STSBenchmarkDataReader", {"dataset_folder": "FOLDER"}, ("benchmark.tsv",)),
    "triplets": ("TripletReader", {"dataset_folder": "FOLDER"}, ("triplets.tsv",)),
    "triplets, header": ("TripletReader", {"dataset_folder": "FOLDER", "has_header": True}, ("triplets.tsv", 1)),
    "triplets, columns": (
        "TripletReader", {"dataset_folder": "FOLDER", "s1_col_idx": 2, "s3_col_idx": 0}, ("triplets.tsv",),
    ),
}  # fmt: skip

GROUPS: dict[str, list[Any]] = {
    "even": [0, 0, 1, 1, 2, 2],
    "uneven": [2, 2, 0, 0, 0, 0, 0, 1, 0, "x", "x", "x"],
    "one": [3, 3, 3, 3],
    "none": [0, 1, 2],
}


def written(example: Any) -> list[Any]:
    return [example.guid, example.texts, example.label]


def read(space: Any, name: str, folder: Path) -> list[Any]:
    """What a reader makes of the files."""
    kind, settings, arguments = READ[name]
    for file, text in FILES.items():
        data = text.encode()
        (folder / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    filled = {
        key: [one.replace("FOLDER", str(folder)) for one in value] if isinstance(value, list)
        else value.replace("FOLDER", str(folder)) if isinstance(value, str) else value
        for key, value in settings.items()
    }  # fmt: skip
    return [written(one) for one in getattr(space, kind)(**filled).get_examples(*arguments)]


def seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def unique_batches(space: Any, size: int, seed: int) -> list[Any]:
    """Two rounds over examples some of which share texts."""
    seeded(seed)
    examples = [space.InputExample(texts=[f"a{i // 2}", f"B{i} ", "b4" if i == 7 else f"c{i}"]) for i in range(13)]
    loader = space.NoDuplicatesDataLoader(examples, size)
    return [len(loader), *[[[one.texts[1] for one in batch] for batch in loader] for _ in range(2)], random.random()]


def grouped(space: Any, name: str, each: int, seed: int) -> list[Any]:
    """Two rounds over examples by label."""
    seeded(seed)
    examples = [space.InputExample(texts=[f"{label}, {i}"], label=label) for i, label in enumerate(GROUPS[name])]
    dataset = space.SentenceLabelDataset(examples, each)
    return [len(dataset), *[[one.texts[0] for one in dataset] for _ in range(2)]]


def tension_batches(space: Any, count: int, size: int, ratio: int) -> list[Any]:
    seeded(0)
    loader = space.ContrastiveTensionDataLoader([f"s{i}" for i in range(count)], size, ratio)
    return [len(loader), *[[[[*one.texts, one.label] for one in batch] for batch in loader] for _ in range(2)]]


def deleted(space: Any, text: str, ratio: float) -> list[str]:
    seeded(0)
    with words_at_spaces():
        return [space.DenoisingAutoEncoderDataset.delete(text, ratio) for _ in range(4)]


class Lengths:
    """A teacher that embeds a text as its length."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sentences: list[str], **settings: Any) -> Any:
        self.asked.extend(sorted(sentences))
        return np.array([[float(len(sentence))] for sentence in sentences])


def translations(space: Any, count: int, **limits: Any) -> list[Any]:
    """The first portion, of ``count`` texts; in which order its texts come depends on hashes."""
    teacher = Lengths()
    dataset = space.ParallelSentencesDataset(None, teacher, batch_size=3)
    rows = [["aaa", "b"], ["cc", "d", "e"], ["aaa", "f", "b"], ["x" * 200, "y"], ["g", "h"], ["i", "jj"]]
    dataset.add_dataset(rows, weight=2, **limits)
    dataset.add_dataset([["1", "2"], ["3", "4"], ["5", "6"]], weight=1)
    drawn = sorted([[one.texts, one.label.tolist()] for one in (dataset[i] for i in range(count))])
    known = [sorted([source, sorted(texts)] for source, texts in one) for one in dataset.datasets]
    return [len(dataset), drawn, known, teacher.asked]


def data(space: Any) -> dict[str, Any]:
    """All facts about drawing."""
    return {
        "unique": {f"{size} {seed}": unique_batches(space, size, seed) for size in (2, 3, 4) for seed in (0, 1)},
        "grouped": {f"{name} {each}": grouped(space, name, each, 0) for name in GROUPS for each in (1, 2, 3)},
        "tension": {
            " ".join(map(str, case)): tension_batches(space, *case)
            for case in ((14, 4, 4), (13, 4, 4), (15, 2, 2), (13, 4, 2), (10, 3, 1), (3, 8, 8))
        },
        "translations": {
            str(limits): translations(space, count, **limits)
            for count, limits in (
                (8, {}), (8, {"max_sentences": 3}), (8, {"max_sentence_length": None}), (7, {"max_sentence_length": 2}),
            )
        },
        "deleted": {
            f"{text} {ratio}": deleted(space, text, ratio)
            for text in ("a b c d e f g", "a", "") for ratio in (0.0, 0.6, 1.0)
        },
    }  # fmt: skip


@contextmanager
def words_at_spaces() -> Iterator[None]:
    """Inside, nltk takes what spaces divide for words: its own data may not be there."""

    class Joined:
        def detokenize(self, words: Any) -> str:
            return " ".join(words)

    fakes = {name: ModuleType(name) for name in ("nltk", "nltk.tokenize", "nltk.tokenize.treebank")}
    fakes["nltk"].word_tokenize = str.split  # type: ignore[attr-defined]
    fakes["nltk.tokenize"].word_tokenize = str.split  # type: ignore[attr-defined]
    fakes["nltk.tokenize.treebank"].TreebankWordDetokenizer = Joined  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


# --- losses: a model is opened in float64, and all weights of the loss are made by a rule -----------------------------


def tension(space: Any, open_model: Callable[[Path], Any], kind: str, labels: Tensor | None) -> dict[str, Any]:
    """Of a loss whose copy has weights of its own."""
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(tiny.build("bert", folder)).double().eval()
        loss = getattr(space, kind)(model).eval()
        tiny.set_weights(loss.model1, "copy")
        columns = [model.preprocess(texts) for texts in (SENTENCES, OTHERS)]
        return {"config": loss.get_config_dict(), **evaluated(loss, columns, labels, [loss.model1, loss.model2])}


def denoising(space: Any, open_model: Callable[[Path], Any], family: str, tied: bool) -> dict[str, Any]:
    """Of a decoder made of the same checkpoint as the encoder."""
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(tiny.build(family, folder))
        loss = space.DenoisingAutoEncoderLoss(model, *([] if tied else [folder]), tie_encoder_decoder=tied)
        loss = loss.double().eval()
        tiny.set_weights(loss.decoder, "decoder")
        columns = [model.preprocess(texts) for texts in (DAMAGED, SENTENCES)]
        return evaluated(loss, columns, None, [model, loss.decoder])


def evaluated(loss: Any, columns: list[Any], labels: Tensor | None, models: list[nn.Module]) -> dict[str, Any]:
    """The value, and of each model how often which size of gradient comes, whatever parameters are called."""
    value = loss([dict(column) for column in columns], labels)
    value.backward()
    return {"value": value.item(), "gradients": [_sizes(model) for model in models]}


def _sizes(model: nn.Module) -> list[float]:
    """How long the gradients are, in order."""
    return sorted(one.grad.norm().item() for one in model.parameters() if one.grad is not None)


LOSSES: dict[str, Callable[[Any, Callable[[Path], Any]], dict[str, Any]]] = {
    "tension": lambda space, model: tension(space, model, "ContrastiveTensionLoss", LABELS),
    "tension, same ids": lambda space, model: tension(space, model, "ContrastiveTensionLoss", None),
    "tension, batch": lambda space, model: tension(space, model, "ContrastiveTensionLossInBatchNegatives", None),
    **{
        f"denoising, {family}, {'tied' if tied else 'own'}": lambda space, model, family=family, tied=tied: denoising(
            space, model, family, tied
        )
        for family in ("bert", "roberta", "electra", "gpt2")
        for tied in (True, False)
    },
}
