"""Record what evaluators that rank give: ``REFERENCE/bin/python -W ignore tests/parity/record_evaluators_ranking.py``.

Run by hand with an interpreter that has the reference and ``datasets`` installed, from another directory, never in CI.
Uses its public API only; the model, data and calls are in ``ranking_facts.py``. Knows nothing of this repository's
package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

os.environ |= {"HF_DATASETS_CACHE": mkdtemp(), "HF_HUB_OFFLINE": "1"}  # read when ``datasets`` is imported

import numpy as np  # noqa: E402
import ranking_facts as facts  # noqa: E402
from sentence_transformers.sentence_transformer import evaluation  # noqa: E402
from sentence_transformers.util import cos_sim, dot_score  # noqa: E402

FUNCTIONS = {"cosine": cos_sim, "dot": dot_score}


def outcome(evaluator: Any, model: facts.Lookup, **options: Any) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return facts.outcome(evaluator, model, Path(folder), **options)


def retrieved(name: str, **options: Any) -> dict[str, Any]:
    model, data, arguments = facts.RETRIEVAL[name]
    arguments = facts.with_functions(arguments, FUNCTIONS)
    evaluator = evaluation.InformationRetrievalEvaluator(*facts.retrieval_data(**data), **arguments)
    return outcome(evaluator, facts.Lookup(**model), **options)


def reranked(name: str) -> dict[str, Any]:
    model, arguments = facts.RERANKING[name]
    evaluator = evaluation.RerankingEvaluator(facts.SAMPLES, **facts.with_functions(arguments, FUNCTIONS))
    return outcome(evaluator, facts.Lookup(**model))


def mined(name: str) -> dict[str, Any]:
    model, arguments = facts.PARAPHRASES[name]
    return outcome(evaluation.ParaphraseMiningEvaluator(facts.SENTENCES, **arguments), facts.Lookup(**model))


def main(path: Path) -> None:
    folder = Path(mkdtemp())
    facts.write_nano(folder)
    os.chdir(folder)
    nano = evaluation.NanoBEIREvaluator
    corpus = np.array([facts.vector(text, True) for text in facts.retrieval_data()[1].values()])
    golden = {
        "retrieval": {name: retrieved(name) for name in facts.RETRIEVAL},
        "corpus_model": retrieved("defaults", corpus_model=facts.Lookup(is_coarse=True)),
        "corpus_embeddings": retrieved("defaults", corpus_embeddings=corpus),
        "reranking": {name: reranked(name) for name in facts.RERANKING},
        "paraphrases": {name: mined(name) for name in facts.PARAPHRASES},
        "nano": {
            name: outcome(nano(**facts.with_functions(arguments, FUNCTIONS)), facts.Lookup())
            for name, arguments in facts.NANO.items()
        },
        "nano_refused": {
            name: facts.refusal(lambda arguments=arguments: nano(**arguments))
            for name, arguments in facts.NANO_REFUSED.items()
        },
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    at = Path(__file__).resolve().parent / "golden_evaluators_ranking.json"
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else at)
