"""Every Python block and every command of the documentation runs: the blocks of a page in order, in one namespace."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from sentence_transformers.cli import model
from sentence_transformers.cli.main import main
from tests.integration.snippets import serve
from tests.integration.stand_ins import STAND_INS

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((CHECKOUT / "docs").glob("*.md")), *CHECKOUT.glob("README.md")]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)")


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the documents of a checkout alone; what a page changes for the process is put back.

    Small models stand in for those of the pages that are not installed.
    """
    for name, build in STAND_INS.items():
        serve(tmp_path / "cache", name, build, monkeypatch)
    for name in ("README.md", "docs"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    threads, level = torch.get_num_threads(), logging.getLogger("sentence_transformers").level
    yield tmp_path
    torch.set_num_threads(threads)
    logging.getLogger("sentence_transformers").setLevel(level)


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """The line, the language and the code of every block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(2)), *found.groups()) for found in BLOCK.finditer(text)]  # type: ignore[misc]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, minilm_folder: Path, page_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = None

    def open_once(args: argparse.Namespace) -> Any:
        nonlocal opened
        opened = opened or original(args)
        return opened

    original = model.open_model
    monkeypatch.setattr(model, "open_model", open_once)
    namespace: dict[str, Any] = {"__name__": "page"}
    for line, language, code in blocks(page):
        if language == "python":
            exec(compile("\n" * line + code, str(page), "exec"), namespace)  # the line of a failure is that of the page
            continue
        for command in re.findall(r"^\$ sentence-transformers (.*)$", code, re.MULTILINE):
            assert main(shlex.split(command, comments=True)) == 0, f"{page.name}:{line}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_there_are_pages_with_code() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 20


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("how do I shrink embeddings?", "docs/shrinking-embeddings.md"),
        ("why is it fast?", "docs/performance.md"),
        ("how do I add a module of my own?", "docs/modules.md"),
    ],
)
def test_the_questions_of_the_demo_find_their_page(
    query: str, page: str, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert main(["search", query, "docs", "-k", "1"]) == 0
    assert page in capsys.readouterr().out
