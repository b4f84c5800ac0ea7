"""Questions and answers, for people and for scripts: how questions are asked, how passages are shown."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.cli import passages, readers
from sentence_transformers.cli.command import CommandError, UsageError, positive_int
from sentence_transformers.cli.passages import Passage
from sentence_transformers.cli.terminal import Look, clean, wrap

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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare -q, --query-file, -i, -k, --min-score and --json."""
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


def questions(args: argparse.Namespace, words: list[str]) -> tuple[list[str], list[str]]:
    """The queries that are meant, and the words that are none; no query means to ask for them.

    Args:
        words: those that are no options; the first is the query, unless queries are given otherwise.

    Raises: UsageError where nobody can be asked; CommandError for an empty query or query file.
    """
    words, queries = list(words), list(args.query)
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


def show(
    queries: list[str], count: int, answer: Callable[[list[str]], list[list[Hit]]], args: argparse.Namespace
) -> None:
    """Print the answers to all queries; without queries ask for them, one after the other.

    Args:
        count: how many passages there are. answer: queries -> the hits of each.
    """
    look = Look.of(sys.stdout)
    if queries:
        for number, (query, hits) in enumerate(zip(queries, answer(queries), strict=True)):
            print(json_text(query, hits) if args.json else "\n" * bool(number) + text(query, hits, look))
        return
    if sys.stdin.isatty():
        print(f"{count:,} passages. Ctrl-D ends.", file=sys.stderr)
    for query in _asked():
        [hits] = answer([query])
        print(json_text(query, hits) if args.json else text(query, hits, look) + "\n", flush=True)


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


def _asked() -> Iterator[str]:
    """What the user types, until the end of input."""
    while True:
        try:
            query = input(PROMPT if sys.stdin.isatty() else "")
        except EOFError:
            return
        if query.strip():
            yield query
