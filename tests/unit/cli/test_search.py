"""search: ranking, output for people and machines, and how queries and paths are told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sentence_transformers.cli.answers import Hit, text
from sentence_transformers.cli.main import main
from sentence_transformers.cli.passages import Passage
from sentence_transformers.cli.search import top_k
from sentence_transformers.cli.terminal import Look

GARDEN = "# Garden\n\n## Tomatoes\n\nWater tomatoes every morning.\n\n## Roses\n\nPrune roses early in March.\n"


@pytest.fixture(autouse=True)
def notes(tiny_model: Any, in_folder: Path) -> None:
    Path("notes").mkdir()
    Path("notes/garden.md").write_text(GARDEN)
    Path("notes/house.txt").write_text("Paint the old door.\n")


def answers(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What ``search --json`` says."""
    assert main(["search", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_best_passage_comes_first_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = answers(capsys, "prune roses", "notes")
    best = found["results"][0]
    score = best.pop("score")
    assert best == {
        "rank": 1,
        "path": "notes/garden.md",
        "first_line": 9,
        "last_line": 9,
        "headings": ["Garden", "Roses"],
        "text": "Prune roses early in March.",
    }
    assert score > found["results"][1]["score"]


def test_the_score_is_the_cosine(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = answers(capsys, "paint the", "notes/house.txt")
    assert found["results"][0]["score"] == pytest.approx(2 / (2 * 4) ** 0.5, abs=1e-6)  # two of four words


def test_people_see_score_place_headings_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "prune roses", "notes/garden.md", "-k", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0] == "prune roses"
    assert lines[2].startswith(" 1. 0.") and lines[2].endswith("  notes/garden.md:9-9")
    assert lines[3:] == ["    Garden > Roses", "    Prune roses early in March."]


def test_options_may_stand_between_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = answers(capsys, "prune roses", "-k", "2", "notes/garden.md", "notes/house.txt")
    assert len(found["results"]) == 2


def test_k_larger_than_the_number_of_passages_gives_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(answers(capsys, "prune", "notes", "-k", "99")[0]["results"]) == 3


def test_several_queries_are_answered_in_order_and_the_words_are_paths(capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "-q", "paint door", "-q", "water tomatoes", "notes", "-k", "1")
    assert [(one["query"], one["results"][0]["first_line"]) for one in found] == [
        ("paint door", 1),
        ("water tomatoes", 5),
    ]


def test_queries_come_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("queries.txt").write_text("paint door\n\nprune roses\n")
    found = answers(capsys, "--query-file", "queries.txt", "notes")
    assert [one["query"] for one in found] == ["paint door", "prune roses"]


def test_queries_come_from_standard_input(piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    piped(b"prune roses\n")
    assert [one["query"] for one in answers(capsys, "--query-file", "-", "notes")] == ["prune roses"]


def test_answers_below_the_least_score_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = answers(capsys, "paint the old door", "notes", "--min-score", "0.99")
    assert [result["path"] for result in found["results"]] == ["notes/house.txt"]
    assert main(["search", "prune", "notes", "--min-score", "2"]) == 0
    assert "no passage scores high enough" in capsys.readouterr().out


def test_without_paths_docs_and_readme_are_searched(capsys: pytest.CaptureFixture[str]) -> None:
    Path("docs").mkdir()
    Path("docs/a.md").write_text("apple")
    Path("README.md").write_text("pear")
    [found] = answers(capsys, "apple")
    assert [result["path"] for result in found["results"]] == ["docs/a.md", "README.md"]


def test_interactive_answers_every_line_until_the_end(
    piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    piped(b"paint door\n\nprune roses\n")
    found = answers(capsys, "-i", "notes", "-k", "1")
    assert [one["results"][0]["path"] for one in found] == ["notes/house.txt", "notes/garden.md"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x", "missing"], 1, "no such file or folder: missing"),
        (["x"], 1, "say what to search"),
        ([" ", "notes"], 1, "the query is empty"),
        (["--query-file", "empty.txt", "notes"], 1, "all lines are blank"),
        (["-i", "-q", "x", "notes"], 2, "leave out -q"),
        (["x", "blank.md"], 1, "expected at least one passage"),
    ],
)
def test_what_cannot_be_searched_is_explained(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("\n\n")
    Path("blank.md").write_text("# only a heading\n")
    assert main(["search", *arguments]) == code
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_nobody_to_ask_is_misuse(piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    piped(b"")
    assert main(["search"]) == 2
    assert "no query" in capsys.readouterr().err


def test_a_count_below_one_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "x", "-k", "0"]) == 2
    assert "at least 1, got '0'" in capsys.readouterr().err


def test_top_k_sorts_and_breaks_ties_by_column() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 5.0]])
    assert top_k(scores, 3) == [[(3.0, 1), (3.0, 2), (2.0, 3)], [(5.0, 3), (0.0, 0), (0.0, 1)]]


def test_the_snippet_begins_where_the_query_is_answered() -> None:
    passage = Passage("Nothing here. Nothing there. Prune the roses now.", (), 1, 1)
    assert text("pruning: when to prune?", [Hit(0.5, "a.md", passage)], Look(False, 80)).endswith(
        "    … Prune the roses now."
    )


def test_escape_codes_of_a_file_do_not_reach_the_terminal() -> None:
    passage = Passage("safe \x1b]0;evil\x07 text", ("head\x1b[2J",), 1, 1)
    shown = text("q\x1b[2J", [Hit(0.5, "a\x1b.md", passage)], Look(False, 80))
    assert "\x1b" not in shown and "\x07" not in shown


def test_colours_do_not_change_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    passage = Passage("Prune the roses.", ("Garden",), 1, 1)
    plain = text("prune", [Hit(0.5, "a.md", passage)], Look(False, 80))
    coloured = text("prune", [Hit(0.5, "a.md", passage)], Look(True, 80))
    assert "\x1b[" in coloured
    for code in ("0", "1", "2", "32", "36"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain
