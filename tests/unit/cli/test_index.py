"""index: what is kept of files, what a second call does, and what it says when it cannot go on."""

from __future__ import annotations

import json
import os
import shutil
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


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(["index", *arguments]) == code
    return capsys.readouterr().err


def kept_texts(folder: str = "kept") -> set[str | None]:
    with EmbeddedStore(folder, create=False) as store:
        return {text for _, text, _ in store.rows()}


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


def test_headings_are_searched_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes/cellar.md").write_text("# Cellar\n\nMind the step.\n")
    said(capsys, "build", "kept", "notes")
    [best] = said(capsys, "search", "kept", "cellar", "-k", "1")["results"]
    assert best["text"] == "Mind the step." and best["score"] > 0.4


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


def test_add_forgets_files_that_have_gone_from_a_given_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("elsewhere.txt").write_text("Feed the cat.\n")
    Path("notes/empty.txt").write_text("Sweep the floor.\n")
    said(capsys, "build", "kept", "notes", "elsewhere.txt")
    Path("elsewhere.txt").unlink()
    Path("notes/house.txt").unlink()
    Path("notes/empty.txt").write_text("")
    assert said(capsys, "add", "kept", "notes/garden.md")["removed"] == 0
    found = said(capsys, "add", "kept", "notes")
    assert (found["removed"], found["unchanged"]) == (2, 2)
    kept = {one["path"] for one in said(capsys, "search", "kept", "x", "-k", "9")["results"]}
    assert kept == {"notes/garden.md", "elsewhere.txt"}  # that was not below what was given


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
        "revision": None,
        "sparse_model": None,
        "width": 64,
        "sparse_width": None,
        "similarity": "cosine",
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


def test_overwrite_touches_nothing_else_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    Path("kept/new").mkdir()
    Path("kept/new/thesis.txt").write_text("years of work")
    said(capsys, "build", "kept", "notes/house.txt", "--overwrite")
    assert Path("kept/new/thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in Path("kept").iterdir()) == ["new", FILE]


def test_the_old_index_is_whole_until_the_new_one_takes_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*names: Path) -> None:
        """Keep the folder as it is at this moment: a store that is closed properly would tidy up."""
        shutil.copytree("kept", "found")
        raise OSError("killed")

    said(capsys, "build", "kept", "notes")
    with EmbeddedStore("kept", create=False) as other:  # while it is open, what is added stays in the journal
        other.add(["a"], [[1.0] * 64], texts=["in the journal"])
        assert Path("kept", FILE + "-wal").stat().st_size
        monkeypatch.setattr(os, "replace", killed)
        assert "killed" in failure(capsys, "build", "kept", "notes/house.txt", "--overwrite")
    assert len(kept_texts("found")) == 4


def test_a_build_that_failed_is_not_in_the_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model, "open_model", lambda args: (_ for _ in ()).throw(ValueError("no such model")))
        assert "no such model" in failure(capsys, "build", "kept", "notes")
        assert not Path("kept").exists()
        patch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(page, "_keep", lambda *arguments: (_ for _ in ()).throw(MemoryError("full")))
        assert "full" in failure(capsys, "build", "kept", "notes", "--revision", "old")
    assert said(capsys, "build", "kept", "notes")["added"] == 3
    assert said(capsys, "info", "kept")["revision"] is None


def test_what_an_interrupted_build_kept_is_not_encoded_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = page._keep, []

    def second_fails(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError("full")
        original(*arguments)

    monkeypatch.setattr(page, "WINDOW", 1)
    with monkeypatch.context() as patch:
        patch.setattr(page, "_keep", second_fails)
        assert "full" in failure(capsys, "build", "kept", "notes")
    assert "Add to it with 'index add'" in failure(capsys, "build", "kept", "notes")
    found = said(capsys, "add", "kept", "notes")
    assert (found["added"], found["unchanged"]) == (2, 1)


def test_what_changed_is_deleted_only_when_what_is_new_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "build", "kept", "notes/house.txt")
    Path("notes/house.txt").write_text("Paint the new door.\n")
    with monkeypatch.context() as patch:
        patch.setattr(page, "_keep", lambda *arguments: (_ for _ in ()).throw(MemoryError("full")))
        failure(capsys, "add", "kept", "notes/house.txt")
    assert kept_texts() == {"Paint the old door."}
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedStore, "delete", lambda *arguments: (_ for _ in ()).throw(MemoryError("full")))
        failure(capsys, "add", "kept", "notes/house.txt")
    assert kept_texts() == {"Paint the old door.", "Paint the new door."}
    assert said(capsys, "add", "kept", "notes/house.txt")["removed"] == 1
    assert kept_texts() == {"Paint the new door."}


def test_rows_are_read_once_however_many_files_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "build", "kept", "notes")
    original, calls = EmbeddedStore.rows, []
    monkeypatch.setattr(EmbeddedStore, "rows", lambda store, where: (calls.append(where), original(store, where))[1])
    said(capsys, "add", "kept", "notes")
    assert len(calls) == 1


def test_passages_of_files_that_are_not_named_stay(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", "kept", "notes")
    Path("notes/house.txt").write_text("\n")
    assert said(capsys, "add", "kept", "notes/house.txt")["removed"] == 1
    assert kept_texts() == {"Water tomatoes every morning.", "Prune roses early in March."}


def test_the_index_compares_as_the_model_does(capsys: pytest.CaptureFixture[str], tiny_model: Any) -> None:
    tiny_model.similarity_fn_name = "dot"
    said(capsys, "build", "kept", "notes")
    assert said(capsys, "info", "kept")["similarity"] == "dot"
    tiny_model.similarity_fn_name = "euclidean"
    assert "by 'euclidean', an index by 'cosine' or 'dot'" in failure(capsys, "build", "other", "notes")


def test_odd_characters_of_names_and_headings_are_kept_in_another_form(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd").mkdir()
    try:
        name = os.fsdecode(b"odd/na\xffme.md")
        Path(name).write_text("x " * 6000 + "\n\n# He\0ading\n\nodd text\n")
    except OSError:
        pytest.skip("this system has no file names that are not Unicode")
    said(capsys, "build", "kept", "odd")
    [best] = said(capsys, "search", "kept", "odd text", "-k", "1")["results"]
    assert (best["path"], best["headings"]) == ("odd/na\\udcffme.md", ["He\N{REPLACEMENT CHARACTER}ading"])
    assert said(capsys, "add", "kept", "odd")["added"] == 0


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


def test_the_revision_is_remembered_with_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_model: Any
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(model, "open_model", lambda args: (asked.append(args.revision), tiny_model)[1])
    said(capsys, "build", "kept", "notes", "--revision", "v1")
    said(capsys, "search", "kept", "prune")
    said(capsys, "search", "kept", "prune", "--revision", "v2")
    said(capsys, "search", "kept", "prune", "--model", "acme/other")
    assert asked == ["v1", "v1", "v2", None]


def test_a_sparse_model_makes_the_answers_hybrid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_model: Any
) -> None:
    class Sparse:
        def __init__(self, name: str, **options: Any) -> None:
            assert name == "acme/sparse"

        def get_embedding_dimension(self) -> int:
            return 64

        def encode_document(self, texts: list[str], **options: Any) -> Any:
            return tiny_model.encode(texts, convert_to_tensor=True).to_sparse()

        encode_query = encode_document

    monkeypatch.setattr("sentence_transformers.encoders.sparse.SparseEncoder", Sparse)
    said(capsys, "build", "kept", "notes", "--sparse-model", "acme/sparse")
    found = said(capsys, "info", "kept")
    assert (found["sparse_model"], found["sparse_width"]) == ("acme/sparse", 64)
    [best] = said(capsys, "search", "kept", "prune roses", "-k", "1")["results"]
    assert (best["text"], best["score"]) == ("Prune roses early in March.", round(2 / 61, 6))


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
        (["search", "there", "x", "--where", '{"path": null}'], "--where: $eq on 'path' compares with a string"),
        (["search", "there", "x", "--where", '{"$not": 3}'], "--where: A condition must be a dictionary"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "there", "when", "now"], "one question at a time, but there is more: now. Put it in quotes"),
        (["search", "there"], "no query: pass one"),
        (["search"], "required: FOLDER"),
        (["build", "kept"], "required: PATH"),
    ],
)
def test_a_wrong_command_line_is_misuse(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in failure(capsys, *arguments, code=2)


def test_questions_come_from_a_pipe(capsys: pytest.CaptureFixture[str], piped: Any) -> None:
    said(capsys, "build", "kept", "notes")
    piped(b"prune roses\nwater tomatoes\n")
    assert main(["index", "search", "kept", "--query-file", "-", "-k", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["results"][0]["headings"][-1] for line in lines] == ["Roses", "Tomatoes"]
