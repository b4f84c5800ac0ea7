"""Cases of the evaluators of late interaction models, for the recorder and for the tests.

The model is a rule from texts to token vectors. Knows nothing of either implementation: classes are looked up by name
in a namespace. Data and what is noted are those of ``ranking_facts``.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ranking_facts as ranking
import torch
from evaluators_pairs_facts import FIRST, SECOND, THIRD
from evaluators_sparse_facts import SHORT, write_nano
from torch import Tensor

NAMES = ["maxsim", "meanmaxsim"]


def vectors(text: str) -> Tensor:
    """(1 to 5, 4) float32."""
    place = zlib.crc32(text.encode())
    return torch.from_numpy(np.random.default_rng(place).normal(size=(place % 5 + 1, 4)).astype(np.float32))


def maxsim(queries: Any, documents: Any) -> Tensor:
    """(q, n): for every token of a query the largest product with one of the document, summed."""
    # from the reference one query comes without a list, and several with zeros to the same length
    listed = [queries] if isinstance(queries, Tensor) and queries.dim() == 2 else queries
    return torch.stack([torch.stack([(one @ other.T).amax(1).sum() for other in documents]) for one in listed])


class Late(ranking.Lookup):
    """Stands for a MultiVectorEncoder."""

    def similarity(self, left: Any, right: Any, **options: Any) -> Tensor:
        sizes = torch.tensor([len(one) for one in left]) if self.similarity_fn_name == "meanmaxsim" else torch.ones(1)
        return maxsim(left, right) / sizes[:, None]

    def _encode(self, role: str, texts: list[str], options: dict[str, Any]) -> Any:
        prompts = [role, options.get("prompt"), options.get("prompt_name")]
        if prompts not in self.prompts:
            self.prompts.append(prompts)
        return [vectors(text) for text in texts]


TRIPLETS, RETRIEVAL = (FIRST, SECOND, THIRD), ranking.retrieval_data()
# class, name of the model's similarity, positional arguments, others; "maxsim" in them is the function
CASES: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any]]] = {
    "retrieval": ("InformationRetrieval", "maxsim", RETRIEVAL, {"name": "dev"}),
    "retrieval, mean": (
        "InformationRetrieval",
        "meanmaxsim",
        RETRIEVAL,
        {**SHORT, "corpus_chunk_size": 7, "chunk_elements": 90, "corpus_prompt": "D: ", "write_predictions": True},
    ),
    "retrieval, functions": (
        "InformationRetrieval",
        "meanmaxsim",
        RETRIEVAL,
        {**SHORT, "score_functions": {"mine": "maxsim"}, "main_score_function": None, "batch_size": 3},
    ),
    "triplet": ("Triplet", "maxsim", TRIPLETS, {"name": "dev"}),
    "triplet, mean": ("Triplet", "meanmaxsim", TRIPLETS, {}),
    "triplet, all": ("Triplet", "maxsim", (*TRIPLETS, None, 0.2, "nli", 4, False, True, None, NAMES), {}),
    "triplet, main": (
        "Triplet",
        "maxsim",
        (*TRIPLETS, "meanmaxsim", {"meanmaxsim": 0.1}),
        {"similarity_fn_names": NAMES},
    ),
    "reranking": ("Reranking", "maxsim", (ranking.SAMPLES,), {"name": "dev"}),
    "reranking, mean": (
        "Reranking",
        "meanmaxsim",
        (ranking.SAMPLES,),
        {"at_k": 2, "use_batched_encoding": False, "write_csv": False},
    ),
    "reranking, function": ("Reranking", "meanmaxsim", (ranking.SAMPLES,), {"similarity_fct": "maxsim"}),
    "nano": ("NanoBEIR", "maxsim", (["nq", "SciFact"],), {**SHORT, "corpus_chunk_size": 9}),
    "nano, mean": (
        "NanoBEIR",
        "meanmaxsim",
        (["msmarco"],),
        {**SHORT, "chunk_elements": 90, "aggregate_key": "top", "query_prompts": "Q: "},
    ),
}
# class, positional arguments, others: the constructor raises
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "names": ("Triplet", TRIPLETS, {"similarity_fn_names": ["cosine"]}),
    "margin": ("Triplet", TRIPLETS, {"margin": {"cosine": 1}}),
    "positional": ("InformationRetrieval", (*RETRIEVAL, 5), {}),
    "unknown": ("InformationRetrieval", RETRIEVAL, {"bogus": 1}),
    "reranking width": ("Reranking", ([],), {"truncate_dim": 2}),
    "reranking positional": ("Reranking", ([], 5), {}),
    "width": ("InformationRetrieval", RETRIEVAL, {"truncate_dim": 2}),
    "triplet width": ("Triplet", TRIPLETS, {"truncate_dim": 2}),
    "nano width": ("NanoBEIR", (["nq"],), {"truncate_dim": 2}),
    "xtr": ("InformationRetrieval", RETRIEVAL, {"score_functions": {"x": "xtr_scores"}}),
    "xtr object": ("InformationRetrieval", RETRIEVAL, {"score_functions": {"x": "XTRScores"}}),
    "both": ("InformationRetrieval", RETRIEVAL, {"score_functions": {"x": "maxsim"}, "chunk_elements": 9}),
}
SAME_TEXT = ("names", "margin")
"""Of these the whole text is the same; of the others the type of the error is."""


def made(evaluators: Any, scoring: Any, kind: str, positional: tuple[Any, ...], others: dict[str, Any]) -> Any:
    """An evaluator; ``scoring``: a namespace with the scores of XTR."""
    functions = {"maxsim": maxsim, "xtr_scores": scoring.xtr_scores, "XTRScores": scoring.XTRScores()}
    arguments = dict(others)
    if "score_functions" in arguments:
        named = arguments["score_functions"]
        arguments["score_functions"] = {name: functions[function] for name, function in named.items()}
    if "similarity_fct" in arguments:
        arguments["similarity_fct"] = functions[arguments["similarity_fct"]]
    return getattr(evaluators, f"MultiVector{kind}Evaluator")(*positional, **arguments)


def outcome(evaluators: Any, scoring: Any, name: str) -> dict[str, Any]:
    """All that two calls of an evaluator give, write and tell. NanoBEIR's data are in the working directory."""
    kind, similarity, positional, others = CASES[name]
    evaluator = made(evaluators, scoring, kind, positional, others)
    with TemporaryDirectory() as folder:
        return ranking.outcome(evaluator, Late(similarity), Path(folder))


def refusal(evaluators: Any, scoring: Any, name: str) -> list[str]:
    """Type of the error, and its text where that is to be the same."""
    found = ranking.refusal(lambda: made(evaluators, scoring, *REFUSED[name]))
    return found if name in SAME_TEXT else found[:1]


__all__ = ["CASES", "REFUSED", "Late", "outcome", "refusal", "write_nano"]
