"""A model for the command line that needs no files: it counts words, so texts that share words are close."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch

from sentence_transformers.cli import model
from sentence_transformers.encoders.dense import SentenceTransformer
from sentence_transformers.modules.module import InputModule

WIDTH = 64


class CountedWords(InputModule):
    """Texts -> how often the words of each place occur, (B, WIDTH), scaled to length 1."""

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        counts = torch.zeros(len(inputs), WIDTH)
        for row, text in enumerate(self._prepend_prompt(inputs, prompt)):
            for word in text.lower().split():
                counts[row, crc32(word.strip(".,?#").encode()) % WIDTH] += 1
        return {"counts": counts}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features["sentence_embedding"] = torch.nn.functional.normalize(features["counts"], dim=-1)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
    """The model that every command opens in this test."""
    made = SentenceTransformer(modules=[CountedWords()], device="cpu", prompts={"title": "title: "})

    def opened(args: argparse.Namespace) -> SentenceTransformer:
        return made

    monkeypatch.setattr(model, "open_model", opened)
    return made


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Give the program bytes on standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give
