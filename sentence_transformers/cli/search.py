"""``sentence-transformers search``: passages of text files, ranked by how well they answer a question."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sentence_transformers.cli import answers, files, model
from sentence_transformers.cli.answers import Hit
from sentence_transformers.cli.command import Command, CommandError
from sentence_transformers.cli.passages import Passage

if TYPE_CHECKING:
    from torch import Tensor

    from sentence_transformers.encoders.dense import SentenceTransformer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``search``."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="QUERY [PATH ...]",
        help="a question; then files and folders to search (default: docs and README.md here). Only paths after -q, "
        "--query-file and -i",
    )
    answers.add_options(parser)
    model.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Read, cut, encode, answer. Returns: 0. Raises: CommandError, OSError and what the model raises."""
    queries, paths = answers.questions(args, args.words)
    found = [(name, passage) for name in files.collect(paths or files.shipped()) for passage in files.cut(name)]
    if not found:
        raise CommandError(f"no text in {', '.join(paths)}: expected at least one passage.")
    index = Index(model.open_model(args), found, args.batch_size, show_progress=sys.stderr.isatty())
    answers.show(queries, len(found), lambda some: index.answer(some, args.k, args.min_score), args)
    return 0


class Index:
    """Passages and their embeddings.

    Args:
        encoder: encodes both sides. found: names of files, and their passages.
    """

    def __init__(
        self, encoder: SentenceTransformer, found: Sequence[tuple[str, Passage]], batch_size: int, show_progress: bool
    ) -> None:
        self.encoder, self.found, self.batch_size = encoder, found, batch_size
        self.embeddings: Tensor = encoder.encode_document(
            [passage.with_headings for _, passage in found],
            batch_size=batch_size,
            show_progress_bar=show_progress,
            convert_to_tensor=True,
            on_truncate="ignore",
        )

    def answer(self, queries: list[str], count: int, min_score: float | None) -> list[list[Hit]]:
        """The best ``count`` passages for every query, best first; of equal ones the earlier."""
        embeddings = self.encoder.encode_query(
            queries, batch_size=self.batch_size, show_progress_bar=False, convert_to_tensor=True
        )
        return [
            [Hit(score, *self.found[row]) for score, row in best if min_score is None or score >= min_score]
            for best in top_k(self.encoder.similarity(embeddings, self.embeddings), count)
        ]


def top_k(scores: Tensor, count: int) -> list[list[tuple[float, int]]]:
    """(n, m) scores -> for each of n, the ``count`` highest with their columns, highest first; ties by column."""
    values, columns = scores.cpu().sort(dim=1, descending=True, stable=True)
    return [
        list(zip(row.tolist(), places.tolist(), strict=True))
        for row, places in zip(values[:, :count], columns[:, :count], strict=True)
    ]


COMMAND = Command(
    "search", "find passages in text files by meaning", add_arguments, run, usage="[options] QUERY [PATH ...]"
)
