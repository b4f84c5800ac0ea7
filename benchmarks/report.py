"""What a measurement is reported with: tables, and facts about machine, model and texts."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CPU_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "asimd")


@dataclass
class Report:
    """One question's answer.

    Attributes:
        title: the question.
        header, rows: the table.
        notes: sentences under it.
        numbers: everything measured, for the JSON file.
        path: of that file, where it is part of the repository; by default it is left in ``results``.
    """

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def markdown(self) -> str:
        """The report as a Markdown section."""
        lines = [f"## {self.title}", "", table(self.header, self.rows), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes), ""])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def row(title: str, values: Mapping[str, float], form: str) -> list[str]:
    """A row of one number a side, and ours / reference."""
    compared = f"{values['ours'] / values['reference']:.2f}" if values.get("reference") else ""
    return [title, *(form.format(value) for value in values.values()), compared]


def machine() -> dict[str, Any]:
    """Processor, the flags that matter for matrix products, cores this process may use, load, system."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() in {"flags", "Features"}:
                flags.update(value.split())
    return {
        "cpu": model,
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
    }


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1


def token_counts(model: Path, texts: Sequence[str | tuple[str, str]], limit: int | None = None) -> list[int]:
    """Tokens the model sees of each text or pair: special ones included, cut at ``limit`` or its own, no padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    own = model / "sentence_bert_config.json"
    tokenizer.enable_truncation(limit or json.loads(own.read_text(encoding="utf-8"))["max_seq_length"])
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


def describe_tokens(counts: Sequence[int]) -> str:
    """Sum, mean and percentiles of token counts, as a sentence."""
    ordered = sorted(counts)
    cuts = [
        f"{percent} % {ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]}"
        for percent in (5, 25, 50, 75, 95)
    ]
    mean = sum(counts) / len(counts)
    return f"{len(counts):,} texts, {sum(counts):,} tokens, mean {mean:.1f}, {', '.join(cuts)}, longest {ordered[-1]}"


def flops_per_token(model: Path, parts: Sequence[str] = (".layer",)) -> int:
    """Operations of the linear layers for one token (two for each weight); attention, norms and embeddings apart.

    Counts the matrices that have one of ``parts`` in their name. Reads the header of ``model.safetensors`` only: its
    length in 8 bytes, little-endian, then JSON.
    """
    with (model / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    layers: list[list[int]] = [
        about["shape"]
        for name, about in header.items()
        if any(part in name for part in parts) and name.endswith(".weight")
    ]
    return 2 * sum(math.prod(shape) for shape in layers if len(shape) == 2)


def steadiness(seconds: Mapping[str, Sequence[float]], unit: str = "s") -> str:
    """Lowest to highest time of a round for each side, with a warning where they differ twofold."""
    scale = {"s": 1, "ms": 1000}[unit]
    spans = [f"{name} {min(f) * scale:.2f}-{max(f) * scale:.2f} {unit}" for name, f in seconds.items()]
    busy = any(max(found) > 2 * min(found) for found in seconds.values())
    warning = "; THE MACHINE WAS BUSY (rounds differ twofold): do not quote these numbers" if busy else ""
    return f"a round took: {', '.join(spans)}{warning}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` % of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
