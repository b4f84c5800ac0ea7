"""encode: every format in and out, what is refused, and that a file appears whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentence_transformers.cli.main import main
from sentence_transformers.cli.writers import json_line
from sentence_transformers.encoders.dense import SentenceTransformer

TEXTS = ["red apple", "blue car", 'grün, "quoted" 漢字']
INPUTS = {
    "a.txt": "\n".join(TEXTS) + "\n",
    "a.csv": 'n,text\n1,red apple\n2,blue car\n3,"grün, ""quoted"" 漢字"\n',
    "a.tsv": 'n\ttext\n1\tred apple\n2\tblue car\n3\t"grün, ""quoted"" 漢字"\n',
    "a.jsonl": "\n".join(json.dumps({"n": n, "text": text}) for n, text in enumerate(TEXTS)) + "\n",
    "strings.ndjson": "\n".join(json.dumps(text) for text in TEXTS),
}

pytestmark = pytest.mark.usefixtures("tiny_model", "in_folder")


def fails(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """Run the command, see it fail, and give its one line."""
    assert main(["encode", *words]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_text_format_gives_the_same_embeddings(name: str, zipped: bool, tiny_model: SentenceTransformer) -> None:
    content = INPUTS[name].encode()
    path = Path(name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert main(["encode", str(path), "-o", "out.npy"]) == 0
    np.testing.assert_array_equal(np.load("out.npy"), tiny_model.encode(TEXTS))


def test_parquet_is_read_and_written(tiny_model: SentenceTransformer) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("a.jsonl").write_text(INPUTS["a.jsonl"])
    assert main(["encode", "a.jsonl", "--id-column", "n", "-o", "one.parquet"]) == 0
    assert main(["encode", "one.parquet", "--id-column", "id", "-o", "two.parquet"]) == 0
    table = parquet.read_table("two.parquet")
    assert table.column_names == ["id", "text", "embedding"]
    assert table["id"].to_pylist() == [0, 1, 2] and table["text"].to_pylist() == TEXTS
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), tiny_model.encode(TEXTS))


def test_npz_holds_embeddings_ids_and_texts(tiny_model: SentenceTransformer) -> None:
    Path("a.csv").write_text("key,text\nx,red apple\n7,blue car\n")
    assert main(["encode", "a.csv", "--id-column", "key", "-o", "out.npz"]) == 0
    saved = np.load("out.npz")  # no pickles: loads with the default arguments
    assert saved["ids"].tolist() == ["x", "7"] and saved["texts"].tolist() == ["red apple", "blue car"]
    np.testing.assert_array_equal(saved["embeddings"], tiny_model.encode(["red apple", "blue car"]))


def test_jsonl_gives_back_every_float_exactly(tiny_model: SentenceTransformer) -> None:
    Path("a.txt").write_text(INPUTS["a.txt"])
    assert main(["encode", "a.txt", "-o", "out.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [0, 1, 2] and [row["text"] for row in rows] == TEXTS
    got = np.array([row["embedding"] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(got, tiny_model.encode(TEXTS))


def test_standard_input_to_standard_output(piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    piped(b"red apple\nblue car")
    assert main(["encode"]) == 0
    assert [row["text"] for row in lines(capsys)] == ["red apple", "blue car"]


def test_gzipped_standard_input_is_unzipped(piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    piped(gzip.compress(b'{"text": "red apple"}\n'))
    assert main(["encode", "-", "--input-format", "jsonl"]) == 0
    assert [row["text"] for row in lines(capsys)] == ["red apple"]


@pytest.mark.parametrize("format", ["npy", "npz", "parquet"])
def test_binary_formats_can_go_to_a_pipe(format: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    Path("a.txt").write_text("red apple\n")
    assert main(["encode", "a.txt", "--output-format", format]) == 0
    written = capfdbinary.readouterr().out
    assert written[:4] == {"npy": b"\x93NUM", "npz": b"PK\x03\x04", "parquet": b"PAR1"}[format]
    if format != "parquet":
        loaded = np.load(io.BytesIO(written))
        assert (loaded if format == "npy" else loaded["embeddings"]).shape == (1, 64)


def test_several_inputs_become_one_result_with_running_ids(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("one\n")
    Path("b.csv").write_text("text\ntwo\n")
    assert main(["encode", "a.txt", "b.csv"]) == 0
    assert [(row["id"], row["text"]) for row in lines(capsys)] == [(0, "one"), (1, "two")]


def test_every_line_of_a_text_file_is_a_row_even_an_empty_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n three\x0b\n")
    assert main(["encode", "a.txt"]) == 0
    assert [row["text"] for row in lines(capsys)] == ["one", "", " three\x0b"]


def test_the_only_column_needs_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text('title\n"two\nlines"\n')
    assert main(["encode", "a.csv"]) == 0
    assert [row["text"] for row in lines(capsys)] == ["two\nlines"]


def test_options_reach_the_model(tiny_model: SentenceTransformer) -> None:
    Path("a.txt").write_text("red apple\nblue car\n")
    assert main(["encode", "a.txt", "-o", "p.npy", "--prompt", "red ", "--truncate-dim", "32", "--normalize"]) == 0
    wanted = tiny_model.encode(["red apple", "blue car"], prompt="red ", truncate_dim=32, normalize_embeddings=True)
    np.testing.assert_array_equal(np.load("p.npy"), wanted)
    assert main(["encode", "a.txt", "-o", "b.npy", "--precision", "ubinary", "--prompt-name", "title"]) == 0
    wanted = tiny_model.encode(["red apple", "blue car"], prompt_name="title", precision="ubinary")
    np.testing.assert_array_equal(np.load("b.npy"), wanted)


def test_json_says_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("one\ntwo\n")
    assert main(["encode", "a.txt", "-o", "out.npy", "--json", "--precision", "binary"]) == 0
    facts = lines(capsys)[0]
    assert facts.pop("seconds") >= 0
    assert facts == {
        "output": "out.npy",
        "format": "npy",
        "count": 2,
        "dimension": 64,
        "dtype": "int8",
        "model": "all-MiniLM-L6-v2",
    }


def test_no_text_leaves_the_texts_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("one\n")
    assert main(["encode", "a.txt", "--no-text"]) == 0
    assert set(lines(capsys)[0]) == {"id", "embedding"}


def test_nothing_is_said_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text("one\n")
    assert main(["encode", "a.txt", "-o", "out.npy"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "name", "words", "message"),
    [
        ("a,b\n1,2\n", "a.csv", ["--column", "c"], "a.csv: no column 'c'; there are: 'a', 'b'."),
        ("a,b\n1,2\n", "a.csv", [], "a.csv: no column 'text'; pass --column with one of: 'a', 'b'."),
        ("text\n1\n", "a.csv", ["--id-column", "id"], "no column 'id'; there are: 'text'."),
        ("a,text\n1,x\n2\n", "a.csv", [], "a.csv, line 3: 1 fields, but the header has 2."),
        ("text\n", "a.csv", [], "no texts in a.csv"),
        ("", "a.csv", [], "no texts in a.csv"),
        ("", "a.txt", [], "no texts in a.txt"),
        ("x\n", "a.txt", ["--column", "text"], "plain text has no columns"),
        ('{"text": "x"}\n{"text": \n', "a.jsonl", [], "a.jsonl, line 2: not JSON"),
        ('{"text": null}\n', "a.jsonl", [], "line 1: column 'text' holds nothing (null); expected text."),
        ('{"text": "x"}\n[1]\n', "a.jsonl", [], "line 2: expected a JSON object with the columns, got a list."),
        (
            '{"text": "x", "id": 1.5}\n',
            "a.jsonl",
            ["--id-column", "id"],
            "column 'id' holds a number; expected text or",
        ),
        ("x", "a.doc", [], "the extension '.doc' does not say how to read it; pass --input-format"),
        ("not parquet", "a.parquet", [], "a.parquet: not a Parquet file"),
    ],
)
def test_a_bad_input_is_explained(
    content: str, name: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    Path(name).write_text(content)
    assert message in fails([name, *words], capsys)


def test_text_in_another_encoding_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_bytes("grün".encode("latin-1"))
    assert "a.txt: not UTF-8 text" in fails(["a.txt"], capsys)


def test_a_damaged_gzip_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt.gz").write_bytes(gzip.compress(b"red apple" * 100)[:-10])
    assert "a.txt.gz: damaged gzip data" in fails(["a.txt.gz"], capsys)


def test_a_folder_is_no_input(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    assert "sub is a folder: expected a file." in fails(["sub"], capsys)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-o", "out.doc"], 2, "the extension '.doc' does not say what to write"),
        (["-o", "sub/out.npy"], 1, "there is no folder"),
        (["--json"], 2, "pass -o FILE"),
        (["--prompt", "x", "--prompt-name", "title"], 2, "pass one"),
        (["--prompt-name", "nope"], 1, "Prompt name 'nope' not found"),
        (["--precision", "int8"], 1, "from a single embedding"),
    ],
)
def test_a_bad_request_is_explained(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.txt").write_text("one\n")
    assert message in fails(["a.txt", *words], capsys, code)


def test_on_a_terminal_nothing_to_read_is_misuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "nothing to read" in fails([], capsys, code=2)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sentence_transformers.cli import writers

    Path("a.txt").write_text("one\n")
    Path("out.npy").write_bytes(b"old")

    def half(stream: Any, *others: Any) -> None:
        stream.write(b"half of it")
        raise OSError(28, "No space left on device", "out.npy")

    monkeypatch.setitem(writers.WRITERS, "npy", half)
    assert "No space left on device" in fails(["a.txt", "-o", "out.npy"], capsys)
    assert Path("out.npy").read_bytes() == b"old"
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "out.npy"]


def test_a_link_stays_a_link_and_its_target_is_written() -> None:
    Path("a.txt").write_text("one\n")
    Path("real.npy").write_bytes(b"old")
    Path("link.npy").symlink_to("real.npy")
    assert main(["encode", "a.txt", "-o", "link.npy"]) == 0
    assert Path("link.npy").is_symlink() and np.load("real.npy").shape == (1, 64)


def test_texts_that_would_swell_an_npz_are_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sentence_transformers.cli.writers.NPZ_TEXT_LIMIT", 100)
    Path("a.txt").write_text("one\n" + "x" * 30 + "\n")
    assert "pass --no-text" in fails(["a.txt", "-o", "out.npz"], capsys)
    assert main(["encode", "a.txt", "-o", "out.npz", "--no-text"]) == 0
    assert np.load("out.npz").files == ["embeddings", "ids"]


def test_half_a_surrogate_pair_is_escaped_and_the_rest_is_not() -> None:
    assert json_line("é") == '"é"\n'.encode()
    assert json_line("\ud800") == b'"\\ud800"\n'
