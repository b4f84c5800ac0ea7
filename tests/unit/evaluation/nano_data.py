"""Local data in the form of NanoBEIR."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def write_repository(root: Path, data: Mapping[str, Mapping[str, Rows]]) -> str:
    """Write a folder that ``datasets`` reads like a repository on the Hub.

    Args:
        data: split -> subset -> rows; all splits have the same subsets.
    """
    configs = []
    for subset in next(iter(data.values())):
        files = []
        for split, subsets in data.items():
            path = root / subset / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in subsets[subset]))
            files.append(f"  - split: {split}\n    path: {subset}/{split}.jsonl\n")
        configs.append(f"- config_name: {subset}\n  data_files:\n{''.join(files)}")
    (root / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    return str(root)
