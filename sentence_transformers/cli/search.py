"""``sentence-transformers search``: passages of text files, ranked by how well they answer a question."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentence_transformers.cli import files, model, passages, readers
from sentence_transformers.cli.command import Command, CommandError, UsageError, positive_int
from sentence_transformers.cli.passages import Passage
from sentence_transformers.cli.terminal import Look, clean, wrap

if TYPE_CHECKING:
    from torch import Tensor

    from sentence_transformers.encoders.dense import SentenceTransformer

SNIPPET_LINES = 3
INDENT = "    "
PROMPT = "query> "
TABLE_RULE = re.compile(r"[|:\s-]*-[|:\s-]*")
EMPTY_CELLS = re.compile(r"\|(?:\s*\|)+\s*")
SHORTEST_WORD = 4  # shorter words of a query say little about where its answer is


@dataclass(frozen=True)
class Hit:
    """One answer. score: of the model's similarity function; higher is closer."""

    score: float
    path: str
    passage: Passage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``search``."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="QUERY [PATH ...]",
        help="a question; then files and folders to search (default: docs and README.md here). Only paths after -q, "
        "--query-file and -i",
    )
    parser.add_argument(
        "-q", "--query", action="append", default=[], metavar="QUERY", help="a question; may be repeated"
    )
    parser.add_argument(
        "--query-file", metavar="FILE", help="a file with a question on every line; - is standard input"
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="ask for questions, one after the other")
    parser.add_argument(
        "-k", type=positive_int, default=5, metavar="COUNT", help="answers to each (default: %(default)s)"
    )
    parser.add_argument("--min-score", type=float, metavar="SCORE", help="leave out answers below")
    parser.add_argument("--json", action="store_true", help="one JSON object for each question, on a line")
    model.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Read, cut, encode, answer. Returns: 0. Raises: CommandError, OSError and what the model raises."""
    queries, paths = questions(args)
    found = [(name, passage) for name in files.collect(paths or files.shipped()) for passage in _cut(name)]
    if not found:
        raise CommandError(f"no text in {', '.join(paths)}: expected at least one passage.")
    index = Index(model.open_model(args), found, args.batch_size, show_progress=sys.stderr.isatty())
    look = Look.of(sys.stdout)
    if queries:
        for number, (query, hits) in enumerate(
            zip(queries, index.answer(queries, args.k, args.min_score), strict=True)
        ):
            if args.json:
                print(json_text(query, hits))
            else:
                print("\n" * bool(number) + text(query, hits, look))
        return 0
    if sys.stdin.isatty():
        print(f"{len(found):,} passages. Ctrl-D ends.", file=sys.stderr)
    for query in _asked():
        [hits] = index.answer([query], args.k, args.min_score)
        print(json_text(query, hits) if args.json else text(query, hits, look) + "\n", flush=True)
    return 0


def questions(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The queries and the paths that are meant; no query means to ask for them.

    Raises: UsageError where nobody can be asked; CommandError for an empty query or query file.
    """
    words, queries = list(args.words), list(args.query)
    if args.query_file is not None:
        queries += [line for line in readers.read([args.query_file], "text", readers.Columns()).texts if line.strip()]
        if not queries:
            raise CommandError(f"{args.query_file}: expected a question on every line, but all lines are blank.")
    if not args.interactive and not queries and words:
        queries, words = words[:1], words[1:]
    if any(not query.strip() for query in queries):
        raise CommandError("the query is empty: expected a question or some words.")
    if args.interactive and queries:
        raise UsageError("-i asks for the queries: leave out -q and --query-file.")
    if not queries and not args.interactive and not sys.stdin.isatty():
        raise UsageError("no query: pass one, or --query-file - to read them from standard input.")
    return queries, words


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


def json_text(query: str, hits: Sequence[Hit]) -> str:
    """A query and its hits as one line of JSON."""
    return json.dumps({"query": query, "results": [_fields(rank, hit) for rank, hit in enumerate(hits, start=1)]})


def _fields(rank: int, hit: Hit) -> dict[str, Any]:
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "path": hit.path,
        "first_line": hit.passage.first_line,
        "last_line": hit.passage.last_line,
        "headings": list(hit.passage.headings),
        "text": hit.passage.text,
    }


def text(query: str, hits: Sequence[Hit], look: Look) -> str:
    """A query and its hits for people."""
    lines = [look.style(clean(query), "bold")]
    words = _telling_words(query)
    for rank, hit in enumerate(hits, start=1):
        place = f"{clean(hit.path)}:{hit.passage.first_line}-{hit.passage.last_line}"
        lines += ["", f"{rank:>2}. {look.style(f'{hit.score:.3f}', 'green')}  {look.style(place, 'cyan')}"]
        if hit.passage.headings:
            title = clean(" > ".join(hit.passage.headings))
            lines += [INDENT + look.style(line, "dim") for line in wrap(title, look.width - len(INDENT), 1)]
        snippet = wrap(_snippet(hit.passage.text, words), look.width - len(INDENT), SNIPPET_LINES)
        lines += [INDENT + look.mark(line, words) for line in snippet]
    return "\n".join(lines if hits else [*lines, "", INDENT + "no passage scores high enough"])


def _snippet(passage: str, words: frozenset[str]) -> str:
    """The passage from the sentence on that has most words of the query."""
    shown = "\n".join(EMPTY_CELLS.sub("| ", line) for line in passage.split("\n") if not TABLE_RULE.fullmatch(line))
    sentences = passages.SENTENCE_END.split(clean(shown))
    best = max(range(len(sentences)), key=lambda at: len(words & _telling_words(sentences[at])))
    return ("… " if best else "") + " ".join(sentences[best:])


def _telling_words(query: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"\w+", query.lower()) if len(word) >= SHORTEST_WORD)


def _cut(name: str) -> Iterator[Passage]:
    """The passages of a file."""
    try:
        yield from passages.split(name, files.read(name))
    except csv.Error as error:
        raise CommandError(f"{name}: {error}") from error


def _asked() -> Iterator[str]:
    """What the user types, until the end of input."""
    while True:
        try:
            query = input(PROMPT if sys.stdin.isatty() else "")
        except EOFError:
            return
        if query.strip():
            yield query


COMMAND = Command(
    "search", "find passages in text files by meaning", add_arguments, run, usage="[options] QUERY [PATH ...]"
)
