"""Files of labelled texts -> ``InputExample``s. Each format is one class; files that end in ``.gz`` are unpacked.

Texts stay as the files have them; where a line is a text, it keeps its line end.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, ClassVar, TextIO, TypeVar

from .data import InputExample

T = TypeVar("T")


class LabelSentenceReader:
    """Lines of a label and a sentence, as CoLA or a list of questions has them.

    Labels are numbered as they come up, over all files that are read (``label_map``).

    Args:
        folder: where the files are.
        label_col_idx, sentence_col_idx: which columns, from 0.
        separator: what divides columns.
    """

    def __init__(self, folder: str, label_col_idx: int = 0, sentence_col_idx: int = 1, separator: str = "\t") -> None:
        self.folder = folder
        self.label_map: dict[str, int] = {}
        self.label_col_idx = label_col_idx
        self.sentence_col_idx = sentence_col_idx
        self.separator = separator

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The examples of a file, with one text each.

        Args:
            max_examples: the most examples; 0 for all.

        Raises: IndexError for a line without these columns.
        """
        examples = []
        with opened(os.path.join(self.folder, filename)) as lines:
            for at, line in enumerate(first(lines, max_examples)):
                row = line.strip().split(self.separator)
                name, sentence = cells(row, (self.label_col_idx, self.sentence_col_idx), filename, at)
                label = self.label_map.setdefault(name, len(self.label_map))
                examples.append(InputExample(guid=f"{filename}-{at}", texts=[sentence], label=label))
        return examples


class NLIDataReader:
    """The files ``s1.NAME``, ``s2.NAME`` and ``labels.NAME``, which have a line for each example.

    Args:
        dataset_folder: where the files are.
    """

    LABELS: ClassVar[dict[str, int]] = {"contradiction": 0, "entailment": 1, "neutral": 2}

    def __init__(self, dataset_folder: str) -> None:
        self.dataset_folder = dataset_folder

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The examples of the three files, with two texts each.

        Args:
            filename: what follows ``s1.``, say ``train.gz``.
            max_examples: the most examples; 0 for all.

        Raises: KeyError for an unknown label.
        """
        paths = [os.path.join(self.dataset_folder, f"{kind}.{filename}") for kind in ("s1", "s2", "labels")]
        return [
            InputExample(guid=f"{filename}-{at}", texts=[one, two], label=self.map_label(label))
            for at, (one, two, label) in enumerate(first(side_by_side(paths), max_examples))
        ]

    @staticmethod
    def get_labels() -> dict[str, int]:
        """Label -> its number."""
        return dict(NLIDataReader.LABELS)

    def get_num_labels(self) -> int:
        """How many labels there are."""
        return len(self.get_labels())

    def map_label(self, label: str) -> int:
        """The number of a label. Raises: KeyError for an unknown one."""
        name = label.strip().lower()
        if name not in self.get_labels():
            raise KeyError(f"The label must be one of {', '.join(self.get_labels())}, but it is {name!r}.")
        return self.get_labels()[name]


class PairedFilesReader:
    """Files whose lines belong together: line i of each is a text of example i. All labels are 1.

    Args:
        filepaths: the files.
    """

    def __init__(self, filepaths: Sequence[str]) -> None:
        self.filepaths = filepaths

    def get_examples(self, max_examples: int = 0) -> list[InputExample]:
        """The examples, up to the end of the shortest file, with a text of each file.

        Args:
            max_examples: the most examples; 0 for all.
        """
        return [
            InputExample(guid=str(at), texts=list(texts), label=1)
            for at, texts in enumerate(first(side_by_side(self.filepaths), max_examples))
        ]


class STSDataReader:
    """Rows of two sentences and how similar they are.

    Args:
        dataset_folder: where the files are.
        s1_col_idx, s2_col_idx, score_col_idx: which columns, from 0.
        delimiter, quoting: as for ``csv.reader``.
        normalize_scores: map scores from ``min_score`` ... ``max_score`` to 0 ... 1.
    """

    def __init__(
        self,
        dataset_folder: str,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        score_col_idx: int = 2,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.score_col_idx = score_col_idx
        self.delimiter = delimiter
        self.quoting = quoting
        self.normalize_scores = normalize_scores
        self.min_score = min_score
        self.max_score = max_score

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The examples of a file, with two texts each, and the score as label.

        Args:
            max_examples: the most examples; 0 for all.

        Raises:
            IndexError: a row does not have these columns.
            ValueError: a score is no number.
        """
        wanted = (self.s1_col_idx, self.s2_col_idx, self.score_col_idx)
        examples = []
        with opened(os.path.join(self.dataset_folder, filename)) as lines:
            rows = table(lines, self.delimiter, self.quoting)
            for at, row in enumerate(first(rows, max_examples)):
                one, two, number = cells(row, wanted, filename, at)
                score = float(number)
                if self.normalize_scores:
                    score = (score - self.min_score) / (self.max_score - self.min_score)
                examples.append(InputExample(guid=f"{filename}{at}", texts=[one, two], label=score))
        return examples


class STSBenchmarkDataReader(STSDataReader):
    """``STSDataReader`` with the columns of the STS benchmark."""

    def __init__(
        self,
        dataset_folder: str,
        s1_col_idx: int = 5,
        s2_col_idx: int = 6,
        score_col_idx: int = 4,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        columns = (s1_col_idx, s2_col_idx, score_col_idx)
        super().__init__(dataset_folder, *columns, delimiter, quoting, normalize_scores, min_score, max_score)


class TripletReader:
    """Rows of an anchor, a positive and a negative text.

    Args:
        dataset_folder: where the files are.
        s1_col_idx, s2_col_idx, s3_col_idx: which columns, from 0.
        has_header: the first row is not an example.
        delimiter, quoting: as for ``csv.reader``.
    """

    def __init__(
        self,
        dataset_folder: str,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        s3_col_idx: int = 2,
        has_header: bool = False,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
    ) -> None:
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.s3_col_idx = s3_col_idx
        self.has_header = has_header
        self.delimiter = delimiter
        self.quoting = quoting

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The examples of a file, with three texts each.

        Args:
            max_examples: the most examples; 0 for all.

        Raises: IndexError for a row without these columns.
        """
        wanted = (self.s1_col_idx, self.s2_col_idx, self.s3_col_idx)
        with opened(os.path.join(self.dataset_folder, filename)) as lines:
            rows = table(lines, self.delimiter, self.quoting)
            if self.has_header:
                next(rows, None)
            return [
                InputExample(texts=cells(row, wanted, filename, at)) for at, row in enumerate(first(rows, max_examples))
            ]


def first(items: Iterable[T], count: int) -> Iterator[T]:
    """The first items; all if ``count`` is not above 0."""
    return islice(items, count if count > 0 else None)


def side_by_side(paths: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Lines of the same number of several files, until one ends."""
    with ExitStack() as stack:
        yield from zip(*[stack.enter_context(opened(path)) for path in paths], strict=False)


def cells(row: Sequence[str], wanted: Sequence[int], filename: str, at: int) -> list[str]:
    """Some columns of row ``at``. Raises: IndexError if it has not so many."""
    if max(wanted) >= len(row):
        raise IndexError(
            f"Example {at} of {filename} has {len(row)} columns, but column {max(wanted)} (from 0) is wanted. "
            "Check the separator and the numbers of the columns."
        )
    return [row[column] for column in wanted]


def table(lines: Iterable[str], delimiter: str, quoting: int) -> Iterator[list[str]]:
    """Rows of cells."""
    settings: dict[str, Any] = {"delimiter": delimiter, "quoting": quoting}
    return csv.reader(lines, **settings)


def opened(path: str) -> TextIO:
    """A file to read text from, unpacked if its name ends in ``.gz``."""
    return gzip.open(path, "rt", encoding="utf8") if str(path).endswith(".gz") else open(path, encoding="utf8")
