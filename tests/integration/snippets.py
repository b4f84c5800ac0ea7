"""The examples of the system description as code that runs, and a cache of the Hub with models to run them with."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

DESCRIPTION = Path(__file__).resolve().parents[2] / ".." / "shared" / "spec" / "system.md"
LEFT_OUT = ("push_to_hub", "my-username/my-model")
"""Statements with these in them need the Hub."""

Run = Callable[[str], tuple[dict[str, Any], str]]
"""``run(title)``: run a section in an empty folder; its names and what it printed."""

COMMIT = "0123456789" * 4


def sections() -> dict[str, str]:
    """Title -> all Python of the section, each block on the lines where it stands in the description."""
    if not DESCRIPTION.is_file():
        pytest.skip(f"the system description is not beside the checkout: {DESCRIPTION}")
    text = DESCRIPTION.read_text(encoding="utf-8")
    heads = list(re.finditer(r"^## (.+)$", text, re.MULTILINE))
    found = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        end = len(text) if following is None else following.start()
        code = ""
        for block in re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL).finditer(text, head.end(), end):
            line = text.count("\n", 0, block.start(1))
            code += "\n" * (line - code.count("\n")) + block[1]
        found[head[1]] = code
    return found


def without_other_parts(code: str) -> str:
    """Blank the statements of ``LEFT_OUT``; all others stay as they are, on their lines."""
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        if any(word in (ast.get_source_segment(code, statement) or "") for word in LEFT_OUT):
            for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                lines[number] = ""
    return "\n".join(lines)


def runner(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The function ``Run``, in the new folder ``folder``."""
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run_section(title: str) -> tuple[dict[str, Any], str]:
        names: dict[str, Any] = {"__name__": "snippet"}
        exec(compile(without_other_parts(sections()[title]), str(DESCRIPTION), "exec"), names)
        return names, capsys.readouterr().out

    return run_section


def serve(cache: Path, name: str, build: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the model that ``build`` writes into a cache of the Hugging Face layout, under the name of a real one."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    build(folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return folder


def serve_dataset(
    cache: Path, name: str, splits: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, config: str = "default"
) -> None:
    """Put splits into a cache of ``datasets``, where ``load_dataset(name, config)`` finds them without a network."""
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    short = name.rpartition("/")[2]
    folder = cache / name.replace("/", "___") / config / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    known = datasets.SplitDict(dataset_name=short)
    for split, dataset in splits.items():
        with datasets.arrow_writer.ArrowWriter(path=str(folder / f"{short}-{split}.arrow")) as writer:
            writer.write_table(dataset.data.table)
            examples, size = writer.finalize()
        known.add(datasets.SplitInfo(split, num_bytes=size, num_examples=examples))
    datasets.DatasetInfo(
        features=next(iter(splits.values())).features,
        builder_name="parquet",
        dataset_name=short,
        config_name=config,
        version="0.0.0",
        splits=known,
    ).write_to_directory(str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
