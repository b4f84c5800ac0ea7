"""Record what the reference gives: ``REFERENCE/bin/python -W ignore tests/parity/record_training_data.py``.

Run by hand with an interpreter that has the reference and accelerate installed, from another directory, never in CI.
Uses its public API only; the cases are in ``training_data_facts.py``. Knows nothing of this repository's package.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import tiny
import training_data_facts as facts
from datasets import disable_progress_bars
from sentence_transformers.base import sampler
from sentence_transformers.sentence_transformer import data_collator, training_args

from sentence_transformers import SentenceTransformer


def main(path: Path) -> None:
    disable_progress_bars()
    modules = (sampler, data_collator, training_args)
    space = SimpleNamespace(**{name: value for one in modules for name, value in vars(one).items()})
    with tempfile.TemporaryDirectory() as folder:
        model = SentenceTransformer(str(tiny.build("bert", Path(folder) / "bert")), device="cpu")
        golden = {
            "one": {kind: {name: facts.of_one(space, kind, name) for name in facts.SIZES} for kind in facts.ONE},
            "labels": {name: facts.by_label(space, name) for name in facts.GROUPED},
            "several": {kind: {one: facts.of_several(space, kind, one) for one in facts.ONE} for kind in facts.SEVERAL},
            "collated": {name: facts.collated(space, name, model.preprocess) for name in facts.COLLATED},
            "arguments": {name: facts.arguments(space, name) for name in facts.ARGUMENTS},
            "callable_samplers": facts.callable_samplers(space),
            "new_fields": facts.new_fields(space),
            "refused": {name: facts.refusal(space, name) for name in facts.REFUSED},
            "remarks": {columns: facts.remarks(space, columns) for columns in facts.ORDERS},
        }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_training_data.json")
