"""Model folders in every layout that was ever saved, made out of a bare small transformer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRANSFORMER = "sentence_transformers.models.Transformer"
POOLING = "sentence_transformers.models.Pooling"
NORMALIZE = "sentence_transformers.models.Normalize"
DENSE = "sentence_transformers.models.Dense"

WIDTH = 32
WINDOW = 64
OLD_MEAN = {
    "word_embedding_dimension": WIDTH,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}
"""What all-MiniLM-L6-v2 has in ``1_Pooling/config.json``, with another width."""

TEXTS = ["The cat sat on the mat", "A long river runs from the high mountains down to the sea", "x"]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def entries(*types: str, first: str = "") -> list[dict[str, Any]]:
    """What ``modules.json`` holds for modules of these types, the first one in the folder ``first``."""
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{kind.rpartition('.')[2]}" if i else first, "type": kind}
        for i, kind in enumerate(types)
    ]


def model_folder(
    bare: Path,
    target: Path,
    *,
    modules: Sequence[dict[str, Any]] | None = None,
    pooling: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Copy a bare transformer and add ``modules.json`` and what else is given; by default as before version 5.4.

    Args:
        pooling: ``1_Pooling/config.json``. transformer: ``sentence_bert_config.json``.
        config: ``config_sentence_transformers.json``.
    """
    shutil.copytree(bare, target)
    write_json(target / "modules.json", entries(TRANSFORMER, POOLING) if modules is None else modules)
    write_json(target / "1_Pooling" / "config.json", OLD_MEAN if pooling is None else pooling)
    if transformer is not None:
        write_json(target / "sentence_bert_config.json", transformer)
    if config is not None:
        write_json(target / "config_sentence_transformers.json", config)
    return target
