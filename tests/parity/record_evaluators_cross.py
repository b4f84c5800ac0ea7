"""Record what evaluators of rerankers give: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_cross.py``.

Run by hand with an interpreter that has the reference and ``datasets`` installed, from another directory, never in CI.
Uses its public API only; the model, data and calls are in ``evaluators_cross_facts.py``. Knows nothing of this
repository's package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

os.environ |= {"HF_DATASETS_CACHE": mkdtemp(), "HF_HUB_OFFLINE": "1"}  # read when ``datasets`` is imported
# read when numpy is imported: else the order of equal scores depends on the processor; so the later ones come first
os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"

import evaluators_cross_facts as facts  # noqa: E402
import numpy as np  # noqa: E402
from ranking_facts import refusal  # noqa: E402
from sentence_transformers.cross_encoder import evaluation  # noqa: E402

from sentence_transformers import InputExample  # noqa: E402


def outcome(evaluator: Any, model: facts.Rule) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return facts.outcome(evaluator, model, Path(folder))


def case(name: str) -> dict[str, Any]:
    model, *call = facts.CASES[name]
    return outcome(facts.build(evaluation, InputExample, *call), facts.Rule(**model))


def refused(name: str) -> list[str]:
    kind, given = facts.REFUSED[name]
    return refusal(lambda: getattr(evaluation, kind)(*given)(facts.Rule()))


def main(path: Path) -> None:
    folder = Path(mkdtemp())
    facts.write_nano(folder)
    os.chdir(folder)
    nano = evaluation.CrossEncoderNanoBEIREvaluator
    ranked = evaluation.CrossEncoderRerankingEvaluator(facts.NEGATIVE, at_k=3)
    golden = {
        "cases": {name: case(name) for name in facts.CASES},
        "refused": {name: refused(name) for name in facts.REFUSED},
        "of_a_query": [
            [float(value) for value in ranked.compute_metrics(truth, np.array(scores))]
            for truth, scores in facts.OF_A_QUERY
        ],
        "nano": {name: outcome(nano(**arguments), facts.Rule()) for name, arguments in facts.NANO.items()},
        "nano_refused": {
            name: refusal(lambda arguments=arguments: nano(**arguments))
            for name, arguments in facts.NANO_REFUSED.items()
        },
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    at = Path(__file__).resolve().parent / "golden_evaluators_cross.json"
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else at)
