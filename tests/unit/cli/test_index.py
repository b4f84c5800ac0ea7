"""index: what is kept of files, what a second call does, and what it says when it cannot go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentence_transformers.cli import index as page
from sentence_transformers.cli import model
from sentence_transformers.cli.main import main
from sentence_transformers.search.stores.embedded import FILE, EmbeddedStore

GARDEN = "# Garden\n\n## Tomatoes\n\nWater tomatoes every morning.\n\n## Roses\n\nPrune roses early in March.\n"


@pytest.fixture(autouse=True)
def notes(tiny_model: Any, in_folder: Path) -> None:
    Path("notes").mkdir()
    Path("notes/garden.md").write_text(GARDEN)
    Path("notes/house.txt").write_text("Paint the old door.\n")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command with --json says."""
    assert main(["index", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["index", *arguments]) == 1
    return capsys.readouterr().err


def test_build_keeps_passages_with_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "build", "kept", "notes")
    assert found == {"folder": "kept", "files": 2, "added": 3, "removed": 0, "unchanged": 0}
    with EmbeddedStore("kept", create=False) as store:
        rows = {text: metadata for _, text, metadata in store.rows()}
    assert rows["Prune roses early in March."] == {
        "path": str(Path("notes/garden.md").resolve()),
        "first_line": 9,
        "last_line": 9,
        "headings": ["Garden", "Roses"],
    }


def test_search_finds_them_and_shows_paths_from_here(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    found = said(capsys, "search", "kept", "prune roses", "-k", "1")
    [best] = found["results"]
    assert (best["path"], best["first_line"], best["headings"]) == ("notes/garden.md", 9, ["Garden", "Roses"])
    assert main(["index", "search", "kept", "prune roses", "-k", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == ["    Garden > Roses", "    Prune roses early in March."]


def test_search_takes_a_condition_and_a_least_score(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    where = json.dumps({"headings": {"$contains": "Tomatoes"}})
    [only] = said(capsys, "search", "kept", "prune roses", "--where", where)["results"]
    assert only["text"] == "Water tomatoes every morning."
    assert said(capsys, "search", "kept", "prune roses", "--min-score", "0.99")["results"] == []


def test_add_takes_what_changed_and_removes_what_is_gone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "build", "kept", "notes")
    Path("notes/garden.md").write_text(GARDEN.replace("Prune roses early", "Plant roses"))
    encoded: list[int] = []
    original = page._keep
    monkeypatch.setattr(
        page, "_keep", lambda index, some, size: (encoded.append(len(some)), original(index, some, size))
    )
    found = said(capsys, "add", "kept", "notes")
    assert found == {"folder": "kept", "files": 2, "added": 1, "removed": 1, "unchanged": 2}
    assert encoded == [1]
    assert said(capsys, "search", "kept", "plant roses", "-k", "1")["results"][0]["text"] == "Plant roses in March."
    assert said(capsys, "add", "kept", "notes")["unchanged"] == 3
    assert said(capsys, "info", "kept")["passages"] == 3


def test_equal_passages_in_different_places_are_both_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("twice.txt").write_text("Paint the old door.\n")
    assert said(capsys, "build", "kept", "notes/house.txt", "twice.txt")["added"] == 2


def test_info_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    found = said(capsys, "info", "kept")
    assert found.pop("bytes") > 1000
    assert found == {
        "folder": "kept",
        "passages": 3,
        "files": 2,
        "model": model.DEFAULT_MODEL,
        "sparse_model": None,
        "width": 64,
        "sparse_width": None,
        "similarity": "cosine",
        "damaged": False,
    }
    assert main(["index", "info", "kept"]) == 0
    shown = capsys.readouterr().out
    assert "passages      3\n" in shown and shown.endswith("the index is whole\n")


def test_an_index_that_is_there_is_not_built_again(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    assert "there is an index in kept already. Add to it" in failure(capsys, "build", "kept", "notes/house.txt")
    assert said(capsys, "info", "kept")["passages"] == 3


def test_overwrite_replaces_it_once_the_new_one_is_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "build", "kept", "notes")
    with monkeypatch.context() as patch:
        patch.setattr(page, "_keep", lambda *arguments: (_ for _ in ()).throw(MemoryError("full")))
        assert "full" in failure(capsys, "build", "kept", "notes/house.txt", "--overwrite")
    assert said(capsys, "info", "kept")["passages"] == 3
    said(capsys, "build", "kept", "notes/house.txt", "--overwrite")
    assert said(capsys, "info", "kept")["passages"] == 1
    assert sorted(path.name for path in Path("kept").iterdir()) == [FILE]


def test_the_model_is_remembered_and_another_one_warned_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_model: Any
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(model, "open_model", lambda args: (asked.append(args.model), tiny_model)[1])
    said(capsys, "build", "kept", "notes", "--model", "acme/words")
    said(capsys, "search", "kept", "prune")
    assert asked == ["acme/words", "acme/words"]
    assert main(["index", "search", "kept", "prune", "--model", "acme/other"]) == 0
    assert "kept was built with acme/words; embeddings of another model do not compare" in capsys.readouterr().err


def test_a_store_of_another_program_needs_a_model(capsys: pytest.CaptureFixture[str], tiny_model: Any) -> None:
    with EmbeddedStore("other") as store:
        store.add(["a"], tiny_model.encode(["paint it"]), texts=["paint it"])
    assert "does not say which model filled it: pass --model" in failure(capsys, "search", "other", "paint")
    [found] = said(capsys, "search", "other", "paint it", "--model", "acme/words")["results"]
    assert (found["path"], found["text"]) == ("a", "paint it")


def test_a_model_of_another_width_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedStore("other") as store:
        store.add(["a"], [[1.0, 2.0]], texts=["paint it"])
    assert "embeddings of width 2, got width 64" in failure(capsys, "search", "other", "x", "--model", "m")


def test_a_reranker_orders_the_best(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Shortest:
        def __init__(self, name: str, **options: Any) -> None:
            assert name == "acme/shortest"

        def predict(self, pairs: Any, **options: Any) -> Any:
            import numpy as np

            return np.array([-len(text) for _, text in pairs], dtype=np.float32)

    said(capsys, "build", "kept", "notes")
    monkeypatch.setattr("sentence_transformers.encoders.cross.CrossEncoder", Shortest)
    found = said(capsys, "search", "kept", "prune roses", "--rerank", "acme/shortest", "-k", "2")["results"]
    assert [one["text"] for one in found] == ["Paint the old door.", "Prune roses early in March."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["search", "nowhere", "x"],
            "there is no index in nowhere. Make one: sentence-transformers index build nowhere",
        ),
        (["info", "nowhere"], "there is no index in nowhere"),
        (["add", "nowhere", "notes"], "there is no index in nowhere"),
        (["build", "kept", "missing.txt"], "no such file or folder: missing.txt"),
        (["build", "kept", "empty.txt"], "no text in empty.txt: expected at least one passage"),
        (["search", "there", "x", "--where", "{"], "--where must be JSON, got '{'"),
        (["search", "there", "x", "--where", "[1]"], "--where must be a JSON object"),
        (["search", "there", "x", "--where", '{"a": {"$near": 1}}'], "'$near'"),
        (["search", "there", "x", "y"], "one question at a time, got 1 words more"),
        (["search", "there", " "], "the query is empty"),
        (["info", "damaged"], "is damaged"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("\n")
    Path("damaged").mkdir()
    Path("damaged", FILE).write_bytes(b"no database at all" * 100)
    said(capsys, "build", "there", "notes")
    shown = failure(capsys, *arguments)
    assert message in shown and shown.count("\n") == 1
